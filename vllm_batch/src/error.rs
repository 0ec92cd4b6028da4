//! What went wrong, and who must act?
//!
//! * [`RequestError`]: this row is bad, or could not be finished; the engine and the other rows go on.
//! * [`EngineError`]: the engine itself is broken; every row still in it fails.
//! * [`LoadError`]: no engine came to be.
//!
//! Each error carries fields, not only a sentence, and one stable [`code`](RequestError::code): every door
//! (library, batch file, HTTP, Python) branches on that code, and the table is in `docs/errors.md`.

use std::path::PathBuf;

/// This request cannot be answered. The engine is fine, and so are the other requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The prompt has no token at all.
    #[error("the prompt is empty: give at least one token of text")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer in the model's context.
    #[error(
        "the prompt has {prompt_tokens} tokens, but the context holds {max_model_len} tokens for prompt and \
         answer together: shorten the prompt, or load the model with a larger max_model_len"
    )]
    PromptTooLong {
        /// Length of the prompt in tokens.
        prompt_tokens: usize,
        /// The engine's context length in tokens.
        max_model_len: usize,
    },
    /// A parameter is missing that the endpoint requires.
    #[error("the required parameter `{param}` is missing")]
    MissingParam {
        /// Path of the parameter inside the request body, such as `messages`.
        param: String,
    },
    /// A parameter has a value outside its domain, or of a wrong type.
    #[error("invalid value for `{param}`: {message}")]
    InvalidParam {
        /// Path of the parameter inside the request body, such as `messages[1].role`.
        param: String,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A parameter that this engine does not know or cannot honour. Nothing is ignored silently.
    #[error("the parameter `{param}` is not supported: {message}")]
    UnsupportedParam {
        /// Path of the parameter inside the request body.
        param: String,
        /// Why, or what to use instead.
        message: String,
    },
    /// The request asks for what this engine's model was not made for, such as text of an encoder.
    #[error("the model does not support the task `{task}`; supported: {}", supported.join(", "))]
    UnsupportedTask {
        /// The name of the request's [`TaskKind`](crate::TaskKind).
        task: &'static str,
        /// The names of those that the engine has.
        supported: Vec<&'static str>,
    },
    /// A JSON Schema, regular expression or grammar that answers cannot be held to.
    #[error("invalid grammar in `{param}`{}: {message}", at_pointer(pointer.as_deref()))]
    InvalidGrammar {
        /// Path of the parameter inside the request body, such as `structured_outputs.json`.
        param: String,
        /// Where in a JSON Schema the fault is, as a JSON pointer; `""` is the whole of it. None where the grammar is
        /// no schema.
        pointer: Option<String>,
        /// What is wrong, and what to use instead.
        message: String,
    },
    /// The grammar of the answer leaves no token that may come next.
    #[error(
        "no token may follow the first {at_token} tokens of the answer: the grammar, together with the other limits on \
         tokens, allows none"
    )]
    ConstraintDeadEnd {
        /// How many tokens the answer has.
        at_token: usize,
    },
    /// To find the tokens that the grammar allows takes more than the limits on time and memory.
    #[error("the grammar became too complex after {at_token} tokens of the answer: {message}")]
    ConstraintTooComplex {
        /// How many tokens the answer has.
        at_token: usize,
        /// Which limit was reached.
        message: String,
    },
    /// A prompt given as token ids names a token that the vocabulary does not have.
    #[error("token id {token_id} is outside the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The offending id.
        token_id: u32,
        /// Number of tokens in the vocabulary.
        vocab_size: usize,
    },
    /// The request names a model that this engine does not serve.
    #[error("the model `{model}` does not exist here; served: {}", served.join(", "))]
    ModelNotFound {
        /// The name in the request.
        model: String,
        /// The names that would have been accepted.
        served: Vec<String>,
    },
    /// The model has no chat template, so it cannot answer a list of messages.
    #[error("the model has no chat template: send a text prompt to /v1/completions instead")]
    NoChatTemplate,
    /// The chat template refused these messages.
    #[error("the chat template failed: {message}")]
    Template {
        /// What the template engine or the template itself said.
        message: String,
    },
    /// The tokenizer failed on this text.
    #[error("the tokenizer failed: {message}")]
    Tokenizer {
        /// What the tokenizer said.
        message: String,
    },
    /// The network computed no number for any token, or for an embedding: its weights do not fit this input, or the chosen dtype.
    #[error("the network computed no finite number after {num_tokens} tokens: check the weights, or use float32")]
    NonFiniteLogits {
        /// Tokens of prompt and answer so far.
        num_tokens: usize,
    },
    /// The run was cancelled, or the caller let go, before the answer was complete.
    #[error("the request was aborted before it was complete")]
    Aborted,
    /// A remote server refused the request in its own words, or no answer came from it.
    #[error("the remote server {} ({code}): {message}", answered(*status))]
    Remote {
        /// The HTTP status; none if no answer came.
        status: Option<u16>,
        /// The server's name for the error, such as `rate_limit_exceeded`, else one for what happened, such as `timeout`,
        /// `connection_failed`, `invalid_response` or `http_503`.
        code: String,
        /// What the server said, or what happened.
        message: String,
    },
    /// The engine stopped working before the answer was complete.
    #[error("the engine failed before the request was complete: {message}")]
    EngineFailed {
        /// What the engine said.
        message: String,
    },
}

