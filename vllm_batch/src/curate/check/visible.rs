//! Which questions are asked of a record.

use serde_json::{Map, Value};

use super::super::{Answers, Condition, Question, TaskSchema};

impl Condition {
    /// Whether it is so, by the answers to other questions and the values of a record's fields. A question without an answer
    /// and a field without a value are equal to nothing; of a list, as of several chosen options, one item is enough.
    /// Numbers are equal if their values are.
    ///
    /// # Example
    /// ```
    /// use serde_json::{Map, json};
    /// use vllm_batch::curate::{Answer, Answers, Condition};
    ///
    /// let is_poor = Condition::Is { question: "tone".parse()?, any_of: vec![json!("rude"), json!("cold")] };
    /// let mut answers = Answers::new();
    /// assert!(!is_poor.holds(&answers, &Map::new()));
    /// answers.insert("tone".parse()?, Answer::Option("cold".into()));
    /// assert!(is_poor.holds(&answers, &Map::new()));
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn holds(&self, answers: &Answers, fields: &Map<String, Value>) -> bool {
        match self {
            Self::Answered(question) => answers.get(question).is_some(),
            Self::Is { question, any_of } => answers.get(question).is_some_and(|one| is_any_of(&one.to_json(), any_of)),
            Self::Field { field, any_of } => {
                let value = fields.get(field.as_str()).filter(|value| !value.is_null());
                value.is_some_and(|value| is_any_of(value, any_of))
            }
            Self::Not(condition) => !condition.holds(answers, fields),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(answers, fields)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(answers, fields)),
        }
    }
}

impl TaskSchema {
    /// The questions that are asked of a record with these fields and answers, in order. An answer to a question that is
    /// not asked does not count for the conditions of those after it.
    pub fn visible_questions(&self, answers: &Answers, fields: &Map<String, Value>) -> Vec<&Question> {
        let mut counting = answers.clone();
        let mut visible = Vec::new();
        for question in &self.questions {
            if question.visible_when.as_ref().is_none_or(|condition| condition.holds(&counting, fields)) {
                visible.push(question);
            } else {
                counting.remove(&question.id);
            }
        }
        visible
    }
}

fn is_any_of(value: &Value, any_of: &[Value]) -> bool {
    let has = |value: &Value| any_of.iter().any(|one| same_json(one, value));
    has(value) || value.as_array().is_some_and(|items| items.iter().any(has))
}

/// Whether two JSON values say the same: numbers by their values, objects in any order of keys.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_json(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same_json(x, y)))
        }
        _ => a == b,
    }
}
