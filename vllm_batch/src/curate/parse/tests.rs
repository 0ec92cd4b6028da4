use proptest::prelude::*;
use serde_json::{Map, json};

use super::super::arbitrary::{Asked, asked, ident};
use super::super::{
    Answer, Condition, DateGranularity, Field, FieldKind, LabelSpan, NumberQuestion, Preference, QuestionKind,
    QuestionOption, QuestionRole, Scale, TaskSchema, TaxonomyNode, TextFormat, TextQuestion, Version,
};
use super::*;
use crate::curate::AnswerForm;

fn schema_of(questions: Vec<Question>) -> CompiledSchema {
    let text = || FieldKind::Text { format: TextFormat::Plain };
    let fields = [("doc", text()), ("items", FieldKind::Structured { schema: None }), ("a", text()), ("b", text())];
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0));
    let schema = fields.into_iter().map(|(id, kind)| Field::new(ident(id), kind)).fold(schema, TaskSchema::with_field);
    questions.into_iter().fold(schema, TaskSchema::with_question).compile().unwrap()
}

fn record(fields: Map<String, Value>) -> Record {
    Record { fields, ..Record::new("r") }
}

fn codes(parsed: &Parsed) -> String {
    parsed.repairs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

proptest! {
    #[test]
    fn what_is_written_is_read_without_repairs(asked in asked(), required in any::<bool>()) {
        let Asked { mut question, answer, fields } = asked;
        question.required = required;
        let schema = schema_of(vec![question]);
        let answers: Answers = [(ident("q"), answer)].into_iter().collect();
        let text = schema.answer_text(&answers, AnswerForm::Json).unwrap();
        let place = text.find(':').unwrap() + 1..text.len() - 1;
        let expected = Parsed { answers, places: vec![(ident("q"), place)], ..Parsed::default() };
        prop_assert_eq!(schema.parse(&record(fields), &text), expected);
    }

    #[test]
    fn any_text_can_be_read(asked in asked(), text in r#"[{}\[\]"':,\\/*>a1 \nqué“-]{0,60}|\PC{0,60}"#, bare in any::<bool>()) {
        let Asked { question, fields, .. } = asked;
        let schema = schema_of(vec![question]);
        let text = if bare { text } else { format!(r#"{{"q": {text}}}"#) };
        let record = record(fields);
        let parsed = schema.parse(&record, &text);
        prop_assert_eq!(schema.check(AgentKind::Model, &record.fields, &parsed.answers).len(), usize::from(parsed.answers.is_empty()));
    }

    #[test]
    fn a_text_that_breaks_off_loses_no_complete_answer(asked in asked(), cut in 1usize..200) {
        let Asked { question, answer, fields } = asked;
        let mut other = question.clone();
        other.id = ident("r");
        let schema = schema_of(vec![question, other]);
        let answers: Answers = [(ident("q"), answer.clone()), (ident("r"), answer.clone())].into_iter().collect();
        let text = schema.answer_text(&answers, AnswerForm::Json).unwrap();
        let comma = text.rfind(",\"r\":").unwrap();
        let cut = text.char_indices().map(|(at, _)| at).find(|at| *at > comma + cut).unwrap_or(text.len() - 1);
        let parsed = schema.parse(&record(fields), &text[..cut]);
        prop_assert_eq!(parsed.answers.get("q"), Some(&answer));
        prop_assert!(codes(&parsed).starts_with("truncated_json"));
    }
}

fn options(values: &[(&str, &str)]) -> Vec<QuestionOption> {
    values.iter().map(|(value, label)| QuestionOption::new(*value, *label)).collect()
}

fn tone(multiple: bool) -> QuestionKind {
    let mut options = options(&[("strong_yes", "Strong Yes"), ("yes", "Yes"), ("no", "Nein"), ("1_year", "<1 year")]);
    options[2].synonyms = vec!["nope".to_owned()];
    options[1].score = Some(2.0);
    QuestionKind::Choice { options, multiple, min: 0, max: None }
}

/// Questions with what models say, what that means, and the repairs.
#[test]
#[allow(clippy::too_many_lines)] // A table.
fn what_is_meant_is_understood() {
    let range = || QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } };
    let boolean = || QuestionKind::Boolean { yes: "Ja".into(), no: "Nein".into() };
    let number = |integer| QuestionKind::Number(NumberQuestion { integer, ..NumberQuestion::default() });
    let text = |many| QuestionKind::Text(TextQuestion { many, ..TextQuestion::default() });
    let option = |value: &str| Answer::Option(value.to_owned());
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let node =
        |value: &str, label: &str, children| TaxonomyNode { option: QuestionOption::new(value, label), children };
    let tree = || vec![node("eng", "Engineering", vec![node("be", "Backend", vec![])]), node("ops", "Ops", vec![])];
    let taxonomy = |multiple| QuestionKind::Taxonomy { tree: tree(), multiple };
    let span = || QuestionKind::Span { field: ident("doc"), labels: options(&[("per", "Person")]), overlap: false };
    let preference = || QuestionKind::Preference { left: ident("a"), right: ident("b"), tie: true };
    let ranking = || QuestionKind::Ranking { field: ident("items") };
    let jobs = || QuestionKind::Structured { schema: json!({"type": "array", "items": {"type": "object"}}) };
    let words = || QuestionKind::Structured { schema: json!({"type": "array", "items": {"type": "string"}}) };
    let date = |only| QuestionKind::Date { only };
    let cases = [
        (tone(false), json!("Strong Yes"), option("strong_yes"), "option_by_label"),
        (tone(false), json!("nope"), option("no"), "option_by_label"),
        (tone(false), json!(" STRONG-YES. "), option("strong_yes"), "option_by_spelling"),
        (tone(false), json!("Strong yes, because of X"), option("strong_yes"), "option_in_text"),
        (tone(false), json!("Yes - but <1 year (or so)"), option("yes"), "option_in_text"),
        (tone(false), json!(["yes"]), option("yes"), "list_to_single"),
        (tone(false), json!("2"), option("yes"), "option_by_score"),
        (tone(false), json!("<1 year"), option("1_year"), "option_by_label"),
        (tone(true), json!("Yes"), Answer::Options(list(&["yes"])), "single_to_list"),
        (
            tone(true),
            json!("Nein, Yes, yes"),
            Answer::Options(list(&["yes", "no"])),
            "split_text option_by_label item_removed",
        ),
        (tone(true), json!(["no", "no", ""]), Answer::Options(list(&["no"])), "item_removed"),
        (range(), json!("4/5"), Answer::Rating(4), "number_from_text"),
        (range(), json!("4 stars"), Answer::Rating(4), "number_from_text"),
        (range(), json!("4 out of 5"), Answer::Rating(4), "number_from_text"),
        (boolean(), json!("ja"), Answer::Boolean(true), "boolean_from_text"),
        (boolean(), json!("No."), Answer::Boolean(false), "boolean_from_text"),
        (boolean(), json!(1), Answer::Boolean(true), "boolean_from_text"),
        (number(true), json!("about 1,200 years"), Answer::Number(1200.0), "number_from_text"),
        (number(false), json!("$3.50"), Answer::Number(3.5), "number_from_text"),
        (text(false), json!(5), Answer::Text("5".into()), "text_from_value"),
        (text(false), json!("a\n\nb"), Answer::Text("a b".into()), "line_ends_removed"),
        (text(false), json!(["a", "b"]), Answer::Text("a; b".into()), "text_from_value"),
        (text(true), json!("- a\n- b"), Answer::Texts(list(&["a", "b"])), "split_text"),
        (text(true), json!("a"), Answer::Texts(list(&["a"])), "single_to_list"),
        (date(DateGranularity::Date), json!("31 January 2026"), Answer::Date("2026-01-31".into()), "date_rewritten"),
        (date(DateGranularity::Year), json!(2026), Answer::Date("2026".into()), "date_rewritten"),
        (jobs(), json!({"x": 1}), Answer::Structured(json!([{"x": 1}])), "single_to_list"),
        (jobs(), json!("[{'x': 1}]"), Answer::Structured(json!([{"x": 1}])), "json_in_text"),
        (words(), json!("- a\n- b"), Answer::Structured(json!(["a", "b"])), "split_text"),
        (preference(), json!("B"), Answer::Preference(Preference::Right), "option_by_spelling"),
        (preference(), json!("Equal"), Answer::Preference(Preference::Tie), "option_by_spelling"),
        (ranking(), json!("y > x"), Answer::Ranking(list(&["y", "x"])), "split_text"),
        (ranking(), json!([{"id": "y"}, {"id": "x"}]), Answer::Ranking(list(&["y", "x"])), "text_from_value"),
        (
            taxonomy(false),
            json!("Engineering > Backend"),
            Answer::Taxonomy(vec![list(&["eng", "be"])]),
            "path_from_text",
        ),
        (
            taxonomy(true),
            json!(["backend", "Ops", "ops"]),
            Answer::Taxonomy(vec![list(&["eng", "be"]), list(&["ops"])]),
            "path_from_text item_removed",
        ),
        (
            span(),
            json!([{"text": "Ann", "label": "Person"}]),
            Answer::Spans(vec![LabelSpan::new(3, 6, "per")]),
            "option_by_label span_by_text",
        ),
        (
            span(),
            json!([{"text": "Ann", "label": "per", "start": 11, "end": 12}]),
            Answer::Spans(vec![LabelSpan::new(11, 14, "per")]),
            "span_by_text",
        ),
    ];
    let fields = json!({"doc": "Hé Ann and Ann", "items": ["x", "y"], "a": "1", "b": "2"});
    let record = record(fields.as_object().unwrap().clone());
    for (kind, value, expected, repairs) in cases {
        let schema = schema_of(vec![Question::new(ident("q"), kind)]);
        let parsed = schema.parse(&record, &json!({"q": value}).to_string());
        let repairs = repairs.split(' ').map(|code| format!("q:{code}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            (parsed.answers.get("q"), codes(&parsed)),
            (Some(&expected), repairs),
            "{value} {:?}",
            parsed.errors
        );
    }
}

#[test]
fn what_is_not_clear_is_an_error() {
    let range = || QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } };
    let number = || QuestionKind::Number(NumberQuestion::default());
    let cases = [
        (tone(false), json!("maybe"), "unknown_option"),
        (tone(false), json!("yes and no"), "unknown_option"),
        (tone(false), json!("no-brainer"), "unknown_option"),
        (number(), json!("$1.5M"), "wrong_type"),
        (number(), json!("2 million"), "wrong_type"),
        (tone(false), json!(["yes", "no"]), "wrong_type"),
        (range(), json!("4/10"), "wrong_type"),
        (range(), json!("9"), "out_of_range"),
        (range(), json!(4.5), "not_an_integer"),
        (number(), json!("3-5"), "wrong_type"),
        (QuestionKind::Date { only: DateGranularity::Date }, json!("01/02/2026"), "not_a_date"),
        (QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() }, json!("perhaps"), "wrong_type"),
        (tone(false), Value::Null, "missing_answer"),
    ];
    for (kind, value, code) in cases {
        let schema = schema_of(vec![Question::new(ident("q"), kind)]);
        let parsed = schema.parse(&Record::new("r"), &json!({"q": value}).to_string());
        let found: Vec<_> = parsed.errors.iter().map(AnswerError::code).collect();
        assert_eq!((found, parsed.answers.len()), (vec![code], 0), "{value}");
    }
}