impl RequestError {
    /// A stable name for programs to branch on, in OpenAI's words where OpenAI has one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty_prompt",
            Self::PromptTooLong { .. } => "context_length_exceeded",
            Self::MissingParam { .. } => "missing_required_parameter",
            Self::InvalidParam { .. } => "invalid_value",
            Self::UnsupportedParam { .. } => "unsupported_parameter",
            Self::UnsupportedTask { .. } => "unsupported_task",
            Self::InvalidGrammar { pointer: Some(_), .. } => "invalid_schema",
            Self::InvalidGrammar { pointer: None, .. } => "invalid_grammar",
            Self::ConstraintDeadEnd { .. } => "constraint_dead_end",
            Self::ConstraintTooComplex { .. } => "constraint_too_complex",
            Self::UnknownToken { .. } => "unknown_token_id",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::NoChatTemplate => "no_chat_template",
            Self::Template { .. } => "template_error",
            Self::Tokenizer { .. } => "tokenizer_error",
            Self::NonFiniteLogits { .. } => "non_finite_logits",
            Self::Aborted => "request_aborted",
            Self::Remote { .. } => "remote_error",
            Self::EngineFailed { .. } => "engine_failed",
        }
    }

    /// The parameter at fault, as a path inside the request body.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::MissingParam { param }
            | Self::InvalidParam { param, .. }
            | Self::UnsupportedParam { param, .. }
            | Self::InvalidGrammar { param, .. } => Some(param),
            Self::ModelNotFound { .. } => Some("model"),
            Self::NoChatTemplate | Self::Template { .. } => Some("messages"),
            Self::EmptyPrompt | Self::PromptTooLong { .. } | Self::UnknownToken { .. } => Some("prompt"),
            Self::UnsupportedTask { .. }
            | Self::ConstraintDeadEnd { .. }
            | Self::ConstraintTooComplex { .. }
            | Self::Tokenizer { .. }
            | Self::NonFiniteLogits { .. }
            | Self::Aborted
            | Self::Remote { .. }
            | Self::EngineFailed { .. } => None,
        }
    }

    /// The HTTP status that an OpenAI-compatible server answers with.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        match self {
            Self::ModelNotFound { .. } => 404,
            Self::Tokenizer { .. } | Self::NonFiniteLogits { .. } | Self::EngineFailed { .. } => 500,
            Self::Aborted => 499,
            Self::Remote { status, .. } => status.filter(|status| (400..500).contains(status)).unwrap_or(502),
            _ => 400,
        }
    }

    /// Whether the same request may succeed when it is sent again unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Aborted | Self::EngineFailed { .. } => true,
            Self::Remote { status, .. } => {
                status.is_none_or(|status| matches!(status, 408 | 425 | 429) || !(400..500).contains(&status))
            }
            _ => false,
        }
    }

    /// Shorthand for [`RequestError::InvalidParam`].
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidParam { param: param.into(), message: message.into() }
    }
}

fn answered(status: Option<u16>) -> String {
    status.map_or_else(|| "did not answer".to_owned(), |status| format!("answered with HTTP {status}"))
}

fn at_pointer(pointer: Option<&str>) -> String {
    pointer.map_or_else(String::new, |pointer| format!(" at `{pointer}`"))
}

/// The engine is broken: a step could not be computed. Every request still in it fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The forward pass failed.
    #[error("the forward pass over {num_tokens} tokens of {num_seqs} sequences failed: {source}")]
    Forward {
        /// Tokens in the step.
        num_tokens: usize,
        /// Sequences in the step.
        num_seqs: usize,
        /// What the tensor library said.
        source: candle_core::Error,
    },
}

impl EngineError {
    /// A stable name for programs to branch on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forward { .. } => "forward_failed",
        }
    }
}

