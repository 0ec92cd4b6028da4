//! How an answer is chosen, token by token, and where it ends.

use std::collections::BTreeMap;

use super::structured::StructuredOutput;
use crate::error::RequestError;

/// The most answers that one request may ask for.
pub const MAX_ANSWERS: u32 = 128;
/// Temperatures below this count as 0.
pub(crate) const LEAST_TEMPERATURE: f32 = 1e-5;

/// Sampling parameters, with vLLM's names and meanings
/// (<https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html>).
///
/// One default differs on purpose: `max_tokens` is absent, which means "up to the context limit", where vLLM's library
/// stops after 16 tokens.
///
/// The logits of a token go through these steps, in vLLM's order: `allowed_token_ids`, `bad_words`, `min_tokens`,
/// `logit_bias`, the repetition, frequency and presence penalties, `temperature`, `min_p`, `top_k`, `top_p`.
/// Log-probabilities are those of the model itself, before any of these steps.
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
    /// How many answers to give, at most [`MAX_ANSWERS`]. They share the prompt, and each has random numbers of its own;
    /// the first one is the answer that `n` = 1 gives. Default 1; must be 1 at temperature 0, where all would be equal.
    pub n: u32,
    /// Generates so many answers and gives the `n` with the largest mean log-probability per token, best first. At least
    /// `n`, at most [`MAX_ANSWERS`]. Absent: all answers are given, in the order of their random numbers.
    pub best_of: Option<u32>,
    /// Subtracted from the logits of tokens that are in the answer already; in [-2, 2]. Default 0.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time that it is in the answer already; in [-2, 2]. Default 0.
    pub frequency_penalty: f32,
    /// Divides the positive logits, and multiplies the others, of tokens that are in the prompt or the answer already;
    /// above 0. Default 1.
    pub repetition_penalty: f32,
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
    /// Texts that end the answer, once it has more than `min_tokens` tokens.
    pub stop: Vec<String>,
    /// Whether the text keeps the stop string, or the text of the stop token, that ended it. Default false.
    pub include_stop_str_in_output: bool,
    /// Token ids that end the answer, besides the model's own end-of-sequence tokens.
    pub stop_token_ids: Vec<u32>,
    /// Go on after an end-of-sequence token as after any other.
    pub ignore_eos: bool,
    /// Leave special tokens out of the text. Default true.
    pub skip_special_tokens: bool,
    /// Added to the logits of single tokens, by token id; each in [-100, 100].
    pub logit_bias: BTreeMap<u32, f32>,
    /// Only these tokens can be chosen. Absent: all; an empty list is refused.
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Words that the answer must not contain, at its beginning or after a space. The last token of a word is impossible
    /// where the tokens before it end the answer so far.
    pub bad_words: Vec<String>,
    /// For each token of the answer, its log-probability and those of this many most likely tokens; -1 for the whole
    /// vocabulary, 0 for the token alone. Absent: none.
    pub logprobs: Option<i32>,
    /// The same for each token of the prompt but the first. Such a prompt is computed anew even where the prefix cache
    /// holds it.
    pub prompt_logprobs: Option<i32>,
    /// Keeps this many of the prompt's last tokens; -1 keeps as many as leave room for `max_tokens` in the context (for
    /// one token, if that is absent). Absent: a prompt that is too long is an error.
    pub truncate_prompt_tokens: Option<i32>,
    /// Ends an answer that goes round in circles, once it has `min_tokens` tokens.
    pub repetition_detection: Option<RepetitionDetection>,
    /// Keeps the answer to a schema, a regular expression, a list of choices or a grammar. Where only one text may come
    /// next, its tokens are taken without being sampled, unless `logprobs`, `prompt_logprobs` or `best_of` is set: the
    /// answer is the same either way. An answer that is whole ends, whatever `min_tokens` and `ignore_eos` say; one that
    /// reached `max_tokens` before has the finish reason `length`.
    pub structured_outputs: Option<StructuredOutput>,
    /// The most tokens that the model says to itself; after them its thoughts are ended for it. For conversations with an
    /// engine that has a `reasoning_parser`. Absent: no limit.
    pub thinking_token_budget: Option<u32>,
}

