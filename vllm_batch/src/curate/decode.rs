//! The format that a model's answer is held to, and the one that answers keep to.
//!
//! Two JSON Schemas follow from the questions. The one for decoding asks for what all engines that hold answers to a JSON
//! Schema can do: every key in a fixed order, no other keys, null where there may be no answer. Texts and lists in it always
//! have an end. The full one has every bound, for those who read the answers.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::check::ranking_items;
use super::embed::{Embedding, embed};
use super::{
    CompiledSchema, DateGranularity, NumberQuestion, PromptError, Question, QuestionKind, QuestionOption, QuestionRole,
    Record, Scale, TaskSchema, TaxonomyNode, TextQuestion,
};
use super::{length, pattern};

/// The most characters that a model may write where the question has no limit: in a text of one line, and in a longer one.
pub(super) const MAX_CHARS: [usize; 2] = [400, 2000];
/// The most items of a list where the question has no limit.
pub(super) const MAX_ITEMS: usize = 32;
/// So many numbers are told one by one; where there are more, by their bounds.
const MAX_NUMBERS: usize = 64;
/// So many items are ranked by telling each order.
const MAX_PERMUTED: usize = 4;
/// Numbers beyond are not bounded: 2⁵³.
const MAX_BOUND: f64 = 9_007_199_254_740_992.0;

/// Which of the two JSON Schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Decode,
    Full,
}

impl TaskSchema {
    /// The questions that a model answers, in the order in which it does: thinking comes first.
    pub fn model_questions(&self) -> impl Iterator<Item = &Question> + Clone {
        let of = |role| self.questions.iter().filter(move |question| question.role == role);
        of(QuestionRole::Reasoning).chain(of(QuestionRole::Output))
    }
}

impl Question {
    /// Whether a model may give no answer: where none is needed, or where the question is not always asked.
    pub(super) fn may_be_null(&self) -> bool {
        !self.required || self.visible_when.is_some()
    }
}

