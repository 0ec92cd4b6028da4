//! How sure a model is of its answers.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::prompt::sha256_of;
use super::{
    Agent, Answer, AnswerError, Answers, CompiledSchema, Ident, Parsed, Provenance, QuestionKind, Record, ScoreKind,
    Suggestion, SuggestionSet,
};
use crate::output::{CompletionOutput, RequestOutput, TokenLogprobs};
use crate::request::{Prompt, Request, SamplingParams};

/// A model's answers to one record, and what is wrong with those that do not hold.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Suggested {
    /// The answers that hold, with scores.
    pub set: SuggestionSet,
    /// What is wrong with the others, and which are missing.
    pub errors: Vec<AnswerError>,
}

impl CompiledSchema {
    /// What a model's output says about a record, with a score for each answer where one is known. The provenance gets the
    /// schema, the usage, the reason of the end and the repairs; what the caller says stays.
    ///
    /// **One answer with log-probabilities.** The score of an option, a rating, yes or no, a number, a date or a preference is
    /// the probability of its text: the product of the probabilities of its tokens. That of texts and lists is the
    /// geometric mean, as longer ones would always be less likely. Probabilities are those of the model itself, also where
    /// the answer was held to a format: what the format forbids has kept its share, so a low score may also mean that the
    /// model would rather have written something else than any answer. Quotes around a text do not count, except where a
    /// token holds both.
    ///
    /// **Several answers.** Each question gets the answer that most of them give, as [`vote`] says.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Provenance, Question, QuestionKind, Record, RequestOptions, TaskSchema, Version};
    /// use vllm_batch::{CompletionOutput, FinishReason, RequestOutput, TokenLogprob, TokenLogprobs, Usage};
    ///
    /// let kind = QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() };
    /// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0)).with_question(Question::new("spam".parse()?, kind));
    /// let schema = schema.compile().expect("a sound schema");
    /// let record = Record::new("mail-1");
    /// let request = schema.request(&record, &RequestOptions::default().with_logprobs(true))?;
    ///
    /// // What an engine may answer.
    /// let token = |text: &str, p: f32| TokenLogprobs::new(TokenLogprob::new(None, p.ln(), None, text.into()), vec![]);
    /// let mut answer = CompletionOutput::new(r#"{"spam":true}"#.to_owned(), vec![1, 2, 3], FinishReason::Stop, None);
    /// answer.logprobs = Some(vec![token(r#"{"spam":"#, 0.1), token("true", 0.75), token("}", 1.0)]);
    /// let output = RequestOutput::new("mail-1".to_owned(), [7].into(), vec![answer], Usage::new(1, 3, 0));
    ///
    /// let suggested = schema.suggest(&record, &output, Provenance::of(&request, "my-model"));
    /// let score = suggested.set.suggestions[0].score.expect("a score");
    /// assert!((score - 0.75).abs() < 1e-6);
    /// assert_eq!(suggested.set.provenance.custom_id.as_deref(), Some("mail-1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn suggest(&self, record: &Record, output: &RequestOutput, provenance: Provenance) -> Suggested {
        let parsed: Vec<_> = output.outputs.iter().map(|one| self.parse(record, &one.text)).collect();
        let suggestions = match (parsed.as_slice(), output.outputs.as_slice()) {
            ([one], [output]) => self.scored(one, output),
            _ => vote(&parsed.iter().map(|one| one.answers.clone()).collect::<Vec<_>>()),
        };
        let provenance = self.completed(provenance, output, &parsed);
        let is_open = |error: &&AnswerError| suggestions.iter().all(|one| one.question.as_str() != error.question);
        let errors = parsed.first().map_or_else(Vec::new, |one| one.errors.iter().filter(is_open).cloned().collect());
        Suggested { set: SuggestionSet::new(Agent::model(&*provenance.model), suggestions, provenance), errors }
    }

    fn scored(&self, parsed: &Parsed, output: &CompletionOutput) -> Vec<Suggestion> {
        let tokens = output.logprobs.as_deref().and_then(|tokens| Tokens::new(tokens, &output.text));
        let score = |id: &Ident| {
            let (_, place) = parsed.places.iter().find(|(question, _)| question == id)?;
            let logprobs = tokens.as_ref()?.within(without_quotes(&output.text, place.clone()));
            score(&self.schema().question(id)?.kind, &logprobs)
        };
        let suggestion = |(id, answer): (&Ident, &Answer)| {
            let suggestion = Suggestion::new(id.clone(), answer.clone());
            match score(id) {
                Some(score) => suggestion.with_score(score, ScoreKind::Logprob),
                None => suggestion,
            }
        };
        parsed.answers.iter().map(suggestion).collect()
    }

    fn completed(&self, mut provenance: Provenance, output: &RequestOutput, parsed: &[Parsed]) -> Provenance {
        provenance.schema = Some(self.schema().reference());
        provenance.schema_sha256 = Some(self.sha256().to_owned());
        provenance.usage = output.usage;
        provenance.custom_id.get_or_insert_with(|| output.request_id.clone());
        provenance.finish_reason = output.outputs.first().map(|one| one.finish_reason.as_str().to_owned());
        for repair in parsed.iter().flat_map(|one| &one.repairs).map(ToString::to_string) {
            if !provenance.repairs.contains(&repair) {
                provenance.repairs.push(repair);
            }
        }
        provenance
    }
}

