use proptest::prelude::*;
use serde_json::json;

use super::super::{Answer, Answers, arbitrary};
use super::*;

proptest! {
    #[test]
    fn nothing_changes_between_a_schema_and_itself(schema in arbitrary::schema()) {
        let diff = SchemaDiff::between(&schema, &schema);
        prop_assert_eq!(diff.bump(), None);
        prop_assert_eq!(diff.next_version(&schema.version), schema.version);
    }

    #[test]
    fn what_two_versions_have_to_say_is_said(old in arbitrary::schema(), new in arbitrary::schema()) {
        let diff = SchemaDiff::between(&old, &new);
        prop_assert_eq!(diff.changes().is_empty(), old == new, "{}", diff);
        let mut registry = SchemaRegistry::new();
        registry.register(old.clone()).unwrap();
        let next = diff.next_version(&old.version);
        if next > old.version {
            let result = registry.register(TaskSchema { version: next, ..new });
            prop_assert!(result.is_ok(), "{:?}", result);
        }
    }

    #[test]
    fn a_minor_version_keeps_all_answers(old in arbitrary::schema(), new in arbitrary::schema()) {
        let answers: Answers = old.questions.iter().filter_map(|one| Some((one.id.clone(), one.default.clone()?))).collect();
        let diff = SchemaDiff::between(&old, &new);
        let (from, compiled) = (old.version.clone(), new.compile().unwrap());
        let (kept, report) = compiled.migrate(&answers, &from);
        prop_assert_eq!(kept.len() + report.lost.len(), answers.len());
        if diff.bump() < Some(Bump::Major) {
            prop_assert_eq!(kept, answers);
        }
    }

    /// Wider bounds, new options and new optional questions are minor changes by construction.
    #[test]
    fn answers_stay_when_a_schema_only_grows(old in arbitrary::schema(), extra in arbitrary::asked()) {
        let mut new = old.clone();
        let mut question = extra.question;
        (question.id, question.required) = (arbitrary::ident("new"), false);
        new.questions.push(question);
        let diff = SchemaDiff::between(&old, &new);
        prop_assert_eq!(diff.bump(), Some(Bump::Minor));
        let answers: Answers = old.questions.iter().filter_map(|one| Some((one.id.clone(), one.default.clone()?))).collect();
        let (kept, report) = new.compile().unwrap().migrate(&answers, &old.version);
        prop_assert_eq!(kept, answers);
        prop_assert!(report.is_empty());
    }
}

fn schema(version: &str, questions: &serde_json::Value) -> TaskSchema {
    let document = json!({"format": 1, "id": "mail", "version": version, "fields": [], "questions": questions});
    TaskSchema::from_value(&document).unwrap().schema
}

