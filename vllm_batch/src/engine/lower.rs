//! From a request to a sequence: after this, nothing is optional.

use std::sync::{Arc, OnceLock};

use super::active::{Active, PromptLogprobs};
use super::answer::{Answer, AnswerRules};
use super::conversation::{Conversation, Parsers};
use super::guided::Guided;
use super::thinking::{Thinking, ThinkingRules};
use crate::error::{LoadError, RequestError};
use crate::guide::{Constraint, GrammarCache, Vocabulary};
use crate::model::ModelFiles;
use crate::output::Usage;
use crate::request::{Prompt, Request, SamplingParams};
use crate::sample::{Sampler, answer_seed, derive_seed};
use crate::sched::{NewSequence, SequenceId};
use crate::text::{AnswerFormat, AnswerReader, ChatTemplates, OutputText, Tokenizer};

/// What lowering needs to know of the model and the engine. Shared by the threads that lower and compute.
#[derive(Debug)]
pub(crate) struct Lowering {
    tokenizer: Arc<Tokenizer>,
    chat_templates: ChatTemplates,
    parsers: Parsers,
    eos_token_ids: Vec<u32>,
    vocab_size: usize,
    max_model_len: usize,
    seed: u64,
    /// Made for the first request that needs it.
    grammars: OnceLock<Result<GrammarCache, RequestError>>,
}

/// A request with every choice made and every limit checked.
#[derive(Debug)]
pub(crate) struct LoweredRequest {
    prompt_token_ids: Vec<u32>,
    /// The most tokens that prompt and answer can have together.
    max_num_tokens: usize,
    priority: i32,
    pub(super) active: Active,
}

impl LoweredRequest {
    /// One sequence for each answer. All share the prompt's blocks; log-probabilities of the prompt take one sequence
    /// that computes it wholly.
    pub(super) fn sequences(&self, first: SequenceId) -> Vec<NewSequence> {
        let sequence = |(id, index): (u64, usize)| NewSequence {
            id: SequenceId(id),
            prompt_token_ids: self.prompt_token_ids.clone(),
            max_num_tokens: self.max_num_tokens,
            priority: self.priority,
            skip_reading_prefix_cache: index == 0 && self.active.prompt_logprobs.is_some(),
        };
        (first.0..).zip(0..self.active.answers.len()).map(sequence).collect()
    }
}

impl Lowering {
    /// Takes over what the model's files say about text.
    pub(super) fn new(files: ModelFiles, parsers: Parsers, max_model_len: usize, seed: u64) -> Self {
        Self {
            parsers,
            vocab_size: files.spec.vocab_size,
            tokenizer: Arc::new(files.tokenizer),
            chat_templates: ChatTemplates::new(files.chat_template, files.special_tokens),
            eos_token_ids: files.eos_token_ids,
            max_model_len,
            seed,
            grammars: OnceLock::new(),
        }
    }

    /// What tokens are called.
    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Renders, tokenises, resolves and checks.
    ///
    /// # Errors
    /// Every [`RequestError`] that says what is wrong with the request itself.
    pub(super) fn lower(&self, request: Request) -> Result<LoweredRequest, RequestError> {
        let params = &request.sampling_params;
        params.validate()?;
        self.check_tokens("stop_token_ids", &params.stop_token_ids)?;
        self.check_tokens("allowed_token_ids", params.allowed_token_ids.as_deref().unwrap_or_default())?;
        self.check_tokens("logit_bias", params.logit_bias.keys())?;
        let (mut prompt_token_ids, format) = self.prompt(&request)?;
        let num_cut = prompt_token_ids.len().saturating_sub(self.max_prompt_len(params)?);
        prompt_token_ids.drain(..num_cut);
        // A tokenizer may know more tokens than the network.
        self.check_tokens("prompt", &prompt_token_ids)?;
        let max_num_tokens = self.max_num_tokens(prompt_token_ids.len(), params)?;
        let prompt = match &request.prompt {
            _ if !request.echo => None,
            Prompt::Text(text) if num_cut == 0 => Some(text.clone()),
            _ => Some(self.tokenizer.decode(&prompt_token_ids, false)?),
        };
        let priority = request.priority;
        let active = Active { prompt, ..self.active(request, format, &prompt_token_ids, max_num_tokens)? };
        Ok(LoweredRequest { prompt_token_ids, max_num_tokens, priority, active })
    }