impl Provenance {
    /// What a request says about the answers to it: the model, the prompt's hash (of conversations), the parameters that
    /// choose tokens, and its id.
    pub fn of(request: &Request, model: impl Into<String>) -> Self {
        let prompt_sha256 = match &request.prompt {
            Prompt::Messages(messages) => Some(sha256_of(messages)),
            _ => None,
        };
        Self {
            model: model.into(),
            prompt_sha256,
            sampling: request.sampling_params().map_or(Value::Null, sampling),
            custom_id: Some(request.request_id.clone()),
            ..Self::default()
        }
    }
}

/// The parameters that choose tokens, in OpenAI's and vLLM's names; those that are not at their default, and the
/// temperature.
fn sampling(params: &SamplingParams) -> Value {
    let default = SamplingParams::default();
    let mut out = Map::from_iter([("temperature".to_owned(), exact(params.temperature))]);
    let mut keep = |name: &str, is_default: bool, value: Value| {
        if !is_default {
            out.insert(name.to_owned(), value);
        }
    };
    keep("n", params.n == default.n, json!(params.n));
    keep("best_of", params.best_of.is_none(), json!(params.best_of));
    keep("top_p", params.top_p == default.top_p, exact(params.top_p));
    keep("top_k", params.top_k == default.top_k, json!(params.top_k));
    keep("min_p", params.min_p == default.min_p, exact(params.min_p));
    keep("presence_penalty", params.presence_penalty == default.presence_penalty, exact(params.presence_penalty));
    keep("frequency_penalty", params.frequency_penalty == default.frequency_penalty, exact(params.frequency_penalty));
    keep(
        "repetition_penalty",
        params.repetition_penalty == default.repetition_penalty,
        exact(params.repetition_penalty),
    );
    keep("seed", params.seed.is_none(), json!(params.seed));
    keep("max_tokens", params.max_tokens.is_none(), json!(params.max_tokens));
    let format = params.structured_outputs.as_ref().map(|structured| structured.format.name());
    keep("structured_outputs", format.is_none(), json!(format));
    Value::Object(out)
}