#[test]
fn versions_must_say_how_much_changed() {
    let text = |id: &str, required: bool| json!({"id": id, "type": "text", "required": required});
    let one = json!([text("a", true)]);
    let optional = json!([text("a", true), text("b", false)]);
    let required = json!([text("a", true), text("b", true)]);
    let title = json!([{"id": "a", "type": "text", "title": "Other"}]);
    let cases = [
        (("1.0.0", &one), ("1.0.1", &title), Ok(())),
        (("1.0.0", &one), ("1.0.1", &optional), Err("1.1.0")),
        (("1.0.0", &one), ("1.1.0", &optional), Ok(())),
        (("1.0.0", &one), ("1.9.0", &required), Err("2.0.0")),
        (("1.0.0", &one), ("2.0.0-rc.1", &required), Ok(())),
        (("1.0.0", &one), ("1.0.1-rc.1", &required), Err("2.0.0")),
        (("0.1.0", &one), ("0.1.1", &optional), Ok(())),
        (("0.1.0", &one), ("0.1.1", &required), Err("0.2.0")),
        (("0.1.0", &one), ("0.2.0", &required), Ok(())),
        (("0.1.0", &one), ("1.0.0", &one), Ok(())),
        // In any order of registration.
        (("1.1.0", &optional), ("1.0.0", &one), Ok(())),
        (("1.1.0", &required), ("1.0.0", &one), Err("2.0.0")),
        (("1.0.0-rc.1", &one), ("1.0.0", &required), Ok(())),
        (("1.0.0+a", &one), ("1.0.0+b", &required), Err("2.0.0")),
    ];
    for ((first, old), (second, new), expected) in cases {
        let mut registry = SchemaRegistry::new();
        registry.register(schema(first, old)).unwrap();
        let result = match registry.register(schema(second, new)) {
            Ok(_) => Ok(()),
            Err(RegistryError::BumpTooSmall { required, .. }) => Err(required.to_string()),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(result, expected.map_err(str::to_owned), "{first} then {second}: {new}");
    }
}

#[test]
fn a_version_stays_as_it_is() {
    let text = json!([{"id": "a", "type": "text"}]);
    let mut registry = SchemaRegistry::new();
    let first = registry.register(schema("1.0.0", &text)).unwrap();
    let again = registry.register(schema("1.0.0", &text)).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let other = schema("1.0.0", &json!([{"id": "a", "type": "text", "title": "B"}]));
    let error = registry.register(other).unwrap_err();
    assert_eq!((error.code(), registry.len()), ("schema_conflict", 1));
    let error = registry.register(schema("1.0.1", &json!([]))).unwrap_err();
    assert_eq!(error.code(), "invalid_schema");
}

#[test]
fn clones_do_not_see_what_is_registered_later() {
    let mut registry = SchemaRegistry::builtin();
    let before = registry.clone();
    registry.register(schema("1.0.0", &json!([{"id": "a", "type": "text"}]))).unwrap();
    assert_eq!((before.len(), registry.len()), (6, 7));
    assert_eq!(SchemaRegistry::builtin().len(), 6);
}

#[test]
fn schemas_are_found_by_version() {
    let mut registry = SchemaRegistry::new();
    for version in ["1.0.0", "1.1.0", "2.0.0", "3.0.0-rc.1"] {
        registry.register(schema(version, &json!([{"id": "a", "type": "text"}]))).unwrap();
    }
    let version = |found: Option<Arc<CompiledSchema>>| found.map(|schema| schema.schema().version.to_string());
    assert_eq!(version(registry.get("mail")).as_deref(), Some("2.0.0"));
    assert_eq!(version(registry.get("male")), None);
    let find = |wanted: &str| version(registry.find("mail", &wanted.parse().unwrap()));
    assert_eq!(find("^1").as_deref(), Some("1.1.0"));
    assert_eq!(find("=1.0.0").as_deref(), Some("1.0.0"));
    assert_eq!(find("^3"), None);
    assert_eq!(version(registry.get_version("mail", &"3.0.0-rc.1".parse().unwrap())).as_deref(), Some("3.0.0-rc.1"));
    let all: Vec<_> = registry.iter().map(|schema| schema.schema().reference().to_string()).collect();
    assert_eq!(all, ["mail@1.0.0", "mail@1.1.0", "mail@2.0.0", "mail@3.0.0-rc.1"]);
    let only = SchemaRegistry::new();
    assert!(only.is_empty() && only.diff("mail", &Version::new(1, 0, 0), &Version::new(2, 0, 0)).is_none());
}

/// A step, the question as it is now, an answer before and what becomes of it.
#[test]
fn each_step_moves_answers() {
    let choice = json!({"type": "choice", "options": ["a", "b"]});
    let choices = json!({"type": "choice", "options": ["a", "b"], "multiple": true});
    let stars = json!({"type": "rating", "min": 1, "max": 10});
    let boolean = json!({"type": "boolean"});
    let option = |value: &str| Answer::Option(value.into());
    let options = |values: &[&str]| Answer::Options(values.iter().map(|value| (*value).to_owned()).collect());
    let map = json!({"op": "map_options", "map": {"old": "a", "older": "a"}});
    let scale = json!({"op": "map_scale", "from": [1, 5], "to": [1, 10]});
    let yes = json!({"op": "choice_to_boolean", "yes": ["a", "old"]});
    let cases = [
        (&map, &choice, option("old"), Ok(option("a"))),
        (&map, &choice, option("b"), Ok(option("b"))),
        (&map, &choice, option("c"), Err("not_allowed")),
        (&map, &choices, options(&["old", "b", "older"]), Ok(options(&["a", "b"]))),
        (&map, &choice, Answer::Rating(1), Err("not_convertible")),
        (&scale, &stars, Answer::Rating(5), Ok(Answer::Rating(10))),
        (&scale, &stars, Answer::Rating(6), Err("not_convertible")),
        (&scale, &stars, option("a"), Err("not_convertible")),
        (&yes, &boolean, option("old"), Ok(Answer::Boolean(true))),
        (&yes, &boolean, option("b"), Ok(Answer::Boolean(false))),
        (&yes, &boolean, options(&["a"]), Err("not_convertible")),
    ];
    for (step, question, answer, expected) in cases {
        let (mut step, mut question) = (step.clone(), question.clone());
        (step["since"], step["question"], question["id"]) = ("2.0.0".into(), "q".into(), "q".into());
        let mut document = serde_json::to_value(schema("2.0.0", &json!([question]))).unwrap();
        document["migrations"] = json!([step]);
        let compiled = TaskSchema::from_value(&document).unwrap().schema.compile().unwrap();
        let old: Answers = [(arbitrary::ident("q"), answer)].into_iter().collect();

        let (kept, report) = compiled.migrate(&old, &Version::new(1, 0, 0));
        let lost: Vec<_> = report.lost.iter().map(|lost| reason(&lost.reason)).collect();
        match expected {
            Ok(answer) => assert_eq!((kept.get("q"), lost), (Some(&answer), vec![]), "{step}"),
            Err(why) => assert_eq!((kept.len(), lost), (0, vec![why]), "{step} {old:?}"),
        }
        // Answers of this version need no step.
        let (kept, report) = compiled.migrate(&kept, &Version::new(2, 0, 0));
        assert!(report.is_empty() && kept.len() <= 1);
    }
}

fn reason(reason: &LossReason) -> &'static str {
    match reason {
        LossReason::Dropped => "dropped",
        LossReason::NotConvertible => "not_convertible",
        LossReason::UnknownQuestion => "unknown_question",
        LossReason::NotAllowed(_) => "not_allowed",
    }
}

