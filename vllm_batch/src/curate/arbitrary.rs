//! Questions of every kind with answers that hold, and whole schemas, for property tests.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Map, Value, json};

use super::{
    Answer, AutoGold, CompiledSchema, Condition, DateGranularity, Display, Field, FieldKind, Ident, LabelSpan, Layout,
    LocalizedText, Migration, NumberQuestion, Pii, Preference, Question, QuestionKind, QuestionOption, QuestionRole,
    Record, Scale, TaskSchema, TaxonomyNode, TextFormat, TextQuestion, Version,
};

/// A question, an answer to it, and the fields of a record that the answer holds for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) answer: Answer,
    pub(crate) fields: Map<String, Value>,
}

/// A question of any kind, called `q`, with an answer that holds. Fields that it is about are called `doc`, `items`, `a`
/// and `b`.
pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let without_fields = prop_oneof![
        choice(),
        choices(),
        levels(),
        range(),
        number(),
        text(),
        texts(),
        date(),
        structured(),
        taxonomy(),
        any::<bool>()
            .prop_map(|yes| { (QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() }, Answer::Boolean(yes)) }),
    ];
    let without_fields = without_fields.prop_map(|(kind, answer)| (kind, answer, Map::new()));
    prop_oneof![11 => without_fields, 1 => preference(), 1 => ranking(), 1 => spans()]
        .prop_map(|(kind, answer, fields)| Asked { question: Question::new(ident("q"), kind), answer, fields })
}

impl Asked {
    /// A schema that asks the question, and a record that has the fields.
    pub(crate) fn compiled(self) -> (CompiledSchema, Record) {
        let mut record = Record::new("r");
        record.fields = self.fields;
        (schema_of(self.question), record)
    }
}

/// A schema that asks one question, with the fields that it may be about.
pub(crate) fn schema_of(question: Question) -> CompiledSchema {
    let text = || FieldKind::Text { format: TextFormat::Plain };
    let fields = [("doc", text()), ("items", FieldKind::Structured { schema: None }), ("a", text()), ("b", text())];
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0)).with_question(question);
    let fields = fields.into_iter().map(|(id, kind)| Field::new(ident(id), kind));
    fields.fold(schema, TaskSchema::with_field).compile().unwrap()
}

/// An ident of a literal.
pub(crate) fn ident(text: &str) -> Ident {
    text.parse().unwrap()
}

/// Some options with distinct values and labels; labels are any printable text.
pub(crate) fn options() -> impl Strategy<Value = Vec<QuestionOption>> {
    let values = btree_set("[a-z0-9é字]([a-z0-9_ +-]{0,6}[a-z0-9])?", 1..6);
    (values, vec("[ -~äß語]{1,12}", 6)).prop_map(|(values, labels)| {
        let labelled = values.into_iter().zip(labels).map(|(value, label)| {
            let label = format!("{label}{value}");
            QuestionOption::new(value, label)
        });
        labelled.collect()
    })
}

type Pair = (QuestionKind, Answer);
type Triple = (QuestionKind, Answer, Map<String, Value>);

fn option_with(of: fn(Vec<QuestionOption>) -> QuestionKind) -> impl Strategy<Value = Pair> {
    (options(), any::<prop::sample::Index>()).prop_map(move |(options, index)| {
        let answer = Answer::Option(index.get(&options).value.clone());
        (of(options), answer)
    })
}

fn choice() -> impl Strategy<Value = Pair> {
    option_with(|options| QuestionKind::Choice { options, multiple: false, min: 0, max: None })
}

fn levels() -> impl Strategy<Value = Pair> {
    option_with(|levels| QuestionKind::Rating { scale: Scale::Levels { levels } })
}

fn choices() -> impl Strategy<Value = Pair> {
    let chosen = |options: Vec<QuestionOption>| {
        let values: Vec<_> = options.iter().map(|option| option.value.clone()).collect();
        (Just(options), subsequence(values.clone(), 0..=values.len()))
    };
    (options().prop_flat_map(chosen), any::<bool>()).prop_map(|((options, values), bounded)| {
        let (min, max) = if bounded && !values.is_empty() { (values.len(), Some(values.len())) } else { (0, None) };
        (QuestionKind::Choice { options, multiple: true, min, max }, Answer::Options(values))
    })
}

