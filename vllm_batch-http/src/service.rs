//! How do routes, limits and what is around them become one router?

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;
use vllm_batch::BatchEngine;
use vllm_batch::curate::SchemaRegistry;
use vllm_batch::jobs::JobService;
use vllm_batch::pipeline::label_studio::WebhookReceiver;
use vllm_batch::pipeline::tasks::TaskStore;

use crate::auth::authenticate;
use crate::config::ServiceConfig;
use crate::error::ApiError;
use crate::observe::{REQUEST_ID, observe};
use crate::state::{AppState, EngineSlot, Review};
use crate::{openapi, page, routes};

/// Makes the router of a service of jobs, and of an engine for requests that are answered at once.
#[derive(Debug)]
pub struct Service {
    jobs: JobService,
    engine: Option<EngineSlot>,
    config: ServiceConfig,
    review: Review,
}

impl Service {
    /// A service without an engine: requests of the live endpoints are refused, while batches are answered by workers that
    /// share its store.
    pub fn new(jobs: JobService, config: ServiceConfig) -> Self {
        Self { jobs, engine: None, config, review: Review::default() }
    }

    /// Lets an engine answer requests of the live endpoints.
    #[must_use]
    pub fn with_engine(self, engine: Arc<dyn BatchEngine>) -> Self {
        self.with_engine_slot(EngineSlot::from(engine))
    }

    /// The same, with an engine that may come later.
    #[must_use]
    pub fn with_engine_slot(mut self, engine: EngineSlot) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Shows these schemas instead of the library's. Those of [`with_tasks`](Self::with_tasks) count more.
    #[must_use]
    pub fn with_schemas(mut self, schemas: SchemaRegistry) -> Self {
        self.review.schemas = Some(schemas);
        self
    }

    /// Lets people review these tasks, by the schemas that they have. All callers see all tasks: those who review work together.
    #[must_use]
    pub fn with_tasks(mut self, tasks: TaskStore) -> Self {
        self.review.tasks = Some(tasks);
        self
    }

    /// Takes events of Label Studio about these tasks, if they have the receiver's secret.
    #[must_use]
    pub fn with_label_studio(mut self, receiver: WebhookReceiver) -> Self {
        self.review.label_studio = Some(receiver);
        self
    }

    /// The router, to be served or to be mounted below any path.
    ///
    /// Whoever serves it sets how long a client may take for the head of a request; here is only how long for the body.
    pub fn router(self) -> Router {
        let cors = cors(&self.config);
        let body_timeout = RequestBodyTimeoutLayer::new(self.config.body_timeout);
        let body_limit = DefaultBodyLimit::max(self.config.max_body_bytes);
        let page = if self.config.page { page::routes() } else { Router::new() };
        let state = AppState::new(self.jobs, self.engine, self.config, self.review);
        routes::with_keys()
            .route_layer(from_fn_with_state(state.clone(), authenticate))
            .merge(routes::without_keys())
            .merge(openapi::routes())
            .merge(page)
            .fallback(no_route)
            .method_not_allowed_fallback(wrong_method)
            .layer(body_limit)
            .layer(body_timeout)
            .layer(cors)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn(observe))
            .with_state(state)
    }
}

/// By default, browsers are told nothing, so pages of other origins cannot ask.
fn cors(config: &ServiceConfig) -> CorsLayer {
    if config.allowed_origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(config.allowed_origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::RANGE,
            HeaderName::from_static(REQUEST_ID),
        ])
        .expose_headers([header::CONTENT_RANGE, header::ETAG, header::RETRY_AFTER, HeaderName::from_static(REQUEST_ID)])
}

async fn no_route() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_url",
        "There is nothing at this address: /openapi.json lists what there is.",
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This address does not take this method.")
}

/// What a panic said goes to the log, as any other fault of the server.
#[allow(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::internal(format!("a handler panicked: {}", said.unwrap_or("no text"))).into_response()
}
