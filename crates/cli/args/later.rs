//! Verbs of later versions: known by name, hidden from the help, refused with a clear text.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::CliError;

// Whatever else was typed; it is not looked at.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct AnyArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<OsString>,
}

// A plain comment: a doc comment would become the help of the whole program.
#[derive(Debug, Subcommand)]
pub enum LaterVerb {
    #[command(hide = true)]
    Run(AnyArgs),
}

impl LaterVerb {
    /// The refusal, with what to do instead today.
    pub fn refuse(&self) -> CliError {
        let (verb, instead) = match self {
            Self::Run(_) => ("run", "use the systemd timer in config/systemd for a nightly `lifeboat backup --all`"),
        };
        CliError::not_in_this_version("verb", verb).with_hint(instead)
    }
}