/// A number with the digits that it was written with: 0.7, not 0.699999988079071.
fn exact(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The answer to each question that most of several samples give, with the share of samples that give it, in the order in
/// which questions are first answered. No answer counts like an answer: where most samples have none, there is none. Of
/// answers that are given equally often, the one that is given first.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Answer, Answers, vote};
///
/// let sample = |tone: &str| Answers::from_iter([("tone".parse().expect("a name"), Answer::Option(tone.into()))]);
/// let suggestions = vote(&[sample("formal"), sample("casual"), sample("casual"), sample("casual")]);
/// assert_eq!(suggestions[0].answer, Answer::Option("casual".into()));
/// assert_eq!(suggestions[0].score, Some(0.75));
/// ```
pub fn vote(samples: &[Answers]) -> Vec<Suggestion> {
    let mut questions: Vec<&Ident> = Vec::new();
    for (id, _) in samples.iter().flat_map(Answers::iter) {
        if !questions.contains(&id) {
            questions.push(id);
        }
    }
    let winner = |id: &Ident| {
        let mut counts: Vec<(Option<&Answer>, usize)> = Vec::new();
        for answer in samples.iter().map(|sample| sample.get(id)) {
            match counts.iter_mut().find(|(one, _)| *one == answer) {
                Some((_, count)) => *count += 1,
                None => counts.push((answer, 1)),
            }
        }
        let most = counts.iter().map(|(_, count)| *count).max()?;
        let (answer, count) = counts.into_iter().find(|(_, count)| *count == most)?;
        let share = count as f64 / samples.len() as f64;
        Some(Suggestion::new(id.clone(), answer?.clone()).with_score(share, ScoreKind::Vote))
    };
    questions.into_iter().filter_map(winner).collect()
}

/// The tokens of a text with the places of their bytes in it.
struct Tokens {
    tokens: Vec<(Range<usize>, f64)>,
}

impl Tokens {
    /// Finds the text among the bytes of the tokens, the last time that it is there: what a model says to itself comes
    /// before, marks of the end behind. `None` if it is not there.
    fn new(tokens: &[TokenLogprobs], text: &str) -> Option<Self> {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.chosen.bytes.iter().copied()).collect();
        let text = text.as_bytes();
        let offset = (0..(bytes.len() + 1).checked_sub(text.len())?).rev().find(|at| bytes[*at..].starts_with(text))?;
        let mut end = 0;
        let places = tokens.iter().filter_map(|token| {
            let start = end;
            end += token.chosen.bytes.len();
            // Tokens before the text are left out; one that reaches into it begins with it.
            let place = start.saturating_sub(offset)..end.checked_sub(offset)?;
            Some((place, f64::from(token.chosen.logprob)))
        });
        Some(Self { tokens: places.collect() })
    }

    /// The log-probabilities of the tokens that have a byte in a part of the text.
    fn within(&self, part: Range<usize>) -> Vec<f64> {
        let overlaps = |place: &Range<usize>| place.start < part.end && place.end > part.start;
        self.tokens.iter().filter(|(place, _)| overlaps(place)).map(|(_, logprob)| *logprob).collect()
    }
}

/// The part of a value that is between its quotes, if it has any and is not empty.
fn without_quotes(text: &str, place: Range<usize>) -> Range<usize> {
    let value = &text[place.clone()];
    if value.len() > 2 && value.starts_with('"') && value.ends_with('"') {
        place.start + 1..place.end - 1
    } else {
        place
    }
}