#[test]
fn steps_follow_each_other_from_the_version_on() {
    let mut document = serde_json::to_value(schema(
        "3.0.0",
        &json!([
            {"id": "voice", "type": "choice", "options": ["formal", "casual"]},
            {"id": "fair", "type": "boolean"},
        ]),
    ))
    .unwrap();
    document["migrations"] = json!([
        {"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "style"},
        {"op": "set_default", "since": "2.0.0", "question": "just", "value": true},
        {"op": "drop_question", "since": "2.0.0", "question": "notes"},
        {"op": "rename_question", "since": "3.0.0", "from": "style", "to": "voice"},
        {"op": "map_options", "since": "3.0.0", "question": "voice", "map": {"stiff": "formal"}},
        {"op": "rename_question", "since": "3.0.0", "from": "just", "to": "fair"},
    ]);
    let compiled = TaskSchema::from_value(&document).unwrap().schema.compile().unwrap();
    let answers = |pairs: &[(&str, Answer)]| -> Answers {
        pairs.iter().map(|(id, answer)| (arbitrary::ident(id), answer.clone())).collect()
    };
    let stiff = Answer::Option("stiff".into());
    let now = answers(&[("voice", Answer::Option("formal".into())), ("fair", Answer::Boolean(true))]);

    let first = answers(&[("notes", Answer::Text("x".into())), ("tone", stiff.clone())]);
    let (kept, report) = compiled.migrate(&first, &Version::new(1, 0, 0));
    assert_eq!(kept, now);
    assert_eq!(
        report.lost.iter().map(|lost| (&*lost.question, reason(&lost.reason))).collect::<Vec<_>>(),
        [("notes", "dropped")]
    );
    assert_eq!(report.changed.len(), 2);

    // A later version needs the later steps alone: its questions are called otherwise.
    let second = answers(&[("style", stiff.clone()), ("just", Answer::Boolean(true))]);
    assert_eq!(compiled.migrate(&second, &Version::new(2, 0, 0)).0, now);
    let (kept, report) = compiled.migrate(&answers(&[("tone", stiff)]), &Version::new(2, 0, 0));
    assert_eq!((kept.len(), reason(&report.lost[0].reason)), (0, "unknown_question"));
}
