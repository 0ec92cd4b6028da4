//! Records from their JSON. What answers mean, only their questions say.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Agent, Answer, AnswerError, CompiledSchema, Ident, Provenance, Record, Response, ResponseStatus, ScoreKind,
    Suggestion, SuggestionSet,
};

/// Why JSON is no record of a schema.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It has not the form of a record.
    #[error("this is no record: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// An answer does not hold.
    #[error("record {record:?}, answer of {agent}: {error}")]
    Answer {
        /// The record.
        record: String,
        /// Who gave it.
        agent: String,
        /// What is wrong.
        error: AnswerError,
    },
}

impl RecordError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed_record",
            Self::Answer { .. } => "invalid_answer",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordJson {
    id: String,
    #[serde(default)]
    fields: Map<String, Value>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    suggestions: Vec<SetJson>,
    #[serde(default)]
    responses: Vec<ResponseJson>,
    gold: Option<bool>,
}

#[derive(Deserialize)]
struct AgentJson {
    name: String,
}

/// What a model said.
#[derive(Deserialize)]
pub(crate) struct SetJson {
    agent: AgentJson,
    suggestions: Vec<SuggestionJson>,
    #[serde(default)]
    provenance: Provenance,
}

#[derive(Deserialize)]
struct SuggestionJson {
    question: String,
    answer: Value,
    score: Option<f64>,
    score_kind: Option<ScoreKind>,
}

/// What a person said.
#[derive(Deserialize)]
pub(crate) struct ResponseJson {
    agent: AgentJson,
    answers: Map<String, Value>,
    status: ResponseStatus,
    prefilled: Option<bool>,
    lead_time: Option<f64>,
}

impl CompiledSchema {
    /// Reads a record from its JSON, as `serde` writes it, with what models and people said: `id`, and perhaps `fields`,
    /// `metadata`, `suggestions`, `responses` and `gold`. Whether fields hold, [`check_record`](Self::check_record) says.
    ///
    /// # Errors
    /// The form is not that of a record, or an answer does not hold.
    ///
    /// # Example
    /// ```
    /// use serde_json::json;
    /// use vllm_batch::curate::{Answer, SchemaRegistry};
    ///
    /// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
    /// let said = |tone| json!({
    ///     "id": "mail-1",
    ///     "fields": {"subject": "Hello"},
    ///     "responses": [{"agent": {"name": "ann", "kind": "human"}, "status": "submitted", "answers": {"tone": tone}}],
    /// });
    ///
    /// let record = schema.read_record(&said("formal"))?;
    /// assert_eq!(record.responses[0].answers.get("tone"), Some(&Answer::Option("formal".into())));
    /// assert_eq!(schema.read_record(&serde_json::to_value(&record)?)?, record);
    /// assert_eq!(schema.read_record(&said("loud")).unwrap_err().code(), "invalid_answer");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_record(&self, json: &Value) -> Result<Record, RecordError> {
        let malformed = |error: serde_json::Error| RecordError::Malformed { message: error.to_string() };
        let read = RecordJson::deserialize(json).map_err(malformed)?;
        let wrong = |agent: &AgentJson| {
            let (record, agent) = (read.id.clone(), agent.name.clone());
            |error| RecordError::Answer { record, agent, error }
        };
        let sets = read.suggestions.iter().map(|set| set.open(self).map_err(wrong(&set.agent)));
        let responses = read.responses.iter().map(|response| response.open(self).map_err(wrong(&response.agent)));
        Ok(Record {
            suggestions: sets.collect::<Result<_, _>>()?,
            responses: responses.collect::<Result<_, _>>()?,
            id: read.id,
            fields: read.fields,
            metadata: read.metadata,
            gold: read.gold,
        })
    }

    fn read_named(&self, question: &str, value: &Value) -> Result<(Ident, Answer), AnswerError> {
        let answer = self.read_answer(question, value)?;
        let id = self.schema().question(question).map(|question| question.id.clone());
        Ok((id.ok_or_else(|| self.unknown_question(question))?, answer))
    }
}

impl SetJson {
    pub(crate) fn open(&self, schema: &CompiledSchema) -> Result<SuggestionSet, AnswerError> {
        let read = |one: &SuggestionJson| {
            let (question, answer) = schema.read_named(&one.question, &one.answer)?;
            let suggestion = Suggestion::new(question, answer);
            Ok(match (one.score, one.score_kind) {
                (Some(score), Some(kind)) => suggestion.with_score(score, kind),
                _ => suggestion,
            })
        };
        let suggestions = self.suggestions.iter().map(read).collect::<Result<_, _>>()?;
        Ok(SuggestionSet::new(Agent::model(&self.agent.name), suggestions, self.provenance.clone()))
    }
}

impl ResponseJson {
    pub(crate) fn open(&self, schema: &CompiledSchema) -> Result<Response, AnswerError> {
        let read = self.answers.iter().map(|(question, value)| schema.read_named(question, value));
        let mut response = Response::submitted(&self.agent.name, read.collect::<Result<_, _>>()?);
        (response.status, response.prefilled, response.lead_time) = (self.status, self.prefilled, self.lead_time);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::curate::SchemaRegistry;

    #[test]
    fn what_is_no_record_is_refused_with_a_code() {
        let schema = SchemaRegistry::builtin().get("email_evaluation").unwrap();
        let answer =
            |name: &str| json!([{"agent": {"name": "m"}, "suggestions": [{"question": name, "answer": "formal"}]}]);
        let cases = [
            (json!({"id": "a"}), None),
            (json!({"id": "a", "suggestions": answer("tone")}), None),
            (json!({"id": "a", "suggestions": answer("tune")}), Some("invalid_answer")),
            (json!({"id": "a", "field": {}}), Some("malformed_record")),
            (json!({"fields": {}}), Some("malformed_record")),
            (json!([]), Some("malformed_record")),
        ];
        let found = cases.each_ref().map(|(json, _)| schema.read_record(json).err().map(|error| error.code()));
        assert_eq!(found, cases.map(|(_, code)| code));
    }
}