fn score(kind: &QuestionKind, logprobs: &[f64]) -> Option<f64> {
    if logprobs.is_empty() {
        return None;
    }
    let is_one = match kind {
        QuestionKind::Choice { multiple, .. } => !multiple,
        QuestionKind::Rating { .. }
        | QuestionKind::Boolean { .. }
        | QuestionKind::Number(_)
        | QuestionKind::Date { .. }
        | QuestionKind::Preference { .. } => true,
        _ => false,
    };
    let sum: f64 = logprobs.iter().sum();
    let logprob = if is_one { sum } else { sum / logprobs.len() as f64 };
    Some(logprob.exp().clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary::ident;
    use super::super::{Question, QuestionOption, TaskSchema, TextQuestion, Version};
    use super::*;
    use crate::output::{FinishReason, TokenLogprob, Usage};
    use crate::request::Message;

    fn schema() -> CompiledSchema {
        let options = vec![QuestionOption::new("formal", "Formal"), QuestionOption::new("casual", "Casual")];
        let tone = QuestionKind::Choice { options, multiple: false, min: 0, max: None };
        let mut note = Question::new(ident("note"), QuestionKind::Text(TextQuestion::default()));
        note.required = false;
        let schema =
            TaskSchema::new(ident("mail"), Version::new(1, 0, 0)).with_question(Question::new(ident("tone"), tone));
        schema.with_question(note).compile().unwrap()
    }

    fn tokens(tokens: &[(&str, f32)]) -> Vec<TokenLogprobs> {
        let token =
            |(text, p): &(&str, f32)| TokenLogprobs::new(TokenLogprob::new(None, p.ln(), None, (*text).into()), vec![]);
        tokens.iter().map(token).collect()
    }

    fn output(answers: &[(&str, Option<Vec<TokenLogprobs>>)]) -> RequestOutput {
        let answer = |(text, logprobs): &(&str, Option<Vec<TokenLogprobs>>)| CompletionOutput {
            logprobs: logprobs.clone(),
            ..CompletionOutput::new((*text).to_owned(), vec![], FinishReason::Stop, None)
        };
        RequestOutput::new("r1".to_owned(), [7].into(), answers.iter().map(answer).collect(), Usage::new(3, 2, 0))
    }

    fn scores(suggested: &Suggested) -> Vec<(String, Option<f64>, ScoreKind)> {
        let rounded = |score: f64| (score * 1e4).round() / 1e4;
        let one = |one: &Suggestion| (one.question.to_string(), one.score.map(rounded), one.score_kind);
        suggested.set.suggestions.iter().map(one).collect()
    }

    #[test]
    fn the_score_is_that_of_the_values_tokens() {
        let text = r#"{"tone": "formal", "note": "é b"}"#;
        let parts = [
            ("hm {\"tone\": \"formal\"}", 0.01),
            ("{\"tone", 0.1),
            ("\": \"", 0.1),
            ("form", 0.5),
            ("al", 0.8),
            ("\", \"note\":", 0.1),
            (" \"é", 0.9),
            (" b", 0.4),
            ("\"}", 0.1),
            ("</s>", 0.1),
        ];
        let parsed =
            schema().suggest(&Record::new("r1"), &output(&[(text, Some(tokens(&parts)))]), Provenance::default());
        let expected =
            [("tone".to_owned(), Some(0.4), ScoreKind::Logprob), ("note".to_owned(), Some(0.6), ScoreKind::Logprob)];
        assert_eq!(scores(&parsed), expected);
        // Without log-probabilities, or with those of another text, there is no score.
        for logprobs in [None, Some(tokens(&[("something else", 0.5)]))] {
            let parsed = schema().suggest(&Record::new("r1"), &output(&[(text, logprobs)]), Provenance::default());
            assert!(scores(&parsed).iter().all(|(_, score, kind)| score.is_none() && *kind == ScoreKind::None));
        }
    }

    #[test]
    fn several_answers_vote() {
        let texts = [r#"{"tone": "Casual", "note": "x"}"#, r#"{"tone": "formal"}"#, "{\"tone\": \"casual\",}", "?"];
        let suggested =
            schema().suggest(&Record::new("r1"), &output(&texts.map(|text| (text, None))), Provenance::default());
        assert_eq!(scores(&suggested), [("tone".to_owned(), Some(0.5), ScoreKind::Vote)]);
        assert_eq!(suggested.set.provenance.repairs, ["tone:option_by_label", "loose_json"]);
        assert_eq!(suggested.errors, []);
    }

    #[test]
    fn where_answers_come_from_is_kept() {
        let params = SamplingParams::default().with_temperature(0.7).with_seed(3).with_max_tokens(9);
        let request = Request::new("r1", vec![Message::user("x")]).with_sampling_params(params);
        let mut provenance = Provenance::of(&request, "m");
        provenance.batch_id = Some("b1".to_owned());
        let suggested =
            schema().suggest(&Record::new("r1"), &output(&[("{\"tone\": \"rude\"}", None)]), provenance.clone());
        assert_eq!(suggested.set.agent, Agent::model("m"));
        assert_eq!(suggested.errors[0].code(), "unknown_option");
        let expected = Provenance {
            schema: Some(schema().schema().reference()),
            schema_sha256: Some(schema().sha256().to_owned()),
            usage: Usage::new(3, 2, 0),
            finish_reason: Some("stop".to_owned()),
            sampling: json!({"temperature": 0.7, "seed": 3, "max_tokens": 9}),
            custom_id: Some("r1".to_owned()),
            ..provenance
        };
        assert_eq!(suggested.set.provenance, expected);
    }

    proptest! {
        #[test]
        fn a_score_is_a_probability(text in r#"\PC{0,30}|\{"tone":"(formal|casual)"\}"#, cuts in proptest::collection::vec((1usize..6, -9f32..0.0), 0..20)) {
            let mut at = 0;
            let mut parts = Vec::new();
            for (len, logprob) in cuts {
                let end = (at + len).min(text.len());
                parts.push(TokenLogprobs::new(TokenLogprob::new(None, logprob, None, text.as_bytes()[at..end].to_vec()), vec![]));
                at = end;
            }
            let suggested = schema().suggest(&Record::new("r1"), &output(&[(&text, Some(parts))]), Provenance::default());
            for one in suggested.set.suggestions {
                prop_assert!(one.score.is_none_or(|score| (0.0..=1.0).contains(&score)));
            }
        }
    }
}
