//! How the daemon says what failed: a line of the log for each, with the site, the way out and the exit code it would have been.

use crate::CliError;
use crate::output::{Failed, Outcome};

/// A job as a whole failed.
pub(super) fn error(job: &str, error: &CliError) {
    tracing::error!(job, hint = error.hint, exit_code = error.exit_code(), "{}", error.message);
}

/// One thing of several.
pub(super) fn failed(job: &str, failed: &Failed) {
    let Failed { site, message, hint, exit_code } = failed;
    tracing::error!(job, site, hint, exit_code, "{message}");
}

/// Everything that an outcome says failed.
pub(super) fn outcome(job: &str, outcome: &Outcome) {
    outcome.failed.iter().for_each(|one| failed(job, one));
}
