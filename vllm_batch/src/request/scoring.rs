//! How likely are given texts as the answer?

use super::sampling::check_truncation;
use crate::error::RequestError;

/// The most labels that one request may have.
pub const MAX_LABELS: usize = 1024;

/// A text that could be the answer to a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Label {
    /// A text; its tokens are those of the text alone, without special tokens. After a plain prompt that ends with a word,
    /// it should begin with a space.
    Text(String),
    /// Token ids, taken as they are.
    TokenIds(Vec<u32>),
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Label {
    fn from(token_ids: Vec<u32>) -> Self {
        Self::TokenIds(token_ids)
    }
}

/// Which labels to score after a prompt.
///
/// The log-probability of a label is the sum over its tokens, each after the prompt and the label's tokens before it: the
/// logarithm of the probability that the model, sampled from as it is, begins its answer with these tokens.
///
/// # Example
/// ```
/// use vllm_batch::ScoringParams;
///
/// let params = ScoringParams::new(["yes", "no"]);
/// assert_eq!(params.labels.len(), 2);
/// params.validate()?;
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScoringParams {
    /// At least one, at most [`MAX_LABELS`], none of them empty.
    pub labels: Vec<Label>,
    /// Keeps this many of the prompt's last tokens; -1 keeps as many as leave room for the longest label. Absent: a prompt
    /// that is too long is an error.
    pub truncate_prompt_tokens: Option<i32>,
}

impl ScoringParams {
    /// Scores these labels.
    pub fn new(labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        Self { labels: labels.into_iter().map(Into::into).collect(), truncate_prompt_tokens: None }
    }

    /// Sets how many of the prompt's last tokens are kept.
    #[must_use]
    pub fn with_truncate_prompt_tokens(mut self, truncate_prompt_tokens: i32) -> Self {
        self.truncate_prompt_tokens = Some(truncate_prompt_tokens);
        self
    }

    /// Checks each parameter against its domain.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] with the parameter's name: `labels`, `labels[2]`, `truncate_prompt_tokens`.
    pub fn validate(&self) -> Result<(), RequestError> {
        if !(1..=MAX_LABELS).contains(&self.labels.len()) {
            let message = format!("must hold 1 to {MAX_LABELS} labels, found {}", self.labels.len());
            return Err(RequestError::invalid("labels", message));
        }
        let is_empty = |label: &Label| match label {
            Label::Text(text) => text.is_empty(),
            Label::TokenIds(token_ids) => token_ids.is_empty(),
        };
        if let Some(index) = self.labels.iter().position(is_empty) {
            return Err(RequestError::invalid(format!("labels[{index}]"), "must not be empty"));
        }
        check_truncation(self.truncate_prompt_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PoolingParams;
    use super::*;

    #[test]
    fn what_is_outside_its_domain_is_named() {
        let many = ScoringParams::new(vec!["x"; MAX_LABELS + 1]);
        let empty_ids = ScoringParams::new([Label::from("x"), Label::from(vec![])]);
        let cases = [
            (ScoringParams::new(["x"; 0]).validate(), "labels"),
            (many.validate(), "labels"),
            (ScoringParams::new(["a", ""]).validate(), "labels[1]"),
            (empty_ids.validate(), "labels[1]"),
            (ScoringParams::new(["a"]).with_truncate_prompt_tokens(0).validate(), "truncate_prompt_tokens"),
            (PoolingParams::default().with_dimensions(0).validate(), "dimensions"),
            (PoolingParams::default().with_truncate_prompt_tokens(-2).validate(), "truncate_prompt_tokens"),
        ];
        for (found, param) in cases {
            let error = found.expect_err(param);
            assert_eq!((error.code(), error.param()), ("invalid_value", Some(param)));
        }
        assert_eq!(PoolingParams::default().with_dimensions(1).with_truncate_prompt_tokens(-1).validate(), Ok(()));
    }
}
