//! Which engine does the configuration ask for?

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use vllm_batch::{BatchEngine, Flavour, RemoteEngine};

use super::reader::{Reader, array};
use super::values::{Field, Secret, quoted};
use crate::engine_options::EngineOptions;

/// Who answers requests.
#[derive(Debug, Clone)]
pub(crate) enum EngineConfig {
    /// A model in this process.
    Local(Box<EngineOptions>),
    /// A server that speaks `OpenAI`'s API.
    Remote(RemoteConfig),
}

/// A server that speaks `OpenAI`'s API.
#[derive(Debug, Clone)]
pub(crate) struct RemoteConfig {
    url: String,
    model: Option<String>,
    api_key: Option<Secret>,
    flavour: Flavour,
    max_num_seqs: usize,
    timeout: Duration,
    max_retries: u32,
}

/// The flags of an engine.
pub(crate) fn command() -> Command {
    EngineOptions::augment_args(Command::new("engine").no_binary_name(true).disable_help_flag(true))
}

impl EngineConfig {
    /// Reads the sections `[engine]` and `[remote]`. The keys of the former are the flags of an engine, with `_` for `-`.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let options = local(reader);
        match RemoteConfig::read(reader) {
            Some(remote) => {
                let message = "there is remote.url, too: one of them answers";
                reader.check("engine.model", !reader.is_given("engine.model"), message);
                Some(Self::Remote(remote))
            }
            None => options.map(|options| Self::Local(Box::new(options))),
        }
    }

    /// Loads the model, or makes the connections; notes are for people who wait.
    pub(crate) fn load(&self, note: impl Fn(&str)) -> Result<Arc<dyn BatchEngine>, Box<dyn Error>> {
        Ok(match self {
            Self::Local(options) => Arc::new(options.load(note)?),
            Self::Remote(remote) => Arc::new(remote.connect()?),
        })
    }
}

impl RemoteConfig {
    fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.optional::<String>("remote.url");
        let remote = Self {
            url: url.clone().unwrap_or_default(),
            model: reader.optional("remote.model"),
            api_key: reader.secret("remote.api_key"),
            flavour: reader.get("remote.flavour", Named(Flavour::default())).0,
            max_num_seqs: reader.within("remote.max_num_seqs", 64, 1..=4096) as usize,
            timeout: reader.get("remote.timeout", Duration::from_mins(10)),
            max_retries: reader.get("remote.max_retries", 5),
        };
        reader.check("remote.timeout", !remote.timeout.is_zero(), "it must not be 0");
        reader.check("remote.url", !remote.url.contains('@'), "credentials do not belong there: see remote.api_key");
        url.map(|_| remote)
    }

    fn connect(&self) -> Result<RemoteEngine, Box<dyn Error>> {
        let mut builder = RemoteEngine::builder(self.url.as_str())
            .flavour(self.flavour)
            .discover(true)
            .max_num_seqs(self.max_num_seqs)
            .timeout(self.timeout)
            .max_retries(self.max_retries);
        if let Some(model) = &self.model {
            builder = builder.model(model);
        }
        if let Some(api_key) = &self.api_key {
            builder = builder.api_key(api_key.reveal());
        }
        Ok(builder.build()?)
    }
}

/// A flavour by its name in the configuration.
struct Named(Flavour);

const FLAVOURS: [(&str, Flavour); 3] =
    [("openai", Flavour::OpenAi), ("vllm", Flavour::Vllm), ("llama_cpp", Flavour::LlamaCpp)];

impl Field for Named {
    fn parse(text: &str) -> Result<Self, String> {
        let found = FLAVOURS.into_iter().find(|(name, _)| *name == text);
        found
            .map(|(_, flavour)| Self(flavour))
            .ok_or_else(|| format!("{} is none of {}", quoted(text), FLAVOURS.map(|(name, _)| name).join(", ")))
    }

    fn to_toml(&self) -> String {
        let found = FLAVOURS.into_iter().find(|(_, flavour)| *flavour == self.0);
        quoted(found.map_or("openai", |(name, _)| name))
    }
}

/// Reads each key by the rules of its flag, so that what is right is written once.
fn local(reader: &mut Reader) -> Option<EngineOptions> {
    let command = command();
    let mut all = Vec::new();
    for arg in command.get_arguments() {
        let key = format!("engine.{}", arg.get_id());
        let (texts, source) = reader.texts(&key);
        let shown = texts.as_deref().map_or_else(|| default_of(arg), |texts| Some(shown(arg, texts)));
        reader.show(&key, shown, source);
        match arguments(arg, &texts.unwrap_or_default()).and_then(|given| checked(&command, given)) {
            Ok(given) => all.extend(given),
            Err(message) => reader.problem(&key, message),
        }
    }
    let matches = command.try_get_matches_from(all).ok()?;
    EngineOptions::from_arg_matches(&matches).ok()
}

/// The arguments that say what a key says.
fn arguments(arg: &Arg, texts: &[String]) -> Result<Vec<String>, String> {
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    match (arg.get_action(), texts) {
        (ArgAction::SetTrue, [text]) => Ok(if bool::parse(text)? { vec![flag] } else { Vec::new() }),
        (ArgAction::Append, texts) => Ok(texts.iter().map(|text| format!("{flag}={text}")).collect()),
        (_, []) => Ok(Vec::new()),
        (_, texts) => Ok(vec![format!("{flag}={}", texts.join(","))]),
    }
}

/// The arguments, unless the flag does not take them.
fn checked(command: &Command, given: Vec<String>) -> Result<Vec<String>, String> {
    match command.clone().try_get_matches_from(&given) {
        Ok(_) => Ok(given),
        Err(error) => {
            let text = error.to_string();
            let lines = text.trim_start_matches("error: ").lines().take_while(|line| !line.starts_with("For more"));
            Err(lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
        }
    }
}

fn default_of(arg: &Arg) -> Option<String> {
    match (arg.get_action(), arg.get_default_values()) {
        (ArgAction::SetTrue, _) => Some("false".to_owned()),
        (ArgAction::Append, _) => Some(array(&[])),
        (_, []) => None,
        (_, [default, ..]) => Some(literal(&default.to_string_lossy())),
    }
}

fn shown(arg: &Arg, texts: &[String]) -> String {
    match (arg.get_action(), texts) {
        (ArgAction::Append, texts) => array(texts),
        (_, texts) => literal(&texts.join(",")),
    }
}

/// Numbers and truth values as they are, texts in quotes.
fn literal(text: &str) -> String {
    let is_bare = text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok();
    if is_bare { text.to_owned() } else { quoted(text) }
}