fn range() -> impl Strategy<Value = Pair> {
    (-20i64..20, 1i64..12, any::<prop::sample::Index>()).prop_map(|(min, width, index)| {
        let value = min + index.index(width as usize + 1) as i64;
        (QuestionKind::Rating { scale: Scale::Range { min, max: min + width } }, Answer::Rating(value))
    })
}

fn number() -> impl Strategy<Value = Pair> {
    let free =
        prop_oneof![any::<f64>().prop_filter("finite", |x| x.is_finite()), (-1000i64..1000).prop_map(|x| x as f64)]
            .prop_map(|x| (NumberQuestion::default(), x));
    let stepped = (-500i64..500, any::<bool>()).prop_map(|(n, halves)| {
        let step = if halves { 0.5 } else { 2.0 };
        let value = n as f64 * step;
        let question = NumberQuestion {
            min: Some(value - 3.0),
            max: Some(value + 1.0),
            step: Some(step),
            integer: !halves,
            unit: Some("years".to_owned()),
        };
        (question, value)
    });
    prop_oneof![free, stepped].prop_map(|(question, x)| (QuestionKind::Number(question), Answer::Number(x)))
}

fn any_text() -> impl Strategy<Value = String> {
    // Any characters but line ends, quotes and backslashes among them.
    prop_oneof![r#"[ -~äß語😀\\"]{1,20}"#, "\\PC{1,20}"].prop_filter("one line", |text| !text.contains(['\n', '\r']))
}

fn text() -> impl Strategy<Value = Pair> {
    let long = any_text().prop_map(|text| {
        let text = format!("{text}\n\t{text}");
        let question =
            TextQuestion { multiline: true, max_chars: Some(text.chars().count()), ..TextQuestion::default() };
        (question, text)
    });
    let pattern = "[A-Z]{2}-[0-9]{3}".prop_map(|text| {
        (TextQuestion { pattern: Some("[A-Z]{2}-[0-9]{3}|x".to_owned()), ..TextQuestion::default() }, text)
    });
    let plain = any_text().prop_map(|text| (TextQuestion::default(), text));
    prop_oneof![plain, long, pattern].prop_map(|(question, text)| (QuestionKind::Text(question), Answer::Text(text)))
}

fn texts() -> impl Strategy<Value = Pair> {
    vec(any_text(), 0..4).prop_map(|texts| {
        (QuestionKind::Text(TextQuestion { many: true, ..TextQuestion::default() }), Answer::Texts(texts))
    })
}

fn date() -> impl Strategy<Value = Pair> {
    (0u32..10_000, 1u32..13, 1u32..29, 0u32..24, 0usize..3).prop_map(|(year, month, day, hour, which)| {
        let (only, text) = [
            (DateGranularity::Year, format!("{year:04}")),
            (DateGranularity::Date, format!("{year:04}-{month:02}-{day:02}")),
            (DateGranularity::DateTime, format!("{year:04}-{month:02}-{day:02}T{hour:02}:30:00Z")),
        ][which]
            .clone();
        (QuestionKind::Date { only }, Answer::Date(text))
    })
}

fn structured() -> impl Strategy<Value = Pair> {
    let job = json!({
        "type": "object",
        "properties": {"company": {"type": "string"}, "years": {"type": "integer", "minimum": 0}},
        "required": ["company", "years"],
        "additionalProperties": false,
    });
    let jobs = vec((any_text(), 0u32..50), 0..3).prop_map(move |jobs| {
        let items: Vec<_> = jobs.iter().map(|(company, years)| json!({"company": company, "years": years})).collect();
        (json!({"type": "array", "items": job}), Value::from(items))
    });
    let free = btree_set("[a-z]{1,4}", 0..3)
        .prop_map(|keys| (json!({}), keys.into_iter().map(|key| (key, json!([1, null, {"x": 0.5}]))).collect()));
    prop_oneof![jobs, free].prop_map(|(schema, value)| (QuestionKind::Structured { schema }, Answer::Structured(value)))
}

fn taxonomy() -> impl Strategy<Value = Pair> {
    let node = |value: &str, children| TaxonomyNode { option: QuestionOption::new(value, value), children };
    let tree =
        vec![node("work", vec![node("law", vec![]), node("code", vec![node("rust", vec![])])]), node("play", vec![])];
    let paths: Vec<Vec<String>> = [&["work"][..], &["work", "law"], &["work", "code", "rust"], &["play"]]
        .iter()
        .map(|path| path.iter().map(|term| (*term).to_owned()).collect())
        .collect();
    (subsequence(paths, 0..=4), any::<bool>()).prop_map(move |(paths, multiple)| {
        let multiple = multiple || paths.len() != 1;
        (QuestionKind::Taxonomy { tree: tree.clone(), multiple }, Answer::Taxonomy(paths))
    })
}

fn preference() -> impl Strategy<Value = Triple> {
    (0usize..3).prop_map(|index| {
        let answer = [Preference::Left, Preference::Right, Preference::Tie][index];
        let kind = QuestionKind::Preference { left: ident("a"), right: ident("b"), tie: index == 2 };
        (kind, Answer::Preference(answer), Map::from_iter([("a".to_owned(), json!("x")), ("b".to_owned(), json!("y"))]))
    })
}

fn ranking() -> impl Strategy<Value = Triple> {
    (btree_set("[a-z0-9]{1,5}", 0..5), any::<bool>()).prop_flat_map(|(items, objects)| {
        let items: Vec<_> = items.into_iter().collect();
        let value = |item: &String| if objects { json!({"id": item, "title": "t"}) } else { json!(item) };
        let fields = Map::from_iter([("items".to_owned(), items.iter().map(value).collect())]);
        Just(items).prop_shuffle().prop_map(move |ranked| {
            (QuestionKind::Ranking { field: ident("items") }, Answer::Ranking(ranked), fields.clone())
        })
    })
}

fn spans() -> impl Strategy<Value = Triple> {
    (options(), vec((0usize..4, 1usize..5, any::<prop::sample::Index>()), 0..4), "\\PC{40}").prop_map(
        |(labels, steps, text)| {
            let mut at = 0;
            let spans = steps.iter().map(|(gap, len, label)| {
                let start = at + gap;
                at = start + len;
                LabelSpan::new(start, at, label.get(&labels).value.clone())
            });
            let spans = spans.collect();
            let fields = Map::from_iter([("doc".to_owned(), json!(text))]);
            (QuestionKind::Span { field: ident("doc"), labels, overlap: false }, Answer::Spans(spans), fields)
        },
    )
}

/// A schema that compiles, with fields `doc`, `items`, `a` and `b`, and questions `q0`, `q1` and so on.
pub(crate) fn schema() -> impl Strategy<Value = TaskSchema> {
    let questions = vec((asked(), question_parts()), 1..5);
    (questions, field_parts(), document_parts()).prop_map(|(questions, fields, document)| {
        let mut schema = TaskSchema::new(ident("task"), Version::new(2, 1, 0));
        schema.fields = fields;
        for (at, (asked, parts)) in questions.into_iter().enumerate() {
            schema.questions.push(parts.apply(at, asked));
        }
        document.apply(schema)
    })
}

/// Any JSON.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let map = proptest::collection::btree_map(any::<String>(), inner.clone(), 0..4);
        prop_oneof![vec(inner, 0..4).prop_map(Value::from), map.prop_map(|map| map.into_iter().collect())]
    })
}

