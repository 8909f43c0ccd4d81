//! stub
use crate::args::StatusArgs;
use crate::output::Outcome;
use crate::{CliError, Context};
pub fn run(_args: &StatusArgs, _context: &Context) -> Result<Outcome, CliError> {
    Ok(Outcome::ok())
}