/// When does an answer go round in circles? When it ends with the same tokens, several times over.
///
/// # Example
/// ```
/// use vllm_batch::{RepetitionDetection, SamplingParams};
///
/// // Any one to twenty tokens, four times in a row.
/// let params = SamplingParams::default().with_repetition_detection(RepetitionDetection::new(20, 4));
/// params.validate()?;
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RepetitionDetection {
    /// The longest pattern, in tokens; 0 switches detection off.
    pub max_pattern_size: u32,
    /// The shortest pattern, in tokens; 0 counts as 1.
    pub min_pattern_size: u32,
    /// How often the pattern must come in a row, at least 2.
    pub min_count: u32,
}

impl RepetitionDetection {
    /// Looks for patterns of any size up to `max_pattern_size`, `min_count` times in a row.
    #[must_use]
    pub fn new(max_pattern_size: u32, min_count: u32) -> Self {
        Self { max_pattern_size, min_pattern_size: 0, min_count }
    }

    /// Leaves out patterns shorter than this.
    #[must_use]
    pub fn with_min_pattern_size(mut self, min_pattern_size: u32) -> Self {
        self.min_pattern_size = min_pattern_size;
        self
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            n: 1,
            best_of: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            max_tokens: None,
            min_tokens: 0,
            stop: Vec::new(),
            include_stop_str_in_output: false,
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            skip_special_tokens: true,
            logit_bias: BTreeMap::new(),
            allowed_token_ids: None,
            bad_words: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            truncate_prompt_tokens: None,
            repetition_detection: None,
            structured_outputs: None,
            thinking_token_budget: None,
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
        /// Sets [`n`](Self::n).
        with_n(n: u32) = n;
        /// Sets [`best_of`](Self::best_of).
        with_best_of(best_of: u32) = Some(best_of);
        /// Sets [`presence_penalty`](Self::presence_penalty).
        with_presence_penalty(presence_penalty: f32) = presence_penalty;
        /// Sets [`frequency_penalty`](Self::frequency_penalty).
        with_frequency_penalty(frequency_penalty: f32) = frequency_penalty;
        /// Sets [`repetition_penalty`](Self::repetition_penalty).
        with_repetition_penalty(repetition_penalty: f32) = repetition_penalty;
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
        /// Sets [`include_stop_str_in_output`](Self::include_stop_str_in_output).
        with_include_stop_str_in_output(include_stop_str_in_output: bool) = include_stop_str_in_output;
        /// Sets [`stop_token_ids`](Self::stop_token_ids).
        with_stop_token_ids(stop_token_ids: Vec<u32>) = stop_token_ids;
        /// Sets [`ignore_eos`](Self::ignore_eos).
        with_ignore_eos(ignore_eos: bool) = ignore_eos;
        /// Sets [`skip_special_tokens`](Self::skip_special_tokens).
        with_skip_special_tokens(skip_special_tokens: bool) = skip_special_tokens;
        /// Sets [`logit_bias`](Self::logit_bias).
        with_logit_bias(logit_bias: BTreeMap<u32, f32>) = logit_bias;
        /// Sets [`allowed_token_ids`](Self::allowed_token_ids).
        with_allowed_token_ids(allowed_token_ids: Vec<u32>) = Some(allowed_token_ids);
        /// Sets [`bad_words`](Self::bad_words).
        with_bad_words(bad_words: Vec<String>) = bad_words;
        /// Sets [`logprobs`](Self::logprobs).
        with_logprobs(logprobs: i32) = Some(logprobs);
        /// Sets [`prompt_logprobs`](Self::prompt_logprobs).
        with_prompt_logprobs(prompt_logprobs: i32) = Some(prompt_logprobs);
        /// Sets [`truncate_prompt_tokens`](Self::truncate_prompt_tokens).
        with_truncate_prompt_tokens(truncate_prompt_tokens: i32) = Some(truncate_prompt_tokens);
        /// Sets [`repetition_detection`](Self::repetition_detection).
        with_repetition_detection(repetition_detection: RepetitionDetection) = Some(repetition_detection);
        /// Sets [`structured_outputs`](Self::structured_outputs).
        with_structured_outputs(structured_outputs: StructuredOutput) = Some(structured_outputs);
        /// Sets [`thinking_token_budget`](Self::thinking_token_budget).
        with_thinking_token_budget(thinking_token_budget: u32) = Some(thinking_token_budget);
    }

