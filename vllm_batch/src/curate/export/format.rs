//! Forms of training data.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The form of a file of training data, and with it who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExportFormat {
    /// OpenAI's fine-tuning: `messages`.
    OpenAiChat,
    /// OpenAI's preference fine-tuning: `input`, `preferred_output`, `non_preferred_output`.
    OpenAiDpo,
    /// TRL's `SFTTrainer`, with the loss on the answer alone: `prompt`, `completion`.
    TrlPromptCompletion,
    /// TRL's `SFTTrainer`: `messages`.
    TrlMessages,
    /// TRL's `DPOTrainer` and others: `prompt`, `chosen`, `rejected`.
    TrlPreference,
    /// TRL's `KTOTrainer` and others: `prompt`, `completion`, `label`.
    TrlKto,
    /// Alpaca, as LLaMA-Factory and Axolotl read it: `instruction`, `input`, `output`.
    Alpaca,
    /// Alpaca with two answers, as LLaMA-Factory reads it with `ranking`: `instruction`, `input`, `chosen`, `rejected`.
    AlpacaPreference,
    /// `ShareGPT`, as LLaMA-Factory reads it: `conversations`, `system`.
    ShareGpt,
    /// `ShareGPT` with two answers, as LLaMA-Factory reads it with `ranking`: `conversations`, `system`, `chosen`, `rejected`.
    ShareGptPreference,
    /// Axolotl's `chat_template`: `messages` with `train`.
    Axolotl,
    /// distilabel's form for supervised fine-tuning: `prompt`, `prompt_id`, `messages`.
    Distilabel,
    /// Records of Argilla with suggestions and responses.
    Argilla,
    /// Examples for prompts: fields, answers, and both as a model reads them.
    IclJson,
    /// Examples for prompts: a message of the user and one of the assistant.
    IclMessages,
    /// Examples for prompts as one text.
    IclText,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::OpenAiChat,
        Self::OpenAiDpo,
        Self::TrlPromptCompletion,
        Self::TrlMessages,
        Self::TrlPreference,
        Self::TrlKto,
        Self::Alpaca,
        Self::AlpacaPreference,
        Self::ShareGpt,
        Self::ShareGptPreference,
        Self::Axolotl,
        Self::Distilabel,
        Self::Argilla,
        Self::IclJson,
        Self::IclMessages,
        Self::IclText,
    ];

    /// Its name.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::export::ExportFormat;
    ///
    /// assert_eq!("trl_preference".parse(), Ok(ExportFormat::TrlPreference));
    /// assert_eq!(ExportFormat::OpenAiDpo.to_string(), "openai_dpo");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiDpo => "openai_dpo",
            Self::TrlPromptCompletion => "trl_prompt_completion",
            Self::TrlMessages => "trl_messages",
            Self::TrlPreference => "trl_preference",
            Self::TrlKto => "trl_kto",
            Self::Alpaca => "alpaca",
            Self::AlpacaPreference => "alpaca_preference",
            Self::ShareGpt => "sharegpt",
            Self::ShareGptPreference => "sharegpt_preference",
            Self::Axolotl => "axolotl",
            Self::Distilabel => "distilabel",
            Self::Argilla => "argilla",
            Self::IclJson => "icl_json",
            Self::IclMessages => "icl_messages",
            Self::IclText => "icl_text",
        }
    }

    /// How names of its files end.
    pub fn extension(self) -> &'static str {
        if self == Self::IclText { "txt" } else { "jsonl" }
    }

    /// Whether rows compare a person's answers with a model's.
    pub fn is_preference(self) -> bool {
        matches!(self, Self::OpenAiDpo | Self::TrlPreference | Self::AlpacaPreference | Self::ShareGptPreference)
    }

    /// Whether where a row comes from stands beside it and not in it.
    pub(super) fn is_strict(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiDpo | Self::IclText)
    }

    /// Whether examples in a prompt are read only. Elsewhere a model would be trained on them again with each row.
    pub(super) fn can_have_examples(self) -> bool {
        matches!(
            self,
            Self::OpenAiChat
                | Self::OpenAiDpo
                | Self::TrlPromptCompletion
                | Self::TrlPreference
                | Self::TrlKto
                | Self::Axolotl
        )
    }

    /// Whether its readers load the file as a table whose columns have one type.
    pub(super) fn is_table(self) -> bool {
        !matches!(self, Self::OpenAiChat | Self::OpenAiDpo | Self::Argilla | Self::IclJson | Self::IclText)
    }
}

impl Serialize for ExportFormat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExportFormat {
    type Err = String;

    /// The format of a name; the error has all names.
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no format {name:?}: there are {names}")
        })
    }
}
