//! Arguments of `drill`: restores that are rehearsed.

use clap::{ArgGroup, Args};
use lifeboat_model::SiteId;

use super::site::site_id;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sites", "sample", "recovery"])))]
pub struct DrillArgs {
    /// The sites, one after the other
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
    /// The N sites that were in no drill for longest, or never, one after the other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// N sites by chance, as if an incident had taken them: as many at once as `recover run` restores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub recovery: Option<u32>,
    #[arg(long, value_name = "T", help = super::site::AT_HELP)]
    pub at: Option<String>,
    /// Sites at once; when it is not given 1, and with --recovery the configuration's `recovery.parallel`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,
}
