//! An engine that answers from a script.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::pooled;
use crate::engine::{BatchEngine, EngineSpec, OutputStream};
use crate::error::RequestError;
use crate::output::{
    CompletionOutput, FinishReason, OutputEvent, RequestOutput, TextDelta, TokenLogprob, TokenLogprobs, Usage,
};
use crate::request::{Prompt, Request, SamplingParams, Task};
use crate::text::{AnswerFormat, AnswerReader, AnswerStream, ReasoningFormat, ToolCallFormat};

/// Answers requests from a function or a table, without a model: for tests of code that uses a [`BatchEngine`].
///
/// * A token is a word with the white space after it, in prompts as well as in answers; each token of an answer is one
///   [`Delta`](OutputEvent::Delta).
/// * `max_tokens` cuts an answer off; an empty prompt, and one that fills the context, are refused as a real engine does.
///   `n` answers are given, all equal, and the prompt is echoed if that was asked for. The script leaves no choice: with
///   `logprobs` or `prompt_logprobs`, each token has the log-probability 0, and is the only one among the most likely.
///   Other parameters are ignored.
/// * An embedding has `dimensions` numbers, or 8. They follow from the prompt's words: texts with common words are close.
///   Of labels, the one that the script answers with is certain. The script is asked in any case, and may refuse.
/// * Where a request has tools that may be called, calls are read out of the answer: they are written in the Hermes
///   format, `<tool_call>` and so on. So are thoughts, with [`with_reasoning`](Self::with_reasoning).
/// * It has no thread: answers are made as their streams are polled.
///
/// # Example
/// ```
/// use vllm_batch::testing::ScriptedEngine;
/// use vllm_batch::{BatchEngineExt, Request, RequestError};
///
/// let engine = ScriptedEngine::new(|request| match request.request_id.as_str() {
///     "bad" => Err(RequestError::invalid("prompt", "too rude")),
///     id => Ok(format!("Hello, {id}!")),
/// });
/// let results = engine.generate([Request::new("you", "Hi"), Request::new("bad", "Hi")]);
/// assert_eq!(results[0].as_ref().map(|output| output.outputs[0].text.as_str()), Ok("Hello, you!"));
/// assert_eq!(results[1].as_ref().map_err(RequestError::code).err(), Some("invalid_value"));
/// assert_eq!((engine.stats().finished, engine.stats().failed), (1, 1));
/// ```
#[derive(Debug)]
pub struct ScriptedEngine {
    spec: EngineSpec,
    script: Script,
    lives_for: usize,
    reasoning: Option<ReasoningFormat>,
    shared: Arc<Mutex<State>>,
}

/// What a [`ScriptedEngine`] has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptedStats {
    /// Requests handed over.
    pub submitted: usize,
    /// Requests that were answered.
    pub finished: usize,
    /// Requests that failed.
    pub failed: usize,
    /// Requests whose stream was dropped before it ended.
    pub aborted: usize,
    /// Streams that have not ended and are not dropped.
    pub running: usize,
    /// The most of them there ever were at a time.
    pub max_running: usize,
    /// Tokens of the prompts of answered requests.
    pub prompt_tokens: usize,
    /// Tokens generated, those of aborted requests included.
    pub generated_tokens: usize,
}

type Answering = dyn Fn(&Request) -> Result<String, RequestError> + Send + Sync;

/// Makes the answer to a request.
struct Script(Box<Answering>);

/// What all streams of an engine share.
#[derive(Debug, Default)]
struct State {
    stats: ScriptedStats,
    /// How many more requests may be answered; `None` if any number may.
    permits: Option<usize>,
    waiting: Vec<Waker>,
}

impl ScriptedEngine {
    /// An engine that answers with what the function returns.
    pub fn new(script: impl Fn(&Request) -> Result<String, RequestError> + Send + Sync + 'static) -> Self {
        let mut spec = EngineSpec::new("scripted", "scripted-1");
        spec.max_model_len = 4096;
        spec.vocab_size = 1 << 16;
        spec.max_num_seqs = 8;
        Self { spec, script: Script(Box::new(script)), lives_for: usize::MAX, reasoning: None, shared: Arc::default() }
    }

