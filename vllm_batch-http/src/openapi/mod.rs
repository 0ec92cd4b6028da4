//! How is the interface described to programs?
//!
//! Routes and what only HTTP has are described where they are; objects that the core writes are described in `components.json`,
//! and the tests hold answers to it. What goes wrong is the same everywhere, and is added here.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::get;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

use crate::routes::Described;
use crate::state::AppState;

/// What the document has besides what is described at routes: schemas of what the core writes, and how keys are sent.
const COMPONENTS: &str = include_str!("components.json");

/// The groups of routes.
const TAGS: [(&str, &str); 9] = [
    ("files", "Inputs and results of batches"),
    ("batches", "Many requests in one file"),
    ("live", "Requests that are answered at once"),
    ("models", "What requests may name"),
    ("queue", "What waits, who works, and what there has been"),
    ("schemas", "What is asked of models and people"),
    ("curation", "Answers that people review"),
    ("webhooks", "Messages to and from other servers"),
    ("service", "The server itself"),
];

/// What can go wrong with everything that is asked.
const ALWAYS: &[(&str, &str)] = &[("500", "The server failed"), ("503", "Something that this needs is not there now")];
/// With what is behind a key.
const BEHIND_KEY: &[(&str, &str)] =
    &[("401", "No key, or an unknown one"), ("429", "Too much at once: see Retry-After")];
/// With parameters.
const WITH_PARAMETERS: &[(&str, &str)] =
    &[("400", "Something is missing or wrong"), ("404", "There is nothing of that name"), ("409", "Not in this state")];
/// With a body.
const WITH_BODY: &[(&str, &str)] =
    &[("408", "The body did not come"), ("413", "The body is too long"), ("415", "The body is of another type")];

/// The `OpenAPI` document of all routes, in JSON; a server sends it at `/openapi.json`.
///
/// # Example
/// ```
/// let document = vllm_batch_http::openapi();
/// assert_eq!(document["paths"]["/v1/batches"]["post"]["operationId"], "create_batch");
/// ```
///
/// # Panics
/// Never: what it is made of is part of the program, and a test makes it.
pub fn openapi() -> Value {
    let mut document = serde_json::to_value(Described::openapi()).expect("the described routes are JSON");
    let known: Value = serde_json::from_str(COMPONENTS).expect("the components are JSON");
    document["info"] = json!({
        "title": "vllm_batch",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A self-hosted OpenAI Batch API, with live endpoints and review of answers.",
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    // Relative to the document, so that it is right wherever the router is mounted.
    document["servers"] = json!([{"url": "."}]);
    document["tags"] =
        TAGS.iter().map(|(name, description)| json!({"name": name, "description": description})).collect();
    document["security"] = json!([{"api_key": []}]);
    for kind in ["schemas", "securitySchemes"] {
        merge(&mut document["components"][kind], &known[kind]);
    }
    for path in fields(&mut document["paths"]) {
        fields(path).for_each(add_errors);
    }
    document
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

fn fields(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// Adds what can go wrong with an operation, where it does not say so itself.
fn add_errors(operation: &mut Value) {
    let is_open = operation.get("security").is_some();
    let has_body = operation.get("requestBody").is_some();
    let has_parameters = operation.get("parameters").is_some() || has_body;
    let errors = [(true, ALWAYS), (!is_open, BEHIND_KEY), (has_parameters, WITH_PARAMETERS), (has_body, WITH_BODY)];
    for (status, description) in errors.into_iter().filter(|(is_meant, _)| *is_meant).flat_map(|(_, errors)| errors) {
        if operation["responses"].get(status).is_none() {
            operation["responses"][status] = json!({
                "description": description,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
            });
        }
    }
}

/// The route of the document, which is the same for everybody.
pub(crate) fn routes() -> Router<AppState> {
    let document = Bytes::from(openapi().to_string());
    Router::new()
        .route("/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], document.clone())))
}
