use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::arbitrary::{Asked, asked, ident};
use super::super::{
    AgentKind, Answer, Answers, Condition, DateGranularity, Field, LabelSpan, NumberQuestion, Preference,
    QuestionOption, QuestionRole, Record, Scale, TaskSchema, TaxonomyNode, TextFormat, TextQuestion, Version,
};
use super::*;

/// A schema that has a question, and fields for what questions are about.
fn schema_of(question: Question) -> TaskSchema {
    let text = || FieldKind::Text { format: TextFormat::Plain };
    let fields = [("doc", text()), ("items", FieldKind::Structured { schema: None }), ("a", text()), ("b", text())];
    let fields = fields.into_iter().map(|(id, kind)| Field::new(ident(id), kind));
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0));
    fields.fold(schema, TaskSchema::with_field).with_question(question)
}

proptest! {
    #[test]
    fn an_answer_survives_its_json_form(asked in asked()) {
        let Asked { question, answer, fields } = asked;
        let json = answer.to_json();
        prop_assert_eq!(question.read_answer(&json), Ok(answer.clone()));
        let text = serde_json::to_string(&json).unwrap();
        prop_assert_eq!(question.read_answer(&serde_json::from_str(&text).unwrap()), Ok(answer.clone()));
        let schema = schema_of(question).compile().unwrap();
        let answers: Answers = [(ident("q"), answer)].into_iter().collect();
        prop_assert_eq!(schema.check(AgentKind::Model, &fields, &answers), vec![]);
    }

    #[test]
    fn an_answer_to_another_kind_of_question_is_refused_or_holds(one in asked(), other in asked()) {
        if let Ok(answer) = one.question.read_answer(&other.answer.to_json()) {
            prop_assert_eq!(one.question.check(&answer), Ok(()));
        }
        prop_assert!(one.question.read_answer(&Value::Null).is_err());
    }
}

fn levels(values: [&str; 2]) -> Vec<QuestionOption> {
    values.map(|value| QuestionOption::new(value, value)).to_vec()
}

fn choices(min: usize, max: Option<usize>) -> QuestionKind {
    QuestionKind::Choice { options: levels(["good", "bad"]), multiple: true, min, max }
}

fn number(question: NumberQuestion) -> QuestionKind {
    QuestionKind::Number(question)
}

fn text(question: TextQuestion) -> QuestionKind {
    QuestionKind::Text(question)
}

