//! What an answer must look like.

use serde_json::Value;

/// A format that the answer is held to, token by token: vLLM's `structured_outputs`.
///
/// It is checked when it is compiled, before the run.
///
/// # Example
/// ```
/// use vllm_batch::{OutputFormat, StructuredOutput};
///
/// let label = StructuredOutput::choice(["positive", "negative"]);
/// assert!(matches!(label.format, OutputFormat::Choice(_)));
/// let spaced = StructuredOutput::json_object().with_disable_any_whitespace(false);
/// assert_ne!(spaced, StructuredOutput::json_object());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StructuredOutput {
    /// What the answer must look like.
    pub format: OutputFormat,
    /// JSON is written without white space between its parts. Default true, where vLLM's is false: white space costs
    /// tokens, and small models may go on with it without end.
    pub disable_any_whitespace: bool,
    /// The regular expression of the white space that may stand between the parts of JSON; for
    /// `disable_any_whitespace` false only. Default: any run of spaces, tabs and line ends.
    pub whitespace_pattern: Option<String>,
    /// Objects in a JSON Schema that say `properties` or `patternProperties`, but not `additionalProperties`, have no
    /// other properties. Default false, as the standard has it.
    pub disable_additional_properties: bool,
}

/// The kinds of formats.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// JSON that a JSON Schema (2020-12; the older forms of arrays and bounds are understood) describes. The properties
    /// come in the order of the schema.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A text that the whole of a regular expression matches, in the syntax of Rust's `regex` crate, without
    /// look-around and back-references.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A context-free grammar in llguidance's dialect of Lark
    /// (<https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>).
    Grammar(String),
}

impl StructuredOutput {
    /// A format with the default options.
    pub fn new(format: OutputFormat) -> Self {
        Self { format, disable_any_whitespace: true, whitespace_pattern: None, disable_additional_properties: false }
    }

    /// JSON that `schema` describes.
    pub fn json_schema(schema: Value) -> Self {
        Self::new(OutputFormat::JsonSchema(schema))
    }

    /// Any JSON object.
    pub fn json_object() -> Self {
        Self::new(OutputFormat::JsonObject)
    }

    /// A text that the whole of `pattern` matches.
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self::new(OutputFormat::Regex(pattern.into()))
    }

    /// One of `choices`.
    pub fn choice<T: Into<String>>(choices: impl IntoIterator<Item = T>) -> Self {
        Self::new(OutputFormat::Choice(choices.into_iter().map(Into::into).collect()))
    }

    /// A text of the language of a Lark grammar.
    pub fn grammar(grammar: impl Into<String>) -> Self {
        Self::new(OutputFormat::Grammar(grammar.into()))
    }

    /// Sets [`disable_any_whitespace`](Self::disable_any_whitespace).
    #[must_use]
    pub fn with_disable_any_whitespace(mut self, disable_any_whitespace: bool) -> Self {
        self.disable_any_whitespace = disable_any_whitespace;
        self
    }

    /// Sets [`whitespace_pattern`](Self::whitespace_pattern), and
    /// [`disable_any_whitespace`](Self::disable_any_whitespace) to false.
    #[must_use]
    pub fn with_whitespace_pattern(mut self, whitespace_pattern: impl Into<String>) -> Self {
        self.whitespace_pattern = Some(whitespace_pattern.into());
        self.disable_any_whitespace = false;
        self
    }

    /// Sets [`disable_additional_properties`](Self::disable_additional_properties).
    #[must_use]
    pub fn with_disable_additional_properties(mut self, disable_additional_properties: bool) -> Self {
        self.disable_additional_properties = disable_additional_properties;
        self
    }
}

impl OutputFormat {
    /// The parameter's name among vLLM's `structured_outputs`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "json",
            Self::JsonObject => "json_object",
            Self::Regex(_) => "regex",
            Self::Choice(_) => "choice",
            Self::Grammar(_) => "grammar",
        }
    }
}
