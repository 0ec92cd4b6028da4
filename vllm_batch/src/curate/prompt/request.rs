//! A record as a request to an engine.

use serde_json::Value;

use super::super::{CompiledSchema, Record};
use super::{AnswerForm, Example, PromptError};
use crate::request::{Request, SamplingParams, StructuredOutput};

/// How a model is asked about records.
///
/// # Example
/// ```
/// use vllm_batch::curate::RequestOptions;
///
/// let options = RequestOptions::default().with_model("qwen3-8b").with_logprobs(true);
/// assert_eq!((options.n, options.temperature), (1, None));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// Who answers; see [`Request::model`].
    pub model: Option<String>,
    /// Records whose answers are known. They come before the record in each prompt, so they should be the same for all.
    pub examples: Vec<Example>,
    /// How answers are written. Only JSON is held to its format while it is written.
    pub form: AnswerForm,
    /// Whether the log-probability of each token is asked for, which makes scores; see [`suggest`](CompiledSchema::suggest).
    pub logprobs: bool,
    /// How many answers are asked for. Several make scores by vote.
    pub n: u32,
    /// The temperature; absent: 0 for one answer, 1 for several.
    pub temperature: Option<f32>,
    /// The seed of the random numbers.
    pub seed: Option<u64>,
    /// The most tokens of an answer; absent: by the lengths that the schema allows.
    pub max_tokens: Option<u32>,
}

impl Default for RequestOptions {
    /// One answer in JSON at temperature 0, without log-probabilities.
    fn default() -> Self {
        Self {
            model: None,
            examples: Vec::new(),
            form: AnswerForm::Json,
            logprobs: false,
            n: 1,
            temperature: None,
            seed: None,
            max_tokens: None,
        }
    }
}

impl RequestOptions {
    /// Says who answers.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Puts examples into each prompt.
    #[must_use]
    pub fn with_examples(mut self, examples: Vec<Example>) -> Self {
        self.examples = examples;
        self
    }

    /// Says how answers are written.
    #[must_use]
    pub fn with_form(mut self, form: AnswerForm) -> Self {
        self.form = form;
        self
    }

    /// Says whether log-probabilities are asked for.
    #[must_use]
    pub fn with_logprobs(mut self, logprobs: bool) -> Self {
        self.logprobs = logprobs;
        self
    }

    /// Asks for several answers.
    #[must_use]
    pub fn with_n(mut self, n: u32) -> Self {
        self.n = n;
        self
    }

    /// Sets the temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f32) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the most tokens of an answer.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }
}

impl CompiledSchema {
    /// The request that asks a model about a record. Its name is the record's; the answer is held to
    /// [`decode_schema_for`](Self::decode_schema_for) the record, unless it is not JSON.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt).
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Question, QuestionKind, Record, RequestOptions, TaskSchema, Version};
    ///
    /// let kind = QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() };
    /// let schema = TaskSchema::new("spam".parse()?, Version::new(1, 0, 0)).with_question(Question::new("spam".parse()?, kind));
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let request = schema.request(&Record::new("mail-1"), &RequestOptions::default())?;
    /// assert_eq!(request.request_id, "mail-1");
    /// let params = request.sampling_params().expect("text is asked for");
    /// assert!(params.structured_outputs.is_some() && params.temperature == 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self, record: &Record, options: &RequestOptions) -> Result<Request, PromptError> {
        let messages = self.prompt(record, &options.examples, options.form)?.messages;
        let mut request =
            Request::new(&*record.id, messages).with_sampling_params(self.sampling_params(record, options));
        request.model.clone_from(&options.model);
        Ok(request)
    }

    /// The sampling parameters of [`request`](Self::request).
    fn sampling_params(&self, record: &Record, options: &RequestOptions) -> SamplingParams {
        let temperature = options.temperature.unwrap_or(if options.n > 1 { 1.0 } else { 0.0 });
        let mut params = SamplingParams::default().with_n(options.n).with_temperature(temperature);
        let format = self.decode_schema_for(record);
        params.max_tokens = Some(options.max_tokens.unwrap_or_else(|| max_tokens(&format)));
        params.seed = options.seed;
        params.logprobs = options.logprobs.then_some(0);
        let is_json = options.form == AnswerForm::Json || self.schema().prompt.assistant.is_none();
        params.structured_outputs = is_json.then(|| StructuredOutput::json_schema(format));
        params
    }
}

/// Tokens that the longest answer takes, at two characters a token, which is on the safe side for text; no more than
/// 8192.
fn max_tokens(schema: &Value) -> u32 {
    const MAX_TOKENS: usize = 8192;
    (longest(schema).div_ceil(2) + 16).min(MAX_TOKENS) as u32
}

/// Characters of the longest JSON text that a schema allows, as far as it has limits.
fn longest(schema: &Value) -> usize {
    /// Of what has no limit.
    const OPEN: usize = 1000;
    const NUMBER: usize = 24;
    let count = |key: &str| schema[key].as_u64().map(|count| count as usize);
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| value.to_string().chars().count()).max().unwrap_or(0);
    }
    if let Some(options) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        return options.iter().map(longest).max().unwrap_or(0);
    }
    match schema["type"].as_str() {
        Some("null" | "boolean") => 5,
        Some("integer" | "number") => NUMBER,
        Some("string") => {
            count("maxLength").map_or(if schema["format"].is_string() { 40 } else { OPEN }, |max| max + 2)
        }
        Some("array") => count("maxItems").map_or(OPEN, |max| (longest(&schema["items"]) + 1).saturating_mul(max) + 2),
        Some("object") if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(key, value)| key.len() + 4 + longest(value)).fold(2, usize::saturating_add)
        }
        _ => OPEN,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_answer_is_estimated() {
        let cases = [
            (json!({"type": "boolean"}), 5),
            (json!({"type": "string", "enum": ["a", "long"]}), 6),
            (json!({"anyOf": [{"type": "string", "maxLength": 8}, {"type": "null"}]}), 10),
            (json!({"type": "array", "items": {"type": "integer"}, "maxItems": 2}), 52),
            (json!({"type": "object", "properties": {"a": {"type": "boolean"}, "bc": {"type": "null"}}}), 23),
            (json!({"type": "string", "format": "date"}), 40),
            (json!(true), 1000),
        ];
        for (schema, expected) in cases {
            assert_eq!(longest(&schema), expected, "{schema}");
        }
        assert_eq!(max_tokens(&json!({"type": "string", "maxLength": 1_000_000})), 8192);
    }
}
