//! From a request to a sequence: after this, nothing is optional.

use std::sync::Arc;

use crate::error::RequestError;
use crate::model::ModelFiles;
use crate::request::{Prompt, Request, SamplingParams};
use crate::sample::{Sampler, derive_seed};
use crate::text::{ChatTemplate, OutputText, Tokenizer};

/// What lowering needs to know of the model and the engine. Shared by the threads that lower and compute.
#[derive(Debug)]
pub(crate) struct Lowering {
    tokenizer: Arc<Tokenizer>,
    chat_template: Option<ChatTemplate>,
    eos_token_ids: Vec<u32>,
    vocab_size: usize,
    max_model_len: usize,
    seed: u64,
}

/// A request with every choice made and every limit checked.
#[derive(Debug)]
pub(crate) struct LoweredRequest {
    pub(super) request_id: String,
    pub(super) prompt_token_ids: Vec<u32>,
    /// The most tokens that prompt and answer can have together.
    pub(super) max_num_tokens: usize,
    pub(super) priority: i32,
    pub(super) sampler: Sampler,
    pub(super) stop: StopTokens,
    pub(super) text: OutputText,
}

/// The tokens that end an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StopTokens {
    /// The model's own; empty if they are to be ignored.
    pub(super) eos: Vec<u32>,
    /// The request's.
    pub(super) requested: Vec<u32>,
    /// Neither ends the answer before it has this many tokens.
    pub(super) min_tokens: usize,
}

impl Lowering {
    /// Takes over what the model's files say about text.
    pub(super) fn new(files: ModelFiles, max_model_len: usize, seed: u64) -> Self {
        Self {
            vocab_size: files.spec.vocab_size,
            tokenizer: Arc::new(files.tokenizer),
            chat_template: files.chat_template,
            eos_token_ids: files.eos_token_ids,
            max_model_len,
            seed,
        }
    }

    /// Renders, tokenises, resolves and checks.
    ///
    /// # Errors
    /// Every [`RequestError`] that says what is wrong with the request itself.
    pub(super) fn lower(&self, request: Request) -> Result<LoweredRequest, RequestError> {
        let params = &request.sampling_params;
        params.validate()?;
        let prompt_token_ids = self.token_ids(&request.prompt)?;
        let max_num_tokens = self.max_num_tokens(prompt_token_ids.len(), params)?;
        self.check_tokens("stop_token_ids", &params.stop_token_ids)?;
        let seed = params.seed.unwrap_or_else(|| derive_seed(self.seed, &request.request_id));
        let eos = if params.ignore_eos { Vec::new() } else { self.eos_token_ids.clone() };
        Ok(LoweredRequest {
            prompt_token_ids,
            max_num_tokens,
            priority: request.priority,
            sampler: Sampler::new(params, seed, self.end_token_ids(params)),
            stop: StopTokens { eos, requested: params.stop_token_ids.clone(), min_tokens: params.min_tokens as usize },
            text: OutputText::new(Arc::clone(&self.tokenizer), params),
            request_id: request.request_id,
        })
    }

    /// The tokens that `min_tokens` keeps away.
    fn end_token_ids(&self, params: &SamplingParams) -> Vec<u32> {
        let eos = if params.ignore_eos { &[] } else { self.eos_token_ids.as_slice() };
        eos.iter().chain(&params.stop_token_ids).copied().collect()
    }

    fn token_ids(&self, prompt: &Prompt) -> Result<Vec<u32>, RequestError> {
        match prompt {
            Prompt::Text(text) => self.tokenizer.encode(text, true),
            Prompt::Messages(messages) => {
                if messages.is_empty() {
                    return Err(RequestError::invalid("messages", "must hold at least one message"));
                }
                let template = self.chat_template.as_ref().ok_or(RequestError::NoChatTemplate)?;
                self.tokenizer.encode(&template.render(messages, true)?, false)
            }
            Prompt::TokenIds(token_ids) => {
                self.check_tokens("prompt", token_ids)?;
                Ok(token_ids.clone())
            }
        }
    }

    fn check_tokens(&self, param: &'static str, token_ids: &[u32]) -> Result<(), RequestError> {
        let vocab_size = self.vocab_size;
        match token_ids.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) if param == "prompt" => Err(RequestError::UnknownToken { token_id: *id, vocab_size }),
            Some(id) => Err(RequestError::invalid(param, format!("{id} is outside the vocabulary of {vocab_size}"))),
            None => Ok(()),
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
