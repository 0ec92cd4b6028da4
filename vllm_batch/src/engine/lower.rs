//! From a request to its sequences: after this, nothing is optional.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::EngineSpec;
use super::active::{Active, Generation, PromptLogprobs};
use super::answer::{Answer, AnswerRules};
use super::conversation::{Conversation, Parsers, check_one_format};
use super::guided::Guided;
use super::thinking::{Thinking, ThinkingRules};
use crate::error::{LoadError, RequestError};
use crate::guide::{Constraint, GrammarCache, Vocabulary};
use crate::model::ModelFiles;
use crate::output::Usage;
use crate::request::{PoolingType, Prompt, Request, SamplingParams, Task};
use crate::sample::{Sampler, answer_seed, derive_seed};
use crate::sched::{NewSequence, SequenceId};
use crate::text::{AnswerFormat, AnswerReader, ChatTemplates, OutputText, Tokenizer};

/// What lowering needs to know of the model and the engine. Shared by the threads that lower and compute.
#[derive(Debug)]
pub(crate) struct Lowering {
    spec: EngineSpec,
    pub(super) tokenizer: Arc<Tokenizer>,
    chat_templates: ChatTemplates,
    parsers: Parsers,
    eos_token_ids: Vec<u32>,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    /// Whether the network reads whole texts.
    pub(super) is_encoder: bool,
    pub(super) max_model_len: usize,
    seed: u64,
    pub(super) pooling_type: PoolingType,
    /// Whether embeddings are scaled to length 1, unless their request says.
    pub(super) normalize: bool,
    /// Made for the first request that needs it.
    grammars: OnceLock<Result<GrammarCache, RequestError>>,
}

/// A request with every choice made and every limit checked.
#[derive(Debug)]
pub(crate) struct LoweredRequest {
    /// Numbered from 0.
    pub(super) sequences: Vec<NewSequence>,
    pub(super) active: Active,
}

/// A prompt, how many tokens were cut off before it, and how its answers are taken apart.
#[derive(Debug)]
pub(super) struct CutPrompt {
    pub(super) token_ids: Vec<u32>,
    num_cut: usize,
    format: AnswerFormat,
}

/// A `truncate_prompt_tokens`, and how many tokens `-1` stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truncation {
    pub(super) tokens: Option<i32>,
    pub(super) room: usize,
}

