//! From a document to something that can be used.

mod conditions;
mod exports;
mod json_schema;
mod kinds;
mod migrations;
mod names;
mod options;
mod place;
mod templates;

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::check::Checkers;
use super::decode::Formats;
use super::diagnostic::sort_by_place;
use super::prompt::Templates;
use super::{Diagnostic, InvalidSchema, QuestionRole, TaskSchema};
use place::Place;

/// The keys of a document that have a meaning.
const KEYS: &[&str] = &[
    "format",
    "id",
    "version",
    "name",
    "description",
    "guidelines",
    "fields",
    "questions",
    "prompt",
    "rendering",
    "gold",
    "export",
    "migrations",
];

/// A schema that was checked as a whole, with all that follows from it.
#[derive(Debug)]
#[non_exhaustive]
pub struct CompiledSchema {
    schema: TaskSchema,
    sha256: String,
    checkers: Checkers,
    formats: Formats,
    templates: Templates,
    warnings: Vec<Diagnostic>,
}

impl TaskSchema {
    /// Checks the whole document and makes what follows from it.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included, in the order of the document.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Question, QuestionKind, TaskSchema, TextQuestion, Version};
    ///
    /// let question = Question::new("tone".parse()?, QuestionKind::Text(TextQuestion::default()));
    /// let schema = TaskSchema::new("email".parse()?, Version::new(1, 0, 0));
    /// let twice = schema.clone().with_question(question.clone()).with_question(question.clone());
    ///
    /// let error = twice.compile().unwrap_err();
    /// let first = error.errors().next().unwrap();
    /// assert_eq!((first.code, first.path.as_str()), ("duplicate_id", "/questions/1/id"));
    /// assert!(schema.with_question(question).compile().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compile(self) -> Result<CompiledSchema, InvalidSchema> {
        let mut found = Vec::new();
        check(&self, &mut found);
        let checkers = Checkers::new(&self, &mut found);
        // Found thing by thing; told place by place.
        if !found.is_empty() {
            sort_by_place(&mut found, &serde_json::to_value(&self).unwrap_or_default());
        }
        if found.iter().any(Diagnostic::is_error) {
            return Err(InvalidSchema::new(found));
        }
        Ok(CompiledSchema {
            sha256: sha256(&self),
            checkers,
            formats: Formats::new(&self),
            templates: Templates::new(&self),
            schema: self,
            warnings: found,
        })
    }
}

impl CompiledSchema {
    /// The document.
    pub fn schema(&self) -> &TaskSchema {
        &self.schema
    }

    /// SHA-256 of the document's canonical JSON, in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What checks its questions and fields.
    pub(super) fn checkers(&self) -> &Checkers {
        &self.checkers
    }

    /// The JSON Schemas of its answers.
    pub(super) fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Its own templates.
    pub(super) fn templates(&self) -> &Templates {
        &self.templates
    }

    /// What may not be as it was meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

fn check(schema: &TaskSchema, found: &mut Vec<Diagnostic>) {
    let mut root = Place::root(found);
    check_root(&mut root, schema);
    check_fields(&mut root.at("fields"), schema);
    check_questions(&mut root.at("questions"), schema);
    templates::check(&mut root.at("prompt"), schema);
    exports::check_gold(&mut root.at("gold"), &schema.gold);
    exports::check_export(&mut root.at("export"), schema);
    migrations::check(&mut root.at("migrations"), schema);
    check_page(found, schema);
}

/// What keeps the schema's own page from being used. All else can be done with it, so that these are warnings.
fn check_page(found: &mut Vec<Diagnostic>, schema: &TaskSchema) {
    let problems = super::label_studio::page_problems(schema);
    found.extend(problems.into_iter().map(|one| Diagnostic::warning("unusable_page", one.path, one.message)));
}

fn check_root(root: &mut Place<'_>, schema: &TaskSchema) {
    root.at("name").check_text(&schema.name);
    for (key, text) in [("description", &schema.description), ("guidelines", &schema.guidelines)] {
        if let Some(text) = text {
            root.at(key).check_text(text);
        }
    }
    for key in schema.extra.keys().filter(|key| KEYS.contains(&key.as_str())) {
        root.at(key).error("reserved_key", format!("{key:?} is a key of every schema: it cannot be another one too"));
    }
}

fn check_fields(place: &mut Place<'_>, schema: &TaskSchema) {
    if schema.fields.is_empty() {
        place.warning("no_fields", "there is nothing to answer questions about");
    }
    names::check_unique(place, "field", schema.fields.iter().map(|field| &field.id));
    for (at, field) in schema.fields.iter().enumerate() {
        let mut place = place.at(at);
        place.at("title").check_text(&field.title);
        if field.default.as_ref().is_some_and(|value| !kinds::fits_field(&field.kind, value)) {
            place.at("default").error("invalid_default", "the field cannot have this value");
        }
        if field.max_chars == Some(0) {
            place
                .at("max_chars")
                .error("crossed_bounds", "nothing of the field would be left: take it out of the prompt");
        }
    }
    templates::check_fields(place, schema);
}

fn check_questions(place: &mut Place<'_>, schema: &TaskSchema) {
    if schema.questions.is_empty() {
        return place.error("no_questions", "nothing is asked");
    }
    if schema.questions.iter().all(|question| question.role != QuestionRole::Output) {
        place.warning("no_output_questions", "no question has the role `output`: a model has nothing to answer");
    }
    names::check_unique(place, "question", schema.questions.iter().map(|question| &question.id));
    for (at, question) in schema.questions.iter().enumerate() {
        let earlier = schema.questions[..at].iter().find(|earlier| earlier.title == question.title);
        let mut place = place.at(at);
        if let Some(earlier) = earlier {
            let message = format!("`{}` has the same title: neither people nor models can tell them apart", earlier.id);
            place.at("title").warning("duplicate_title", message);
        }
        place.at("title").check_text(&question.title);
        if let Some(help) = &question.help {
            place.at("help").check_text(help);
        }
        if !(question.weight >= 0.0 && question.weight.is_finite()) {
            place.at("weight").error("invalid_weight", format!("a weight is 0 or more, not {}", question.weight));
        }
        kinds::check(&mut place, schema, question);
        kinds::check_default(&mut place, question);
        conditions::check(&mut place, schema, at);
    }
}

fn sha256(schema: &TaskSchema) -> String {
    let json = serde_json::to_vec(schema).unwrap_or_default();
    hex(&Sha256::digest(json))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