    /// An engine that answers with the prompt, or with the last message of a conversation.
    #[must_use]
    pub fn echo() -> Self {
        Self::new(|request| Ok(echo(&request.prompt)))
    }

    /// An engine that looks answers up by the request's id; other requests fail with
    /// [`RequestError::InvalidParam`] for `request_id`.
    pub fn from_table<K: Into<String>, V: Into<String>>(answers: impl IntoIterator<Item = (K, V)>) -> Self {
        let answers: HashMap<String, String> =
            answers.into_iter().map(|(id, answer)| (id.into(), answer.into())).collect();
        Self::new(move |request| {
            let answer = answers.get(&request.request_id);
            answer.cloned().ok_or_else(|| RequestError::invalid("request_id", "the script has no answer for it"))
        })
    }

    /// Replaces the specification. By default the model is `scripted`, its context 4096 tokens, and 8 sequences run at a
    /// time.
    #[must_use]
    pub fn with_spec(mut self, spec: EngineSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Reads thoughts out of answers to conversations, marked like this.
    #[must_use]
    pub fn with_reasoning(mut self, format: ReasoningFormat) -> Self {
        self.reasoning = Some(format);
        self
    }

    /// Dies after so many requests: all later ones fail with [`RequestError::EngineFailed`].
    #[must_use]
    pub fn dying_after(mut self, requests: usize) -> Self {
        self.lives_for = requests;
        self
    }

    /// Holds all answers back until they are [released](Self::release).
    #[must_use]
    pub fn held(self) -> Self {
        lock(&self.shared).permits = Some(0);
        self
    }

    /// Lets so many more requests be answered: the first ones that are polled.
    pub fn release(&self, requests: usize) {
        let mut state = lock(&self.shared);
        state.permits = state.permits.map(|permits| permits.saturating_add(requests));
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Lets all requests be answered from now on.
    pub fn release_all(&self) {
        let mut state = lock(&self.shared);
        state.permits = None;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> ScriptedStats {
        lock(&self.shared).stats
    }

    fn answer(&self, request: &Request, number: usize) -> Result<Reply, RequestError> {
        if number > self.lives_for {
            return Err(RequestError::EngineFailed { message: "the script lets the engine die here".to_owned() });
        }
        self.spec.check(request)?;
        let max_model_len = self.spec.max_model_len;
        let prompt_tokens = count_tokens(&request.prompt);
        // An embedding has no token, a text at least one.
        let least = usize::from(!matches!(request.task, Task::Embed(_)));
        let room = match max_model_len.checked_sub(prompt_tokens) {
            _ if prompt_tokens == 0 => return Err(RequestError::EmptyPrompt),
            Some(room) if room >= least => room,
            _ => return Err(RequestError::PromptTooLong { prompt_tokens, max_model_len }),
        };
        let text = (self.script.0)(request)?;
        Ok(match &request.task {
            Task::Generate(params) => {
                let max_tokens = params.max_tokens.map_or(room, |max| room.min(max as usize));
                let answer = Answer::new((request, params), text, prompt_tokens, max_tokens);
                Reply::Text(answer.with_reader(self.reader(request)))
            }
            Task::Embed(params) => {
                params.validate()?;
                let output = pooled::embedding(request, params, &prompt_words(&request.prompt));
                Reply::Whole(OutputEvent::Embedded(output))
            }
            Task::Score(params) => {
                params.validate()?;
                let output = pooled::scores(request, params, &text, &prompt_words(&request.prompt));
                Reply::Whole(OutputEvent::Scored(output))
            }
        })
    }
}

impl ScriptedEngine {
    /// What takes answers to a request apart, if they have parts.
    fn reader(&self, request: &Request) -> Option<AnswerReader> {
        let is_chat = matches!(request.prompt, Prompt::Messages(_));
        let calls = request.chat.may_call().then(ToolCallFormat::hermes);
        let format = AnswerFormat::new(calls, self.reasoning.clone().filter(|_| is_chat));
        (format != AnswerFormat::default()).then(|| AnswerReader::new(format, request, &[]))
    }
}

impl BatchEngine for ScriptedEngine {
    fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    fn submit(&self, request: Request) -> OutputStream {
        let number = {
            let mut state = lock(&self.shared);
            let stats = &mut state.stats;
            stats.submitted += 1;
            stats.running += 1;
            stats.max_running = stats.max_running.max(stats.running);
            stats.submitted
        };
        let reply = self.answer(&request, number);
        OutputStream::new(ScriptedStream { reply, is_released: false, has_ended: false, shared: self.shared.clone() })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Script")
    }
}

/// What comes back for a request. It is moved once, however large it is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
enum Reply {
    Text(Answer),
    /// All there is.
    Whole(OutputEvent),
}

impl Reply {
    fn next_event(&mut self) -> OutputEvent {
        match self {
            Self::Text(answer) => match answer.next_token() {
                Some(delta) => OutputEvent::Delta(delta),
                None => OutputEvent::Finished(answer.output()),
            },
            Self::Whole(event) => event.clone(),
        }
    }
}

/// An answer, token by token.
#[derive(Debug)]
struct Answer {
    request_id: String,
    text: String,
    prompt_tokens: usize,
    /// How many times the answer is given.
    n: usize,
    logprobs: Option<i32>,
    prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
    /// The prompt's text, if its echo was asked for.
    prompt: Option<String>,
    /// Where in `text` each token ends.
    ends: Vec<usize>,
    /// How many of them were sent.
    sent: usize,
    finish_reason: FinishReason,
    /// Reads thoughts and calls out of the answer.
    reader: Option<Box<AnswerReader>>,
    /// The same for the answer that is being sent.
    stream: Option<AnswerStream>,
}

impl Answer {
    fn new(
        (request, params): (&Request, &SamplingParams),
        mut text: String,
        prompt_tokens: usize,
        max_tokens: usize,
    ) -> Self {
        let mut ends: Vec<_> = words(&text).collect();
        let finish_reason = if ends.len() > max_tokens { FinishReason::Length } else { FinishReason::Stop };
        ends.truncate(max_tokens);
        text.truncate(ends.last().copied().unwrap_or(0));
        Self {
            request_id: request.request_id.clone(),
            text,
            prompt_tokens,
            n: params.n as usize,
            logprobs: params.logprobs,
            prompt_logprobs: params
                .num_prompt_logprobs(request.echo)
                .map(|count| prompt_logprobs(&request.prompt, count)),
            prompt: request.echo.then(|| prompt_text(&request.prompt)),
            ends,
            sent: 0,
            finish_reason,
            reader: None,
            stream: None,
        }
    }

    fn with_reader(mut self, reader: Option<AnswerReader>) -> Self {
        self.stream = reader.as_ref().map(AnswerReader::stream);
        self.reader = reader.map(Box::new);
        self
    }

    /// The next token's text; `None` after the last.
    fn next_token(&mut self) -> Option<TextDelta> {
        let (index, place) = (self.sent.checked_div(self.ends.len())?, self.sent % self.ends.len());
        if index >= self.n {
            return None;
        }
        let start = place.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.sent += 1;
        let text = &self.text[start..self.ends[place]];
        let (Some(reader), Some(stream)) = (&self.reader, &mut self.stream) else {
            return Some(TextDelta::new(text.to_owned(), 1).with_index(index));
        };
        let mut piece = stream.push(text);
        if place + 1 == self.ends.len() {
            piece += stream.finish();
            *stream = reader.stream();
        }
        let piece = reader.read_piece(piece);
        Some(TextDelta::new(piece.content, 1).with_reasoning(piece.reasoning).with_index(index))
    }

    /// The whole answer. Token ids count from 0.
    fn output(&mut self) -> RequestOutput {
        let usage = Usage::new(self.prompt_tokens, self.sent, 0);
        let token_ids = (0..self.ends.len() as u32).collect();
        let logprobs = self.logprobs.map(|num_top| certain(&self.text, num_top));
        let text = std::mem::take(&mut self.text);
        let output = CompletionOutput::new(text, token_ids, self.finish_reason, None);
        let cumulative_logprob = logprobs.as_ref().map(|_| 0.0);
        let output = CompletionOutput { logprobs, cumulative_logprob, ..output };
        let answers = (0..self.n).map(|index| CompletionOutput { index, ..output.clone() });
        let outputs = match &self.reader {
            Some(reader) => answers.map(|answer| reader.read(answer)).collect(),
            None => answers.collect(),
        };
        let prompt_token_ids = (0..self.prompt_tokens as u32).collect();
        let request_id = std::mem::take(&mut self.request_id);
        RequestOutput {
            prompt: self.prompt.take(),
            prompt_logprobs: self.prompt_logprobs.take(),
            ..RequestOutput::new(request_id, prompt_token_ids, outputs, usage)
        }
    }
}

#[derive(Debug)]
struct ScriptedStream {
    reply: Result<Reply, RequestError>,
    is_released: bool,
    has_ended: bool,
    shared: Arc<Mutex<State>>,
}

impl Stream for ScriptedStream {
    type Item = OutputEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OutputEvent>> {
        let stream = &mut *self;
        let mut state = lock(&stream.shared);
        if !stream.is_released && !state.take_permit(context) {
            return Poll::Pending;
        }
        stream.is_released = true;
        let event = match &mut stream.reply {
            _ if stream.has_ended => return Poll::Ready(None),
            Ok(reply) => reply.next_event(),
            Err(error) => OutputEvent::Failed(error.clone()),
        };
        stream.has_ended = state.stats.count(&event);
        Poll::Ready(Some(event))
    }
}

impl Drop for ScriptedStream {
    fn drop(&mut self) {
        if !self.has_ended {
            let stats = &mut lock(&self.shared).stats;
            stats.aborted += 1;
            stats.running -= 1;
        }
    }
}

impl State {
    fn take_permit(&mut self, context: &Context<'_>) -> bool {
        match &mut self.permits {
            Some(0) => {
                self.waiting.push(context.waker().clone());
                false
            }
            Some(permits) => {
                *permits -= 1;
                true
            }
            None => true,
        }
    }
}

impl ScriptedStats {
    fn count_answer(&mut self, usage: Usage) {
        self.finished += 1;
        self.prompt_tokens += usage.prompt_tokens;
    }

    /// Whether the event is the last one of its request.
    fn count(&mut self, event: &OutputEvent) -> bool {
        match event {
            OutputEvent::Delta(delta) => {
                self.generated_tokens += delta.num_tokens;
                return false;
            }
            OutputEvent::Finished(output) => self.count_answer(output.usage),
            OutputEvent::Embedded(output) => self.count_answer(output.usage),
            OutputEvent::Scored(output) => self.count_answer(output.usage),
            OutputEvent::Failed(_) => self.failed += 1,
        }
        self.running -= 1;
        true
    }
}

/// A script that panicked says nothing about the counters.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn echo(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::TokenIds(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        Prompt::Messages(messages) => messages.last().map_or_else(String::new, |last| last.content.clone()),
    }
}

/// The whole of a prompt.
fn prompt_text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Messages(messages) => {
            messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join(" ")
        }
        other => echo(other),
    }
}

