use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::validate::validate;
use super::*;
use crate::curate::arbitrary::{asked, ident, options};
use crate::curate::{
    Agent, Answer, Answers, CompiledSchema, Condition, Example, Field, FieldKind, GoldSnapshot, Pii, Provenance,
    Question, QuestionKind, QuestionOption, QuestionRole, Record, Response, Scale, Suggestion, SuggestionSet,
    TaskSchema, TextFormat, TextQuestion, Version,
};

fn text_field(id: &str) -> Field {
    Field::new(ident(id), FieldKind::Text { format: TextFormat::Plain })
}

fn boolean() -> QuestionKind {
    QuestionKind::Boolean { yes: "yes".into(), no: "no".into() }
}

fn text() -> QuestionKind {
    QuestionKind::Text(TextQuestion::default())
}

/// Mail with a masked sender and a secret, two outputs, a thought, and what people say about the answers.
fn mail() -> TaskSchema {
    let mut from = text_field("from");
    from.pii = Pii::Mask;
    let mut secret = text_field("secret");
    (secret.pii, secret.required) = (Pii::Drop, false);
    let tone = QuestionKind::Choice {
        options: ["formal", "casual"].map(|value| QuestionOption::new(value, value)).to_vec(),
        multiple: false,
        min: 0,
        max: None,
    };
    let mut why = Question::new(ident("why"), text());
    (why.role, why.required) = (QuestionRole::Reasoning, false);
    let mut review = Question::new(ident("review"), text());
    (review.role, review.required) = (QuestionRole::Review, false);
    let mut schema = TaskSchema::new(ident("mail"), Version::new(1, 0, 0));
    schema.export.group_by = Some(ident("from"));
    let schema = [from, text_field("body"), secret].into_iter().fold(schema, TaskSchema::with_field);
    let questions = [Question::new(ident("tone"), tone), Question::new(ident("spam"), boolean()), why, review];
    questions.into_iter().fold(schema, TaskSchema::with_question)
}

fn compiled(change: impl FnOnce(&mut TaskSchema)) -> CompiledSchema {
    let mut schema = mail();
    change(&mut schema);
    schema.compile().unwrap()
}

fn said(tone: &str, spam: bool) -> Answers {
    let answers = [("tone", Answer::Option(tone.to_owned())), ("spam", Answer::Boolean(spam))];
    answers.into_iter().map(|(id, answer)| (ident(id), answer)).collect()
}

fn suggested(model: &str, answers: &Answers) -> SuggestionSet {
    let suggestions = answers.iter().map(|(id, answer)| {
        Suggestion::new(id.clone(), answer.clone()).with_score(0.5, crate::curate::ScoreKind::Logprob)
    });
    SuggestionSet::new(Agent::model(model), suggestions.collect(), Provenance::default())
}

fn gold(id: &str, body: &str, right: &Answers) -> Record {
    let mut record = Record::new(id)
        .with_field("from", format!("{id}@example.org"))
        .with_field("body", body)
        .with_field("secret", "hunter2");
    let mut right = right.clone();
    right.insert(ident("review"), Answer::Text("a fine answer".into()));
    record.responses.push(Response::submitted("ann", right));
    record.gold = Some(true);
    record
}

fn rows(schema: &CompiledSchema, format: ExportFormat, record: &Record) -> Vec<ExportRow> {
    let mut exporter = Exporter::new(schema, ExportOptions::new(format)).unwrap();
    match exporter.rows(record).unwrap() {
        Exported::Rows(rows) => rows,
        Exported::Skipped(reason) => panic!("{reason}"),
    }
}

/// The row without where it comes from.
fn body(schema: &CompiledSchema, format: ExportFormat) -> Value {
    let mut record = gold("r", "Lunch?", &said("casual", false));
    record.suggestions = vec![suggested("m", &said("formal", false))];
    let row = rows(schema, format, &record).remove(0);
    let source: Vec<_> = row
        .source
        .keys()
        .filter(|key| !matches!(format, ExportFormat::IclJson | ExportFormat::Argilla) || *key != "id")
        .collect();
    Value::Object(
        row.row
            .into_iter()
            .filter(|(key, _)| format == ExportFormat::IclJson && key == "schema" || !source.contains(&key))
            .collect(),
    )
}

const ANSWER: &str = r#"{"tone":"casual","spam":false}"#;
const WRONG: &str = r#"{"tone":"formal","spam":false}"#;
const USER: &str = "from: [from]\nbody: Lunch?";

#[test]
fn each_format_has_its_form() {
    let schema = compiled(|_| {});
    let system = Exporter::new(&schema, ExportOptions::new(ExportFormat::Alpaca))
        .unwrap()
        .schema()
        .prompt(&Record::new("r").with_field("from", "x").with_field("body", "y"), &[], crate::curate::AnswerForm::Json)
        .unwrap()
        .messages[0]
        .content
        .clone();
    assert!(system.contains("`tone`") && !system.contains("`why`") && !system.contains("`review`"), "{system}");
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let prompt = || vec![message("system", &system), message("user", USER)];
    let answer = || vec![message("assistant", ANSWER)];
    let rejected = || vec![message("assistant", WRONG)];
    let whole = || [prompt(), answer()].concat();
    let marked: Vec<_> = whole()
        .into_iter()
        .enumerate()
        .map(|(at, mut message)| {
            message["train"] = json!(at == 2);
            message
        })
        .collect();
    let sha = "0ef8a9c6dd3c3a8f7ac6b8d1ed3b7dbb5d54bd22";
    let expected = [
        (ExportFormat::OpenAiChat, json!({"messages": whole()})),
        (
            ExportFormat::OpenAiDpo,
            json!({"input": {"messages": prompt()}, "preferred_output": answer(), "non_preferred_output": rejected()}),
        ),
        (ExportFormat::TrlPromptCompletion, json!({"prompt": prompt(), "completion": answer()})),
        (ExportFormat::TrlMessages, json!({"messages": whole()})),
        (ExportFormat::TrlPreference, json!({"prompt": prompt(), "chosen": answer(), "rejected": rejected()})),
        (ExportFormat::TrlKto, json!({"prompt": prompt(), "completion": answer(), "label": true})),
        (ExportFormat::Alpaca, json!({"instruction": system, "input": USER, "output": ANSWER})),
        (
            ExportFormat::ShareGpt,
            json!({"conversations": [{"from": "human", "value": USER}, {"from": "gpt", "value": ANSWER}], "system": system}),
        ),
        (ExportFormat::Axolotl, json!({"messages": marked})),
        (ExportFormat::IclMessages, json!({"messages": [message("user", USER), message("assistant", ANSWER)]})),
        (
            ExportFormat::IclText,
            json!({"text": format!("<example>\n<record>\n{USER}\n</record>\n<answer>\n{ANSWER}\n</answer>\n</example>\n")}),
        ),
        (
            ExportFormat::IclJson,
            json!({
                "id": "r", "schema": "mail@1.0.0", "input": {"from": "[from]", "body": "Lunch?"}, "output": {"tone": "casual", "spam": false},
                "rendered": {"user": USER, "assistant": ANSWER}, "quality": {"gold": true, "agreement": null, "annotators": 1},
            }),
        ),
    ];
    let _ = sha;
    for (format, expected) in expected {
        assert_eq!(body(&schema, format), expected, "{format}");
    }
}
