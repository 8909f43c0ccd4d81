//! Reading the arguments, and telling wrong ones in our own words.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, Error as ClapError, ErrorKind};
use clap::{CommandFactory, Parser};
use lifeboat_model::IdError;

use crate::CliError;
use crate::args::Cli;

/// What the arguments ask for.
pub enum Parsed {
    Run(Box<Cli>),
    /// `--help` or `--version`: this text and nothing else.
    Show(String),
    Wrong(CliError),
}

pub fn parse(args: &[OsString]) -> Parsed {
    match Cli::try_parse_from(args) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Parsed::Show(error.render().to_string())
        }
        Err(error) => Parsed::Wrong(explain(&error, args)),
    }
}

/// Whether JSON was asked for, also when the arguments as a whole cannot be read.
pub fn wants_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// Clap's several paragraphs as one message and one hint.
fn explain(error: &ClapError, args: &[OsString]) -> CliError {
    let text = error.render().to_string();
    let missing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if missing.contains(&error.kind()) {
        return CliError::usage("no command given").with_hint(match command_of(&text).as_str() {
            "lifeboat" => "see `lifeboat --help`, or start with `lifeboat demo`".to_owned(),
            command => format!("see `{command} --help`"),
        });
    }
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut hints = Vec::new();
    for line in paragraphs.flat_map(str::lines).map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        }
    }
    let asks_for_help = error.get(ContextKind::InvalidSubcommand) == Some(&ContextValue::String("help".to_owned()));
    if matches!(error.source().and_then(|cause| cause.downcast_ref()), Some(IdError::NotHex { .. })) {
        hints = vec![match command_named(args).starts_with("lifeboat recover") {
            true => "`lifeboat recover status` lists the recoveries, each with its id".to_owned(),
            false => "`lifeboat points SITE` lists the ids, each with what it is of".to_owned(),
        }];
    } else if hints.is_empty() || asks_for_help {
        hints = vec![format!("see `{} --help`", command_named(args))];
    }
    CliError::usage(message).with_hint(hints.join("; "))
}

/// The command that arguments name, however much else of them is wrong.
fn command_named(args: &[OsString]) -> String {
    let (mut command, mut words) = (Cli::command(), vec!["lifeboat".to_owned()]);
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if let Some(inner) = command.find_subcommand(word).filter(|inner| !inner.is_hide_set()) {
            words.push(word.to_owned());
            command = inner.clone();
        }
    }
    words.join(" ")
}

/// The command that a text's usage line is about.
fn command_of(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: ")).unwrap_or("lifeboat");
    let words = usage.split_whitespace().take_while(|word| !word.starts_with(['[', '<', '-']));
    words.collect::<Vec<_>>().join(" ")
}