impl CompiledSchema {
    /// The JSON Schema that a model's answer is held to, in the part of JSON Schema that engines have in common: an object
    /// that has each question of the roles `reasoning` and `output` as a key, in the order in which they are answered, and
    /// no other keys. Questions that need not be answered may be null. Bounds that engines do not agree about, such as
    /// `uniqueItems`, are left to [`parse`](Self::parse); texts and lists without a limit get one, so that every answer
    /// comes to an end.
    ///
    /// # Example
    /// ```
    /// use serde_json::json;
    /// use vllm_batch::curate::{Question, QuestionKind, QuestionRole, Scale, TaskSchema, TextQuestion, Version};
    ///
    /// let clarity = Question::new("clarity".parse()?, QuestionKind::Rating { scale: Scale::Range { min: 1, max: 3 } });
    /// let mut why = Question::new("why".parse()?, QuestionKind::Text(TextQuestion::default()));
    /// why.role = QuestionRole::Reasoning;
    /// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0)).with_question(clarity).with_question(why);
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let expected = json!({
    ///     "type": "object",
    ///     "properties": {
    ///         "why": {"type": "string", "minLength": 1, "maxLength": 400},
    ///         "clarity": {"type": "integer", "enum": [1, 2, 3]},
    ///     },
    ///     "required": ["why", "clarity"],
    ///     "additionalProperties": false,
    /// });
    /// assert_eq!(schema.decode_schema(), &expected);
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn decode_schema(&self) -> &Value {
        &self.formats().decode
    }

    /// As [`decode_schema_for`](Self::decode_schema_for) a record, with texts and lists so short that every answer fits into
    /// `max_tokens`.
    ///
    /// # Errors
    /// [`PromptError::NoRoom`].
    pub(super) fn decode_schema_within(&self, record: &Record, max_tokens: u32) -> Result<Value, PromptError> {
        let is_ranking = |question: &Question| matches!(question.kind, QuestionKind::Ranking { .. });
        if self.schema().model_questions().any(is_ranking) {
            return fit(&self.decode_schema_for(record), max_tokens);
        }
        // The same for all records of a job.
        let mut fitted = self.formats().fitted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fitted {
            Some((of, format)) if *of == max_tokens => format.clone(),
            _ => fitted.insert((max_tokens, fit(self.decode_schema(), max_tokens))).1.clone(),
        }
    }

    /// As [`decode_schema`](Self::decode_schema), for one record: rankings have that record's items, each once where there
    /// are few.
    pub fn decode_schema_for(&self, record: &Record) -> Value {
        let mut schema = self.decode_schema().clone();
        for question in self.schema().model_questions() {
            let QuestionKind::Ranking { field } = &question.kind else { continue };
            let value = self.schema().field(field).and_then(|field| field.value_in(&record.fields));
            if let Some(items) = value.and_then(ranking_items) {
                schema["properties"][question.id.as_str()] = or_null(question, ranking_of(&items));
            }
        }
        schema
    }

    /// The full JSON Schema (2020-12) of a model's answers, with titles and every bound that JSON Schema can say: for
    /// documentation, and for those who read the answers without this library.
    pub fn json_schema(&self) -> &Value {
        &self.formats().full
    }
}

/// The two JSON Schemas of one document.
#[derive(Debug)]
pub(super) struct Formats {
    decode: Value,
    full: Value,
    /// The one for decoding, cut down to the number of tokens that was asked for last.
    fitted: Mutex<Option<(u32, Result<Value, PromptError>)>>,
}

impl Formats {
    /// What follows from a document.
    pub(super) fn new(schema: &TaskSchema) -> Self {
        let mut full = object(schema, Form::Full);
        full["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        full["title"] = json!(schema.name.as_str());
        Self { decode: object(schema, Form::Decode), full, fitted: Mutex::default() }
    }
}

fn fit(format: &Value, max_tokens: u32) -> Result<Value, PromptError> {
    length::fit(format, max_tokens as usize).map_err(|needed| PromptError::NoRoom { max_tokens, needed })
}

fn object(schema: &TaskSchema, form: Form) -> Value {
    let mut properties = Map::new();
    for question in schema.model_questions() {
        let mut property = answer(question, form);
        if form == Form::Full {
            property["title"] = json!(question.title.as_str());
            if let Some(help) = &question.help {
                property["description"] = json!(help.as_str());
            }
        }
        properties.insert(question.id.to_string(), property);
    }
    let is_required = |question: &&Question| form == Form::Decode || !question.may_be_null();
    let required: Vec<_> = schema.model_questions().filter(is_required).map(|question| question.id.as_str()).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn answer(question: &Question, form: Form) -> Value {
    let schema = match &question.kind {
        QuestionKind::Choice { options, multiple: false, .. }
        | QuestionKind::Rating { scale: Scale::Levels { levels: options } } => one_of(options),
        QuestionKind::Choice { options, min, max, .. } => {
            list(&one_of(options), *min, Some(max.unwrap_or(options.len())), form)
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } => {
            let scale = NumberQuestion {
                min: Some(*min as f64),
                max: Some(*max as f64),
                integer: true,
                ..NumberQuestion::default()
            };
            number(&scale, form)
        }
        QuestionKind::Boolean { .. } => json!({"type": "boolean"}),
        QuestionKind::Number(question) => number(question, form),
        QuestionKind::Text(question) if question.many => list(&text(question, form), 0, None, form),
        QuestionKind::Text(question) => text(question, form),
        QuestionKind::Date { only } => date(*only),
        QuestionKind::Structured { schema } => structured(question, schema, form),
        QuestionKind::Preference { tie, .. } => {
            let all = ["left", "right", "tie"];
            json!({"type": "string", "enum": all[..if *tie { 3 } else { 2 }]})
        }
        QuestionKind::Ranking { .. } => list(&json!({"type": "string"}), 0, None, form),
        QuestionKind::Taxonomy { tree, multiple } => {
            let paths = paths(tree);
            let (min, max) = if *multiple { (0, paths.len()) } else { (1, 1) };
            list(&json!({"type": "array", "enum": paths}), min, Some(max), form)
        }
        QuestionKind::Span { labels, .. } => list(&span(labels), 0, None, form),
    };
    or_null(question, schema)
}

fn or_null(question: &Question, schema: Value) -> Value {
    if question.may_be_null() { json!({"anyOf": [schema, {"type": "null"}]}) } else { schema }
}

fn one_of(options: &[QuestionOption]) -> Value {
    let values: Vec<_> = options.iter().map(|option| option.value.as_str()).collect();
    json!({"type": "string", "enum": values})
}

/// A list of things that differ from each other, unless they are texts.
fn list(items: &Value, min: usize, max: Option<usize>, form: Form) -> Value {
    let is_text = items["type"] == "string" && items.get("enum").is_none();
    let mut schema = json!({"type": "array", "items": items});
    if min > 0 {
        schema["minItems"] = json!(min);
    }
    if let Some(max) = max.or((form == Form::Decode).then_some(MAX_ITEMS)) {
        schema["maxItems"] = json!(max);
    }
    if form == Form::Full && !is_text {
        schema["uniqueItems"] = json!(true);
    }
    schema
}

fn number(question: &NumberQuestion, form: Form) -> Value {
    let kind = if question.integer { "integer" } else { "number" };
    let mut schema = json!({"type": kind});
    if let Some(numbers) = few_numbers(question).filter(|_| form == Form::Decode) {
        schema["enum"] = numbers;
        return schema;
    }
    let whole = |bound: f64, whole: fn(f64) -> f64| if question.integer { whole(bound) } else { bound };
    let (min, max) = (question.min.map(|min| whole(min, f64::ceil)), question.max.map(|max| whole(max, f64::floor)));
    let bounds = [("minimum", min), ("maximum", max)];
    for (key, bound) in bounds {
        if let Some(bound) = bound.filter(|bound| bound.abs() <= MAX_BOUND) {
            schema[key] = super::Answer::Number(bound).to_json();
        }
    }
    if let Some(step) = question.step.filter(|step| form == Form::Full && *step > 0.0) {
        schema["multipleOf"] = super::Answer::Number(step).to_json();
    }
    schema
}

/// All numbers that a question allows, if they are few.
fn few_numbers(question: &NumberQuestion) -> Option<Value> {
    let step = question.step.filter(|step| *step > 0.0).or(question.integer.then_some(1.0))?;
    let (first, last) = ((question.min? / step - 1e-9).ceil(), (question.max? / step + 1e-9).floor());
    let are_few = last - first < MAX_NUMBERS as f64 && first.abs().max(last.abs()) * step <= MAX_BOUND;
    if !are_few || first > last {
        return None;
    }
    let numbers = (0..=(last - first) as usize).map(|n| rounded((first + n as f64) * step));
    Some(
        numbers
            .filter(|number| !question.integer || number.fract() == 0.0)
            .map(|n| super::Answer::Number(n).to_json())
            .collect(),
    )
}

/// A multiple of a decimal fraction as people write it: 0.3, where 3 times 0.1 has a rest of rounding.
fn rounded(number: f64) -> f64 {
    format!("{number:.9}").parse().unwrap_or(number)
}

fn text(question: &TextQuestion, form: Form) -> Value {
    let min = question.min_chars.unwrap_or(0).max(1);
    let pattern = question.pattern.as_deref().filter(|pattern| form == Form::Full || is_portable(pattern));
    let mut schema = json!({"type": "string"});
    match (pattern, form) {
        (Some(pattern), Form::Full) => schema["pattern"] = json!(format!("^(?:{pattern})$")),
        (Some(pattern), Form::Decode) => {
            // Engines do not agree about expressions that come with lengths.
            let bounded = pattern::bounded(pattern);
            schema["pattern"] = json!(format!("^(?:{})$", bounded.as_deref().unwrap_or(pattern)));
            return schema;
        }
        (None, _) => {}
    }
    schema["minLength"] = json!(min);
    let limit = MAX_CHARS[usize::from(question.multiline)].max(min);
    if let Some(max) = question.max_chars.or((form == Form::Decode).then_some(limit)) {
        schema["maxLength"] = json!(max);
    }
    schema
}

/// Whether an expression means about the same in JavaScript, which JSON Schema asks for, as in Rust.
fn is_portable(pattern: &str) -> bool {
    let of_rust = ["\\A", "\\z", "\\p", "\\P", "\\b", "\\B", "\\x", "\\u", "[[", "&&", "--", "~~"];
    let has_flags = pattern.match_indices("(?").any(|(at, _)| !pattern[at..].starts_with("(?:"));
    !has_flags && !of_rust.iter().any(|syntax| pattern.contains(syntax))
}

fn date(only: DateGranularity) -> Value {
    match only {
        DateGranularity::Date => json!({"type": "string", "format": "date"}),
        DateGranularity::DateTime => json!({"type": "string", "format": "date-time"}),
        DateGranularity::Year => json!({"type": "string", "pattern": "^[0-9]{4}$"}),
    }
}

fn structured(question: &Question, schema: &Value, form: Form) -> Value {
    let place = if question.may_be_null() { "/anyOf/0" } else { "" };
    let pointer = format!("#/properties/{}{place}", question.id);
    let mut schema = embed(schema, &pointer, if form == Form::Decode { Embedding::Bounded } else { Embedding::AsIs });
    if schema.get("type").is_none() && schema.as_object().is_some_and(Map::is_empty) {
        schema = json!({"type": ["object", "array"]});
    }
    schema
}

fn ranking_of(items: &[String]) -> Value {
    if (1..=MAX_PERMUTED).contains(&items.len()) {
        let items: Vec<_> = items.iter().map(String::as_str).collect();
        return json!({"type": "array", "enum": permutations(&items)});
    }
    let count = items.len();
    json!({"type": "array", "items": {"type": "string", "enum": items}, "minItems": count, "maxItems": count})
}

fn permutations<'a>(items: &[&'a str]) -> Vec<Vec<&'a str>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let after = |at: usize| {
        let rest: Vec<&str> =
            items.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, item)| *item).collect();
        permutations(&rest).into_iter().map(move |tail| [vec![items[at]], tail].concat())
    };
    (0..items.len()).flat_map(after).collect()
}

