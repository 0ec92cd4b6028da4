//! How an answer is chosen, token by token, and where it ends.

use crate::error::RequestError;

/// Sampling parameters, with vLLM's names and meanings
/// (<https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html>).
///
/// One default differs on purpose: `max_tokens` is absent, which means "up to the context limit", where vLLM's library
/// stops after 16 tokens.
///
/// # Example
/// ```
/// use vllm_batch::SamplingParams;
///
/// let params = SamplingParams::default().with_temperature(0.7).with_top_p(0.9).with_seed(7).with_max_tokens(64);
/// params.validate()?;
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SamplingParams {
    /// Divides the logits before the softmax; 0 takes the most likely token. Default 1.
    pub temperature: f32,
    /// Keeps the smallest set of tokens whose probabilities reach this sum; in (0, 1]. Default 1 (all).
    pub top_p: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all. Default 0.
    pub top_k: u32,
    /// Keeps tokens at least this share as likely as the most likely one; in [0, 1]. Default 0 (all).
    pub min_p: f32,
    /// Seed of the random numbers. Absent: derived from the engine's seed and the request's id.
    pub seed: Option<u64>,
    /// The most tokens to generate, at least 1. Absent: as many as the context holds.
    pub max_tokens: Option<u32>,
    /// No end-of-sequence or stop token is chosen before this many tokens exist. Default 0.
    pub min_tokens: u32,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Token ids that end the answer, besides the model's own end-of-sequence tokens.
    pub stop_token_ids: Vec<u32>,
    /// Go on after an end-of-sequence token as after any other.
    pub ignore_eos: bool,
    /// Leave special tokens out of the text. Default true.
    pub skip_special_tokens: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            max_tokens: None,
            min_tokens: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            skip_special_tokens: true,
        }
    }
}

/// A builder method for each field.
macro_rules! with_fields {
    ($($(#[$doc:meta])* $method:ident($field:ident: $type:ty) = $value:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $method(mut self, $field: $type) -> Self {
            self.$field = $value;
            self
        })*
    };
}

impl SamplingParams {
    /// Always the most likely token: `temperature` 0.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    with_fields! {
        /// Sets [`temperature`](Self::temperature).
        with_temperature(temperature: f32) = temperature;
        /// Sets [`top_p`](Self::top_p).
        with_top_p(top_p: f32) = top_p;
        /// Sets [`top_k`](Self::top_k).
        with_top_k(top_k: u32) = top_k;
        /// Sets [`min_p`](Self::min_p).
        with_min_p(min_p: f32) = min_p;
        /// Sets [`seed`](Self::seed).
        with_seed(seed: u64) = Some(seed);
        /// Sets [`max_tokens`](Self::max_tokens).
        with_max_tokens(max_tokens: u32) = Some(max_tokens);
        /// Sets [`min_tokens`](Self::min_tokens).
        with_min_tokens(min_tokens: u32) = min_tokens;
        /// Sets [`stop`](Self::stop).
        with_stop(stop: Vec<String>) = stop;
        /// Sets [`stop_token_ids`](Self::stop_token_ids).
        with_stop_token_ids(stop_token_ids: Vec<u32>) = stop_token_ids;
        /// Sets [`ignore_eos`](Self::ignore_eos).
        with_ignore_eos(ignore_eos: bool) = ignore_eos;
        /// Sets [`skip_special_tokens`](Self::skip_special_tokens).
        with_skip_special_tokens(skip_special_tokens: bool) = skip_special_tokens;
    }

    /// Checks every field against its domain.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] for the first field outside its domain.
    pub fn validate(&self) -> Result<(), RequestError> {
        let checks = [
            ("temperature", self.temperature >= 0.0 && self.temperature.is_finite(), "must be a number from 0 up"),
            ("top_p", self.top_p > 0.0 && self.top_p <= 1.0, "must be above 0 and at most 1"),
            ("min_p", (0.0..=1.0).contains(&self.min_p), "must be between 0 and 1"),
            ("max_tokens", self.max_tokens != Some(0), "must be at least 1"),
            (
                "min_tokens",
                self.max_tokens.is_none_or(|max| self.min_tokens <= max),
                "must not be larger than max_tokens",
            ),
            ("stop", self.stop.iter().all(|stop| !stop.is_empty()), "must not hold an empty string"),
        ];
        match checks.iter().find(|(_, holds, _)| !holds) {
            Some((param, _, message)) => Err(RequestError::invalid(*param, *message)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_outside_their_domain_are_named() {
        let good = SamplingParams::default();
        let cases = [
            (good.clone().with_temperature(-0.1), "temperature"),
            (good.clone().with_temperature(f32::NAN), "temperature"),
            (good.clone().with_temperature(f32::INFINITY), "temperature"),
            (good.clone().with_top_p(0.0), "top_p"),
            (good.clone().with_top_p(1.01), "top_p"),
            (good.clone().with_min_p(-0.5), "min_p"),
            (good.clone().with_max_tokens(0), "max_tokens"),
            (good.clone().with_max_tokens(3).with_min_tokens(4), "min_tokens"),
            (good.clone().with_stop(vec![String::new()]), "stop"),
        ];
        for (params, expected) in cases {
            let error = params.validate().expect_err(expected);
            assert_eq!((error.param(), error.code()), (Some(expected), "invalid_value"));
        }
        assert_eq!(good.validate(), Ok(()));
    }
}
