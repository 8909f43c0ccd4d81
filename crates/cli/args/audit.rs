//! Arguments of `audit`: who did what.

use clap::{Args, Subcommand};
use lifeboat_model::SiteId;

use super::site::site_id;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Prove that no entry of the audit log was changed, moved or taken away
    Verify,
    /// Who did what to which sites, and who looked, newest first
    List(AuditListArgs),
}

#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// Only entries that are about this site, or about more sites than an entry names
    #[arg(long, value_name = "SITE", value_parser = site_id)]
    pub site: Option<SiteId>,
    /// Only entries written at this time or later: RFC 3339 with a zone, or a duration ago such as `2h`
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// So many entries at most [default: 100; with --since all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}
