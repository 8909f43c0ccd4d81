//! The command line: arguments, one call, text. The only place where the parts are wired.
//!
//!   args ──usage──▶ [`args::Cli`] ──▶ verb ──▶ engine ──▶ [`output::Outcome`] ──▶ last line, exit code
//!
//! Invariants: whatever happens - wrong arguments, an error, a panic - the last line of `--json` is
//! one `done` or `error` object and its `exit_code` is the process's; a secret is in no output but
//! the one that shows a new recovery key once.
//!
//! What is not here: anything that another program would want to call (`lifeboat-engine`).

mod arenas;
pub mod args;
mod audit;
pub mod config;
pub mod confirm;
mod context;
mod error;
mod exit;
pub mod key_file;
mod log;
mod memory;
mod only_here;
mod open;
pub mod output;
pub mod progress;
mod routing;
pub mod signal;
mod signals;
pub mod suggest;
mod typed;
mod usage;
mod verbs;
mod words;

#[cfg(test)]
mod command_lines;
#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lifeboat_model::Fault;

pub use context::{Context, Process};
pub use error::{CliError, bad_point};

use args::{Cli, Command};
use output::{Manner, Outcome, Output};
use usage::Parsed;

/// The whole program.
pub fn main() -> ExitCode {
    arenas::limit();
    log::catch_panics();
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(run(&args, Process::current()))
}

/// Runs one command line and returns its exit code.
pub fn run(args: &[OsString], process: Process) -> u8 {
    let (streams, surroundings) = process.split();
    let json = usage::wants_json(args);
    let cli = match usage::parse(args) {
        Parsed::Run(cli) => cli,
        Parsed::Show(text) => {
            let output = Output::new(streams, Manner { json, ..Manner::default() });
            output.line(text.trim_end());
            output.event("text", serde_json::json!({ "text": text }));
            return output.done(&Outcome::ok());
        }
        Parsed::Wrong(error) => return Output::new(streams, Manner { json, ..Manner::default() }).error(&error),
    };
    let Cli { global, command } = *cli;
    let logs = matches!(command, Command::Run);
    let output = Output::new(streams, Manner { json: json || global.json, quiet: global.quiet, logs });
    log::start(&global, logs, &output);
    let context =
        Context::new(global, output.clone(), surroundings).with_typed(typed::typed(args), audit::Asked::of(args));
    match catch_unwind(AssertUnwindSafe(|| verbs::run(command, &context))) {
        Ok(Ok(outcome)) => output.done(&outcome),
        Ok(Err(error)) if error.fault == Fault::Bug => output.error(&with_place(error)),
        Ok(Err(error)) => output.error(&error),
        Err(_) => output.error(&with_place(CliError::bug("internal error"))),
    }
}

/// A bug with the place where it showed.
fn with_place(mut error: CliError) -> CliError {
    if let Some(place) = log::last_panic() {
        error.message = format!("{}: at=`{place}`", error.message);
    }
    error
}
