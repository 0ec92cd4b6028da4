//! A labelling configuration that a schema brings.

use std::collections::{HashMap, HashSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::super::{Diagnostic, TaskSchema};
use super::super::control::{Tag, is_asked};
use super::super::names;
use super::super::view::View;

const PATH: &str = "/rendering/label_config";

/// What is known of a configuration: its controls with what they are about.
#[derive(Debug, Default)]
pub(in super::super) struct OwnConfig {
    controls: HashMap<String, (String, Vec<String>)>,
    objects: HashSet<String>,
    variables: Vec<String>,
}

impl OwnConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// It is no XML document, or two tags have the same name.
    pub(in super::super) fn read(xml: &str) -> Result<Self, Diagnostic> {
        let mut reader = Reader::from_str(xml);
        let mut own = Self::default();
        let (mut depth, mut roots) = (0usize, 0);
        loop {
            match reader.read_event().map_err(|error| malformed(&error))? {
                Event::Start(element) => {
                    roots += usize::from(depth == 0);
                    depth += 1;
                    own.add(&element)?;
                }
                Event::Empty(element) => {
                    roots += usize::from(depth == 0);
                    own.add(&element)?;
                }
                Event::End(_) => depth = depth.saturating_sub(1),
                Event::Eof if depth == 0 && roots == 1 => return Ok(own),
                Event::Eof => return Err(malformed(&"it is not one element that is closed")),
                _ => {}
            }
        }
    }

    fn add(&mut self, element: &BytesStart<'_>) -> Result<(), Diagnostic> {
        let tag = element.name().as_ref().to_owned();
        let mut attributes = HashMap::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| malformed(&error))?;
            let key = attribute.key.as_ref().to_owned();
            let value = quick_xml::escape::unescape(&attribute.value).map_err(|error| malformed(&error))?.into_owned();
            attributes.insert(key, value);
        }
        let variable = attributes.get("value").and_then(|value| value.strip_prefix('$'));
        let is_name = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        self.variables.extend(variable.filter(is_name).map(str::to_owned));
        let Some(name) = attributes.remove("name") else { return Ok(()) };
        if self.controls.contains_key(&name) || self.objects.contains(&name) {
            return Err(Diagnostic::error("duplicate_tag", PATH, format!("two tags are called {name:?}")));
        }
        match attributes.remove("toName") {
            Some(to) => drop(self.controls.insert(name, (tag, to.split(',').map(|to| to.trim().to_owned()).collect()))),
            None => drop(self.objects.insert(name)),
        }
        Ok(())
    }

    /// The tags that a question's control is about.
    pub(in super::super) fn objects_of(&self, question: &str) -> Option<&[String]> {
        self.controls.get(question).map(|(_, objects)| objects.as_slice())
    }

    /// Whether each question has its control, each control its object, and each variable its value.
    pub(super) fn check(&self, schema: &TaskSchema) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for question in schema.questions.iter().filter(|question| is_asked(schema, question)) {
            let wanted = Tag::of(&question.kind).name();
            let (code, message) = match self.controls.get(question.id.as_str()) {
                None => ("missing_control", format!("no tag asks `{}`: a {wanted} is needed", question.id)),
                Some((tag, _)) if tag != wanted => (
                    "wrong_control",
                    format!("`{}` is asked by {tag}, but its answers are those of {wanted}", question.id),
                ),
                Some(_) => continue,
            };
            found.push(Diagnostic::error(code, PATH, message));
        }
        let mut controls: Vec<_> = self.controls.iter().collect();
        controls.sort();
        for (control, (_, objects)) in controls {
            for object in objects.iter().filter(|object| !self.objects.contains(*object)) {
                let message = format!("`{control}` is about {object:?}, which no tag shows");
                found.push(Diagnostic::error("missing_object", PATH, message));
            }
        }
        found.extend(
            self.variables.iter().filter(|variable| !is_known(schema, variable)).map(|variable| {
                Diagnostic::error("unknown_variable", PATH, format!("tasks have no value ${variable}"))
            }),
        );
        found
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error("malformed_xml", PATH, format!("the labelling configuration cannot be read: {error}"))
}

fn is_known(schema: &TaskSchema, variable: &str) -> bool {
    let is_field =
        schema.fields.iter().any(|field| field.id == variable || View::of(schema, field).key(field) == variable);
    is_field || [names::RECORD, names::KEY, names::SCHEMA].contains(&variable)
}
