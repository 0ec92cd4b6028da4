//! What servers and workers have in common: the jobs, and those who work on them.

use std::sync::Arc;

use tokio::task::JoinSet;
use vllm_batch::batch::OpenAiLimits;
use vllm_batch::jobs::{
    FileStore, JobService, JobStore, QueueLimits, SenderOptions, ServiceOptions, SqlStore, WebhookPolicy,
    WebhookSender, Worker, WorkerOptions, validate_webhook,
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

    /// Loads the engine, hands it to `loaded`, and works with it until `stop` is cancelled; sends messages meanwhile. Then ends
    /// what is under way, in such time as live requests have.
    pub(super) async fn work(
        &self,
        config: &Config,
        loaded: Option<impl FnOnce(&Arc<dyn BatchEngine>)>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        let sender = WebhookSender::new(Arc::new(self.store.clone()), sender_options(config));
        let token = stop.clone();
        tasks.spawn(async move { sender.run(token).await });
        if let Some(loaded) = loaded {
            tokio::select! {
                engine = load(config) => {
                    let engine = engine?;
                    loaded(&engine);
                    self.spawn_workers(config, &engine, stop, &mut tasks);
                }
                () = stop.cancelled() => {}
            }
        }
        stop.cancelled().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(config.server.shutdown_grace, ended).await.is_err() {
            tracing::warn!("work was given up that did not end in time; it will be gone on with");
        }
        Ok(())
    }

    fn spawn_workers(
        &self,
        config: &Config,
        engine: &Arc<dyn BatchEngine>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for index in 0..config.worker.count {
            let options = worker_options(config, index);
            tracing::info!(worker = options.name, models = ?engine.spec().served_model_names, "working");
            let worker = Worker::new(self.service.clone(), Arc::clone(engine), options);
            let token = stop.clone();
            tasks.spawn(async move { worker.run(token).await });
        }
    }
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
    options.worker_timeout = seconds(config.worker.lease);
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

fn worker_options(config: &Config, index: usize) -> WorkerOptions {
    let name = config.worker.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "worker".to_owned());
        format!("{}-{}", host.trim(), std::process::id())
    });
    let mut options = WorkerOptions::new(format!("{name}-{index}"), config.storage.folder.join("work"));
    options.chunk_size = config.worker.chunk_size as u64;
    options.lease = config.worker.lease;
    options.max_attempts = config.worker.max_attempts.into();
    options
}
