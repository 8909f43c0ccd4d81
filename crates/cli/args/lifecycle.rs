//! Arguments of the verbs at the end of a point's life.

use clap::{ArgGroup, Args};
use lifeboat_model::{HoldId, IdError, SiteId, SnapshotId};

use super::ApprovalArgs;
use super::site::site_id;

fn snapshot_id(text: &str) -> Result<SnapshotId, IdError> {
    SnapshotId::parse(text.strip_prefix("snapshot:").unwrap_or(text))
}

fn hold_id(text: &str) -> Result<HoldId, IdError> {
    HoldId::parse(text)
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sites", "all"])))]
pub struct ForgetArgs {
    /// The sites
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
    /// Every site that has points
    #[arg(long)]
    pub all: bool,
    /// These points of one site, whatever the policy says
    #[arg(long, value_name = "ID", value_parser = snapshot_id, conflicts_with_all = ["all", "everything"])]
    pub snapshot: Vec<SnapshotId>,
    /// All points of one site, the newest among them: it is gone for good
    #[arg(long, conflicts_with = "all")]
    pub everything: bool,
    /// How many points you expect to be forgotten: any other number is refused
    #[arg(long, value_name = "N")]
    pub expect: Option<u64>,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}

impl ForgetArgs {
    /// All sites by their policies, with nobody looking.
    pub fn by_rules() -> Self {
        let approval = ApprovalArgs { dry_run: false, yes: true, plan: None };
        Self { sites: Vec::new(), all: true, snapshot: Vec::new(), everything: false, expect: None, approval }
    }
}

#[derive(Debug, Args)]
pub struct UndeleteArgs {
    /// The site
    #[arg(value_parser = site_id)]
    pub site: SiteId,
    /// Only these points [default: all that are forgotten]
    #[arg(long, value_name = "ID", value_parser = snapshot_id)]
    pub snapshot: Vec<SnapshotId>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["note", "release"])))]
pub struct HoldArgs {
    /// The sites
    #[arg(value_name = "SITE", required = true, value_parser = site_id)]
    pub sites: Vec<SiteId>,
    /// Keep all of their points until the hold is released; why, for whoever finds it
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Release all holds of the sites instead, or the one with this id
    #[arg(long, value_name = "ID", num_args = 0..=1, value_parser = hold_id)]
    pub release: Option<Option<HoldId>>,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only these sites, and no change log [default: every site that was ever backed up, and the logs]
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
    /// Do it; without, it is only shown
    #[arg(short, long)]
    pub yes: bool,
    /// Only show it, as without --yes
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ShredArgs {
    /// The site
    #[arg(value_parser = site_id)]
    pub site: SiteId,
    /// Who asked for it and why: it is kept with the fact that the site was erased
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The site is still in a source, and may be: its next backup begins anew
    #[arg(long)]
    pub although_listed: bool,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}
