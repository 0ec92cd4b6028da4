//! What do handlers work with?

use std::fmt;
use std::sync::{Arc, OnceLock};

use metrics_exporter_prometheus::PrometheusHandle;
use vllm_batch::BatchEngine;
use vllm_batch::curate::{CompiledSchema, SchemaRef, SchemaRegistry};
use vllm_batch::jobs::JobService;
use vllm_batch::pipeline::label_studio::WebhookReceiver;
use vllm_batch::pipeline::tasks::TaskStore;

use crate::auth::Callers;
use crate::config::ServiceConfig;
use crate::error::ApiError;
use crate::limits::LivePlaces;

/// The place of an engine that may still be loading: requests are refused and [`/ready`](crate::Service) says 503 until it is
/// there.
#[derive(Clone, Default)]
pub struct EngineSlot(Arc<OnceLock<Arc<dyn BatchEngine>>>);

impl EngineSlot {
    /// A place without an engine yet.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Puts the engine in; false if there is one already.
    pub fn fill(&self, engine: Arc<dyn BatchEngine>) -> bool {
        self.0.set(engine).is_ok()
    }

    /// The engine, once it is there.
    pub fn get(&self) -> Option<&Arc<dyn BatchEngine>> {
        self.0.get()
    }
}

impl From<Arc<dyn BatchEngine>> for EngineSlot {
    fn from(engine: Arc<dyn BatchEngine>) -> Self {
        Self(Arc::new(OnceLock::from(engine)))
    }
}

impl fmt::Debug for EngineSlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models = self.get().map(|engine| &engine.spec().served_model_names);
        formatter.debug_tuple("EngineSlot").field(&models).finish()
    }
}

/// What all handlers share. There is one for each router, and nothing outside of it.
#[derive(Debug, Clone)]
pub(crate) struct AppState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jobs: JobService,
    engine: Option<EngineSlot>,
    callers: Callers,
    live: LivePlaces,
    config: ServiceConfig,
    review: Review,
    started_at: i64,
}

/// What people review, and with what.
#[derive(Debug, Default)]
pub(crate) struct Review {
    /// The schemas, where there are no tasks.
    pub(crate) schemas: Option<SchemaRegistry>,
    pub(crate) tasks: Option<TaskStore>,
    pub(crate) label_studio: Option<WebhookReceiver>,
}

impl AppState {
    pub(crate) fn new(jobs: JobService, engine: Option<EngineSlot>, mut config: ServiceConfig, review: Review) -> Self {
        let callers = Callers::new(std::mem::take(&mut config.api_keys), config.anybody);
        let live = LivePlaces::new(config.max_live_requests);
        let started_at = config.clock.now() as i64;
        Self(Arc::new(Inner { jobs, engine, callers, live, config, review, started_at }))
    }

    pub(crate) fn jobs(&self) -> &JobService {
        &self.0.jobs
    }

    pub(crate) fn callers(&self) -> &Callers {
        &self.0.callers
    }

    pub(crate) fn live(&self) -> &LivePlaces {
        &self.0.live
    }

    pub(crate) fn config(&self) -> &ServiceConfig {
        &self.0.config
    }

    /// The tasks.
    ///
    /// # Errors
    /// 503 if there are none.
    pub(crate) fn tasks(&self) -> Result<&TaskStore, ApiError> {
        let message = "This server keeps no tasks for review.";
        self.0.review.tasks.as_ref().ok_or_else(|| ApiError::unavailable("no_curation", message))
    }

    /// All schemas, those included that others registered.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn schemas(&self) -> Result<SchemaRegistry, ApiError> {
        let Some(tasks) = &self.0.review.tasks else {
            return Ok(self.0.review.schemas.clone().unwrap_or_else(SchemaRegistry::builtin));
        };
        tasks.reload_schemas().await?;
        Ok(tasks.schemas())
    }

    /// The schema that `id` (its newest release) or `id@version` names.
    ///
    /// # Errors
    /// There is none, or the database does not answer.
    pub(crate) async fn schema(&self, name: &str) -> Result<Arc<CompiledSchema>, ApiError> {
        if let Some(tasks) = &self.0.review.tasks {
            return Ok(tasks.find_schema(name).await?);
        }
        let all = self.schemas().await?;
        let found = match name.parse::<SchemaRef>() {
            Ok(named) => all.get_version(&named.id, &named.version),
            Err(_) => all.get(name),
        };
        found.ok_or_else(|| ApiError::not_found("schema", name))
    }

    /// Checks events of Label Studio, if there is a secret for them.
    pub(crate) fn label_studio(&self) -> Option<&WebhookReceiver> {
        self.0.review.label_studio.as_ref()
    }

    /// When the router was made, in seconds since 1970.
    pub(crate) fn started_at(&self) -> i64 {
        self.0.started_at
    }

    pub(crate) fn prometheus(&self) -> Option<&PrometheusHandle> {
        self.0.config.prometheus.as_ref()
    }

    /// The place of the engine, if live requests are answered here.
    pub(crate) fn engine_slot(&self) -> Option<&EngineSlot> {
        self.0.engine.as_ref()
    }

    /// The engine.
    ///
    /// # Errors
    /// 503 if there is none, or none yet.
    pub(crate) fn engine(&self) -> Result<&Arc<dyn BatchEngine>, ApiError> {
        let Some(slot) = self.engine_slot() else {
            let message = "This server answers batches only: its workers are elsewhere.";
            return Err(ApiError::unavailable("no_engine", message));
        };
        slot.get().ok_or_else(|| ApiError::unavailable("engine_loading", "The model is being loaded."))
    }
}