    /// The request without a token of an answer.
    fn active(
        &self,
        request: Request,
        format: AnswerFormat,
        prompt: &[u32],
        max_num_tokens: usize,
    ) -> Result<Active, RequestError> {
        let params = &request.sampling_params;
        let guided = self.guided(&request, &format)?;
        let has_parts = format != AnswerFormat::default();
        let reader = has_parts.then(|| AnswerReader::new(format, &request, prompt));
        let shows_special = reader.as_ref().is_some_and(|reader| reader.needs_special_tokens(&self.tokenizer));
        let text_params = params.clone().with_skip_special_tokens(params.skip_special_tokens && !shows_special);
        let rules = Arc::new(AnswerRules { reader, ..self.rules(&request, max_num_tokens) });
        let seed = params.seed.unwrap_or_else(|| derive_seed(self.seed, &request.request_id));
        let sampler = Sampler::new(params, seed, [&*rules.eos_token_ids, &*rules.stop_token_ids].concat());
        let sampler = sampler.with_bad_words(self.bad_words(&params.bad_words)?).with_prompt(prompt);
        let answer = |index| {
            let sampler = sampler.clone().with_seed(answer_seed(seed, u64::from(index)));
            let text = OutputText::new(Arc::clone(&self.tokenizer), &text_params);
            Some(Answer::new(Arc::clone(&rules), sampler, text, guided.clone()))
        };
        let prompt_logprobs = params.prompt_logprobs.or(params.logprobs.filter(|_| request.echo));
        Ok(Active {
            request_id: request.request_id,
            prompt: None,
            prompt_logprobs: self.num_top(prompt_logprobs).map(|num_top| PromptLogprobs { num_top, rows: Vec::new() }),
            answers: (0..params.num_generated()).map(answer).collect(),
            outputs: Vec::new(),
            n: params.n as usize,
            is_ranked: params.best_of.is_some(),
            usage: Usage::default(),
        })
    }

    /// What keeps the answers to a format, at the beginning of an answer.
    fn guided(&self, request: &Request, format: &AnswerFormat) -> Result<Option<Guided>, RequestError> {
        let params = &request.sampling_params;
        let wants_logits = params.logprobs.is_some() || params.prompt_logprobs.is_some() || params.best_of.is_some();
        let grammar = match (&params.structured_outputs, &format.calls) {
            (Some(output), _) => Some(self.grammars()?.compile(output)?),
            (None, Some(calls)) => Some(self.grammars()?.compile_calls(calls, &request.chat)?),
            (None, None) => None,
        };
        Guided::new(self.thinking(params, format)?, grammar.map(Constraint::new), !wants_logits)
    }

    /// The thoughts that come before the answer, if there are any.
    fn thinking(&self, params: &SamplingParams, format: &AnswerFormat) -> Result<Option<Thinking>, RequestError> {
        if params.thinking_token_budget.is_some() && self.parsers.reasoning.is_none() {
            let message =
                "the engine does not know how the model marks its thoughts: see its option `reasoning_parser`";
            let param = "thinking_token_budget".to_owned();
            return Err(RequestError::UnsupportedParam { param, message: message.to_owned() });
        }
        let Some(format) = &format.reasoning else { return Ok(None) };
        let (budget, tokenizer) = (params.thinking_token_budget, Arc::clone(&self.tokenizer));
        let rules = ThinkingRules::new(format.clone(), budget, tokenizer, self.vocab_size)?;
        Ok(Some(Thinking::new(Arc::new(rules))))
    }

    fn grammars(&self) -> Result<&GrammarCache, RequestError> {
        self.grammars.get_or_init(|| self.new_grammars()).as_ref().map_err(Clone::clone)
    }

    fn new_grammars(&self) -> Result<GrammarCache, RequestError> {
        let vocabulary = Vocabulary::new(Arc::clone(&self.tokenizer), &self.eos_token_ids, self.vocab_size);
        let failed = |error: LoadError| RequestError::Tokenizer { message: error.to_string() };
        Ok(GrammarCache::new(Arc::new(vocabulary.map_err(failed)?)))
    }

