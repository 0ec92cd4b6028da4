//! From an answer to a region.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::{
    Answer, AnswerError, AnswerErrorKind, CompiledSchema, Diagnostic, LabelSpan, Question, QuestionKind, ScoreKind,
    Suggestion,
};
use super::config::OwnConfig;
use super::control::Tag;
use super::names::Objects;

/// What one control says: an item of a prediction's or an annotation's `result`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Region {
    /// The control: the question's name.
    pub from_name: String,
    /// What it is about: a tag that shows something.
    pub to_name: String,
    /// The control's tag in lower case.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is said.
    pub value: Map<String, Value>,
    /// How sure the model is, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Where the score comes from. Label Studio keeps it, and does not read it.
    #[serde(skip_serializing_if = "is_none")]
    pub score_kind: ScoreKind,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form.
fn is_none(kind: &ScoreKind) -> bool {
    *kind == ScoreKind::None
}

impl Region {
    /// Its JSON form.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Answers as regions, with their scores, in the order in which they are given: one for each, and of labelled stretches one for
/// each stretch. An answer of no stretches has no region. Stretches are counted in UTF-16 code units in regions, in characters
/// (Unicode scalar values) in answers.
///
/// Answers must hold: [`CompiledSchema::check`] says whether they do. What holds is given back by
/// [`answers_of`](super::answers_of), with lists of no stretches as the exception.
///
/// # Errors
/// There is no question of that name, an answer is one to a question of another type, or a stretch is not in its field's text.
///
/// # Example
/// ```
/// use serde_json::{Map, json};
/// use vllm_batch::curate::{Answer, SchemaRegistry, Suggestion};
/// use vllm_batch::curate::label_studio::{answers_of, regions};
///
/// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
/// let tone = Suggestion::new("tone".parse()?, Answer::Option("formal".into()));
/// let result: Vec<_> = regions(&schema, &Map::new(), &[tone])?.iter().map(|region| region.to_json()).collect();
/// assert_eq!(
///     result[0],
///     json!({"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": ["formal"]}}),
/// );
/// let (answers, errors) = answers_of(&schema, &Map::new(), &result);
/// assert_eq!((answers.get("tone"), errors.len()), (Some(&Answer::Option("formal".into())), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn regions(
    schema: &CompiledSchema,
    fields: &Map<String, Value>,
    suggestions: &[Suggestion],
) -> Result<Vec<Region>, AnswerError> {
    Targets::new(schema).regions(schema, fields, suggestions)
}

/// What controls are about: as the schema's own configuration says, else as it follows from the schema.
pub(super) struct Targets {
    own: Option<OwnConfig>,
    objects: Objects,
}

impl Targets {
    pub(super) fn new(schema: &CompiledSchema) -> Self {
        Self::read(schema).unwrap_or_else(|_| Self { own: None, objects: Objects::new(schema.schema()) })
    }

    /// As [`new`](Self::new).
    ///
    /// # Errors
    /// The schema's own configuration cannot be read.
    pub(super) fn read(schema: &CompiledSchema) -> Result<Self, Diagnostic> {
        let own = schema.schema().rendering.label_config.as_deref().map(OwnConfig::read).transpose()?;
        Ok(Self { own, objects: Objects::new(schema.schema()) })
    }

    pub(super) fn of(&self, question: &Question) -> Vec<String> {
        let own = self.own.as_ref().and_then(|own| own.objects_of(&question.id));
        own.map_or_else(|| self.objects.of(&question.kind), <[String]>::to_vec)
    }

    /// As the function [`regions`].
    pub(super) fn regions(
        &self,
        schema: &CompiledSchema,
        fields: &Map<String, Value>,
        suggestions: &[Suggestion],
    ) -> Result<Vec<Region>, AnswerError> {
        let mut regions = Vec::new();
        for suggestion in suggestions {
            let question = schema.schema().question(&suggestion.question);
            let question = question.ok_or_else(|| schema.unknown_question(&suggestion.question))?;
            let to_name = self.of(question).into_iter().next().unwrap_or_default();
            for value in values(schema, question, fields, &suggestion.answer)? {
                regions.push(Region {
                    from_name: question.id.to_string(),
                    to_name: to_name.clone(),
                    kind: Tag::of(&question.kind).region_type(),
                    value,
                    score: suggestion.score,
                    score_kind: suggestion.score_kind,
                });
            }
        }
        Ok(regions)
    }
}

