//! What is the server told to do?
//!
//! One [`Config`], from defaults, a TOML file, variables `VLLM_BATCH_SECTION__NAME` and flags; each later one wins. It is
//! checked as a whole: either all of it is right, or every [`Problem`] is told at once, with who gave the setting.

mod engine;
mod keys;
mod reader;
mod sources;
mod values;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use engine::{EngineConfig, command as engine_flags};
pub(crate) use keys::AuthConfig;
pub(crate) use reader::Problem;
use reader::{Reader, Setting};
pub(crate) use sources::Given;
use sources::{Layers, file_of_environment};
use tracing_subscriber::EnvFilter;
pub(crate) use values::{DatabaseUrl, Secret};
use values::{Field, quoted};
use vllm_batch::jobs::{AllowedHost, InvalidSecret, SenderOptions, WebhookSecret};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) auth: AuthConfig,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) limits: LimitsConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) storage: StorageConfig,
    pub(crate) worker: WorkerConfig,
    pub(crate) retention: RetentionConfig,
    pub(crate) webhooks: WebhooksConfig,
    pub(crate) curation: CurationConfig,
    pub(crate) log: LogConfig,
    settings: Vec<Setting>,
}

/// `[server]`: who can reach it, and how long connections may take.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    pub(crate) address: SocketAddr,
    /// Whether the web page is served.
    pub(crate) page: bool,
    /// Whether live requests are answered.
    pub(crate) live: bool,
    pub(crate) max_connections: usize,
    pub(crate) header_read_timeout: Duration,
    pub(crate) body_read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
}

/// `[tls]`: files in PEM format.
#[derive(Debug, Clone)]
pub(crate) struct TlsConfig {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// `[limits]`: how much may be asked.
#[derive(Debug, Clone)]
// The names are those of the settings.
#[allow(clippy::struct_field_names)]
pub(crate) struct LimitsConfig {
    pub(crate) max_live_requests: usize,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_file_bytes: u64,
    pub(crate) max_requests_per_batch: usize,
    pub(crate) max_batches: Option<u64>,
}

/// `[storage]`: where everything is kept.
#[derive(Debug, Clone)]
pub(crate) struct StorageConfig {
    /// For files, the journals of workers, and a database that is a file.
    pub(crate) folder: PathBuf,
    pub(crate) database: DatabaseUrl,
}

/// `[worker]`: how batches are worked on.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    /// Tasks at a time in this process; 0 for no work.
    pub(crate) max_tasks: usize,
    pub(crate) name: Option<String>,
    pub(crate) chunk_size: usize,
    pub(crate) lease_time: Duration,
    pub(crate) cancel_time: Duration,
    pub(crate) max_failures: i64,
}

/// `[retention]`: how long things are kept after they ended; none for ever.
#[derive(Debug, Clone)]
pub(crate) struct RetentionConfig {
    pub(crate) results: Option<Duration>,
    pub(crate) batches: Option<Duration>,
}

/// `[webhooks]`: messages to receivers.
#[derive(Debug, Clone)]
pub(crate) struct WebhooksConfig {
    pub(crate) secrets: Vec<WebhookSecret>,
    pub(crate) allow_http: bool,
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    pub(crate) allowed_ports: Vec<u16>,
    pub(crate) timeout: Duration,
    /// Between the tries of a message.
    pub(crate) pauses: Vec<Duration>,
}

/// `[curation]`: schemas, and the server where people review.
#[derive(Debug, Clone)]
pub(crate) struct CurationConfig {
    pub(crate) schemas: Option<PathBuf>,
    pub(crate) allow_register: bool,
    pub(crate) label_studio_header: String,
    pub(crate) label_studio_secret: Option<Secret>,
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    /// Directives of `tracing`, such as `info,sqlx=warn`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What a configuration is read from, besides the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// A TOML file; without one, that of `VLLM_BATCH_CONFIG`.
    pub(crate) file: Option<PathBuf>,
    /// In the order of the command line.
    pub(crate) flags: Vec<Given>,
    /// Whether the command listens to a network.
    pub(crate) listens: bool,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub(crate) fn load(origin: Origin) -> Result<Self, Vec<Problem>> {
        let file = origin.file.or_else(file_of_environment);
        let mut reader = Reader::new(Layers::read(file, origin.flags));
        let auth = AuthConfig::read(&mut reader);
        let server = ServerConfig::read(&mut reader, origin.listens && auth.keys.is_empty());
        let tls = TlsConfig::read(&mut reader);
        let allowed_origins = read_origins(&mut reader);
        let limits = LimitsConfig::read(&mut reader);
        let engine = EngineConfig::read(&mut reader);
        let storage = StorageConfig::read(&mut reader);
        let worker = WorkerConfig::read(&mut reader);
        let retention = RetentionConfig::read(&mut reader);
        let webhooks = WebhooksConfig::read(&mut reader);
        let curation = CurationConfig::read(&mut reader);
        let log = LogConfig::read(&mut reader);
        let settings = reader.finish()?;
        let engine = engine.ok_or_else(|| {
            let message = "its settings do not go together".to_owned();
            vec![Problem { key: "engine".to_owned(), source: None, message }]
        })?;
        Ok(Self {
            server,
            tls,
            auth,
            allowed_origins,
            limits,
            engine,
            storage,
            worker,
            retention,
            webhooks,
            curation,
            log,
            settings,
        })
    }

