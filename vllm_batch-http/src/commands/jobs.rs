//! What servers and workers have in common: the jobs, and those who work on them.

use std::sync::Arc;

use vllm_batch::batch::OpenAiLimits;
use vllm_batch::jobs::{
    FileStore, JobService, QueueLimits, SenderOptions, ServiceOptions, SqlStore, WebhookPolicy, WebhookSender, Worker,
    WorkerOptions, validate_webhook,
};
use vllm_batch::{BatchEngine, CancellationToken};

use super::Failure;
use crate::settings::{Config, StorageConfig};

/// The jobs of a configuration.
pub(super) struct Jobs {
    pub(super) store: SqlStore,
    pub(super) service: JobService,
}

impl Jobs {
    /// Opens the database, which is brought up to date, and the folder.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        create_folder(&config.storage)?;
        let store = SqlStore::connect(config.storage.database.reveal()).await?;
        let files = FileStore::in_folder(config.storage.folder.join("files"))?;
        let service = JobService::new(Arc::new(store.clone()), files, service_options(config));
        Ok(Self { store, service })
    }

    /// Sends messages until `stop` is cancelled. With `loaded`, loads the engine, hands it over and works with it, too.
    pub(super) async fn work(
        &self,
        config: &Config,
        loaded: Option<impl FnOnce(&Arc<dyn BatchEngine>)>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let sender = WebhookSender::new(Arc::new(self.store.clone()), sender_options(config));
        let (worked, ()) = tokio::join!(
            ending(stop, async {
                if let Some(loaded) = loaded {
                    self.work_with_engine(config, loaded, stop).await
                } else {
                    stop.cancelled().await;
                    Ok(())
                }
            }),
            sender.run(stop.clone())
        );
        worked
    }

    async fn work_with_engine(
        &self,
        config: &Config,
        loaded: impl FnOnce(&Arc<dyn BatchEngine>),
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let engine = tokio::select! {
            engine = load(config) => engine?,
            () = stop.cancelled() => return Ok(()),
        };
        loaded(&engine);
        if config.worker.max_tasks == 0 {
            stop.cancelled().await;
            return Ok(());
        }
        let options = worker_options(config);
        tracing::info!(worker = options.name, models = ?engine.spec().served_model_names, "working");
        Ok(Worker::new(self.service.clone(), engine, options).run(stop.clone()).await?)
    }
}

/// Stops all the others when this part ends, however it does.
pub(super) async fn ending<T>(stop: &CancellationToken, part: impl Future<Output = T>) -> T {
    let result = part.await;
    stop.cancel();
    result
}

/// Makes the folder where a database may be, too.
pub(super) fn create_folder(storage: &StorageConfig) -> Result<(), Failure> {
    let named = |error| format!("{}: {error}", storage.folder.display());
    Ok(std::fs::create_dir_all(&storage.folder).map_err(named)?)
}

/// Loads an engine beside everything else that goes on.
async fn load(config: &Config) -> Result<Arc<dyn BatchEngine>, Failure> {
    let engine = config.engine.clone();
    let load = move || engine.load(|note| tracing::info!("{note}")).map_err(|error| error.to_string());
    Ok(tokio::task::spawn_blocking(load).await??)
}

fn service_options(config: &Config) -> ServiceOptions {
    let policy = webhook_policy(config);
    let seconds = |time: std::time::Duration| time.as_secs() as i64;
    let mut options = ServiceOptions::default();
    options.limits = OpenAiLimits::default()
        .with_max_requests(config.limits.max_requests_per_batch)
        .with_max_file_bytes(config.limits.max_file_bytes);
    options.queue = QueueLimits { max_batches: config.limits.max_batches, ..QueueLimits::default() };
    options.webhook_check = Arc::new(move |webhook| validate_webhook(webhook, &policy));
    options.result_retention = config.retention.results.map(seconds);
    options.batch_retention = config.retention.batches.map(seconds);
    options.worker_timeout = seconds(config.worker.lease_time);
    options
}

fn webhook_policy(config: &Config) -> WebhookPolicy {
    let mut policy = WebhookPolicy::default();
    policy.allow_http = config.webhooks.allow_http;
    policy.ports.clone_from(&config.webhooks.allowed_ports);
    policy.allow.clone_from(&config.webhooks.allowed_hosts);
    policy.secrets.clone_from(&config.webhooks.secrets);
    policy
}

fn sender_options(config: &Config) -> SenderOptions {
    let mut options = SenderOptions::default();
    options.policy = webhook_policy(config);
    options.timeout = config.webhooks.timeout;
    options.pauses.clone_from(&config.webhooks.pauses);
    options
}

fn worker_options(config: &Config) -> WorkerOptions {
    let name = config.worker.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "worker".to_owned());
        format!("{}-{}", host.trim(), std::process::id())
    });
    let mut options = WorkerOptions::new(name, config.storage.folder.join("work"));
    options.max_tasks = config.worker.max_tasks;
    options.chunk_size = config.worker.chunk_size;
    options.lease_time = config.worker.lease_time;
    options.heartbeat_interval = config.worker.lease_time / 6;
    options.max_failures = config.worker.max_failures;
    options.drain_time = config.server.shutdown_grace;
    options.cancel_time = config.worker.cancel_time;
    options
}
