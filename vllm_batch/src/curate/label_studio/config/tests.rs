use serde_json::{Value, json};

use super::super::super::{CompiledSchema, TaskSchema};
use super::*;

fn schema(document: &Value) -> CompiledSchema {
    TaskSchema::from_value(document).unwrap().schema.compile().unwrap()
}

fn document(questions: &Value) -> Value {
    json!({
        "format": 1, "id": "task", "version": "1.0.0",
        "fields": [
            {"id": "head", "type": "text", "display": "header"},
            {"id": "doc", "type": "text"},
            {"id": "more", "type": "text", "format": "markdown", "display": "collapsible"},
            {"id": "talk", "type": "chat"},
            {"id": "jobs", "type": "structured", "display": "table"},
            {"id": "items", "type": "structured"},
            {"id": "pic", "type": "file", "media": ["image/png"]},
            {"id": "none", "type": "text", "display": "hidden", "in_prompt": false, "required": false},
        ],
        "questions": questions,
    })
}

fn page(document: &Value) -> String {
    label_config(&schema(document), &LabelConfigOptions::default().with_locale("de")).unwrap().xml
}

/// The page without its style.
fn body(document: &Value) -> String {
    let page = page(document);
    let (head, rest) = page.split_once("  <Style>").unwrap();
    format!("{head}{}", rest.split_once("</Style>\n").unwrap().1)
}

#[test]
fn each_kind_has_its_tags() {
    let questions = json!([
        {"id": "one", "type": "choice", "title": {"en": "One?", "de": "Eins?"}, "help": "a < b & $5", "options": [
            {"value": "a", "label": {"en": "A", "de": "Ä"}, "help": "first"}, {"value": "b", "label": "Ä"}]},
        {"id": "some", "type": "choice", "multiple": true, "options": ["x", "y"], "required": false},
        {"id": "stars", "type": "rating", "min": 1, "max": 5},
        {"id": "count", "type": "number", "min": 0, "step": 0.5},
        {"id": "text", "type": "text", "multiline": true},
        {"id": "texts", "type": "text", "many": true},
        {"id": "json", "type": "structured", "schema": {"type": "array"}},
        {"id": "year", "type": "date", "only": "year"},
        {"id": "better", "type": "preference", "left": "doc", "right": "head"},
        {"id": "order", "type": "ranking", "field": "items"},
        {"id": "tree", "type": "taxonomy", "tree": [{"value": "p", "children": [{"value": "q"}]}]},
        {"id": "spans", "type": "span", "field": "doc", "labels": ["x"]},
    ]);
    let expected = include_str!("page.xml");
    assert_eq!(body(&document(&questions)), expected);
}

