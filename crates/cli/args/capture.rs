//! Arguments of the verbs that follow changes, and that say how all is.

use std::path::PathBuf;

use clap::Args;
use lifeboat_model::SourceName;

use super::site::source_name;

#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// End when everything that had happened by now is in the change log; else go on until Ctrl-C or SIGTERM (exit 0)
    #[arg(long)]
    pub until_caught_up: bool,
    /// Only this source, whatever the policy says; may be given again
    #[arg(long = "source", value_name = "SOURCE", value_parser = source_name)]
    pub sources: Vec<SourceName>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Every site, not only those that are not as promised
    #[arg(long)]
    pub all: bool,
    /// Tell notifiers and the ping what they do not know yet: what began, lasts long, or is over
    #[arg(long)]
    pub notify: bool,
    /// Write metrics for Prometheus into this file, as a whole
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
}
