//! A schema's own templates.

use std::collections::HashSet;

use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, value::ValueKind};
use serde_json::{Map, Value};

use super::super::{Diagnostic, TaskSchema};
use super::PromptError;
use super::value::{bullets, shown};

/// Steps that one rendering may take: far more than a template needs that ends.
const FUEL: u64 = 5_000_000;
const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";
/// Where the questions stand in a system message. Without it they come behind.
const QUESTIONS: &str = "questions";

/// The compiled templates of a schema.
///
/// One with `{{`, `{%` or `{#` is Jinja. Any other has `{name}` for a value; other braces stand for themselves.
#[derive(Debug)]
pub(in crate::curate) struct Templates {
    environment: Environment<'static>,
    constants: Map<String, Value>,
    places_questions: bool,
}

impl Templates {
    /// Compiles the templates. Those that are none, and names that there are not, are reported.
    pub(in crate::curate) fn new(schema: &TaskSchema, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut environment = environment();
        let constants = constants(schema);
        let of_system: Vec<&str> = constants.keys().map(String::as_str).chain([QUESTIONS]).collect();
        let of_user: Vec<&str> = schema.fields.iter().map(|field| field.id.as_str()).collect();
        let of_assistant: Vec<&str> = schema.questions.iter().map(|question| question.id.as_str()).collect();
        let spec = &schema.prompt;
        let mut places_questions = false;
        let templates = [
            (SYSTEM, &spec.system, of_system),
            (USER, &spec.user, of_user),
            (ASSISTANT, &spec.assistant, of_assistant),
        ];
        for (name, source, known) in templates {
            let Some(source) = source else { continue };
            let source = if is_jinja(source) { source.clone() } else { to_jinja(source) };
            let path = format!("/prompt/{name}");
            if let Err(error) = environment.add_template_owned(name, source) {
                diagnostics.push(Diagnostic::error("invalid_template", path, error.to_string()));
                continue;
            }
            let used =
                environment.get_template(name).map(|template| template.undeclared_variables(false)).unwrap_or_default();
            places_questions |= name == SYSTEM && used.contains(QUESTIONS);
            let mut unknown: Vec<_> =
                used.iter().filter(|one| !known.contains(&one.as_str()) && !is_global(&environment, one)).collect();
            unknown.sort();
            diagnostics.extend(unknown.into_iter().map(|one| unknown_name(&path, one, &known)));
        }
        Self { environment, constants, places_questions }
    }

    /// The names that the user's message has values put in for; `None` without a template for it that can be used.
    pub(in crate::curate) fn names_in_user(&self) -> Option<HashSet<String>> {
        Some(self.environment.get_template(USER).ok()?.undeclared_variables(false))
    }

    /// As [`names_in_user`](Self::names_in_user), for the assistant's message.
    pub(in crate::curate) fn names_in_assistant(&self) -> Option<HashSet<String>> {
        Some(self.environment.get_template(ASSISTANT).ok()?.undeclared_variables(false))
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
    let text = |text: Option<&super::super::LocalizedText>| Value::from(text.map_or("", |text| text.as_str()));
    let texts = [
        ("name", Some(&schema.name)),
        ("description", schema.description.as_ref()),
        ("guidelines", schema.guidelines.as_ref()),
    ];
    texts.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
}

fn is_global(environment: &Environment<'_>, name: &str) -> bool {
    environment.globals().any(|(global, _)| global == name)
}

fn unknown_name(path: &str, name: &str, known: &[&str]) -> Diagnostic {
    let nearest = super::super::check::nearest(name, known.iter().copied());
    let help =
        nearest.map_or_else(|| format!("there are {}", known.join(", ")), |nearest| format!("did you mean {nearest}?"));
    Diagnostic::error("unknown_placeholder", path, format!("there is no {name:?} for the template")).with_help(help)
}

fn is_jinja(source: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark))
}

/// `{name}` as Jinja has it; other braces stand for themselves.
fn to_jinja(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, behind)) if name.parse::<super::super::Ident>().is_ok() => {
                out.push_str(&format!("{{{{ {name} }}}}"));
                rest = behind;
            }
            _ => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}
