//! How hidden states become one embedding.

use std::fmt;
use std::str::FromStr;

use super::sampling::check_truncation;
use crate::error::RequestError;

/// Which hidden states of the last layer, after the final norm, an embedding is made of. Named as in vLLM's pooler
/// configuration.
///
/// # Example
/// ```
/// use vllm_batch::PoolingType;
///
/// assert_eq!("MEAN".parse(), Ok(PoolingType::Mean));
/// assert_eq!(PoolingType::default().to_string(), "LAST");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PoolingType {
    /// That of the last token, which has seen all others: what vLLM takes of decoders by default.
    #[default]
    Last,
    /// The mean over all tokens. Such a prompt is computed anew even where the prefix cache holds it.
    Mean,
    /// That of the first token. In a decoder it has seen no other token.
    Cls,
}

impl PoolingType {
    /// vLLM's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "LAST",
            Self::Mean => "MEAN",
            Self::Cls => "CLS",
        }
    }
}

impl fmt::Display for PoolingType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for PoolingType {
    type Err = RequestError;

    fn from_str(name: &str) -> Result<Self, RequestError> {
        let all = [Self::Last, Self::Mean, Self::Cls];
        all.into_iter()
            .find(|pooling| pooling.as_str() == name)
            .ok_or_else(|| RequestError::invalid("pooling_type", format!("expected LAST, MEAN or CLS, found `{name}`")))
    }
}

/// How an embedding is made, with the names of vLLM's `PoolingParams`.
///
/// # Example
/// ```
/// use vllm_batch::{PoolingParams, PoolingType};
///
/// let params = PoolingParams::default().with_pooling_type(PoolingType::Mean).with_dimensions(256);
/// params.validate()?;
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolingParams {
    /// Which hidden states. Absent: as the engine has it.
    pub pooling_type: Option<PoolingType>,
    /// Keeps so many numbers from the front, before the embedding is normalised: at least 1, at most the model's hidden
    /// size. Of use for models that were trained for it (matryoshka embeddings). Absent: all.
    pub dimensions: Option<u32>,
    /// Whether the embedding is scaled to length 1. Absent: as the model's `modules.json` has it, or true without one.
    pub normalize: Option<bool>,
    /// Keeps this many of the prompt's tokens; -1 keeps as many as the context holds. A decoder keeps the last ones, an
    /// encoder the first ones of a text and the special tokens around it. Absent: a prompt that is too long is an error.
    pub truncate_prompt_tokens: Option<i32>,
}

impl PoolingParams {
    /// Sets which hidden states the embedding is made of.
    #[must_use]
    pub fn with_pooling_type(mut self, pooling_type: PoolingType) -> Self {
        self.pooling_type = Some(pooling_type);
        self
    }

    /// Sets how many numbers are kept.
    #[must_use]
    pub fn with_dimensions(mut self, dimensions: u32) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Sets whether the embedding is scaled to length 1.
    #[must_use]
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = Some(normalize);
        self
    }

    /// Sets how many of the prompt's tokens are kept.
    #[must_use]
    pub fn with_truncate_prompt_tokens(mut self, truncate_prompt_tokens: i32) -> Self {
        self.truncate_prompt_tokens = Some(truncate_prompt_tokens);
        self
    }

    /// Checks each parameter against its domain; limits that depend on a model are not known here.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] with the parameter's name.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.dimensions == Some(0) {
            return Err(RequestError::invalid("dimensions", "must be at least 1"));
        }
        check_truncation(self.truncate_prompt_tokens)
    }
}