/// All paths of a tree, each before those below it.
pub(super) fn paths(tree: &[TaxonomyNode]) -> Vec<Vec<&str>> {
    tree.iter()
        .flat_map(|node| {
            let value = node.option.value.as_str();
            let below = paths(&node.children).into_iter().map(move |path| [vec![value], path].concat());
            std::iter::once(vec![value]).chain(below)
        })
        .collect()
}

fn span(labels: &[QuestionOption]) -> Value {
    let place = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "properties": {"start": place, "end": place, "label": one_of(labels)},
        "required": ["start", "end", "label"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary::{Asked, asked, ident, schema_of};
    use super::*;

    proptest! {
        #[test]
        fn answers_that_hold_keep_to_both_schemas(asked in asked(), required in any::<bool>()) {
            let Asked { mut question, answer, fields } = asked;
            question.required = required;
            let schema = schema_of(question);
            let mut record = Record::new("r");
            record.fields = fields;
            let value = json!({"q": answer.to_json()});
            for schema in [schema.json_schema(), schema.decode_schema(), &schema.decode_schema_for(&record)] {
                let errors: Vec<_> = jsonschema::validator_for(schema).unwrap().iter_errors(&value).map(|e| e.to_string()).collect();
                prop_assert!(errors.is_empty(), "{} {} {:?}", schema, value, errors);
                prop_assert_eq!(jsonschema::is_valid(schema, &json!({"q": null})), !required);
            }
        }
    }

    #[test]
    fn each_kind_has_its_form() {
        let numbers =
            |min, max, step, integer| QuestionKind::Number(NumberQuestion { min, max, step, integer, unit: None });
        let texts = |pattern: Option<&str>, max_chars, many| {
            let pattern = pattern.map(str::to_owned);
            QuestionKind::Text(TextQuestion { max_chars, pattern, many, ..TextQuestion::default() })
        };
        let ranking = || QuestionKind::Ranking { field: ident("items") };
        let cases = [
            (numbers(Some(0.0), Some(0.3), Some(0.1), false), json!({"type": "number", "enum": [0, 0.1, 0.2, 0.3]})),
            (
                numbers(Some(0.5), Some(1000.5), Some(2.0), true),
                json!({"type": "integer", "minimum": 1, "maximum": 1000}),
            ),
            (numbers(None, Some(1e300), None, false), json!({"type": "number"})),
            (numbers(Some(1.0), None, None, true), json!({"type": "integer", "minimum": 1})),
            (texts(Some("a+"), Some(5), false), json!({"type": "string", "pattern": "^(?:a{1,64})$"})),
            (texts(Some("(?i)a"), Some(5), false), json!({"type": "string", "minLength": 1, "maxLength": 5})),
            (
                texts(None, Some(5), true),
                json!({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 5}, "maxItems": 32}),
            ),
            (QuestionKind::Structured { schema: json!({}) }, json!({"type": ["object", "array"]})),
            (ranking(), json!({"type": "array", "items": {"type": "string"}, "maxItems": 32})),
        ];
        for (kind, expected) in cases {
            assert_eq!(schema_of(Question::new(ident("q"), kind)).decode_schema()["properties"]["q"], expected);
        }
        let schema = schema_of(Question::new(ident("q"), ranking()));
        let of = |items: Value| {
            schema.decode_schema_for(&Record::new("r").with_field("items", items))["properties"]["q"].clone()
        };
        assert_eq!(of(json!(["x", {"id": "y"}])), json!({"type": "array", "enum": [["x", "y"], ["y", "x"]]}));
        let items = json!({"type": "string", "enum": ["a", "b", "c", "d", "e"]});
        let expected = json!({"type": "array", "items": items, "minItems": 5, "maxItems": 5});
        assert_eq!(of(json!(["a", "b", "c", "d", "e"])), expected);
    }
}
