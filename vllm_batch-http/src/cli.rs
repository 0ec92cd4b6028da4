//! What may stand on the command line?
//!
//! Flags are settings by shorter names: each has its key in the configuration, and its value is checked there. Those of an
//! engine come from `EngineOptions`; `--set` reaches all the others.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, value_parser};
use figment::value::Value;

use crate::engine_options::EngineOptions;
use crate::run_options::{Rules, RunOptions};
use crate::settings::{Given, Origin, Problem, engine_flags};

const EXIT_CODES: &str = "\
Exit codes: 0 all went well, also after a first SIGINT or SIGTERM; 1 it failed; 2 wrong options or configuration. Of run-batch \
also 3 some rows failed (not in vLLM's rules), 4 the deadline came first, 130 cancelled; what was done is kept.";

/// A flag that stands for a setting.
struct Flag {
    name: &'static str,
    key: &'static str,
    value: FlagValue,
    help: &'static str,
}

#[derive(Clone, Copy)]
enum FlagValue {
    /// It takes one, which is called so.
    Named(&'static str),
    /// It stands for one.
    Fixed(&'static str),
}

use FlagValue::{Fixed, Named};

const fn flag(name: &'static str, value: FlagValue, key: &'static str, help: &'static str) -> Flag {
    Flag { name, key, value, help }
}

const COMMON: [Flag; 4] = [
    flag(
        "data",
        Named("DIR"),
        "storage.folder",
        "Folder for files, journals and the database [default: vllm_batch_data]",
    ),
    flag(
        "database",
        Named("URL"),
        "storage.database",
        "sqlite://PATH?mode=rwc or postgres://… [default: in the folder]",
    ),
    flag("log-level", Named("LEVEL"), "log.level", "What is logged, such as warn or info,sqlx=debug [default: info]"),
    flag("log-format", Named("FORMAT"), "log.format", "text or json [default: text]"),
];
const WORKER: [Flag; 1] =
    [flag("max-tasks", Named("N"), "worker.max_tasks", "Tasks of batches that are worked on at a time [default: 4]")];
const SERVER: [Flag; 6] = [
    flag("host", Named("ADDRESS"), "server.host", "Address to listen on [default: 127.0.0.1]"),
    flag("port", Named("PORT"), "server.port", "Port to listen on; 0 for any free one [default: 8000]"),
    flag("insecure", Fixed("true"), "server.insecure", "Listen on an address that others can reach without keys"),
    flag("no-worker", Fixed("0"), "worker.max_tasks", "Do not work on batches: other processes do"),
    flag("no-live", Fixed("false"), "server.live", "Do not answer live requests"),
    flag("no-page", Fixed("false"), "server.page", "Do not serve the web page"),
];

/// The whole command line.
pub(crate) fn command() -> Command {
    let configured = |name: &'static str, about: &'static str| with_configuration(Command::new(name).about(about));
    Command::new("vllm_batch-http")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted OpenAI Batch API: files, batches, live requests, review of answers")
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_engine(with_flags(
            configured("serve", "Serve the API and the web page, and work on batches"),
            COMMON.iter().chain(&WORKER).chain(&SERVER),
        )))
        .subcommand(with_engine(with_flags(
            configured("worker", "Work on batches, beside servers and other workers on the same database"),
            COMMON.iter().chain(&WORKER),
        )))
        .subcommand(run_batch(configured("run-batch", "Answer a file of batch requests without a server")))
        .subcommand(with_flags(
            configured("migrate", "Bring the database up to this version; serve and worker do it by themselves"),
            COMMON.iter(),
        ))
        .subcommand(Command::new("openapi").about("Print the OpenAPI document"))
        .subcommand(hash_key())
}

/// What the flags of a command say.
///
/// # Errors
/// A `--set` without a key or a value.
pub(crate) fn origin(command: &str, matches: &ArgMatches) -> Result<Origin, Problem> {
    let engine: Vec<(String, String)> = engine_flags()
        .get_arguments()
        .map(|arg| (arg.get_id().to_string(), format!("engine.{}", arg.get_id())))
        .collect();
    let named = COMMON.iter().chain(&WORKER).chain(&SERVER);
    let mut flags: Vec<Given> = named.filter_map(|flag| given_by(flag, matches)).collect();
    flags.extend(engine.iter().filter_map(|(id, key)| given(matches, id, key)));
    for pair in matches.get_many::<String>("set").into_iter().flatten() {
        let (key, value) = pair.split_once('=').ok_or_else(|| Problem {
            key: pair.clone(),
            source: Some("--set".to_owned()),
            message: "write it as SECTION.NAME=VALUE".to_owned(),
        })?;
        flags.push(Given { key: key.to_owned(), value: value.into(), source: "--set".to_owned() });
    }
    Ok(Origin { file: matches.get_one::<PathBuf>("config").cloned(), flags, listens: command == "serve" })
}

fn with_configuration(command: Command) -> Command {
    command
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A configuration in TOML [default: that of the variable VLLM_BATCH_CONFIG, if it is set]"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("SECTION.NAME=VALUE")
                .action(ArgAction::Append)
                .help("Any setting of the configuration"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print all settings, without secrets, and who gave each; do nothing else"),
        )
}

fn with_flags<'a>(command: Command, flags: impl Iterator<Item = &'a Flag>) -> Command {
    flags.fold(command, |command, flag| {
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
        let arg = match flag.value {
            Named(value) => arg.value_name(value),
            Fixed(_) => arg.action(ArgAction::SetTrue),
        };
        command.arg(if flag.name == "no-worker" { arg.conflicts_with("max-tasks") } else { arg })
    })
}