    /// All settings as a TOML file, with who gave each, and without secrets.
    pub(crate) fn to_toml(&self) -> String {
        let mut sections: Vec<(&str, String)> = Vec::new();
        for Setting { key, shown, source } in &self.settings {
            let Some((section, name)) = key.split_once('.') else { continue };
            if sections.iter().all(|(known, _)| known != &section) {
                sections.push((section, String::new()));
            }
            let Some((_, lines)) = sections.iter_mut().find(|(known, _)| *known == section) else { continue };
            // Writing into a `String` cannot fail.
            let _ = match (shown, source) {
                (Some(shown), Some(source)) => writeln!(lines, "{name} = {shown} # from {source}"),
                (Some(shown), None) => writeln!(lines, "{name} = {shown}"),
                (None, _) => writeln!(lines, "# {name} is not set"),
            };
        }
        let sections: Vec<String> = sections.iter().map(|(name, lines)| format!("[{name}]\n{lines}")).collect();
        sections.join("\n")
    }
}

impl ServerConfig {
    fn read(reader: &mut Reader, has_no_keys: bool) -> Self {
        let host = reader.get("server.host", IpAddr::from([127, 0, 0, 1]));
        let port = reader.get("server.port", 8000_u16);
        let is_insecure = reader.get("server.insecure", false);
        let message = format!(
            "others can reach {host}, and there are no keys: add one to auth.keys (`vllm_batch-http hash-key` makes it), \
             listen on 127.0.0.1, or let everybody in with --insecure"
        );
        reader.check("server.host", host.is_loopback() || is_insecure || !has_no_keys, &message);
        Self {
            address: SocketAddr::new(host, port),
            page: reader.get("server.page", true),
            live: reader.get("server.live", true),
            max_connections: reader.within("server.max_connections", 2048, 1..=1 << 20) as usize,
            header_read_timeout: time(reader, "server.header_read_timeout", Duration::from_secs(30)),
            body_read_timeout: time(reader, "server.body_read_timeout", Duration::from_secs(30)),
            write_timeout: time(reader, "server.write_timeout", Duration::from_mins(1)),
            shutdown_grace: reader.get("server.shutdown_grace", Duration::from_secs(30)),
        }
    }
}

impl TlsConfig {
    fn read(reader: &mut Reader) -> Option<Self> {
        let certificate: Option<PathBuf> = reader.optional("tls.certificate");
        let key: Option<PathBuf> = reader.optional("tls.key");
        for (name, path) in [("tls.certificate", &certificate), ("tls.key", &key)] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
                reader.problem(name, format!("there is no file {}", path.display()));
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self { certificate, key }),
            (None, None) => None,
            (Some(_), None) => reader.refuse("tls.certificate", "tls.key is missing"),
            (None, Some(_)) => reader.refuse("tls.key", "tls.certificate is missing"),
        }
    }
}

impl LimitsConfig {
    fn read(reader: &mut Reader) -> Self {
        Self {
            max_live_requests: reader.within("limits.max_live_requests", 1024, 1..=1 << 20) as usize,
            max_body_bytes: reader.size("limits.max_body_bytes", 32 << 20),
            max_file_bytes: reader.size("limits.max_file_bytes", 200 << 20),
            max_requests_per_batch: reader.within("limits.max_requests_per_batch", 50_000, 1..=1 << 32) as usize,
            max_batches: reader.limit("limits.max_batches"),
        }
    }
}

impl StorageConfig {
    fn read(reader: &mut Reader) -> Self {
        let folder = reader.get("storage.folder", PathBuf::from("vllm_batch_data"));
        let inside = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
        let database = reader.get("storage.database", DatabaseUrl::new(inside));
        Self { folder, database }
    }
}

