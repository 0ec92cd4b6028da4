//! A schema's own templates.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, value::ValueKind};
use serde_json::{Map, Value};

use super::super::{Ident, LocalizedText, TaskSchema};
use super::value::{bullets, shown};
use super::{AnswerForm, PromptError};

/// Steps that one rendering may take: far more than a template needs that ends.
const FUEL: u64 = 5_000_000;
const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";
/// Where the questions stand in a system message. Without it they come behind.
const QUESTIONS: &str = "questions";
/// What a template for the system message can name: nothing that is not the same for all records.
pub(in crate::curate) const OF_SYSTEM: [&str; 4] = ["name", "description", "guidelines", QUESTIONS];

/// The compiled templates of a schema.
///
/// One with `{{`, `{%` or `{#` is Jinja. Any other has `{name}` for a value; other braces stand for themselves.
#[derive(Debug)]
pub(in crate::curate) struct Templates {
    environment: Environment<'static>,
    constants: Map<String, Value>,
    places_questions: bool,
    /// The system messages that ask for JSON and for the schema's own form, once they were made.
    systems: [OnceLock<Result<String, PromptError>>; 2],
}

impl Templates {
    /// Compiles the templates of a document. Those that are none are left out: a document with them is refused.
    pub(in crate::curate) fn new(schema: &TaskSchema) -> Self {
        let mut environment = environment();
        let spec = &schema.prompt;
        for (name, source) in [(SYSTEM, &spec.system), (USER, &spec.user), (ASSISTANT, &spec.assistant)] {
            if let Some(source) = source {
                _ = environment.add_template_owned(name, as_jinja(source).into_owned());
            }
        }
        let places_questions =
            spec.system.as_deref().is_some_and(|system| names_in(system).is_ok_and(|names| names.contains(QUESTIONS)));
        Self { environment, constants: constants(schema), places_questions, systems: Default::default() }
    }

    /// The whole system message, which is the same for all records.
    pub(super) fn cached_system(
        &self,
        form: AnswerForm,
        make: impl FnOnce() -> Result<String, PromptError>,
    ) -> Result<String, PromptError> {
        self.systems[usize::from(form == AnswerForm::Template)].get_or_init(make).clone()
    }

    /// The system message with the questions, if the schema has a template for it.
    pub(super) fn system(&self, questions: &str) -> Result<Option<String>, PromptError> {
        let mut values = self.constants.clone();
        values.insert(QUESTIONS.to_owned(), Value::from(questions));
        let own = self.render(SYSTEM, &values)?;
        Ok(own.map(|own| if self.places_questions { own } else { format!("{}\n\n{questions}", own.trim_end()) }))
    }

    /// The user's message, if the schema has a template for it.
    pub(super) fn user(&self, fields: &Map<String, Value>) -> Result<Option<String>, PromptError> {
        self.render(USER, fields)
    }

    /// The assistant's message; empty without a template for it.
    pub(super) fn assistant(&self, answers: &Map<String, Value>) -> Result<String, PromptError> {
        Ok(self.render(ASSISTANT, answers)?.unwrap_or_default())
    }

    fn render(&self, name: &'static str, values: &Map<String, Value>) -> Result<Option<String>, PromptError> {
        let Ok(template) = self.environment.get_template(name) else { return Ok(None) };
        let failed = |error: minijinja::Error| PromptError::Template { template: name, message: format!("{error:#}") };
        template.render(values).map(Some).map_err(failed)
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(write_value);
    environment.add_filter("bullets", |value: minijinja::Value| bullets(&to_json(&value)));
    environment.add_filter("json", |value: minijinja::Value| to_json(&value).to_string());
    environment.add_filter("yaml", |value: minijinja::Value| shown(&to_json(&value)));
    environment
}

/// Lists and objects are written as a model reads them best; the rest as Jinja does.
fn write_value(out: &mut Output, state: &State, value: &minijinja::Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => Ok(out.write_str(&shown(&to_json(value)))?),
        ValueKind::None => Ok(()),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn to_json(value: &minijinja::Value) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn constants(schema: &TaskSchema) -> Map<String, Value> {
    let text = |text: Option<&LocalizedText>| Value::from(text.map_or("", |text| text.as_str()));
    let texts = [
        ("name", Some(&schema.name)),
        ("description", schema.description.as_ref()),
        ("guidelines", schema.guidelines.as_ref()),
    ];
    texts.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
}

/// The names that a template has values put in for.
///
/// # Errors
/// It is no template: why.
pub(in crate::curate) fn names_in(source: &str) -> Result<BTreeSet<String>, String> {
    let environment = environment();
    let source = as_jinja(source);
    let template = environment.template_from_str(&source).map_err(|error| error.to_string())?;
    let is_global = |name: &String| environment.globals().any(|(global, _)| global == name);
    Ok(template.undeclared_variables(false).into_iter().filter(|name| !is_global(name)).collect())
}

/// A template in Jinja. In one that is not, `{name}` is a value, and other braces stand for themselves.
fn as_jinja(source: &str) -> Cow<'_, str> {
    if ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
        return Cow::Borrowed(source);
    }
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, behind)) if name.parse::<Ident>().is_ok() => {
                out.extend(["{{ ", name, " }}"]);
                rest = behind;
            }
            _ => {
                out.push('{');
                rest = after;
            }
        }
    }
    Cow::Owned(out + rest)
}