fn with_engine(command: Command) -> Command {
    EngineOptions::augment_args(command)
}

fn run_batch(command: Command) -> Command {
    let path = |name: &'static str, short: char, help: &'static str| {
        let arg = Arg::new(name).short(short).long(name).required(true).value_name("FILE").help(help);
        arg.value_parser(value_parser!(PathBuf))
    };
    let command = command
        .arg(path("input-file", 'i', "Requests, one JSON object a line").alias("input"))
        .arg(path("output-file", 'o', "Answers, one JSON object a line, appended as they come").alias("output"))
        .arg(
            Arg::new("contract")
                .long("contract")
                .value_parser(value_parser!(Rules))
                .default_value("vllm")
                .help("Whose rules the file follows"),
        );
    with_engine(RunOptions::augment_args(command))
}

fn hash_key() -> Command {
    Command::new("hash-key")
        .about("Make an API key and what the configuration keeps of it")
        .arg(Arg::new("name").long("name").default_value("NAME").help("Whose key it is"))
        .arg(
            Arg::new("stdin")
                .long("stdin")
                .action(ArgAction::SetTrue)
                .help("Hash the key that comes on standard input instead of making one"),
        )
}

fn given_by(flag: &Flag, matches: &ArgMatches) -> Option<Given> {
    let given = given(matches, flag.name, flag.key)?;
    Some(match flag.value {
        Named(_) => given,
        Fixed(value) => Given { value: value.into(), ..given },
    })
}

/// What was typed for a flag.
fn given(matches: &ArgMatches, id: &str, key: &str) -> Option<Given> {
    let is_typed =
        matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine);
    let raw = is_typed.then(|| matches.get_raw(id))??;
    let texts: Vec<String> = raw.map(|text| text.to_string_lossy().into_owned()).collect();
    let value = if let [text] = texts.as_slice() { text.clone().into() } else { Value::from(texts) };
    Some(Given { key: key.to_owned(), value, source: format!("--{}", id.replace('_', "-")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let line = [
            "vllm_batch-http",
            "serve",
            "--port",
            "0",
            "--no-live",
            "--no-worker",
            "--max-num-seqs=8",
            "--auto-tune",
            "--served-model-name",
            "a",
            "--served-model-name",
            "b",
            "--set",
            "limits.max_batches=3",
            "--config",
            "c.toml",
        ];
        let matches = command().get_matches_from(line);
        let (name, matches) = matches.subcommand().expect("a command");
        let origin = origin(name, matches).expect("right flags");
        let flags: Vec<_> =
            origin.flags.iter().map(|given| (given.key.as_str(), given.value.clone(), given.source.as_str())).collect();
        let text = |text: &str| Value::from(text);
        assert_eq!(
            flags,
            [
                ("server.port", text("0"), "--port"),
                ("worker.max_tasks", text("0"), "--no-worker"),
                ("server.live", text("false"), "--no-live"),
                ("engine.served_model_name", Value::from(vec!["a", "b"]), "--served-model-name"),
                ("engine.max_num_seqs", text("8"), "--max-num-seqs"),
                ("engine.auto_tune", text("true"), "--auto-tune"),
                ("limits.max_batches", text("3"), "--set"),
            ]
        );
        assert_eq!((origin.file, origin.listens), (Some("c.toml".into()), true));
    }
}
