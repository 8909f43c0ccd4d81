//! Arguments of `recover`: many sites at once.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use lifeboat_model::{BystanderChoice, RecoveryId, SiteId};

use super::restore::{ApprovalArgs, VerifyDepth};
use super::site::site_id;

const LIST_HELP: &str =
    "A file with a site a line: SITE[,PRIORITY[,DEADLINE]]; lower priorities first, deadlines in RFC 3339";

fn recovery_id(text: &str) -> Result<RecoveryId, lifeboat_model::IdError> {
    RecoveryId::parse(text)
}

#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// Say what bringing many sites back would do; nothing is changed
    Plan(RecoverPlanArgs),
    /// Do what an approved plan says, or go on with it
    Run(RecoverRunArgs),
    /// How far a recovery is; without one, which there are
    Status(RecoverStatusArgs),
    /// Begin no other site until `resume`
    Pause(RecoverIdArgs),
    /// Go on after a pause or a halt
    Resume(RecoverIdArgs),
    /// Leave sites out that wait or have failed
    Skip(RecoverSkipArgs),
    /// Let failed or skipped sites wait again; without sites, all that have failed
    Retry(RecoverRetryArgs),
    /// Change the order of sites that wait
    Reprioritise(RecoverPriorityArgs),
    /// Note that restored sites were accepted by their owners, or opened to their users
    Accept(RecoverAcceptArgs),
    /// Put back what a recovery replaced and removed: a recovery of its own
    Undo(RecoverUndoArgs),
    /// Write down what happened, site by site, and verify the receipts
    Report(RecoverReportArgs),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("moment").required(true).args(["at", "before_damage"])))]
#[command(group(ArgGroup::new("which").required(true).args(["sites", "list", "vanished_since"])))]
pub struct RecoverPlanArgs {
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
    #[arg(long = "sites", value_name = "FILE", help = LIST_HELP)]
    pub list: Option<PathBuf>,
    /// Every site that was there at this time or later, and is in no source now
    #[arg(long, value_name = "T")]
    pub vanished_since: Option<String>,
    #[arg(long, value_name = "T", help = super::site::AT_HELP)]
    pub at: Option<String>,
    /// Each site as it was before what removed most of it, see `find-damage`
    #[arg(long)]
    pub before_damage: bool,
    /// How far back damage is looked for
    #[arg(long, value_name = "T", default_value = "1d", requires = "before_damage")]
    pub since: String,
    /// How many sites are meant: another number is refused
    #[arg(long, value_name = "N")]
    pub expect: usize,
    /// Write the plan into this new file, too
    #[arg(short, long, value_name = "PLAN")]
    pub output: Option<PathBuf>,
    /// Only what is missing now comes back; what was written since stays
    #[arg(long)]
    pub keep_later: bool,
    /// Read everything staged back before the switch
    #[arg(long, value_name = "DEPTH")]
    pub verify: Option<VerifyDepth>,
    /// Leave out what is damaged in the repository, by name
    #[arg(long)]
    pub skip_damaged: bool,
}

#[derive(Debug, Args)]
pub struct RecoverRunArgs {
    /// The file that `recover plan -o` wrote, or the recovery's id
    #[arg(value_name = "PLAN")]
    pub recovery: String,
    #[command(flatten)]
    pub approval: ApprovalArgs,
    /// So many sites at once [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,
    /// Sites beside it that are looked at before and after: none, all, or sample:N [default: the configuration's]
    #[arg(long, value_name = "WHICH")]
    pub bystanders: Option<BystanderChoice>,
    /// A bystander that differs afterwards fails the proof, unless the change log says that its own users did it
    #[arg(long)]
    pub bystanders_quiet: bool,
    /// Put out the process that runs this recovery, when it is surely dead or cut off
    #[arg(long)]
    pub take_over: bool,
    #[command(flatten)]
    pub page: RecoverPageArgs,
}

/// A page for those who look on.
#[derive(Debug, Args)]
pub struct RecoverPageArgs {
    /// Write the report into this directory, anew every few seconds: report.html, .json and .csv
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Only numbers and the curve, for everybody: no site, no message
    #[arg(long, requires = "report")]
    pub public: bool,
}

#[derive(Debug, Args)]
pub struct RecoverStatusArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: Option<RecoveryId>,
    /// Stay, and show what happens
    #[arg(short, long, requires = "recovery")]
    pub follow: bool,
    /// Show every site
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub page: RecoverPageArgs,
}

#[derive(Debug, Args)]
pub struct RecoverIdArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
}

#[derive(Debug, Args)]
pub struct RecoverSkipArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id, required = true)]
    pub sites: Vec<SiteId>,
    /// Why, for the report
    #[arg(long, value_name = "TEXT", default_value = "skipped by hand")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct RecoverRetryArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
}

#[derive(Debug, Args)]
pub struct RecoverPriorityArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id, required = true)]
    pub sites: Vec<SiteId>,
    /// Lower ones begin first; a list without priorities has 100
    #[arg(long, value_name = "N")]
    pub priority: u32,
}

#[derive(Debug, Args)]
pub struct RecoverAcceptArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id, required = true)]
    pub sites: Vec<SiteId>,
    /// Their users are back
    #[arg(long)]
    pub opened: bool,
    /// Who accepted them, for the report
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
}

#[derive(Debug, Args)]
pub struct RecoverUndoArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// Write the plan into this new file, too
    #[arg(short, long, value_name = "PLAN")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RecoverReportArgs {
    /// The recovery
    #[arg(value_name = "RECOVERY", value_parser = recovery_id)]
    pub recovery: RecoveryId,
    /// Write it into this directory, a new or an empty one: report.html, .json and .csv
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only numbers and the curve, for everybody: no site, no message
    #[arg(long, requires = "out")]
    pub public: bool,
    /// Check the signature of every receipt
    #[arg(long)]
    pub verify: bool,
    /// Compare the receipts in this report.json with those that were signed
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub from: Option<PathBuf>,
}