    /// Whether every token is the most likely one, so that equal requests have equal answers.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature < LEAST_TEMPERATURE
    }

    /// How many answers are generated.
    #[must_use]
    pub fn num_generated(&self) -> u32 {
        self.best_of.unwrap_or(self.n)
    }

    /// Which log-probabilities of the prompt come back: those of an echoed one are like the answer's, unless
    /// `prompt_logprobs` says otherwise.
    pub(crate) fn num_prompt_logprobs(&self, echo: bool) -> Option<i32> {
        self.prompt_logprobs.or(self.logprobs.filter(|_| echo))
    }

    /// Checks every field against its domain, and the fields against each other.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] for the first field outside its domain.
    pub fn validate(&self) -> Result<(), RequestError> {
        let failed = |checks: &[Check]| checks.iter().find(|check| !check.1).copied();
        match failed(&self.choice_checks())
            .or_else(|| failed(&self.logit_checks()))
            .or_else(|| failed(&self.end_checks()))
        {
            Some((param, _, message)) => Err(RequestError::invalid(param, message)),
            None => Ok(()),
        }
    }

    /// How many answers, and how their tokens are drawn.
    fn choice_checks(&self) -> [Check; 7] {
        let is_single = !self.is_greedy() || self.num_generated() == 1;
        let greedy_param = if self.n > 1 { "n" } else { "best_of" };
        let best_of = self.best_of.unwrap_or(self.n);
        [
            ("temperature", self.temperature >= 0.0 && self.temperature.is_finite(), "must be a number from 0 up"),
            ("top_p", self.top_p > 0.0 && self.top_p <= 1.0, "must be above 0 and at most 1"),
            ("min_p", (0.0..=1.0).contains(&self.min_p), "must be between 0 and 1"),
            ("n", (1..=MAX_ANSWERS).contains(&self.n), "must be between 1 and 128"),
            ("best_of", best_of <= MAX_ANSWERS, "must be between n and 128"),
            ("best_of", best_of >= self.n, "must be between n and 128"),
            (greedy_param, is_single, "must be 1 at temperature 0, where all answers would be equal"),
        ]
    }

    /// What is done to the logits, and how many of them are wanted back.
    fn logit_checks(&self) -> [Check; 8] {
        let penalty = "must be between -2 and 2";
        let repetition = self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite();
        let bias = self.logit_bias.values().all(|bias| (-100.0..=100.0).contains(bias));
        let allowed = self.allowed_token_ids.as_ref().is_none_or(|token_ids| !token_ids.is_empty());
        let is_count = |count: Option<i32>| count.is_none_or(|count| count >= -1);
        let count = "must be -1 for the whole vocabulary, or from 0 up";
        [
            ("presence_penalty", (-2.0..=2.0).contains(&self.presence_penalty), penalty),
            ("frequency_penalty", (-2.0..=2.0).contains(&self.frequency_penalty), penalty),
            ("repetition_penalty", repetition, "must be a number above 0"),
            ("logit_bias", bias, "each bias must be between -100 and 100"),
            ("allowed_token_ids", allowed, "must not be empty"),
            ("bad_words", self.bad_words.iter().all(|word| !word.is_empty()), "must not hold an empty string"),
            ("logprobs", is_count(self.logprobs), count),
            ("prompt_logprobs", is_count(self.prompt_logprobs), count),
        ]
    }

    /// Where the prompt begins and the answer ends.
    fn end_checks(&self) -> [Check; 6] {
        let truncates = is_truncation(self.truncate_prompt_tokens);
        let is_long_enough = self.max_tokens.is_none_or(|max_tokens| self.min_tokens <= max_tokens);
        let RepetitionDetection { max_pattern_size, min_pattern_size, min_count } =
            self.repetition_detection.unwrap_or_default();
        [
            ("max_tokens", self.max_tokens != Some(0), "must be at least 1"),
            ("min_tokens", is_long_enough, "must not be larger than max_tokens"),
            ("stop", self.stop.iter().all(|stop| !stop.is_empty()), "must not hold an empty string"),
            ("truncate_prompt_tokens", truncates, TRUNCATION),
            (
                "repetition_detection.min_pattern_size",
                min_pattern_size <= max_pattern_size,
                "must not be larger than max_pattern_size",
            ),
            ("repetition_detection.min_count", max_pattern_size == 0 || min_count >= 2, "must be at least 2"),
        ]
    }
}