/// The values of an answer's regions.
fn values(
    schema: &CompiledSchema,
    question: &Question,
    fields: &Map<String, Value>,
    answer: &Answer,
) -> Result<Vec<Map<String, Value>>, AnswerError> {
    let tag = Tag::of(&question.kind);
    let json = match (tag, answer) {
        (Tag::Labels, Answer::Spans(spans)) => return labels(schema, question, fields, spans),
        (Tag::Choices, Answer::Options(values)) => json!(values),
        (Tag::Choices, Answer::Option(value)) => json!([value]),
        (Tag::Choices, Answer::Rating(place)) => json!([place.to_string()]),
        (Tag::Choices, Answer::Boolean(yes)) => json!([yes.to_string()]),
        (Tag::Choices, Answer::Preference(_)) => json!([answer.to_json()]),
        (Tag::TextArea, Answer::Text(text)) => json!([text]),
        (Tag::TextArea, Answer::Structured(value)) => json!([serde_json::to_string_pretty(value).unwrap_or_default()]),
        (Tag::Ranker, Answer::Ranking(items)) => json!({question.id.as_str(): items}),
        (Tag::TextArea, Answer::Texts(_))
        | (Tag::Rating | Tag::Number, Answer::Rating(_))
        | (Tag::Number, Answer::Number(_))
        | (Tag::DateTime, Answer::Date(_))
        | (Tag::Taxonomy, Answer::Taxonomy(_))
        | (Tag::Pairwise, Answer::Preference(_)) => answer.to_json(),
        // The question's own check says what is wrong.
        _ => {
            schema.check_answer(&question.id, answer)?;
            answer.to_json()
        }
    };
    Ok(vec![Map::from_iter([(tag.value_key().to_owned(), json)])])
}

fn labels(
    schema: &CompiledSchema,
    question: &Question,
    fields: &Map<String, Value>,
    spans: &[LabelSpan],
) -> Result<Vec<Map<String, Value>>, AnswerError> {
    let text = Units::of(schema, question, fields);
    let text = text.ok_or_else(|| {
        let field = field_of(question).unwrap_or_default().to_owned();
        AnswerError::new(question.id.as_str(), AnswerErrorKind::MissingField { field })
    })?;
    let region = |(index, span): (usize, &LabelSpan)| {
        let places = text.units(span.start).zip(text.units(span.end)).filter(|(start, end)| start < end);
        let (start, end) = places.ok_or_else(|| {
            let len = Some(text.units.len() - 1);
            let kind = AnswerErrorKind::InvalidSpan { start: span.start, end: span.end, len };
            AnswerError { path: format!("/{index}"), ..AnswerError::new(question.id.as_str(), kind) }
        })?;
        let covered: String = text.text.chars().skip(span.start).take(span.end - span.start).collect();
        let value = json!({"start": start, "end": end, "text": covered, "labels": [span.label]});
        Ok(value.as_object().cloned().unwrap_or_default())
    };
    spans.iter().enumerate().map(region).collect()
}

fn field_of(question: &Question) -> Option<&str> {
    match &question.kind {
        QuestionKind::Span { field, .. } => Some(field),
        _ => None,
    }
}

/// Places in a text by characters and by UTF-16 code units.
pub(super) struct Units<'t> {
    text: &'t str,
    /// Code units before each character, and before the end.
    units: Vec<usize>,
}

impl<'t> Units<'t> {
    /// The text that a question is about, if the record has it.
    pub(super) fn of(schema: &'t CompiledSchema, question: &Question, fields: &'t Map<String, Value>) -> Option<Self> {
        let field = schema.schema().field(field_of(question)?)?;
        Some(Self::new(field.value_in(fields)?.as_str()?))
    }

    fn new(text: &'t str) -> Self {
        let mut units = vec![0];
        let mut total = 0;
        for character in text.chars() {
            total += character.len_utf16();
            units.push(total);
        }
        Self { text, units }
    }

    fn units(&self, chars: usize) -> Option<usize> {
        self.units.get(chars).copied()
    }

    /// Characters before a code unit; `None` behind the end, and within a character.
    pub(super) fn chars(&self, units: usize) -> Option<usize> {
        self.units.binary_search(&units).ok()
    }
}