/// The words of a prompt; for token ids, the ids.
fn prompt_words(prompt: &Prompt) -> Vec<String> {
    let text = prompt_text(prompt);
    text.split_whitespace().map(str::to_owned).collect()
}

fn count_tokens(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => words(text).count(),
        Prompt::TokenIds(ids) => ids.len(),
        Prompt::Messages(messages) => messages.iter().map(|message| words(&message.content).count()).sum(),
    }
}

/// Each word, with the log-probability of what is certain.
fn certain(text: &str, num_top: i32) -> Vec<TokenLogprobs> {
    let mut start = 0;
    let word = |(index, end): (usize, usize)| {
        let token = TokenLogprob::new(index as u32, 0.0, 1, text.as_bytes()[start..end].to_vec());
        start = end;
        TokenLogprobs::new(token.clone(), if num_top == 0 { Vec::new() } else { vec![token] })
    };
    words(text).enumerate().map(word).collect()
}

/// Those of the prompt as one text, but for the first word.
fn prompt_logprobs(prompt: &Prompt, num_top: i32) -> Vec<Option<TokenLogprobs>> {
    let rest = certain(&prompt_text(prompt), num_top).into_iter().skip(1).map(Some);
    std::iter::once(None).chain(rest).collect()
}

/// Where each word ends, the white space after it included.
fn words(text: &str) -> impl Iterator<Item = usize> {
    let starts_word = |(before, after): (char, char)| before.is_whitespace() && !after.is_whitespace();
    let pairs = text.char_indices().zip(text.chars().skip(1));
    let inner = pairs.filter(move |((_, before), after)| starts_word((*before, *after)));
    inner.map(|((index, before), _)| index + before.len_utf8()).chain((!text.is_empty()).then_some(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BatchEngineExt;
    use crate::request::{Message, SamplingParams};
    use futures::executor::block_on;
    use futures::{FutureExt, StreamExt};

    fn delta(text: &str) -> OutputEvent {
        OutputEvent::Delta(TextDelta::new(text.to_owned(), 1))
    }

    fn finished(text: &str, tokens: u32, reason: FinishReason) -> OutputEvent {
        let output = CompletionOutput::new(text.to_owned(), (0..tokens).collect(), reason, None);
        let usage = Usage::new(3, tokens as usize, 0);
        OutputEvent::Finished(RequestOutput::new("id".to_owned(), vec![0, 1, 2].into(), vec![output], usage))
    }

    #[test]
    fn answers_come_word_by_word_and_end_at_max_tokens() {
        let engine = ScriptedEngine::echo();
        let request = Request::new("id", "über  alle Maßen ");
        let events: Vec<_> = block_on(engine.submit(request.clone()).collect());
        let whole = finished("über  alle Maßen ", 3, FinishReason::Stop);
        assert_eq!(events, [delta("über  "), delta("alle "), delta("Maßen "), whole]);
        let short = request.with_sampling_params(SamplingParams::default().with_max_tokens(2));
        let events: Vec<_> = block_on(engine.submit(short).collect());
        assert_eq!(events, [delta("über  "), delta("alle "), finished("über  alle ", 2, FinishReason::Length)]);
        let expected = ScriptedStats {
            submitted: 2,
            finished: 2,
            max_running: 1,
            prompt_tokens: 6,
            generated_tokens: 5,
            ..ScriptedStats::default()
        };
        assert_eq!(engine.stats(), expected);
    }

    #[test]
    fn failures_are_those_of_a_real_engine() {
        let mut spec = EngineSpec::new("m", "r");
        spec.max_model_len = 3;
        let engine = ScriptedEngine::from_table([("a", "A"), ("b", "B")]).with_spec(spec).dying_after(5);
        let requests = [
            Request::new("a", vec![Message::system("x"), Message::user("y")]),
            Request::new("a", ""),
            Request::new("a", "x y z"),
            Request::new("c", "x"),
            Request::new("b", vec![7, 8]),
            Request::new("b", "x"),
        ];
        let results = engine.generate(requests);
        let found: Vec<_> = results
            .iter()
            .map(|result| result.as_ref().map(|output| output.outputs[0].text.as_str()).map_err(RequestError::code))
            .collect();
        let expected = [
            Ok("A"),
            Err("empty_prompt"),
            Err("context_length_exceeded"),
            Err("invalid_value"),
            Ok("B"),
            Err("engine_failed"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn held_answers_wait_and_dropped_streams_are_aborted() {
        let engine = ScriptedEngine::echo().held();
        let mut first = engine.submit(Request::new("id", "a b c"));
        let mut second = engine.submit(Request::new("id", "d e f"));
        assert_eq!((first.next().now_or_never(), second.next().now_or_never()), (None, None));
        engine.release(1);
        assert_eq!(second.next().now_or_never(), Some(Some(delta("d "))));
        assert_eq!(first.next().now_or_never(), None);
        drop(second);
        engine.release_all();
        let expected = finished("a b c", 3, FinishReason::Stop);
        let output = block_on(first.output()).map(OutputEvent::Finished);
        assert_eq!(output, Ok(expected));
        let expected = ScriptedStats {
            submitted: 2,
            finished: 1,
            aborted: 1,
            max_running: 2,
            prompt_tokens: 3,
            generated_tokens: 4,
            ..ScriptedStats::default()
        };
        assert_eq!(engine.stats(), expected);
    }
}