/// A parameter, whether it is as it should be, and what it should be.
type Check = (&'static str, bool, &'static str);

/// What `truncate_prompt_tokens` should be.
const TRUNCATION: &str = "must be -1 for what fits the context, or at least 1";

fn is_truncation(tokens: Option<i32>) -> bool {
    tokens.is_none_or(|tokens| tokens == -1 || tokens >= 1)
}

/// Checks a `truncate_prompt_tokens`.
pub(super) fn check_truncation(tokens: Option<i32>) -> Result<(), RequestError> {
    if is_truncation(tokens) { Ok(()) } else { Err(RequestError::invalid("truncate_prompt_tokens", TRUNCATION)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_outside_their_domain_are_named() {
        let good = SamplingParams::default();
        let repetition = |detection| SamplingParams::default().with_repetition_detection(detection);
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
            (good.clone().with_n(0), "n"),
            (good.clone().with_n(129), "n"),
            (good.clone().with_n(2).with_temperature(0.0), "n"),
            (good.clone().with_best_of(2).with_temperature(1e-6), "best_of"),
            (good.clone().with_best_of(129), "best_of"),
            (good.clone().with_n(3).with_best_of(2), "best_of"),
            (good.clone().with_presence_penalty(2.1), "presence_penalty"),
            (good.clone().with_presence_penalty(f32::NAN), "presence_penalty"),
            (good.clone().with_frequency_penalty(-2.1), "frequency_penalty"),
            (good.clone().with_repetition_penalty(0.0), "repetition_penalty"),
            (good.clone().with_repetition_penalty(f32::INFINITY), "repetition_penalty"),
            (good.clone().with_logit_bias(BTreeMap::from([(1, 0.0), (7, 100.5)])), "logit_bias"),
            (good.clone().with_logit_bias(BTreeMap::from([(1, f32::NAN)])), "logit_bias"),
            (good.clone().with_allowed_token_ids(vec![]), "allowed_token_ids"),
            (good.clone().with_bad_words(vec!["a".to_owned(), String::new()]), "bad_words"),
            (good.clone().with_logprobs(-2), "logprobs"),
            (good.clone().with_prompt_logprobs(-2), "prompt_logprobs"),
            (good.clone().with_truncate_prompt_tokens(0), "truncate_prompt_tokens"),
            (good.clone().with_truncate_prompt_tokens(-2), "truncate_prompt_tokens"),
            (repetition(RepetitionDetection::new(3, 1)), "repetition_detection.min_count"),
            (
                repetition(RepetitionDetection::new(3, 2).with_min_pattern_size(4)),
                "repetition_detection.min_pattern_size",
            ),
        ];
        for (params, expected) in cases {
            let error = params.validate().expect_err(expected);
            assert_eq!((error.param(), error.code()), (Some(expected), "invalid_value"));
        }
    }

    #[test]
    fn the_edges_of_the_domains_are_allowed() {
        let good = SamplingParams::default();
        let cases = [
            good.clone(),
            SamplingParams::greedy().with_best_of(1).with_n(1),
            good.clone().with_n(128).with_best_of(128),
            good.clone().with_presence_penalty(-2.0).with_frequency_penalty(2.0).with_repetition_penalty(1e-3),
            good.clone().with_logit_bias(BTreeMap::from([(0, -100.0), (1, 100.0)])).with_allowed_token_ids(vec![0]),
            good.clone().with_logprobs(-1).with_prompt_logprobs(0).with_truncate_prompt_tokens(-1),
            good.clone().with_repetition_detection(RepetitionDetection::default()),
            good.with_repetition_detection(RepetitionDetection::new(3, 2).with_min_pattern_size(3)),
        ];
        for params in cases {
            assert_eq!(params.validate(), Ok(()), "{params:?}");
        }
    }
}
