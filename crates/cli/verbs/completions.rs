//! `lifeboat completions SHELL`

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, CompletionsArgs};
use crate::output::Outcome;
use crate::{CliError, Context};

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lifeboat", &mut script);
    let script = String::from_utf8(script).map_err(|_| CliError::bug("the completion script is not text"))?;
    context.output.line(script.trim_end());
    context.output.event("completions", json!({ "shell": args.shell.to_string(), "script": script }));
    Ok(Outcome::ok())
}
