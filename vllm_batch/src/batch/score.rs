//! What does a body of `/v1/score` ask for, and what does its answer look like?
//!
//! There are two forms. With `labels`, the model says how likely each label is the answer to a prompt or a conversation.
//! With two texts, in vLLM's names, it says how likely it would answer "yes" rather than "no" to the question whether the
//! second text, a document, answers the first, a query.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Endpoint;
use super::embeddings::{MAX_INPUTS, PoolingUsage};
use super::json::{list, string, wrong_type};
use super::logprobs::LEAST_LOGPROB;
use super::message::messages;
use super::parts::{AnswerForm, PromptPath, RowForm, RowRequests, prompts};
use super::pooled_params::PooledDraft;
use super::row::Work;
use crate::error::RequestError;
use crate::output::{LabelScore, ScoringRequestOutput};
use crate::request::{Label, Prompt, Request, ScoringParams};

/// The names of the two texts, today's and older ones of vLLM's.
const PAIRS: [(&str, &str); 4] =
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")];
/// The labels of a pair. The score is the share of the first.
const PAIR_LABELS: [&str; 2] = [" yes", " no"];

/// Reads what is left of a body besides its model.
pub(super) fn parse(request_id: &str, mut body: Map<String, Value>) -> Result<RowRequests, RequestError> {
    body.retain(|_, value| !value.is_null());
    let (prompts, path, is_pair) = take_prompts(&mut body)?;
    let draft = PooledDraft::parse(Endpoint::Score, body)?;
    let names = draft.label_names();
    let labels = labels(&names, is_pair)?;
    let params =
        ScoringParams { truncate_prompt_tokens: draft.pooling.truncate_prompt_tokens, ..ScoringParams::new(labels) };
    params.validate()?;
    draft.chat.validate()?;
    let request = Request::new(request_id, String::new()).with_scoring_params(params).with_priority(draft.priority);
    let request = Request { add_special_tokens: draft.add_special_tokens, ..request.with_chat(draft.chat) };
    let form = RowForm::new(AnswerForm::Scores((!is_pair).then_some(names)), path);
    Ok(RowRequests::new(request, prompts, form))
}

/// What to score: for pairs of texts, nothing else than yes and no.
fn labels(names: &[LabelName], is_pair: bool) -> Result<Vec<Label>, RequestError> {
    match (is_pair, names.is_empty()) {
        (true, true) => Ok(PAIR_LABELS.map(Label::from).to_vec()),
        (true, false) => {
            Err(RequestError::invalid("labels", "the labels of a pair of texts are yes and no: use `prompt`"))
        }
        (false, true) => Err(RequestError::MissingParam { param: "labels".to_owned() }),
        (false, false) => Ok(names.iter().map(Label::from).collect()),
    }
}

/// The prompts, where they are, and whether they are made of pairs.
fn take_prompts(body: &mut Map<String, Value>) -> Result<(Vec<Prompt>, PromptPath, bool), RequestError> {
    let pair = PAIRS.into_iter().find(|(one, two)| body.contains_key(*one) && body.contains_key(*two));
    let (prompts, path) = if let Some((one, two)) = pair {
        let texts = (body.remove(one).unwrap_or_default(), body.remove(two).unwrap_or_default());
        pair_prompts((one, texts.0), (two, texts.1))?
    } else if let Some(value) = body.remove("messages") {
        (vec![Prompt::Messages(messages(value)?)], PromptPath::single("messages"))
    } else if let Some(value) = body.remove("prompt") {
        prompts(value, "prompt")?
    } else {
        let half = PAIRS.into_iter().find(|(one, _)| body.contains_key(*one)).map(|(_, two)| two);
        return Err(RequestError::MissingParam { param: half.unwrap_or("prompt").to_owned() });
    };
    check_alone(body, path.param)?;
    if prompts.len() > MAX_INPUTS {
        let message = format!("must hold at most {MAX_INPUTS} entries, found {}", prompts.len());
        return Err(RequestError::invalid(path.param, message));
    }
    Ok((prompts, path, pair.is_some()))
}

/// Refuses other texts than those that were taken.
fn check_alone(body: &Map<String, Value>, taken: &str) -> Result<(), RequestError> {
    let mut others = PAIRS.into_iter().flat_map(|(one, two)| [one, two]).chain(["messages", "prompt"]);
    match others.find(|name| body.contains_key(*name)) {
        Some(other) => Err(RequestError::invalid(other, format!("cannot be there together with `{taken}`"))),
        None => Ok(()),
    }
}

