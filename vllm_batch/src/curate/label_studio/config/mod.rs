//! The review page of a schema.

mod fields;
mod own;
mod questions;
mod visible;

use super::super::{CompiledSchema, Diagnostic, Field, InvalidSchema, Layout, TaskSchema};
use super::control::is_asked;
use super::names::{Objects, RESERVED};
use super::xml::Element;

pub(super) use own::OwnConfig;

/// How the review page is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelConfigOptions {
    /// The language of titles, help and options; stored values are the same in all.
    pub locale: String,
}

impl Default for LabelConfigOptions {
    /// In English.
    fn default() -> Self {
        Self { locale: "en".to_owned() }
    }
}

impl LabelConfigOptions {
    /// In another language.
    #[must_use]
    pub fn with_locale(mut self, locale: impl Into<String>) -> Self {
        self.locale = locale.into();
        self
    }
}

/// A labelling configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelConfig {
    /// The document, as projects take it.
    pub xml: String,
    /// What the page cannot do as the schema says it.
    pub warnings: Vec<Diagnostic>,
}

/// Makes the labelling configuration of a schema: a tag for each field and each question. Names of controls are those of their
/// questions, names of objects those of their fields with `src_` before them; stored values are aliases.
///
/// A schema that brings a configuration of its own (`rendering.label_config`) gets that, once it was checked.
///
/// # Errors
/// A field's name begins with `vb_`, which tasks use for themselves; or the schema's own configuration is no XML, asks a question
/// not at all or by a tag whose answers are others, or names a tag or a value that is not there.
///
/// # Example
/// ```
/// use vllm_batch::curate::SchemaRegistry;
/// use vllm_batch::curate::label_studio::{LabelConfigOptions, label_config};
///
/// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
/// let config = label_config(&schema, &LabelConfigOptions::default())?;
/// assert!(config.xml.contains(r#"<Choices name="tone" toName="src_vb_record" choice="single""#));
/// assert!(config.warnings.is_empty());
/// # Ok::<(), vllm_batch::curate::InvalidSchema>(())
/// ```
pub fn label_config(schema: &CompiledSchema, options: &LabelConfigOptions) -> Result<LabelConfig, InvalidSchema> {
    let schema = schema.schema();
    let errors = page_problems(schema);
    if !errors.is_empty() {
        return Err(InvalidSchema::new(errors));
    }
    Ok(match &schema.rendering.label_config {
        Some(xml) => LabelConfig { xml: xml.clone(), warnings: Vec::new() },
        None => generate(schema, &options.locale),
    })
}

/// Why a schema can have no page.
pub(in super::super) fn page_problems(schema: &TaskSchema) -> Vec<Diagnostic> {
    let mut errors: Vec<Diagnostic> = reserved_fields(schema).map(|(at, field)| reserved(at, field)).collect();
    if let Some(xml) = &schema.rendering.label_config {
        match OwnConfig::read(xml) {
            Ok(own) => errors.extend(own.check(schema)),
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Fields that have the name of something else in a task's data.
pub(super) fn reserved_fields(schema: &TaskSchema) -> impl Iterator<Item = (usize, &Field)> {
    schema.fields.iter().enumerate().filter(|(_, field)| field.id.starts_with(RESERVED))
}

fn reserved(at: usize, field: &Field) -> Diagnostic {
    let message = format!("`{}` begins with `{RESERVED}`, as what tasks have besides their fields does", field.id);
    Diagnostic::error("reserved_field", format!("/fields/{at}/id"), message)
}

fn generate(schema: &TaskSchema, locale: &str) -> LabelConfig {
    let objects = Objects::new(schema);
    let mut warnings = Vec::new();
    let fields = schema.fields.iter().filter_map(|field| fields::element(schema, field, &objects, locale));
    let fields = Element::new("View").with("className", "vb-fields").child(fields::record(&objects)).children(fields);
    let mut questions = Element::new("View").with("className", "vb-questions");
    for (at, question) in schema.questions.iter().enumerate() {
        if !is_asked(schema, question) {
            let message =
                format!("`{}` or what it is about never goes to a review server: people are not asked", question.id);
            warnings.push(Diagnostic::warning("question_withheld", format!("/questions/{at}"), message));
            continue;
        }
        let (conditions, is_complete) = visible::conditions(schema, question);
        if !is_complete {
            let message = "Label Studio cannot say this condition: the question is seen although it may not be asked";
            let path = format!("/questions/{at}/visible_when");
            warnings.push(Diagnostic::warning("condition_not_expressible", path, message));
        }
        let element = questions::element(schema, question, &objects, locale);
        questions = questions.child(conditions.iter().rev().fold(element, |inner, when| when.around(inner)));
    }
    let page = Element::new("View").with("className", format!("vb-page vb-{}", layout(schema.rendering.layout)));
    let style = Element::new("Style").text(style(schema));
    LabelConfig { xml: page.child(style).child(fields).child(questions).write(), warnings }
}

fn layout(layout: Layout) -> &'static str {
    match layout {
        Layout::SingleColumn => "column",
        Layout::TwoColumns => "columns",
        Layout::Grid => "grid",
    }
}

const STYLE: &str = "
.vb-columns { display: flex; gap: 24px; align-items: flex-start; }
.vb-columns > .vb-fields, .vb-columns > .vb-questions { flex: 1 1 0; min-width: 0; }
.vb-grid > .vb-fields { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); }
.vb-question { margin-bottom: 16px; }
.vb-record { font-size: 12px; opacity: 0.6; }
";

fn style(schema: &TaskSchema) -> String {
    format!("{STYLE}{}", schema.rendering.custom_css.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests;