impl WorkerConfig {
    fn read(reader: &mut Reader) -> Self {
        let lease_time = reader.get("worker.lease_time", Duration::from_mins(1));
        reader.check("worker.lease_time", lease_time >= Duration::from_secs(3), "it must be 3 seconds or longer");
        Self {
            max_tasks: reader.within("worker.max_tasks", 4, 0..=64) as usize,
            name: reader.optional("worker.name"),
            chunk_size: reader.within("worker.chunk_size", 2000, 1..=1 << 32) as usize,
            lease_time,
            cancel_time: reader.get("worker.cancel_time", Duration::from_mins(10)),
            max_failures: reader.within("worker.max_failures", 3, 1..=1000) as i64,
        }
    }
}

impl RetentionConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut kept = |key: &str, default: Option<Duration>| {
            let Kept(time) = reader.get(key, Kept(default));
            reader.check(key, time != Some(Duration::ZERO), "0 would keep nothing");
            time
        };
        Self {
            results: kept("retention.results", Some(Duration::from_hours(30 * 24))),
            batches: kept("retention.batches", None),
        }
    }
}

/// A time, or `forever`.
#[derive(Clone)]
struct Kept(Option<Duration>);

impl Field for Kept {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "forever" { Ok(Self(None)) } else { Duration::parse(text).map(|time| Self(Some(time))) }
    }

    fn to_toml(&self) -> String {
        self.0.map_or_else(|| quoted("forever"), |time| time.to_toml())
    }
}

impl WebhooksConfig {
    fn read(reader: &mut Reader) -> Self {
        let secrets = reader.secret("webhooks.secret");
        let defaults = SenderOptions::default();
        Self {
            secrets: secrets.map(|secrets| webhook_secrets(reader, &secrets)).unwrap_or_default(),
            allow_http: reader.get("webhooks.allow_http", false),
            allowed_hosts: reader.list("webhooks.allowed_hosts", &[]),
            allowed_ports: reader.list("webhooks.allowed_ports", &[]),
            timeout: time(reader, "webhooks.timeout", defaults.timeout),
            pauses: reader.list("webhooks.pauses", &defaults.pauses),
        }
    }
}

/// One secret, or several with commas between while one is being replaced.
fn webhook_secrets(reader: &mut Reader, secrets: &Secret) -> Vec<WebhookSecret> {
    let mut parsed = Vec::new();
    for secret in secrets.reveal().split(',') {
        match secret.trim().parse() {
            Ok(secret) => parsed.push(secret),
            Err(InvalidSecret) => reader.problem("webhooks.secret", InvalidSecret.to_string()),
        }
    }
    parsed
}

impl CurationConfig {
    fn read(reader: &mut Reader) -> Self {
        let schemas: Option<PathBuf> = reader.optional("curation.schemas");
        if let Some(folder) = schemas.as_ref().filter(|folder| !folder.is_dir()) {
            reader.problem("curation.schemas", format!("there is no folder {}", folder.display()));
        }
        Self {
            schemas,
            allow_register: reader.get("curation.allow_register", false),
            label_studio_header: reader.get("curation.label_studio_header", "x-label-studio-secret".to_owned()),
            label_studio_secret: reader.secret("curation.label_studio_secret"),
        }
    }
}

impl LogConfig {
    fn read(reader: &mut Reader) -> Self {
        let level = reader.get("log.level", "info".to_owned());
        if let Err(error) = EnvFilter::builder().parse(&level) {
            reader.problem("log.level", format!("{error}; write it as info, or as info,sqlx=warn"));
        }
        Self { level, format: reader.get("log.format", LogFormat::Text) }
    }
}

impl Field for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{} is neither text nor json", quoted(other))),
        }
    }

    fn to_toml(&self) -> String {
        quoted(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Those whose pages may use the server, as browsers write them.
fn read_origins(reader: &mut Reader) -> Vec<String> {
    let origins: Vec<String> = reader.list("cors.allowed_origins", &[]);
    for origin in &origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        let message = format!("{} is no origin, as https://example.org is, without a path", quoted(origin));
        reader.check("cors.allowed_origins", is_origin, &message);
    }
    origins
}

/// A time that must not be zero.
fn time(reader: &mut Reader, key: &str, default: Duration) -> Duration {
    let time = reader.get(key, default);
    reader.check(key, !time.is_zero(), "it must not be 0");
    time
}