/// One prompt for each second text; of the first, there is one for all, or one for each.
fn pair_prompts(
    (one, first): (&'static str, Value),
    (two, second): (&'static str, Value),
) -> Result<(Vec<Prompt>, PromptPath), RequestError> {
    let is_list = second.is_array();
    let (first, second) = (texts(first, one)?, texts(second, two)?);
    if first.len() != 1 && first.len() != second.len() {
        let message = format!("must hold one text, or as many as `{two}` ({}), found {}", second.len(), first.len());
        return Err(RequestError::invalid(one, message));
    }
    let prompts = first.iter().cycle().zip(&second).map(|(query, document)| Prompt::Text(question(query, document)));
    Ok((prompts.collect(), PromptPath { param: two, is_list }))
}

/// The query comes first, so that the prompts of its documents share their beginning.
fn question(query: &str, document: &str) -> String {
    format!(
        "Judge whether the document answers the query. Reply with yes or no.\n\nQuery: {query}\nDocument: \
         {document}\nAnswer:"
    )
}

fn texts(value: Value, param: &str) -> Result<Vec<String>, RequestError> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(ref items) if items.is_empty() => Err(RequestError::invalid(param, "must hold at least one text")),
        Value::Array(_) => list(value, param, string),
        other => Err(wrong_type(param, "a string or an array of strings", &other)),
    }
}

/// What a label is called in an answer: the text, or the token id, by which it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum LabelName {
    /// One of `labels`.
    Text(String),
    /// One of `label_token_ids`.
    TokenId(u32),
}

impl From<&LabelName> for Label {
    fn from(name: &LabelName) -> Self {
        match name {
            LabelName::Text(text) => Self::Text(text.clone()),
            LabelName::TokenId(token_id) => Self::TokenIds(vec![*token_id]),
        }
    }
}

/// Answer of `/v1/score`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScoreList {
    /// `score-` and the row's digits.
    pub id: String,
    /// Always `list`.
    pub object: Cow<'static, str>,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One score for each prompt or pair, in order.
    pub data: Vec<Score>,
    /// What they cost, together.
    pub usage: PoolingUsage,
}

impl ScoreList {
    pub(super) fn new(work: &Work<'_>, names: Option<&[LabelName]>, outputs: &[ScoringRequestOutput]) -> Self {
        Self {
            id: format!("score-{}", work.key),
            object: Cow::Borrowed("list"),
            created: work.created,
            model: work.model.to_owned(),
            data: outputs.iter().enumerate().map(|(index, output)| Score::new(index, names, output)).collect(),
            usage: PoolingUsage::new(outputs.iter().map(|output| output.usage).sum(), true),
        }
    }
}

/// One score of a [`ScoreList`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Score {
    /// Which of the prompts or pairs this is, from 0.
    pub index: usize,
    /// Always `score`.
    pub object: Cow<'static, str>,
    /// The share of the first label among all labels, from 0 to 1. For a pair of texts that label is "yes".
    pub score: f64,
    /// The most likely label; absent for a pair of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelName>,
    /// All labels, in the order of the body: `labels`, then `label_token_ids`. Absent for a pair of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<ScoredLabel>>,
}

impl Score {
    fn new(index: usize, names: Option<&[LabelName]>, output: &ScoringRequestOutput) -> Self {
        let labels = names.map(|names| names.iter().zip(&output.labels));
        let label = |(name, label): (&LabelName, &LabelScore)| ScoredLabel {
            label: name.clone(),
            logprob: label.logprob.max(f64::from(LEAST_LOGPROB)),
            probability: label.probability,
        };
        Self {
            index,
            object: Cow::Borrowed("score"),
            score: output.labels.first().map_or(0.0, |label| label.probability),
            label: names.and_then(|names| names.get(output.best()?).cloned()),
            labels: labels.map(|labels| labels.map(label).collect()),
        }
    }
}

/// One label of a [`Score`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScoredLabel {
    /// What it is called in the body.
    pub label: LabelName,
    /// The natural logarithm of the probability that the model's answer begins with the label's tokens;
    /// [`LEAST_LOGPROB`](super::LEAST_LOGPROB) if that is impossible.
    pub logprob: f64,
    /// Its share among all labels.
    pub probability: f64,
}