    fn rules(&self, request: &Request, max_num_tokens: usize) -> AnswerRules {
        let params = &request.sampling_params;
        let restriction = match params {
            params if params.allowed_token_ids.is_some() => "allowed_token_ids",
            params if !params.bad_words.is_empty() => "bad_words",
            _ => "logit_bias",
        };
        // A format knows itself when an end token may come.
        let has_format = params.structured_outputs.is_some() || request.chat.may_call();
        let ignores_eos = params.ignore_eos && !has_format;
        AnswerRules {
            eos_token_ids: if ignores_eos { Vec::new() } else { self.eos_token_ids.clone() },
            stop_token_ids: params.stop_token_ids.clone(),
            include_stop: params.include_stop_str_in_output,
            min_tokens: params.min_tokens as usize,
            max_num_tokens,
            repetition_detection: params.repetition_detection,
            logprobs: self.num_top(params.logprobs),
            is_scored: params.best_of.is_some(),
            restriction,
            reader: None,
            tokenizer: Arc::clone(&self.tokenizer),
        }
    }

    /// How many of the most likely tokens are wanted; negative numbers stand for all.
    fn num_top(&self, logprobs: Option<i32>) -> Option<usize> {
        logprobs.map(|count| usize::try_from(count).unwrap_or(self.vocab_size))
    }

    /// The tokens of each word, as at the beginning of a text and as after a space. vLLM leaves the second form out where
    /// it has another number of tokens, and so lets it through.
    fn bad_words(&self, words: &[String]) -> Result<Vec<Vec<u32>>, RequestError> {
        let mut bad_words: Vec<Vec<u32>> = Vec::new();
        for word in words {
            let word = word.trim_start();
            let token_ids = self.tokenizer.encode(word, false)?;
            if token_ids.is_empty() {
                return Err(RequestError::invalid("bad_words", "each word must have at least one token"));
            }
            bad_words.extend([token_ids, self.tokenizer.encode(&format!(" {word}"), false)?]);
        }
        Ok(bad_words)
    }

    /// The prompt's tokens, and how answers are taken apart.
    fn prompt(&self, request: &Request) -> Result<(Vec<u32>, AnswerFormat), RequestError> {
        let adds = |default| request.add_special_tokens.unwrap_or(default);
        match &request.prompt {
            Prompt::Text(text) => Ok((self.tokenizer.encode(text, adds(true))?, AnswerFormat::default())),
            Prompt::Messages(messages) => {
                let Conversation { prompt, format } =
                    Conversation::new(messages, request, (&self.chat_templates, &self.parsers))?;
                Ok((self.tokenizer.encode(&prompt, adds(false))?, format))
            }
            Prompt::TokenIds(token_ids) => Ok((token_ids.clone(), AnswerFormat::default())),
        }
    }

    fn check_tokens<'a>(
        &self,
        param: &'static str,
        token_ids: impl IntoIterator<Item = &'a u32>,
    ) -> Result<(), RequestError> {
        let vocab_size = self.vocab_size;
        match token_ids.into_iter().find(|id| **id as usize >= vocab_size) {
            Some(id) if param == "prompt" => Err(RequestError::UnknownToken { token_id: *id, vocab_size }),
            Some(id) => Err(RequestError::invalid(param, format!("{id} is outside the vocabulary of {vocab_size}"))),
            None => Ok(()),
        }
    }

    /// The most tokens that are kept of the prompt.
    fn max_prompt_len(&self, params: &SamplingParams) -> Result<usize, RequestError> {
        let room = || {
            let max_tokens = params.max_tokens.unwrap_or(1) as usize;
            let room = self.max_model_len.checked_sub(max_tokens).filter(|room| *room > 0);
            let message = format!("leaves no room for a prompt in the context of {} tokens", self.max_model_len);
            room.ok_or_else(|| RequestError::invalid("max_tokens", message))
        };
        match params.truncate_prompt_tokens {
            None => Ok(usize::MAX),
            Some(len) => usize::try_from(len).or_else(|_| room()),
        }
    }

    /// An answer ends at `max_tokens` or at the context limit, whichever comes first; one token must fit.
    fn max_num_tokens(&self, prompt_tokens: usize, params: &SamplingParams) -> Result<usize, RequestError> {
        let max_model_len = self.max_model_len;
        if prompt_tokens == 0 {
            return Err(RequestError::EmptyPrompt);
        }
        if prompt_tokens >= max_model_len {
            return Err(RequestError::PromptTooLong { prompt_tokens, max_model_len });
        }
        let wanted = params.max_tokens.map_or(usize::MAX, |max_tokens| prompt_tokens + max_tokens as usize);
        Ok(wanted.min(max_model_len))
    }
}
