//! Would Label Studio show this prediction?

use serde_json::{Map, Value};

use super::super::check::type_name;
use super::super::{AgentKind, AnswerErrorKind, CompiledSchema};
use super::error::{HarvestError, HarvestErrorKind};
use super::read::read;
use super::region::Targets;

/// Checks a prediction as it is sent: what Label Studio 1.23 refuses in its strict mode, and what it takes and shows wrongly or not at
/// all. Such are two choices where one is asked for, 0 stars, a number out of its bounds, places in the wrong text, answers to hidden
/// questions, and texts that are not what their question asks for.
///
/// The fields are those of the record. Nothing is said of answers that are missing.
///
/// # Example
/// ```
/// use serde_json::{Map, json};
/// use vllm_batch::curate::SchemaRegistry;
/// use vllm_batch::curate::label_studio::validate_prediction;
///
/// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
/// let tone = json!({"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": ["formal", "casual"]}});
/// let prediction = json!({"model_version": "m", "score": 2, "result": [tone]});
/// let errors = validate_prediction(&schema, &Map::new(), &prediction);
/// assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/score", "/result/0"]);
/// ```
pub fn validate_prediction(
    schema: &CompiledSchema,
    fields: &Map<String, Value>,
    prediction: &Value,
) -> Vec<HarvestError> {
    let mut errors = Vec::new();
    let mut malformed = |path: &str, expected, found: &Value| {
        errors.push(HarvestError::new(path, HarvestErrorKind::Malformed { expected, found: type_name(found) }));
    };
    if prediction["model_version"].as_str().is_none_or(str::is_empty) {
        malformed("/model_version", "a text that is not empty", &prediction["model_version"]);
    }
    let Some(result) = prediction["result"].as_array() else {
        malformed("/result", "a list", &prediction["result"]);
        return errors;
    };
    errors.extend(score("", prediction));
    errors.extend(result.iter().enumerate().filter_map(|(at, region)| score(&format!("/result/{at}"), region)));
    let (said, wrong) = read(schema, &Targets::new(schema), fields, result);
    errors.extend(wrong.into_iter().map(|error| error.under("/result")));
    let answers = said.iter().map(|one| (one.question.id.clone(), one.answer.clone())).collect();
    for error in schema.check(AgentKind::Model, fields, &answers) {
        // What is wrong with an answer alone was found when it was read.
        let said = said.iter().find(|one| one.question.id == *error.question.as_str());
        if let (Some(said), AnswerErrorKind::Hidden) = (said, &error.kind) {
            errors.push(HarvestError::new(format!("/result/{}", said.region), error));
        }
    }
    errors
}

fn score(path: &str, of: &Value) -> Option<HarvestError> {
    let score = &of["score"];
    let holds = score.is_null() || score.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score));
    (!holds).then(|| HarvestError::new(format!("{path}/score"), HarvestErrorKind::Score { found: score.to_string() }))
}