/// The model could not be loaded, or the engine's options do not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or folder of the model cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The model's folder lacks a file that is needed.
    #[error("{} has no {file}: {hint}", path.display())]
    MissingFile {
        /// The model's folder.
        path: PathBuf,
        /// The file that was looked for.
        file: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file is not what its format says: truncated, lying about its lengths, or of another format.
    #[error("{} is not a usable {format} file: {message}", path.display())]
    BrokenFile {
        /// The file.
        path: PathBuf,
        /// The format that was expected, such as `GGUF`.
        format: &'static str,
        /// What is wrong, and where.
        message: String,
    },
    /// The model is of a family that is not implemented.
    #[error("the architecture `{architecture}` is not supported; supported: {}", supported.join(", "))]
    UnsupportedArchitecture {
        /// The name in the model's configuration.
        architecture: String,
        /// The names that would have been accepted.
        supported: Vec<&'static str>,
    },
    /// The configuration asks for something that would change the results and is not implemented.
    #[error("the model's configuration key `{key}` is not supported: {message}")]
    UnsupportedConfig {
        /// The key, as a path.
        key: String,
        /// Its value, and what is supported.
        message: String,
    },
    /// The model's configuration lacks a key, or has a value of a wrong type or outside its domain.
    #[error("the model's configuration key `{key}` is unusable: {message}")]
    BrokenConfig {
        /// The key, as a path.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// The weights lack a tensor.
    #[error("the weights have no tensor `{tensor}`")]
    MissingTensor {
        /// The name that was looked for.
        tensor: String,
    },
    /// A tensor does not have the shape that the configuration implies.
    #[error("tensor `{tensor}` has the shape {actual:?}, but the configuration implies {expected:?}")]
    WrongShape {
        /// The tensor's name.
        tensor: String,
        /// The shape that was expected.
        expected: Vec<usize>,
        /// The shape in the file.
        actual: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not implemented.
    #[error("tensor `{tensor}` is stored as {dtype}, which is not supported")]
    UnsupportedDtype {
        /// The tensor's name.
        tensor: String,
        /// The format's name.
        dtype: String,
    },
    /// The tokenizer's data cannot be used.
    #[error("the tokenizer cannot be used: {message}")]
    Tokenizer {
        /// What is wrong.
        message: String,
    },
    /// The chat template cannot be compiled.
    #[error("the chat template cannot be compiled: {message}")]
    ChatTemplate {
        /// What the template engine said.
        message: String,
    },
    /// An option of the engine is outside its domain.
    #[error("invalid option `{option}`: {message}")]
    InvalidOption {
        /// The builder's method.
        option: &'static str,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// The KV cache is too small for one sequence of the wanted length.
    #[error(
        "a context of {max_model_len} tokens needs {needed} bytes of KV cache, but kv_cache_memory is {available} \
         bytes: the largest max_model_len that fits is {largest_max_model_len}"
    )]
    KvCacheTooSmall {
        /// The wanted context length.
        max_model_len: usize,
        /// Bytes for one sequence of that length.
        needed: usize,
        /// Bytes allowed.
        available: usize,
        /// The longest context that fits.
        largest_max_model_len: usize,
    },
    /// The model is not in the hub's cache, and the hub did not deliver it.
    #[error("cannot get `{file}` of `{repo}` from the Hugging Face hub: {message}")]
    Hub {
        /// The repository's id.
        repo: String,
        /// The file that was asked for.
        file: String,
        /// What went wrong, and what to do.
        message: String,
    },
    /// A remote server did not say which models it has.
    #[error("cannot ask the server at {url} for its models: {message}")]
    Server {
        /// Where its API begins.
        url: String,
        /// What went wrong.
        message: String,
    },
    /// The tensor library failed while the weights were prepared.
    #[error("the weights cannot be prepared: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The engine's thread could not be started.
    #[error("the engine's threads cannot be started: {message}")]
    Threads {
        /// What the operating system said.
        message: String,
    },
}

impl LoadError {
    /// A stable name for programs to branch on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "model_unreadable",
            Self::MissingFile { .. } => "model_file_missing",
            Self::BrokenFile { .. } => "model_file_broken",
            Self::UnsupportedArchitecture { .. } => "unsupported_architecture",
            Self::UnsupportedConfig { .. } => "unsupported_config",
            Self::BrokenConfig { .. } => "broken_config",
            Self::MissingTensor { .. } => "missing_tensor",
            Self::WrongShape { .. } => "wrong_tensor_shape",
            Self::UnsupportedDtype { .. } => "unsupported_tensor_dtype",
            Self::Tokenizer { .. } => "broken_tokenizer",
            Self::ChatTemplate { .. } => "broken_chat_template",
            Self::InvalidOption { .. } => "invalid_option",
            Self::KvCacheTooSmall { .. } => "kv_cache_too_small",
            Self::Hub { .. } => "hub_unreachable",
            Self::Server { .. } => "server_unreachable",
            Self::Tensor(_) => "tensor_error",
            Self::Threads { .. } => "threads_unavailable",
        }
    }
}