fn spans(overlap: bool) -> QuestionKind {
    QuestionKind::Span { field: ident("doc"), labels: levels(["good", "bad"]), overlap }
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn what_is_wrong_with_an_answer_is_said() {
    let number_question = NumberQuestion::default;
    let text_question = TextQuestion::default;
    let tree = vec![TaxonomyNode {
        option: QuestionOption::new("work", "Work"),
        children: vec![TaxonomyNode { option: QuestionOption::new("law", "Law"), children: vec![] }],
    }];
    let taxonomy = || QuestionKind::Taxonomy { tree: tree.clone(), multiple: false };
    let integer = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let level = || QuestionKind::Rating { scale: Scale::Levels { levels: levels(["good", "bad"]) } };
    let date = |only| QuestionKind::Date { only };
    let cases = [
        (level(), json!("god"), r#"q: "god" is none of ["good", "bad"]; did you mean "good"?"#),
        (level(), json!("nice"), r#"q: "nice" is none of ["good", "bad"]"#),
        (level(), json!(["good"]), "q: a list where a text is expected"),
        (choices(0, None), json!(["bad", "good", "bad"]), r#"q/2: "bad" is there twice"#),
        (choices(1, Some(1)), json!([]), "q: 0 items are not 1"),
        (choices(0, Some(1)), json!(["good", "bad"]), "q: 2 items are not between 0 and 1"),
        (choices(0, None), json!(["good", 1]), "q/1: a number where a text is expected"),
        (QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } }, json!(4.5), "q: 4.5 is not a whole number"),
        (number(NumberQuestion { min: Some(0.0), ..number_question() }), json!(-1), "q: -1 is not at least 0"),
        (number(NumberQuestion { integer: true, ..number_question() }), json!(0.5), "q: 0.5 is not a whole number"),
        (
            number(NumberQuestion { step: Some(0.1), ..number_question() }),
            json!(0.35),
            "q: 0.35 is not a multiple of 0.1",
        ),
        (text(text_question()), json!(""), "q: a text of 0 characters is not one of at least 1"),
        (text(text_question()), json!("a\nb"), "q: the text has more than one line"),
        (
            text(TextQuestion { pattern: Some("a|b".into()), many: true, ..text_question() }),
            json!(["a", "ab"]),
            r#"q/1: the text does not match "a|b""#,
        ),
        (
            text(TextQuestion { pattern: Some("a)|(b".into()), ..text_question() }),
            json!("a"),
            "q: the question cannot be used: regex parse error:\n    a)|(b\n     ^\nerror: unopened group",
        ),
        (date(DateGranularity::Date), json!("2026-02-30"), r#"q: "2026-02-30" is not a date like 2026-01-31"#),
        (date(DateGranularity::Date), json!("2026-2-3"), r#"q: "2026-2-3" is not a date like 2026-01-31"#),
        (date(DateGranularity::Year), json!("26"), r#"q: "26" is not a year like 2026"#),
        (
            date(DateGranularity::DateTime),
            json!("2026-01-31"),
            r#"q: "2026-01-31" is not a time like 2026-01-31T12:30:00Z"#,
        ),
        (QuestionKind::Structured { schema: integer }, json!({"n": "x"}), r#"q/n: "x" is not of type "integer""#),
        (QuestionKind::Structured { schema: json!({}) }, json!("x"), "q: a text where an object or a list is expected"),
        (
            QuestionKind::Preference { left: ident("a"), right: ident("b"), tie: false },
            json!("tie"),
            r#"q: "tie" is none of ["left", "right"]"#,
        ),
        (QuestionKind::Ranking { field: ident("items") }, json!(["a", "a"]), r#"q/1: "a" is there twice"#),
        (taxonomy(), json!([["work", "lwa"]]), r#"q/0/1: "lwa" is none of ["law"]"#),
        (taxonomy(), json!([["work", "law", "x"]]), r#"q/0/2: "x" is none of []"#),
        (taxonomy(), json!([["work"], ["work", "law"]]), "q: 2 items are not 1"),
        (taxonomy(), json!([[]]), "q/0: 0 items are not at least 1"),
        (
            spans(false),
            json!([{"start": 3, "end": 5, "label": "bad"}, {"start": 0, "end": 4, "label": "good"}]),
            "q: the stretches that begin at 0 and at 3 overlap",
        ),
        (
            spans(true),
            json!([{"start": 3, "end": 3, "label": "bad"}]),
            "q/0: the stretch 3..3 is not in a text of any number of characters",
        ),
        (spans(true), json!([{"start": -1, "end": 3, "label": "bad"}]), "q/0/start: -1 is not at least 0"),
        (
            spans(true),
            json!([{"start": 0, "end": 3, "text": "x"}]),
            r#"q/0: "text" is none of ["start", "end", "label"]"#,
        ),
    ];
    for (kind, value, expected) in cases {
        let question = Question::new(ident("q"), kind);
        let found = question.read_answer(&value).map_err(|error| error.to_string());
        assert_eq!(found, Err(expected.to_owned()), "{question:?} {value}");
    }
}

#[test]
fn numbers_have_one_form() {
    let cases =
        [(7.0, "7"), (-0.0, "0"), (0.5, "0.5"), (9_007_199_254_740_992.0, "9007199254740992"), (1e300, "1e+300")];
    for (number, expected) in cases {
        assert_eq!(Answer::Number(number).to_json().to_string(), expected);
    }
    let infinite = Question::new(ident("q"), number(NumberQuestion::default()));
    assert_eq!(infinite.check(&Answer::Number(f64::NAN)).unwrap_err().code(), "out_of_range");
}

/// `b` is asked if `a` is good, `c` if `b` is answered, `d` by a person.
fn chain() -> super::super::CompiledSchema {
    let level = || QuestionKind::Rating { scale: Scale::Levels { levels: levels(["good", "bad"]) } };
    let mut b = Question::new(ident("b"), level());
    b.visible_when = Some(Condition::Is { question: ident("a"), any_of: vec![json!("good")] });
    let mut c = Question::new(ident("c"), level());
    c.visible_when = Some(Condition::Answered(ident("b")));
    let mut d = Question::new(ident("d"), level());
    d.role = QuestionRole::Review;
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0));
    [Question::new(ident("a"), level()), b, c, d].into_iter().fold(schema, TaskSchema::with_question).compile().unwrap()
}

#[test]
fn questions_are_answered_where_they_are_asked() {
    let cases = [
        (AgentKind::Model, "", "a: an answer is required"),
        (AgentKind::Model, "a=good", "b: an answer is required"),
        (AgentKind::Model, "a=good b=bad c=bad", ""),
        (AgentKind::Model, "a=bad", ""),
        (AgentKind::Human, "a=bad", "d: an answer is required"),
        (
            AgentKind::Model,
            "a=bad b=bad c=bad d=bad e=bad",
            "b: the question is hidden here, and must not be answered; \
             c: the question is hidden here, and must not be answered; \
             d: the question is hidden here, and must not be answered; e: there is no such question",
        ),
        (AgentKind::Human, "a=bad d=ugly", r#"d: "ugly" is none of ["good", "bad"]"#),
    ];
    for (agent, answers, expected) in cases {
        let pairs = answers.split_whitespace().filter_map(|pair| pair.split_once('='));
        let answers: Answers = pairs.map(|(id, value)| (ident(id), Answer::Option(value.to_owned()))).collect();
        let errors = chain().check(agent, &Map::new(), &answers);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.join("; "), expected, "{agent:?} {answers:?}");
    }
}

#[test]
fn conditions_combine() {
    let answers: Answers =
        [(ident("some"), Answer::Options(vec!["x".into(), "y".into()])), (ident("count"), Answer::Number(4.0))]
            .into_iter()
            .collect();
    let fields = Map::from_iter([("kind".to_owned(), json!("mail")), ("none".to_owned(), Value::Null)]);
    let is = |question: &str, value: Value| Condition::Is { question: ident(question), any_of: vec![value] };
    let field = |field: &str, value: Value| Condition::Field { field: ident(field), any_of: vec![value] };
    let cases = [
        (is("some", json!("y")), true),
        (is("some", json!(["x", "y"])), true),
        (is("some", json!("z")), false),
        (is("count", json!(4)), true),
        (is("other", Value::Null), false),
        (field("kind", json!("mail")), true),
        (field("none", Value::Null), false),
        (Condition::Not(Box::new(Condition::Answered(ident("other")))), true),
        (Condition::All(vec![]), true),
        (Condition::Any(vec![]), false),
        (Condition::All(vec![is("count", json!(4.0)), is("some", json!("z"))]), false),
        (Condition::Any(vec![is("count", json!(4.0)), is("some", json!("z"))]), true),
    ];
    for (condition, expected) in cases {
        assert_eq!(condition.holds(&answers, &fields), expected, "{condition:?}");
    }
}

#[test]
fn answers_are_checked_against_the_record() {
    let ranking = || QuestionKind::Ranking { field: ident("items") };
    let ranked = |items: &[&str]| Answer::Ranking(items.iter().map(|item| (*item).to_owned()).collect());
    let preference = || QuestionKind::Preference { left: ident("a"), right: ident("b"), tie: true };
    let fields = json!({"doc": "äß語", "items": [{"id": "x"}, "y"], "a": "1"});
    let cases = [
        (spans(true), Answer::Spans(vec![LabelSpan::new(0, 3, "good")]), ""),
        (
            spans(true),
            Answer::Spans(vec![LabelSpan::new(0, 4, "good")]),
            "q/0: the stretch 0..4 is not in a text of 3 characters",
        ),
        (ranking(), ranked(&["y", "x"]), ""),
        (ranking(), ranked(&["y", "z"]), r#"q: the ranking leaves out ["x"] and has ["z"], which are no items"#),
        (preference(), Answer::Preference(Preference::Tie), r#"q: the record has no usable field "b""#),
    ];
    for (kind, answer, expected) in cases {
        let schema = schema_of(Question::new(ident("q"), kind)).compile().unwrap();
        let answers: Answers = [(ident("q"), answer)].into_iter().collect();
        let errors = schema.check(AgentKind::Model, fields.as_object().unwrap(), &answers);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.join("; "), expected, "{answers:?}");
    }
}

#[test]
fn records_are_checked_field_by_field() {
    let whole = json!({"type": "array", "items": {"type": "integer"}});
    let kinds = [
        ("text", FieldKind::Text { format: TextFormat::Html }, json!(5), "text: a number where a text is expected"),
        (
            "chat",
            FieldKind::Chat,
            json!([{"role": "user"}]),
            "chat: a list where a list of objects with texts `role` and `content` is expected",
        ),
        (
            "list",
            FieldKind::Structured { schema: Some(whole) },
            json!([1, "x"]),
            r#"list/1: "x" is not of type "integer""#,
        ),
        ("file", FieldKind::File { media: vec![] }, Value::Null, "file: the field is required"),
        ("flag", FieldKind::Boolean, json!("yes"), "flag: a text where true or false is expected"),
        (
            "date",
            FieldKind::Date,
            json!("today"),
            "date: a text where a date like 2026-01-31 or a time after RFC 3339 is expected",
        ),
    ];
    let mut schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0));
    let (mut record, mut expected) = (Record::new("r"), Vec::new());
    for (id, kind, value, error) in kinds {
        schema = schema.with_field(Field::new(ident(id), kind));
        record = record.with_field(id, value);
        expected.push(error);
    }
    let mut with_default = Field::new(ident("words"), FieldKind::Number);
    with_default.default = Some(json!(3));
    let question = Question::new(ident("q"), text(TextQuestion::default()));
    let schema = schema.with_field(with_default).with_question(question).compile().unwrap();
    let errors: Vec<_> = schema.check_record(&record).iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected);

    let good = Record::new("r")
        .with_field("text", "x")
        .with_field("chat", json!([{"role": "user", "content": "x"}]))
        .with_field("list", json!([1]))
        .with_field("file", "x.png")
        .with_field("flag", true)
        .with_field("date", "2026-01-31T00:00:00Z");
    assert_eq!(schema.check_record(&good), vec![]);
    let errors = schema.check_record(&good.with_field("Text", "x"));
    assert_eq!(errors[0].kind, FieldErrorKind::Unknown { nearest: Some("text".into()) });
    assert!(!errors[0].is_fatal());
}

#[test]
fn what_cannot_be_compiled_is_reported() {
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0))
        .with_field(Field::new(ident("f"), FieldKind::Structured { schema: Some(json!({"type": 1})) }))
        .with_question(Question::new(
            ident("p"),
            text(TextQuestion { pattern: Some("(".into()), ..TextQuestion::default() }),
        ))
        .with_question(Question::new(
            ident("s"),
            QuestionKind::Structured { schema: json!({"$ref": "https://example.com/x"}) },
        ));
    let found: Vec<_> = schema.compile().unwrap_err().errors().map(|one| (one.code, one.path.clone())).collect();
    let expected = [
        ("invalid_json_schema", "/fields/0/schema"),
        ("invalid_pattern", "/questions/0/pattern"),
        ("invalid_json_schema", "/questions/1/schema"),
    ];
    assert_eq!(found, expected.map(|(code, path)| (code, path.to_owned())));
}
