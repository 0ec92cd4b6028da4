use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::validate::tests::problems;
use super::*;
use crate::curate::arbitrary::{asked, ident};
use crate::curate::{
    Agent, Answer, Answers, CompiledSchema, Condition, Field, FieldKind, GoldSnapshot, Pii, Provenance, Question,
    QuestionKind, QuestionOption, QuestionRole, Record, Response, Suggestion, SuggestionSet, TaskSchema, TextFormat,
    TextQuestion, Version,
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
#[allow(clippy::too_many_lines)]
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
        (
            ExportFormat::AlpacaPreference,
            json!({"instruction": system, "input": USER, "chosen": ANSWER, "rejected": WRONG}),
        ),
        (
            ExportFormat::ShareGptPreference,
            json!({
                "conversations": [{"from": "human", "value": USER}],
                "system": system,
                "chosen": {"from": "gpt", "value": ANSWER},
                "rejected": {"from": "gpt", "value": WRONG},
            }),
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
    for (format, expected) in expected {
        assert_eq!(body(&schema, format), expected, "{format}");
    }
}

fn skipped(schema: &CompiledSchema, options: ExportOptions, record: &Record) -> SkipReason {
    match Exporter::new(schema, options).unwrap().rows(record).unwrap() {
        Exported::Skipped(reason) => reason,
        Exported::Rows(rows) => panic!("{rows:?}"),
    }
}

#[test]
fn rows_say_where_they_come_from() {
    let schema = compiled(|_| {});
    let mut record = gold("r", "Lunch?", &said("casual", false));
    record.responses.push(Response::submitted("bob", said("casual", false)));
    let names = |annotators: AnnotatorNames| {
        let options = ExportOptions::new(ExportFormat::TrlMessages).with_annotators(annotators);
        let Exported::Rows(rows) = Exporter::new(&schema, options).unwrap().rows(&record).unwrap() else { panic!() };
        rows[0].row["annotators"].as_str().unwrap().to_owned()
    };
    let row = rows(&schema, ExportFormat::TrlMessages, &record).remove(0);
    let mut source = Value::Object(row.source.clone());
    let sha256 = source["prompt_sha256"].take();
    assert_eq!(sha256.as_str().map(str::len), Some(64));
    let expected = json!({
        "id": "r", "record_id": "r", "split": "train", "schema": "mail@1.0.0", "schema_sha256": schema.sha256(), "model": "",
        "prompt_sha256": null, "annotators": "", "num_annotators": 2, "agreement": 1.0, "gold": true, "strength": 0.0,
        "truncated": "",
    });
    assert_eq!(source, expected);
    assert!(row.source.iter().all(|(name, value)| row.row.get(name) == Some(value)));

    assert_eq!(names(AnnotatorNames::Names), "ann,bob");
    let secret = names(AnnotatorNames::Pseudonyms { salt: "salt".into() });
    assert_eq!(secret.len(), 25, "{secret}");
    assert_ne!(secret, names(AnnotatorNames::Pseudonyms { salt: "other".into() }));
}

#[test]
fn private_things_stay_out() {
    let schema = compiled(|_| {});
    for format in ExportFormat::ALL {
        let mut record = gold("r", "Lunch?", &said("casual", false));
        record.suggestions = vec![suggested("m", &said("formal", false))];
        for row in rows(&schema, format, &record) {
            let text = format!("{:?}{:?}", row.row, row.source);
            assert!(
                !text.contains("hunter2") && !text.contains("example.org") && !text.contains("a fine answer"),
                "{text}"
            );
        }
    }
    let private = |question: usize| {
        let change = |schema: &mut TaskSchema| {
            schema.questions[question].pii = Pii::Mask;
            schema.export.outputs = Some(vec![ident("tone"), ident("spam")]);
        };
        Exporter::new(&compiled(change), ExportOptions::new(ExportFormat::Alpaca)).unwrap_err().code()
    };
    assert_eq!((private(0), private(1)), ("private_output", "private_output"));
    let all = compiled(|schema| schema.questions.iter_mut().for_each(|question| question.pii = Pii::Drop));
    assert_eq!(Exporter::new(&all, ExportOptions::new(ExportFormat::Alpaca)).unwrap_err().code(), "no_outputs");
}

#[test]
fn what_cannot_be_learnt_is_not_asked() {
    let change = |schema: &mut TaskSchema| {
        let labels = vec![QuestionOption::new("person", "Person")];
        let span = |field: &str| QuestionKind::Span { field: ident(field), labels: labels.clone(), overlap: false };
        let mut later = Question::new(ident("later"), boolean());
        later.visible_when = Some(Condition::Answered(ident("why")));
        let questions =
            [Question::new(ident("in_body"), span("body")), Question::new(ident("in_from"), span("from")), later];
        schema.questions.extend(questions);
    };
    let schema = compiled(change);
    let questions = |reasoning: bool| {
        let options = ExportOptions::new(ExportFormat::Alpaca).with_reasoning(reasoning);
        let exporter = Exporter::new(&schema, options).unwrap();
        let learnt = exporter.schema().schema().questions.iter();
        learnt.map(|one| (one.id.to_string(), one.required, one.visible_when.is_some())).collect::<Vec<_>>()
    };
    let named = |name: &str, required, conditional| (name.to_owned(), required, conditional);
    let without = [
        named("tone", true, false),
        named("spam", true, false),
        named("in_body", true, false),
        named("later", false, false),
    ];
    assert_eq!(questions(false), without);
    assert_eq!(questions(true)[2], named("why", false, false));
    assert_eq!(questions(true)[4], named("later", true, true));
}

#[test]
fn skipped_records_say_why() {
    let schema = compiled(|_| {});
    let good = said("casual", false);
    let options = ExportOptions::new;
    let single = || options(ExportFormat::Alpaca).with_answers(AnswerSource::SingleResponse);
    let not_gold = Record { gold: None, ..gold("r", "x", &good) };
    let nobody = Record { responses: Vec::new(), ..gold("r", "x", &good) };
    let no_body = Record { fields: Map::from_iter([("from".to_owned(), json!("x"))]), ..gold("r", "x", &good) };
    let half = gold("r", "x", &Answers::from_iter([(ident("spam"), Answer::Boolean(true))]));
    let alike = Record { suggestions: vec![suggested("m", &good)], ..gold("r", "x", &good) };
    let preference = || options(ExportFormat::TrlPreference);
    let codes = [
        (skipped(&schema, options(ExportFormat::Alpaca), &not_gold), "not_gold"),
        (skipped(&schema, single(), &nobody), "not_one_response"),
        (skipped(&schema, options(ExportFormat::Alpaca), &no_body), "invalid_fields"),
        (skipped(&schema, single(), &half), "invalid_answers"),
        (skipped(&schema, preference(), &gold("r", "x", &good)), "no_model_answer"),
        (skipped(&schema, preference(), &alike), "not_different"),
    ];
    for (reason, code) in codes {
        assert_eq!(reason.code(), code, "{reason}");
    }
    let review = Answers::from_iter([(ident("review"), Answer::Text("?".into()))]);
    let optional = compiled(|schema| schema.questions.iter_mut().for_each(|question| question.required = false));
    assert_eq!(skipped(&optional, single(), &gold("r", "x", &review)), SkipReason::NoAnswers);
    let empty = compiled(|schema| schema.fields.iter_mut().for_each(|field| field.required = false));
    let blank = Record { fields: Map::new(), ..gold("r", "x", &good) };
    assert_eq!(skipped(&empty, options(ExportFormat::Alpaca), &blank), SkipReason::EmptyPrompt);
    assert_eq!(
        skipped(&schema, options(ExportFormat::Alpaca), &not_gold),
        SkipReason::NotGold { reasons: vec!["nobody said that it is gold, and there is no rule".into()] }
    );
}

#[test]
fn preferences_have_the_strength_of_the_correction() {
    let schema = compiled(|schema| schema.questions[0].weight = 3.0);
    let mut record = gold("r", "Lunch?", &said("casual", false));
    let models = [
        ("same", said("casual", false)),
        ("tone", said("formal", false)),
        ("spam", said("casual", true)),
        ("again", said("formal", false)),
    ];
    record.suggestions = models.iter().map(|(name, answers)| suggested(name, answers)).collect();
    let strengths = |format, min: f64| -> Vec<(String, String, f64)> {
        let options = ExportOptions::new(format).with_min_strength(min);
        let Exported::Rows(rows) = Exporter::new(&schema, options).unwrap().rows(&record).unwrap() else { panic!() };
        rows.into_iter()
            .map(|row| {
                (row.id, row.source["model"].as_str().unwrap().to_owned(), row.source["strength"].as_f64().unwrap())
            })
            .collect()
    };
    let row = |number: usize, model: &str, strength: f64| (format!("r#{number}"), model.to_owned(), strength);
    assert_eq!(strengths(ExportFormat::TrlPreference, 0.0), [row(1, "tone", 0.75), row(2, "spam", 0.25)]);
    assert_eq!(strengths(ExportFormat::OpenAiDpo, 0.25), [row(1, "tone", 0.75)]);
    assert_eq!(strengths(ExportFormat::TrlKto, 0.25), [row(1, "", 0.0), row(2, "tone", 0.75)]);
    let labels: Vec<_> =
        rows(&schema, ExportFormat::TrlKto, &record).iter().map(|row| row.row["label"].clone()).collect();
    assert_eq!(labels, [true, false, false]);
}

#[test]
fn names_of_rows_are_unique() {
    let schema = compiled(|_| {});
    let record = gold("r", "x", &said("casual", false));
    let mut exporter = Exporter::new(&schema, ExportOptions::new(ExportFormat::Alpaca)).unwrap();
    let error = exporter.write([&record, &record], std::io::sink()).unwrap_err();
    assert!(matches!(error, ExportError::DuplicateId { id } if id == "r"));
}

#[test]
fn examples_are_never_of_the_record_or_its_group() {
    let schema = compiled(|_| {});
    let mut records: Vec<_> =
        (0..8).map(|n| gold(&format!("r{n}"), &format!("mail {n}"), &said("casual", n == 3))).collect();
    let from = records[1].fields["from"].clone();
    records[2].fields.insert("from".to_owned(), from);
    let (snapshot, _) = GoldSnapshot::freeze(&schema, &records).unwrap();
    let options = ExampleOptions { k: Some(8), balance_by: Some(ident("spam")), ..ExampleOptions::default() };
    let chars = |text: &str| text.chars().count();
    let pick = |record: Option<&Record>, options: &ExampleOptions| {
        pick_examples(&schema, snapshot.rows(), record, options, chars).unwrap()
    };

    let names: Vec<_> = pick(Some(&records[1]), &options).into_iter().map(|one| one.record).collect();
    assert_eq!(names.len(), 6);
    assert!(!names.contains(&"r1".to_owned()) && !names.contains(&"r2".to_owned()));
    assert!(names[..2].contains(&"r3".to_owned()), "the rare label comes early: {names:?}");
    assert_eq!(names, pick(Some(&records[1]), &options).into_iter().map(|one| one.record).collect::<Vec<_>>());
    let one = pick(None, &ExampleOptions { budget: Some(100), ..options.clone() });
    assert_eq!(one.len(), 1);

    let own =
        ExportOptions::new(ExportFormat::OpenAiChat).with_examples(pick(Some(&records[0]), &options)[..2].to_vec());
    let example: Record = records.iter().find(|record| record.id == own.examples[0].record).unwrap().clone();
    let mut exporter = Exporter::new(&schema, own.clone()).unwrap();
    assert_eq!(exporter.rows(&example).unwrap_err().code(), "leaked_example");
    let Exported::Rows(rows) = exporter.rows(&records[0]).unwrap() else { panic!() };
    let weights: Vec<_> =
        rows[0].row["messages"].as_array().unwrap().iter().map(|message| message["weight"].clone()).collect();
    assert_eq!(weights, [json!(null), json!(null), json!(0), json!(null), json!(0), json!(null), json!(1)]);
    assert!(!rows[0].row["messages"].to_string().contains("example.org"), "examples are masked too");
    let unable = ExportOptions { format: ExportFormat::TrlMessages, ..own };
    assert_eq!(Exporter::new(&schema, unable).unwrap_err().code(), "examples_not_supported");
}

#[test]
fn near_duplicates_are_found() {
    let words: Vec<String> = (0..100).map(|n| format!("w{n}")).collect();
    let changed = |at: &[usize]| {
        let mut words = words.clone();
        for at in at {
            words[*at] = "other".to_owned();
        }
        words.join(" ")
    };
    let mut seen = Duplicates::new(DuplicateOptions::default());
    assert_eq!(seen.insert("a", &changed(&[])), None);
    // Each changed word is in three runs of 98: 95 of 101 are shared, then 74 of 122.
    let near = seen.insert("b", &changed(&[50])).unwrap();
    assert!(near.of == "a" && (near.similarity - 95.0 / 101.0).abs() < 0.1, "{near:?}");
    assert_eq!(seen.insert("c", &changed(&[10, 20, 30, 40, 50, 60, 70, 80])), None);
    assert_eq!(seen.insert("d", &changed(&[50]).to_uppercase()).unwrap().similarity, 1.0);
    let mut exact = Duplicates::new(DuplicateOptions { threshold: 1.0, ..DuplicateOptions::default() });
    assert_eq!((exact.insert("a", "Lunch?"), exact.insert("b", "Lunch!"), exact.insert("c", "")), (None, None, None));
    assert_eq!(exact.insert("d", " lunch? ").unwrap().of, "a");
}

#[test]
fn splits_keep_groups_together() {
    let schema = mail();
    let splits = Splits::new(0.2, 0.2, "s").unwrap();
    let more = Splits::new(0.2, 0.4, "s").unwrap();
    for n in 0..200 {
        let record = |id: &str| Record::new(id).with_field("from", format!("sender {n}"));
        let split = splits.of(&schema, &record("a"));
        assert_eq!(split, splits.of(&schema, &record("b")));
        if split == Split::Test {
            assert_eq!(more.of(&schema, &record("a")), Split::Test);
        }
    }
    assert!(Splits::new(f64::NAN, 0.0, "").is_err() && Splits::new(-0.1, 0.2, "").is_err());
}

#[test]
fn a_folder_has_all_that_its_readers_want() {
    let schema = compiled(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let mut records: Vec<_> = (0..40)
        .map(|n| gold(&format!("r{n}"), &format!("{n} {} is the number", n * 7), &said("casual", n % 2 == 0)))
        .collect();
    records.push(gold("copy", "39 273 is the number", &said("casual", true)));
    records.push(Record { gold: None, ..gold("not", "x", &said("casual", true)) });
    let options = FolderOptions {
        splits: Some(Splits::new(0.2, 0.2, "s").unwrap()),
        duplicates: Some(DuplicateOptions::default()),
        ..FolderOptions::default()
    };
    let written = Exporter::new(&schema, ExportOptions::new(ExportFormat::OpenAiChat))
        .unwrap()
        .write_folder(&records, folder.path(), &options)
        .unwrap();
    let names: Vec<_> =
        written.files.iter().map(|file| (file.split, file.path.file_name().unwrap().to_str().unwrap())).collect();
    assert_eq!(
        names,
        [(Split::Train, "train.jsonl"), (Split::Validation, "validation.jsonl"), (Split::Test, "test.jsonl")]
    );
    assert_eq!(written.files.iter().map(|file| file.num_rows).sum::<usize>(), 40);
    assert_eq!(written.report.skipped, [("duplicate", 1), ("not_gold", 1)].into());
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for file in &written.files {
        let name = file.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(read(&format!("data/{name}")).len() as u64, file.num_bytes);
        let sources = read(&format!("data/{}.sources.jsonl", file.split));
        assert_eq!(sources.lines().count(), file.num_rows);
        assert!(sources.contains(&format!(r#""split":"{}""#, file.split)));
        assert!(read("README.md").contains(&file.sha256));
    }
    assert!(read("skipped.jsonl").contains(r#"{"record_id":"copy","code":"duplicate""#));
    assert!(
        !std::fs::read_dir(folder.path().join("data"))
            .unwrap()
            .any(|file| file.unwrap().path().extension().unwrap() == "part")
    );
}

#[test]
fn what_people_say_differently_is_told() {
    let schema = compiled(|schema| schema.questions[0].title = "To|ne".into());
    let folder = tempfile::tempdir().unwrap();
    let record = |id: &str, others: &[(&str, bool)]| {
        let mut record = gold(id, id, &said("casual", true));
        let others = others.iter().zip(["bob", "cem"]);
        record.responses.extend(others.map(|((tone, spam), name)| Response::submitted(name, said(tone, *spam))));
        record
    };
    let not_gold = Record { gold: Some(false), ..record("c", &[("formal", false)]) };
    let records = [
        record("a", &[("formal", true), ("casual", true)]),
        record("b", &[("casual", true)]),
        not_gold,
        record("d", &[]),
    ];
    let options = ExportOptions::new(ExportFormat::Alpaca).with_annotators(AnnotatorNames::Names);
    let mut exporter = Exporter::new(&schema, options).unwrap();
    let written = exporter.write_folder(&records, folder.path(), &FolderOptions::default()).unwrap();
    assert_eq!(written.report.conflicts, [(ident("tone"), 2), (ident("spam"), 1)].into());
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let said = |annotator: &str, answer: Value| json!({"annotator": annotator, "answer": answer});
    let expected = [
        json!({"record_id": "a", "question": "tone", "settled": "casual", "answers": [
            said("ann", json!("casual")), said("bob", json!("formal")), said("cem", json!("casual"))]}),
        json!({"record_id": "c", "question": "tone", "settled": null, "answers": [
            said("ann", json!("casual")), said("bob", json!("formal"))]}),
        json!({"record_id": "c", "question": "spam", "settled": null, "answers": [
            said("ann", json!(true)), said("bob", json!(false))]}),
    ];
    let found: Vec<Value> = read("conflicts.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found, expected);
    let card = read("README.md");
    let rows: Vec<&str> =
        card.lines().skip_while(|line| *line != "## Agreement").filter(|line| line.starts_with("| `")).collect();
    assert!(rows[0].starts_with("| `tone` | 3 | 2 | 0.44 [") && rows[0].contains("| equal answers | "), "{rows:?}");
    assert!(rows[1].starts_with("| `spam` | 3 | 1 | 0.67 ["), "{rows:?}");
    assert!(!card.contains("`review` | "), "{card}");
    assert!(card.contains("\nOver all questions of the schema, by their weights: all 0."), "{card}");

    let without = FolderOptions { agreement: None, ..FolderOptions::default() };
    Exporter::new(&schema, ExportOptions::new(ExportFormat::Alpaca))
        .unwrap()
        .write_folder(&records, folder.path(), &without)
        .unwrap();
    assert!(!read("README.md").contains("## Agreement"));
    assert!(!read("conflicts.jsonl").contains("\"ann\""));
}

#[test]
fn llama_factory_is_told_which_files_have_two_answers() {
    let schema = compiled(|_| {});
    let mut record = gold("r", "Lunch?", &said("casual", false));
    record.suggestions = vec![suggested("m", &said("formal", false))];
    let tags = json!({"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"});
    let cases = [
        (
            ExportFormat::AlpacaPreference,
            json!({
                "file_name": "data/train.jsonl",
                "ranking": true,
                "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
            }),
        ),
        (
            ExportFormat::ShareGptPreference,
            json!({
                "file_name": "data/train.jsonl",
                "formatting": "sharegpt",
                "ranking": true,
                "columns": {
                    "messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected",
                },
                "tags": tags,
            }),
        ),
        (
            ExportFormat::Alpaca,
            json!({
                "file_name": "data/train.jsonl",
                "columns": {"prompt": "instruction", "query": "input", "response": "output"},
            }),
        ),
        (
            ExportFormat::ShareGpt,
            json!({
                "file_name": "data/train.jsonl",
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system"},
                "tags": tags,
            }),
        ),
    ];
    for (format, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut exporter = Exporter::new(&schema, ExportOptions::new(format)).unwrap();
        exporter.write_folder([&record], folder.path(), &FolderOptions::default()).unwrap();
        let info = std::fs::read_to_string(folder.path().join("dataset_info.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&info).unwrap(), json!({"mail_train": expected}), "{format}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn tables_can_be_parquet() {
    use ::parquet::file::reader::SerializedFileReader;

    let schema = compiled(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let record = gold("r", "Lunch?", &said("casual", false));
    let options = FolderOptions { parquet: true, ..FolderOptions::default() };
    let write = |format| {
        let mut exporter = Exporter::new(&schema, ExportOptions::new(format)).unwrap();
        exporter.write_folder([&record], folder.path(), &options).map_err(|error| error.code())
    };
    let written = write(ExportFormat::Axolotl).unwrap();
    let file = SerializedFileReader::try_from(&*written.files[0].path).unwrap();
    let read: Vec<_> = file.into_iter().map(|row| row.unwrap().to_json_value()).collect();
    assert_eq!(read, [Value::Object(rows(&schema, ExportFormat::Axolotl, &record).remove(0).row)]);
    let yaml = std::fs::read_to_string(folder.path().join("axolotl.yml")).unwrap();
    assert!(yaml.contains("path: data/train.parquet\n    ds_type: parquet"), "{yaml}");
    assert_eq!(write(ExportFormat::OpenAiChat), Err("not_a_table"));
}

#[test]
fn splits_of_the_records_own_keep_groups_together() {
    let schema = compiled(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let in_split = |id: &str, from: &str, split: &str| {
        let mut record = gold(id, id, &said("casual", true)).with_field("from", from);
        record.metadata.insert("split".to_owned(), json!(split));
        record
    };
    let options = FolderOptions { split_key: Some("split".to_owned()), ..FolderOptions::default() };
    let code = |records: &[Record]| {
        let mut exporter = Exporter::new(&schema, ExportOptions::new(ExportFormat::Alpaca)).unwrap();
        exporter.write_folder(records, folder.path(), &options).map_err(|error| error.code())
    };
    assert_eq!(code(&[in_split("a", "x", "train"), in_split("b", "x", "test")]), Err("split_group"));
    assert_eq!(code(&[in_split("a", "x", "dev")]), Err("unknown_split"));
    let written =
        code(&[in_split("a", "x", "train"), in_split("b", "y", "test"), in_split("c", "x", "train")]).unwrap();
    assert_eq!(
        written.files.iter().map(|file| (file.split, file.num_rows)).collect::<Vec<_>>(),
        [(Split::Train, 2), (Split::Test, 1)]
    );
}

/// A schema of questions of any kind about one record, which has the right answers to them; a model answered one question
/// less.
fn any_task() -> impl Strategy<Value = (TaskSchema, Record)> {
    let flags =
        (any::<bool>(), any::<bool>(), prop_oneof![3 => Just(Pii::None), 1 => Just(Pii::Mask), 1 => Just(Pii::Drop)]);
    let fields =
        proptest::collection::vec(prop_oneof![4 => Just(Pii::None), 1 => Just(Pii::Mask), 1 => Just(Pii::Drop)], 4);
    (proptest::collection::vec((asked(), flags), 1..5), fields).prop_map(|(questions, pii)| {
        let (mut schema, mut record) = (TaskSchema::new(ident("task"), Version::new(1, 0, 0)), Record::new("r"));
        for (id, pii) in ["doc", "items", "a", "b"].into_iter().zip(pii) {
            let kind = if id == "items" {
                FieldKind::Structured { schema: None }
            } else {
                FieldKind::Text { format: TextFormat::Plain }
            };
            let mut field = Field::new(ident(id), kind);
            (field.pii, field.required) = (pii, false);
            schema.fields.push(field);
        }
        record = record.with_field("a", "x").with_field("b", "y");
        let (mut right, mut model) = (Answers::new(), Answers::new());
        for (at, (asked, (conditional, review, pii))) in questions.into_iter().enumerate() {
            if asked.fields.iter().any(|(key, value)| record.fields.get(key).is_some_and(|known| known != value)) {
                continue;
            }
            record.fields.extend(asked.fields);
            let mut question = asked.question;
            question.id = ident(&format!("q{at}"));
            (question.pii, question.required) = (pii, !conditional);
            question.role = if review { QuestionRole::Review } else { QuestionRole::Output };
            question.visible_when =
                (conditional && at > 0 && schema.question("q0").is_some()).then(|| Condition::Answered(ident("q0")));
            right.insert(question.id.clone(), asked.answer.clone());
            if at > 0 && !review {
                model.insert(question.id.clone(), asked.answer);
            }
            schema.questions.push(question);
        }
        record.responses.push(Response::submitted("ann", right));
        record.suggestions.push(suggested("m", &model));
        (schema, record)
    })
}

proptest! {
    #[test]
    fn rows_are_what_their_readers_take_and_answers_can_be_read_back((schema, record) in any_task()) {
        let compiled = schema.compile();
        prop_assume!(compiled.is_ok());
        let schema = compiled.unwrap();
        for format in ExportFormat::ALL {
            let options = ExportOptions::new(format).with_answers(AnswerSource::SingleResponse);
            let mut exporter = match Exporter::new(&schema, options) {
                Ok(exporter) => exporter,
                Err(error) => {
                    prop_assert_eq!(error.code(), "no_outputs");
                    continue;
                }
            };
            let mut file = Vec::new();
            let report = exporter.write([&record], &mut file).unwrap();
            prop_assert!(report.num_rows > 0 || !report.skipped.is_empty());
            if report.num_rows > 0 {
                let problems = problems(format, std::str::from_utf8(&file).unwrap());
                prop_assert!(problems.is_empty(), "{}: {:?}\n{}", format, problems, String::from_utf8_lossy(&file));
            }
            if format == ExportFormat::Alpaca && report.num_rows > 0 {
                let row: Value = serde_json::from_slice(&file).unwrap();
                let parsed = exporter.schema().parse(&record, row["output"].as_str().unwrap());
                prop_assert_eq!(&parsed.repairs, &[]);
                prop_assert_eq!(&parsed.errors, &[]);
                let learnt: Answers = exporter.schema().schema().questions.iter().filter_map(|question| {
                    Some((question.id.clone(), record.responses[0].answers.get(&question.id)?.clone()))
                }).collect();
                prop_assert_eq!(parsed.answers, learnt);
            }
        }
    }
}
