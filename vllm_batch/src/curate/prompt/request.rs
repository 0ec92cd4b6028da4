//! A record as a request to an engine.

use super::super::{CompiledSchema, Record, length};
use super::{AnswerForm, Example, PromptError};
use crate::request::{Request, SamplingParams, StructuredOutput};

/// The most tokens of an answer, unless a number is given.
const MAX_TOKENS: usize = 8_192;

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
    /// The most tokens of an answer, which is cut off there; absent: as many as the longest answer takes that the format
    /// allows, by an estimate that is on the safe side, and 8192 at most.
    pub max_tokens: Option<u32>,
    /// Whether the format has texts and lists so short that every answer comes to its end within `max_tokens`.
    pub whole_answers: bool,
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
            whole_answers: false,
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

    /// Sets the most tokens of an answer. Longer ones are cut off: what is complete of them is kept.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the most tokens of an answer, and holds texts and lists to lengths with which every answer fits: the limits of
    /// [`decode_schema`](CompiledSchema::decode_schema) become shorter, all in the same proportion. It is counted as if each
    /// character of a text were a token, so that answers are in fact much shorter; for texts that take more tokens than they
    /// have characters, an answer may still be cut off. For models that go on and on.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{PromptError, Record, RequestOptions, SchemaRegistry};
    ///
    /// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
    /// let mut mail = Record::new("1").with_field("from", "ann").with_field("to", "bob");
    /// mail = mail.with_field("subject", "Lunch?").with_field("email_body", "At noon?");
    /// let options = |max_tokens| RequestOptions::default().with_whole_answers(max_tokens);
    /// assert!(schema.request(&mail, &options(300)).is_ok());
    /// assert!(matches!(schema.request(&mail, &options(20)), Err(PromptError::NoRoom { max_tokens: 20, .. })));
    /// ```
    #[must_use]
    pub fn with_whole_answers(mut self, max_tokens: u32) -> Self {
        (self.max_tokens, self.whole_answers) = (Some(max_tokens), true);
        self
    }
}

impl CompiledSchema {
    /// The request that asks a model about a record. Its name is the record's; the answer is held to
    /// [`decode_schema_for`](Self::decode_schema_for) the record, unless it is not JSON.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt), and [`PromptError::NoRoom`].
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
            Request::new(&*record.id, messages).with_sampling_params(self.sampling_params(record, options)?);
        request.model.clone_from(&options.model);
        Ok(request)
    }

    /// The sampling parameters of [`request`](Self::request).
    fn sampling_params(&self, record: &Record, options: &RequestOptions) -> Result<SamplingParams, PromptError> {
        let temperature = options.temperature.unwrap_or(if options.n > 1 { 1.0 } else { 0.0 });
        let mut params = SamplingParams::default().with_n(options.n).with_temperature(temperature);
        let format = match options.max_tokens {
            Some(max_tokens) if options.whole_answers => self.decode_schema_within(record, max_tokens)?,
            _ => self.decode_schema_for(record),
        };
        let of_format = || length::max_tokens(&format).min(MAX_TOKENS) as u32;
        params.max_tokens = Some(options.max_tokens.unwrap_or_else(of_format));
        params.seed = options.seed;
        params.logprobs = options.logprobs.then_some(0);
        let is_json = options.form == AnswerForm::Json || self.schema().prompt.assistant.is_none();
        params.structured_outputs = is_json.then(|| StructuredOutput::json_schema(format));
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::{Question, QuestionKind, TaskSchema, TextQuestion, Version};
    use super::*;
    use crate::request::OutputFormat;

    fn schema() -> CompiledSchema {
        let question = |id: &str, multiline| {
            let text = TextQuestion { multiline, ..TextQuestion::default() };
            Question::new(id.parse().unwrap(), QuestionKind::Text(text))
        };
        let schema = TaskSchema::new("notes".parse().unwrap(), Version::new(1, 0, 0));
        schema.with_question(question("a", true)).with_question(question("b", false)).compile().unwrap()
    }

    fn asked(schema: &CompiledSchema, options: &RequestOptions) -> Result<(Option<u32>, Value), PromptError> {
        let request = schema.request(&Record::new("r"), options)?;
        let params = request.sampling_params().unwrap();
        let OutputFormat::JsonSchema(format) = &params.structured_outputs.as_ref().unwrap().format else { panic!() };
        let limits = ["a", "b"].map(|id| format["properties"][id]["maxLength"].clone());
        Ok((params.max_tokens, limits.into_iter().collect()))
    }

    #[test]
    fn tokens_follow_from_the_format_or_the_format_from_tokens() {
        let schema = schema();
        let options = RequestOptions::default();
        let tokens = u32::try_from(length::max_tokens(schema.decode_schema())).unwrap();
        assert_eq!(asked(&schema, &options).unwrap(), (Some(tokens), json!([2000, 400])));
        assert_eq!(asked(&schema, &options.clone().with_max_tokens(9)).unwrap(), (Some(9), json!([2000, 400])));
        for _ in 0..2 {
            let (max_tokens, limits) = asked(&schema, &options.clone().with_whole_answers(300)).unwrap();
            assert_eq!(max_tokens, Some(300));
            let sum = limits[0].as_u64().unwrap() + limits[1].as_u64().unwrap();
            assert!(
                (250..300).contains(&sum) && limits[0].as_u64() > limits[1].as_u64().map(|limit| 4 * limit),
                "{limits}"
            );
        }
        let error = asked(&schema, &options.with_whole_answers(30)).unwrap_err();
        assert!(matches!(error, PromptError::NoRoom { max_tokens: 30, needed: 60..90 }), "{error}");
    }
}