#[test]
fn conditions_are_nested_as_far_as_they_can_be_said() {
    let base = json!([
        {"id": "a", "type": "choice", "options": ["x", "y", "z"]},
        {"id": "b", "type": "boolean", "visible_when": {"is": {"question": "a", "any_of": ["x"]}}},
        {"id": "t", "type": "text"},
    ]);
    let is = |question: &str, any_of: Value| json!({"is": {"question": question, "any_of": any_of}});
    let cases = [
        (is("a", json!(["x", "y"])), "choice-selected a x,y", true),
        (json!({"answered": "a"}), "choice-selected a ", true),
        (json!({"not": is("a", json!(["x"]))}), "choice-unselected a x", true),
        (is("b", json!([true])), "choice-selected b true|choice-selected a x", true),
        (json!({"all": [is("a", json!(["x"])), {"answered": "b"}]}), "choice-selected a x|choice-selected b ", true),
        (json!({"any": [is("a", json!(["x"])), is("a", json!(["z"]))]}), "choice-selected a x,z", true),
        (
            json!({"not": {"any": [is("a", json!(["x"])), is("a", json!(["z"]))]}}),
            "choice-unselected a x|choice-unselected a z",
            true,
        ),
        (json!({"any": [is("a", json!(["x"])), is("b", json!([false]))]}), "", false),
        (json!({"not": {"all": [is("a", json!(["x"])), {"answered": "b"}]}}), "", false),
        (
            json!({"all": [is("a", json!(["y"])), {"field": {"field": "doc", "any_of": ["d"]}}]}),
            "choice-selected a y",
            false,
        ),
        (json!({"answered": "t"}), "", false),
    ];
    for (condition, expected, is_complete) in cases {
        let mut questions = base.clone();
        let last = json!({"id": "q", "type": "text", "required": false, "visible_when": condition});
        questions.as_array_mut().unwrap().push(last);
        let schema = schema(&document(&questions));
        let question = schema.schema().question("q").unwrap();
        let (whens, complete) = visible::conditions(schema.schema(), question);
        let words = |when: &visible::When| {
            let xml = when.around(Element::new("x")).write();
            let part = |key: &str| {
                xml.split_once(&format!("{key}=\"")).map_or("", |(_, rest)| rest.split('"').next().unwrap()).to_owned()
            };
            format!("{} {} {}", part("visibleWhen"), part("whenTagName"), part("whenChoiceValue"))
        };
        let found = whens.iter().map(words).collect::<Vec<_>>().join("|");
        assert_eq!((found.as_str(), complete), (expected, is_complete), "{condition}");
        let page = label_config(&schema, &LabelConfigOptions::default()).unwrap();
        assert_eq!(page.warnings.is_empty(), is_complete, "{condition}");
        assert_eq!(page.xml.matches("<View visibleWhen").count(), whens.len() + 1, "{condition}");
    }
}

#[test]
fn no_question_has_the_name_of_what_is_shown() {
    let questions = json!([{"id": "src_doc", "type": "text"}, {"id": "doc", "type": "text"}]);
    let page = page(&document(&questions));
    assert!(page.contains("<TextArea name=\"src_doc\" toName=\"src__vb_record\""), "{page}");
    assert!(page.contains("<Text name=\"src__doc\" value=\"$doc\"/>"), "{page}");
}

#[test]
fn style_sheets_go_along() {
    let mut document = document(&json!([{"id": "t", "type": "text"}]));
    document["rendering"] = json!({"custom_css": ".a > .b { color: red }", "layout": "single-column"});
    let page = page(&document);
    assert!(page.contains(".a &gt; .b { color: red }</Style>"), "{page}");
    assert!(page.starts_with("<View className=\"vb-page vb-column\">"), "{page}");
}

#[test]
fn pages_from_outside_are_checked() {
    let questions = json!([{"id": "t", "type": "text"}, {"id": "c", "type": "choice", "options": ["x", "y"]}]);
    let right = r#"<View><Text name="doc" value="$doc"/><TextArea name="t" toName="doc"/>
        <Choices name="c" toName="doc"><Choice value="X" alias="x"/></Choices></View>"#;
    let cases = [
        (right.to_owned(), vec![]),
        (right.replace("</View>", ""), vec!["malformed_xml"]),
        (right.replace("<View>", "<View x=1>"), vec!["malformed_xml"]),
        ("no".to_owned(), vec!["malformed_xml"]),
        (format!("{right}{right}"), vec!["duplicate_tag"]),
        (right.replace("name=\"t\"", "name=\"u\""), vec!["missing_control"]),
        (right.replace("TextArea", "Number"), vec!["wrong_control"]),
        (right.replace("toName=\"doc\"/", "toName=\"dog\"/"), vec!["missing_object"]),
        (right.replace("$doc", "$dog"), vec!["unknown_variable"]),
        (right.replace("$doc", "$vb_show_jobs"), vec![]),
    ];
    for (xml, expected) in cases {
        let mut document = document(&questions);
        document["rendering"] = json!({"label_config": xml});
        let found = label_config(&schema(&document), &LabelConfigOptions::default());
        let codes: Vec<_> = match &found {
            Ok(page) => {
                assert_eq!(page.xml, xml);
                Vec::new()
            }
            Err(error) => error.diagnostics().iter().map(|one| one.code).collect(),
        };
        assert_eq!(codes, expected, "{xml}");
    }
}
