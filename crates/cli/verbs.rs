//! One file a verb: arguments in, an [`Outcome`] out.

mod completions;

use crate::args::Command;
use crate::output::Outcome;
use crate::{CliError, Context};

/// Runs one verb to its end.
pub fn run(command: Command, context: &Context) -> Result<Outcome, CliError> {
    match command {
        Command::Completions(args) => completions::run(&args, context),
        Command::Later(verb) => Err(verb.refuse()),
        Command::Demo(args) if args.postgres.is_some() => Err(CliError::not_in_this_version("flag", "--postgres")
            .with_hint("leave the flag out: the demo needs no server")),
        Command::Restore(args) => {
            args.check_version()?;
            wait_for_engine(context)
        }
        _ => wait_for_engine(context),
    }
}

fn wait_for_engine(context: &Context) -> Result<Outcome, CliError> {
    let config = context.config()?;
    context.master_key(&config)?;
    context.tell_notes(&config);
    Err(CliError::bug("the verb is not wired yet"))
}