/// A choice, a rating, and a note that need not be there.
fn three() -> CompiledSchema {
    let mut note =
        Question::new(ident("note"), QuestionKind::Text(TextQuestion { multiline: true, ..TextQuestion::default() }));
    (note.required, note.title) = (false, "Additional Notes".into());
    let clarity = QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } };
    schema_of(vec![Question::new(ident("tone"), tone(false)), Question::new(ident("clarity"), clarity), note])
}

#[test]
fn answers_are_found_in_any_wrapping() {
    let good = "tone=yes clarity=4";
    let with_note = "tone=yes clarity=4 note=x";
    let cases = [
        (r#"{"tone":"yes","clarity":4,"note":null}"#, good, "", ""),
        ("\n{\"clarity\": 4, \"tone\": \"yes\"}\n", good, "", ""),
        ("```json\n{\"tone\": \"yes\", \"clarity\": 4}\n```", good, "code_fence", ""),
        ("```\n{\"tone\": \"yes\", \"clarity\": 4}", good, "code_fence", ""),
        ("I think {so}: {\"tone\": \"yes\", \"clarity\": 4} Bye!", good, "surrounding_text", ""),
        ("<think>{\"tone\": \"no\"}</think>{\"tone\": \"yes\", \"clarity\": 4}", good, "surrounding_text", ""),
        ("{\"answer\": {\"tone\": \"yes\", \"clarity\": 4}}", good, "surrounding_text", ""),
        ("[{\"tone\": \"yes\", \"clarity\": 4,}]", good, "surrounding_text loose_json", ""),
        (
            "{\"Tone\": \"yes\", \"clarity\": 4, \"additional notes\": \"x\"}",
            with_note,
            "tone:key_by_title note:key_by_title",
            "",
        ),
        ("{\"tone\": \"yes\", \"clarity\": 4, \"tone\": \"no\"}", good, "tone:duplicate_key", ""),
        ("{\"tone\": \"yes\", \"clarity\": 4, \"note\": \"\"}", good, "note:null_word", ""),
        ("{\"tone\": \"yes\", \"clarity\": 4, \"nose\": \"x\"}", good, "", "nose:unknown_question"),
        ("{\"tone\": \"yes\", \"clarity\": 4, \"note\": \"x", good, "truncated_json", ""),
        ("{\"tone\": \"yes\", \"clarity\": ", "tone=yes", "truncated_json", "clarity:missing_answer"),
        ("{\"note\": [{\"tone\": \"no\"}, {\"x", "", "truncated_json", "tone:missing_answer clarity:missing_answer"),
        ("{\"tone\": \"rude\", \"clarity\": 4}", "clarity=4", "", "tone:unknown_option"),
        ("**Tone:** yes\nClarity: 4/5\nAdditional Notes: x", with_note, "lines clarity:number_from_text", ""),
        ("Tone: yes\nClarity: 4\n", good, "lines clarity:number_from_text", ""),
        ("no idea", "", "", "tone:missing_answer clarity:missing_answer"),
        ("{}", "", "", "tone:missing_answer clarity:missing_answer"),
        ("", "", "", "tone:missing_answer clarity:missing_answer"),
    ];
    for (text, answers, repairs, errors) in cases {
        let parsed = three().parse(&Record::new("r"), text);
        let value = |answer: &Answer| answer.to_json().to_string().trim_matches('"').to_owned();
        let found: Vec<_> = ["tone", "clarity", "note"]
            .iter()
            .filter_map(|id| Some(format!("{id}={}", value(parsed.answers.get(id)?))))
            .collect();
        let wrong: Vec<_> = parsed.errors.iter().map(|error| format!("{}:{}", error.question, error.code())).collect();
        assert_eq!(
            (found.join(" ").as_str(), codes(&parsed).as_str(), wrong.join(" ").as_str()),
            (answers, repairs, errors),
            "{text}"
        );
    }
    let clarity = schema_of(vec![Question::new(ident("tone"), tone(false))]);
    let parsed = clarity.parse(&Record::new("r"), " Strong Yes\n");
    assert_eq!(
        (codes(&parsed).as_str(), parsed.places),
        ("bare_answer tone:option_by_label", vec![(ident("tone"), 1..11)])
    );
}

#[test]
fn lines_may_have_the_labels_of_the_template() {
    let mut schema =
        TaskSchema::new(ident("task"), Version::new(1, 0, 0)).with_question(Question::new(ident("tone"), tone(false)));
    schema.prompt.assistant = Some("How it sounds: {tone}".to_owned());
    let parsed = schema.compile().unwrap().parse(&Record::new("r"), "How it sounds: Yes");
    assert_eq!(parsed.answers.get("tone"), Some(&Answer::Option("yes".into())));
}

#[test]
fn hidden_questions_are_left_out_and_defaults_filled_in() {
    let mut why = Question::new(ident("why"), QuestionKind::Text(TextQuestion::default()));
    why.visible_when = Some(Condition::Is { question: ident("tone"), any_of: vec![json!("no")] });
    why.default = Some(Answer::Text("because".into()));
    let mut review = Question::new(ident("review"), QuestionKind::Text(TextQuestion::default()));
    review.role = QuestionRole::Review;
    let schema = schema_of(vec![Question::new(ident("tone"), tone(false)), why, review]);
    let cases = [
        (r#"{"tone": "yes", "why": null}"#, 1, ""),
        (r#"{"tone": "yes", "why": "x", "review": "good"}"#, 1, "why:hidden_dropped review:hidden_dropped"),
        (r#"{"tone": "yes", "why": {}}"#, 1, "why:hidden_dropped"),
        (r#"{"tone": "no", "why": "x"}"#, 2, ""),
        (r#"{"tone": "no", "why": null}"#, 2, "why:default"),
    ];
    for (text, answers, repairs) in cases {
        let parsed = schema.parse(&Record::new("r"), text);
        assert_eq!(
            (parsed.answers.len(), codes(&parsed).as_str(), parsed.errors),
            (answers, repairs, vec![]),
            "{text}"
        );
    }
}