/// A text in one language or in two.
pub(crate) fn localized() -> impl Strategy<Value = LocalizedText> {
    prop_oneof![
        "[a-zäß語 ]{0,8}[a-z]".prop_map(LocalizedText::Plain),
        ("[a-z]{1,8}", "[a-z]{1,8}")
            .prop_map(|(en, de)| LocalizedText::ByLocale([("de".to_owned(), de), ("en".to_owned(), en)].into())),
    ]
}

#[derive(Debug, Clone)]
struct QuestionParts {
    title: LocalizedText,
    help: Option<LocalizedText>,
    required: bool,
    has_default: bool,
    is_review: bool,
    condition: usize,
    weight: f64,
    pii: Pii,
}

fn question_parts() -> impl Strategy<Value = QuestionParts> {
    let pii = prop_oneof![Just(Pii::None), Just(Pii::Keep), Just(Pii::Mask), Just(Pii::Drop)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..5);
    (localized(), prop::option::of(localized()), flags, 0.0..8.0, pii).prop_map(|(title, help, flags, weight, pii)| {
        let (required, has_default, is_review, condition) = flags;
        QuestionParts { title, help, required, has_default, is_review, condition, weight, pii }
    })
}

impl QuestionParts {
    fn apply(self, at: usize, asked: Asked) -> Question {
        let Asked { mut question, answer, .. } = asked;
        question.id = ident(&format!("q{at}"));
        question.default = self.has_default.then_some(answer);
        question.role = if self.is_review { QuestionRole::Review } else { QuestionRole::Output };
        (question.title, question.help, question.required) = (self.title, self.help, self.required);
        (question.weight, question.pii) = (self.weight, self.pii);
        let earlier = Condition::Answered(ident("q0"));
        let field = Condition::Field { field: ident("a"), any_of: vec![json!("x"), json!("y")] };
        question.visible_when = match self.condition {
            1 if at > 0 => Some(earlier),
            2 => Some(Condition::Not(Box::new(field))),
            3 if at > 0 => Some(Condition::Any(vec![field, Condition::All(vec![earlier])])),
            _ => None,
        };
        question
    }
}

