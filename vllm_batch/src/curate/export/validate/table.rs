//! Columns that have one type, as Arrow wants them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Effect;
use crate::curate::diagnostic::escape;

/// What is known about the columns so far.
#[derive(Debug, Default)]
pub(super) struct Columns {
    types: Option<BTreeMap<String, Type>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Type {
    /// Nothing but null so far.
    Unknown,
    Boolean,
    Number,
    Text,
    List(Box<Type>),
    Struct(BTreeMap<String, Type>),
}

pub(super) struct ColumnProblem {
    pub(super) path: String,
    pub(super) code: &'static str,
    pub(super) effect: Effect,
    pub(super) message: String,
}

impl Columns {
    /// Adds a row, and says where it differs from those before.
    pub(super) fn add(&mut self, row: &Map<String, Value>) -> Vec<ColumnProblem> {
        let mut problems = Vec::new();
        let Some(types) = &mut self.types else {
            let mut types = BTreeMap::new();
            for (key, value) in row {
                types.insert(key.clone(), type_of(value, &format!("/{}", escape(key)), &mut problems));
            }
            self.types = Some(types);
            return problems;
        };
        for key in types.keys().filter(|key| !row.contains_key(*key)) {
            problems.push(ColumnProblem {
                path: String::new(),
                code: "different_columns",
                effect: Effect::Misread,
                message: format!("the row has no {key:?}, which the first one has: it becomes null"),
            });
        }
        for (key, value) in row {
            let path = format!("/{}", escape(key));
            let found = type_of(value, &path, &mut problems);
            if let Some(known) = types.get_mut(key) {
                merge(known, found, &path, &mut problems);
            } else {
                let message = format!("the first row has no {key:?}");
                problems.push(ColumnProblem { path, code: "different_columns", effect: Effect::Refused, message });
            }
        }
        problems
    }
}

fn type_of(value: &Value, path: &str, problems: &mut Vec<ColumnProblem>) -> Type {
    match value {
        Value::Null => Type::Unknown,
        Value::Bool(_) => Type::Boolean,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::Text,
        Value::Array(items) => {
            let mut all = Type::Unknown;
            for (at, item) in items.iter().enumerate() {
                let path = format!("{path}/{at}");
                let item = type_of(item, &path, problems);
                merge(&mut all, item, &path, problems);
            }
            Type::List(Box::new(all))
        }
        Value::Object(object) => {
            let typed = |(key, value): (&String, &Value)| {
                (key.clone(), type_of(value, &format!("{path}/{}", escape(key)), problems))
            };
            Type::Struct(object.iter().map(typed).collect())
        }
    }
}

/// Makes one type of two, or says that there is none.
fn merge(known: &mut Type, found: Type, path: &str, problems: &mut Vec<ColumnProblem>) {
    match (known, found) {
        (_, Type::Unknown) => {}
        (known @ Type::Unknown, found) => *known = found,
        (Type::List(known), Type::List(found)) => merge(known, *found, path, problems),
        (Type::Struct(known), Type::Struct(found)) => {
            for (key, found) in found {
                let path = format!("{path}/{}", escape(&key));
                match known.get_mut(&key) {
                    Some(known) => merge(known, found, &path, problems),
                    None => drop(known.insert(key, found)),
                }
            }
        }
        (known, found) if *known == found => {}
        (known, found) => problems.push(ColumnProblem {
            path: path.to_owned(),
            code: "column_type",
            effect: Effect::Refused,
            message: format!("the value is {}, and was {} before", found.name(), known.name()),
        }),
    }
}

impl Type {
    fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "null",
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List(_) => "a list",
            Self::Struct(_) => "an object",
        }
    }
}
