//! `serve`: the API, the page, and workers in the same process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use metrics_exporter_prometheus::PrometheusHandle;
use vllm_batch::CancellationToken;
use vllm_batch::curate::{SchemaFolder, SchemaRegistry};
use vllm_batch::pipeline::label_studio::WebhookReceiver;
use vllm_batch::pipeline::tasks::{AutoImport, TaskStore};
use vllm_batch_http::{EngineSlot, Service, ServiceConfig, install_prometheus};

use super::jobs::{Jobs, ending};
use super::{Failure, runtime};
use crate::connection::Limited;
use crate::settings::Config;
use crate::shutdown::cancel_on_signals;
use crate::tls;

/// Streams of a connection of HTTP/2 at a time.
const MAX_STREAMS: u32 = 256;

/// Between two times that samples of metrics are put together.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks for batches whose answers are to be reviewed.
const IMPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Serves until a signal comes, or something fails without which nothing can be served.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    // Before anything that takes time: a port that is taken is told at once.
    let address = config.server.address;
    let listener = TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let runtime = runtime()?;
    let result = runtime.block_on(serve(config, listener));
    // What still computes is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: &Config, listener: TcpListener) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    cancel_on_signals(stop.clone())?;
    let jobs = Jobs::open(config).await?;
    let needs_engine = config.server.live || config.worker.max_tasks > 0;
    let slot = EngineSlot::empty();
    let tasks = TaskStore::open(&jobs.store, schemas(config)?).await?;
    let router = router(config, &jobs, &tasks, config.server.live.then(|| slot.clone()))?;
    let fill = |engine: &_| {
        slot.fill(std::sync::Arc::clone(engine));
        tracing::info!("ready");
    };
    let listen = ending(&stop, async { Ok(listen(config, listener, router, &stop).await?) });
    let work = jobs.work(config, needs_engine.then_some(fill), &stop);
    let import = AutoImport::new(tasks, jobs.service.clone()).run(IMPORT_INTERVAL, stop.clone());
    let (listened, worked, ()) = tokio::join!(listen, work, import);
    listened.and(worked)
}

fn router(config: &Config, jobs: &Jobs, tasks: &TaskStore, engine: Option<EngineSlot>) -> Result<Router, Failure> {
    let mut options = ServiceConfig::default();
    options.api_keys.clone_from(&config.auth.keys);
    options.anybody = config.auth.limits;
    options.max_live_requests = config.limits.max_live_requests;
    options.max_body_bytes = config.limits.max_body_bytes as usize;
    options.body_timeout = config.server.body_read_timeout;
    options.allowed_origins =
        config.allowed_origins.iter().map(|origin| HeaderValue::from_str(origin)).collect::<Result<_, _>>()?;
    options.page = config.server.page;
    let prometheus = install_prometheus()?;
    tokio::spawn(upkeep(prometheus.clone()));
    options.prometheus = Some(prometheus);
    options.allow_register_schemas = config.curation.allow_register;
    let mut service = Service::new(jobs.service.clone(), options).with_tasks(tasks.clone());
    if let Some(slot) = engine {
        service = service.with_engine_slot(slot);
    }
    if let Some(secret) = &config.curation.label_studio_secret {
        let header = config.curation.label_studio_header.as_str();
        service = service.with_label_studio(WebhookReceiver::new(header, secret.reveal()));
    }
    Ok(service.router())
}

/// Puts the samples of metrics together, also where nobody asks for them.
async fn upkeep(prometheus: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        prometheus.run_upkeep();
    }
}

/// The built-in schemas and those of the folder, all of which must be right.
fn schemas(config: &Config) -> Result<SchemaRegistry, Failure> {
    let Some(folder) = &config.curation.schemas else { return Ok(SchemaRegistry::builtin()) };
    let SchemaFolder { mut registry, files, .. } = SchemaRegistry::from_dir(folder)?;
    let wrong = files.iter().filter_map(|file| {
        let error = file.result.as_ref().err()?;
        Some(format!("\n  {}: {error}", file.path.display()))
    });
    let wrong: String = wrong.collect();
    if !wrong.is_empty() {
        return Err(format!("schemas are wrong:{wrong}").into());
    }
    for schema in SchemaRegistry::builtin().iter() {
        // A folder may have its own of the same name.
        if registry.get(schema.schema().id.as_str()).is_none() {
            registry.register(schema.schema().clone())?;
        }
    }
    Ok(registry)
}

/// Answers until it is told to stop; requests that are under way then have the grace time.
async fn listen(config: &Config, listener: TcpListener, router: Router, stop: &CancellationToken) -> io::Result<()> {
    let handle = Handle::new();
    let limited = Limited {
        control: handle.control(),
        max_connections: config.server.max_connections,
        write_timeout: config.server.write_timeout,
    };
    let address = listener.local_addr()?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let server = with_timeouts(axum_server::from_tcp(listener)?, config.server.header_read_timeout);
    let server = server.handle(handle.clone());
    let service = router.into_make_service();
    let (stopped, grace) = (stop.cancelled(), config.server.shutdown_grace);
    tokio::spawn(async move {
        stopped.await;
        handle.graceful_shutdown(Some(grace));
    });
    tracing::info!(url = format!("{scheme}://{address}"), "listening");
    match &config.tls {
        None => server.acceptor(limited).serve(service).await,
        Some(files) => {
            let loaded = tls::load(files).await?;
            tls::reload_on_hangup(files.clone(), loaded.clone())?;
            let acceptor = RustlsAcceptor::new(loaded).handshake_timeout(config.server.header_read_timeout);
            server.acceptor(acceptor.acceptor(limited)).serve(service).await
        }
    }
}

/// A server that waits for heads of requests only so long, be it the first or a later one.
fn with_timeouts(mut server: Server<SocketAddr>, timeout: Duration) -> Server<SocketAddr> {
    server.http_builder().http1().header_read_timeout(timeout);
    server
        .http_builder()
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(timeout)
        .keep_alive_timeout(timeout);
    server
        .first_request_timeout(timeout)
        .accept_error_handler(|client, error| tracing::debug!(?client, %error, "a connection was not taken"))
}