fn field_parts() -> impl Strategy<Value = Vec<Field>> {
    let shown = prop_oneof![Just(Display::Body), Just(Display::Hidden), Just(Display::Timeline), Just(Display::Table)];
    let one = || (localized(), any::<bool>(), any::<bool>(), prop::option::of(1usize..9));
    (vec(one(), 4), shown).prop_map(|(parts, display)| {
        let text = |format| FieldKind::Text { format };
        let kinds = [
            ("doc", text(TextFormat::Plain)),
            ("items", FieldKind::Structured { schema: Some(json!({"type": "array"})) }),
            ("a", text(TextFormat::Markdown)),
            ("b", text(TextFormat::Html)),
        ];
        let fields = kinds.into_iter().zip(parts).map(|((id, kind), (title, required, in_prompt, max_chars))| Field {
            title,
            required,
            display,
            in_prompt,
            max_chars,
            ..Field::new(ident(id), kind)
        });
        fields.collect()
    })
}

#[derive(Debug, Clone)]
struct DocumentParts {
    name: LocalizedText,
    guidelines: Option<LocalizedText>,
    prompt: Option<String>,
    agreement: Option<f64>,
    flags: (bool, bool, bool),
    extra: Vec<(String, i64)>,
}

fn document_parts() -> impl Strategy<Value = DocumentParts> {
    let prompt = prop_oneof![Just("{doc}: {a}".to_owned()), Just("{{ doc }} {% if a %}{{ a }}{% endif %}".to_owned())];
    let texts = (localized(), prop::option::of(localized()), prop::option::of(prompt));
    let extra = vec(("x_[a-z/~]{1,4}", any::<i64>()), 0..3);
    let rest = (prop::option::of(0.0..=1.0), any::<(bool, bool, bool)>(), extra);
    (texts, rest).prop_map(|((name, guidelines, prompt), (agreement, flags, extra))| DocumentParts {
        name,
        guidelines,
        prompt,
        agreement,
        flags,
        extra,
    })
}

impl DocumentParts {
    fn apply(self, mut schema: TaskSchema) -> TaskSchema {
        let (show, migrate, grid) = self.flags;
        (schema.name, schema.guidelines, schema.prompt.user) = (self.name, self.guidelines, self.prompt);
        schema.prompt.num_examples = usize::from(show);
        schema.rendering.show_suggestions = show;
        schema.rendering.layout = if grid { Layout::Grid } else { Layout::SingleColumn };
        schema.gold.auto = self.agreement.map(|min_agreement| AutoGold { min_agreement, ..AutoGold::default() });
        schema.export.inputs = show.then(|| vec![ident("doc"), ident("b")]);
        schema.export.group_by = grid.then(|| ident("a"));
        if migrate {
            let since = Version::new(2, 0, 0);
            schema.migrations = vec![
                Migration::DropQuestion { since: since.clone(), question: ident("gone") },
                Migration::RenameQuestion { since, from: ident("older"), to: ident("q0") },
            ];
        }
        schema.extra = self.extra.into_iter().map(|(key, value)| (key, json!(value))).collect();
        schema
    }
}