impl Lowering {
    /// Takes over what the model's files say about text.
    pub(super) fn new(
        files: ModelFiles,
        spec: EngineSpec,
        (parsers, seed, pooling_type, time): (Parsers, u64, PoolingType, SystemTime),
    ) -> Self {
        Self {
            parsers,
            vocab_size: spec.vocab_size,
            hidden_size: files.spec.hidden_size(),
            is_encoder: files.spec.is_encoder(),
            normalize: files.sentence.normalize.unwrap_or(true),
            tokenizer: Arc::new(files.tokenizer),
            chat_templates: ChatTemplates::at_time(files.chat_template, files.special_tokens, time),
            eos_token_ids: files.eos_token_ids,
            max_model_len: spec.max_model_len,
            spec,
            seed,
            pooling_type,
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
    pub(super) fn lower(&self, mut request: Request) -> Result<LoweredRequest, RequestError> {
        self.spec.check(&request)?;
        match std::mem::take(&mut request.task) {
            Task::Generate(params) => self.lower_text(&request, &params),
            Task::Embed(params) => self.lower_embedding(request, &params),
            Task::Score(params) => self.lower_scores(request, &params),
        }
    }

    /// One sequence for each answer. All share the prompt's blocks; log-probabilities of the prompt take one sequence that
    /// computes it wholly.
    fn lower_text(&self, request: &Request, params: &SamplingParams) -> Result<LoweredRequest, RequestError> {
        params.validate()?;
        self.check_tokens("stop_token_ids", &params.stop_token_ids)?;
        self.check_tokens("allowed_token_ids", params.allowed_token_ids.as_deref().unwrap_or_default())?;
        self.check_tokens("logit_bias", params.logit_bias.keys())?;
        check_one_format(&request.chat, params)?;
        let CutPrompt { token_ids: prompt_token_ids, num_cut, format } =
            self.prompt_token_ids(request, self.truncation(params)?)?;
        let max_num_tokens = self.max_num_tokens(prompt_token_ids.len(), params)?;
        let prompt = match &request.prompt {
            _ if !request.echo => None,
            Prompt::Text(text) if num_cut == 0 => Some(text.clone()),
            _ => Some(self.tokenizer.decode(&prompt_token_ids, false)?),
        };
        let generation = self.generation((request, params), format, (&prompt_token_ids, max_num_tokens))?;
        let sequence = |index: u32| NewSequence {
            id: SequenceId(u64::from(index)),
            prompt_token_ids: prompt_token_ids.clone(),
            max_num_tokens,
            priority: request.priority,
            adapter: self.adapter(request),
            max_cached_tokens: if index == 0 && generation.prompt_logprobs.is_some() { 0 } else { usize::MAX },
        };
        let sequences = (0..params.num_generated()).map(sequence).collect();
        Ok(LoweredRequest { sequences, active: Active::Generate(Generation { prompt, ..generation }) })
    }

    /// The number of the adapter that the request names.
    pub(super) fn adapter(&self, request: &Request) -> Option<u32> {
        let model = request.model.as_ref()?;
        self.spec.adapters.iter().position(|adapter| adapter == model).map(|number| number as u32)
    }

    /// The request without a token of an answer.
    fn generation(
        &self,
        (request, params): (&Request, &SamplingParams),
        format: AnswerFormat,
        (prompt, max_num_tokens): (&[u32], usize),
    ) -> Result<Generation, RequestError> {
        let guided = self.guided((request, params), &format)?;
        let has_parts = format != AnswerFormat::default();
        let reader = has_parts.then(|| AnswerReader::new(format, request, prompt));
        let shows_special = reader.as_ref().is_some_and(|reader| reader.needs_special_tokens(&self.tokenizer));
        let text_params = params.clone().with_skip_special_tokens(params.skip_special_tokens && !shows_special);
        let rules = Arc::new(AnswerRules { reader, ..self.rules((request, params), max_num_tokens) });
        let seed = params.seed.unwrap_or_else(|| derive_seed(self.seed, &request.request_id));
        let sampler = Sampler::new(params, seed, [&*rules.eos_token_ids, &*rules.stop_token_ids].concat());
        let sampler = sampler.with_bad_words(self.bad_words(&params.bad_words)?).with_prompt(prompt);
        let answer = |index| {
            let sampler = sampler.clone().with_seed(answer_seed(seed, u64::from(index)));
            let text = OutputText::new(Arc::clone(&self.tokenizer), &text_params);
            Some(Answer::new(Arc::clone(&rules), sampler, text, guided.clone()))
        };
        let num_top = params.num_prompt_logprobs(request.echo);
        Ok(Generation {
            request_id: request.request_id.clone(),
            prompt: None,
            prompt_logprobs: self.num_top(num_top).map(|num_top| PromptLogprobs { num_top, rows: Vec::new() }),
            answers: (0..params.num_generated()).map(answer).collect(),
            outputs: Vec::new(),
            n: params.n as usize,
            is_ranked: params.best_of.is_some(),
            usage: Usage::default(),
        })
    }

    /// What keeps the answers to a format, at the beginning of an answer.
    fn guided(
        &self,
        (request, params): (&Request, &SamplingParams),
        format: &AnswerFormat,
    ) -> Result<Option<Guided>, RequestError> {
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

    fn rules(&self, (request, params): (&Request, &SamplingParams), max_num_tokens: usize) -> AnswerRules {
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

    /// The prompt's tokens, as many as are to be kept.
    pub(super) fn prompt_token_ids(
        &self,
        request: &Request,
        truncation: Truncation,
    ) -> Result<CutPrompt, RequestError> {
        let (mut token_ids, format) = self.prompt(request)?;
        let num_cut = token_ids.len().saturating_sub(truncation.max_len());
        token_ids.drain(..num_cut);
        // A tokenizer may know more tokens than the network.
        self.check_tokens("prompt", &token_ids)?;
        Ok(CutPrompt { token_ids, num_cut, format })
    }

    /// The tokens of a whole text, as many as are to be kept: the first ones, with the special tokens around them.
    pub(super) fn text_token_ids(&self, request: &Request, truncation: Truncation) -> Result<Vec<u32>, RequestError> {
        let token_ids = if let (Prompt::Text(text), Some(_)) = (&request.prompt, truncation.tokens) {
            let adds = request.add_special_tokens.unwrap_or(true);
            self.tokenizer.encode_first(text, adds, truncation.max_len())?
        } else {
            let (mut token_ids, _) = self.prompt(request)?;
            token_ids.truncate(truncation.max_len());
            token_ids
        };
        self.check_tokens("prompt", &token_ids)?;
        Ok(token_ids)
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

    /// Of a prompt that is cut to what fits, the answer must leave something.
    fn truncation(&self, params: &SamplingParams) -> Result<Truncation, RequestError> {
        let room = self.max_model_len.saturating_sub(params.max_tokens.unwrap_or(1) as usize);
        if room == 0 && params.truncate_prompt_tokens.is_some_and(i32::is_negative) {
            let message = format!("leaves no room for a prompt in the context of {} tokens", self.max_model_len);
            return Err(RequestError::invalid("max_tokens", message));
        }
        Ok(Truncation { tokens: params.truncate_prompt_tokens, room })
    }

    /// Refuses a prompt that is empty, or too long for what is to follow it.
    pub(super) fn check_len(&self, prompt_tokens: usize, num_following: usize) -> Result<(), RequestError> {
        let max_model_len = self.max_model_len;
        match prompt_tokens {
            0 => Err(RequestError::EmptyPrompt),
            _ if prompt_tokens + num_following <= max_model_len => Ok(()),
            _ => Err(RequestError::PromptTooLong { prompt_tokens, max_model_len }),
        }
    }

    /// An answer ends at `max_tokens` or at the context limit, whichever comes first; one token must fit.
    fn max_num_tokens(&self, prompt_tokens: usize, params: &SamplingParams) -> Result<usize, RequestError> {
        self.check_len(prompt_tokens, 1)?;
        let wanted = params.max_tokens.map_or(usize::MAX, |max_tokens| prompt_tokens + max_tokens as usize);
        Ok(wanted.min(self.max_model_len))
    }
}

impl Truncation {
    /// The most tokens that are kept.
    fn max_len(self) -> usize {
        self.tokens.map_or(usize::MAX, |tokens| usize::try_from(tokens).unwrap_or(self.room))
    }
}
