//! Records for any schema, with made-up answers of a model and of two people. The same each time.

use serde_json::{Map, Value, json};
use vllm_batch::curate::{
    Agent, Answers, CompiledSchema, FieldKind, Ident, Provenance, Question, QuestionKind, QuestionRole, Record,
    Response, Scale, Suggestion, SuggestionSet,
};

const WORDS: [&str; 24] = [
    "board", "figures", "lunch", "Monday", "contract", "team", "growth", "office", "review", "draft", "budget",
    "customer", "report", "harbour", "train", "garden", "engine", "journal", "winter", "copper", "window", "letter",
    "naïve", "東京",
];

/// Records in which people and the model mostly agree; all are gold by a person's word.
pub(crate) fn records(schema: &CompiledSchema, num_records: usize) -> Vec<Record> {
    (0..num_records).map(|at| record(schema, at)).collect()
}

fn record(schema: &CompiledSchema, at: usize) -> Record {
    let mut chance = Chance(at as u64 + 1);
    let mut record = Record::new(format!("{}-{at}", schema.schema().id));
    for field in &schema.schema().fields {
        let value = match &field.kind {
            FieldKind::Text { .. } => Value::from(chance.text(12)),
            FieldKind::Structured { schema: Some(schema) } => chance.value(schema),
            kind => panic!("no made-up value for {kind:?}"),
        };
        record = record.with_field(&*field.id, value);
    }
    let right = answers(schema, &mut chance, |question| question.role != QuestionRole::Reasoning);
    let all = answers(schema, &mut chance, |question| question.role == QuestionRole::Output);
    // Each third record's model is wrong in one question, each sixth in all.
    let is_wrong = |number: usize| at.is_multiple_of(6) || (at.is_multiple_of(3) && number == 0);
    let outputs = schema.schema().questions.iter().filter(|question| question.role == QuestionRole::Output);
    let said = outputs.enumerate().filter_map(|(number, question)| {
        let answer = if is_wrong(number) { all.get(&question.id) } else { right.get(&question.id) };
        Some(Suggestion::new(question.id.clone(), answer?.clone()))
    });
    let provenance = Provenance::default();
    record.suggestions.push(SuggestionSet::new(Agent::model("made-up/model"), said.collect(), provenance));
    record.responses =
        ["ann@example.org", "bob@example.org"].map(|name| Response::submitted(name, right.clone())).into();
    record.gold = Some(true);
    record
}

fn answers(schema: &CompiledSchema, chance: &mut Chance, is_asked: impl Fn(&Question) -> bool) -> Answers {
    let questions = schema.schema().questions.iter().filter(|question| is_asked(question));
    let answer = |question: &Question| -> (Ident, _) {
        let value = chance.answer(&question.kind);
        let answer = schema.read_answer(&question.id, &value).unwrap_or_else(|error| panic!("{error}: {value}"));
        (question.id.clone(), answer)
    };
    questions.map(answer).collect()
}

/// A linear congruential generator (the constants are those of Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn text(&mut self, num_words: usize) -> String {
        (0..num_words).map(|_| WORDS[self.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
    }

    fn answer(&mut self, kind: &QuestionKind) -> Value {
        match kind {
            QuestionKind::Choice { options, .. }
            | QuestionKind::Rating { scale: Scale::Levels { levels: options } } => {
                json!(options[self.below(options.len())].value)
            }
            QuestionKind::Boolean { .. } => json!(self.below(2) == 1),
            QuestionKind::Number(_) => json!(self.below(40)),
            QuestionKind::Text(text) if text.many => json!([self.text(2), self.text(3)]),
            // The one pattern of the schemas: an address.
            QuestionKind::Text(text) if text.pattern.is_some() => {
                json!(format!("{}@example.org", WORDS[self.below(8)]))
            }
            QuestionKind::Text(_) => json!(self.text(8)),
            QuestionKind::Structured { schema } => self.value(schema),
            kind => panic!("no made-up answer for {kind:?}"),
        }
    }

    /// A value of a JSON Schema.
    fn value(&mut self, schema: &Value) -> Value {
        let names = schema["type"].as_array().and_then(|types| types[0].as_str()).or(schema["type"].as_str());
        match names {
            Some("array") => (0..=self.below(2)).map(|_| self.value(&schema["items"])).collect(),
            Some("object") => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                Value::Object(properties.map(|(key, schema)| (key.clone(), self.value(schema))).collect::<Map<_, _>>())
            }
            Some("integer" | "number") => json!(1990 + self.below(30)),
            Some("string") => json!(self.text(2)),
            _ => panic!("no made-up value for {schema}"),
        }
    }
}
