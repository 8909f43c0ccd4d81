//! How the fleet is: what is asked of sources, store and host, as facts for the judgement of alarms.
//!
//! ```text
//! captured sources ─▶ how far is the log, what does the server keep for it, did anything drift?     ┐
//! sites            ─▶ how new is the newest moment that every part can be put back to               ├─▶ Facts
//! runs, catalog    ─▶ backups that fail, damage that a check found, who could not be told           │
//! host             ─▶ room on its disks                                                             ┘
//! ```
//!
//! It looks, and changes nothing but the catalog's notes of what it saw. The daemon calls [`assess`] once a cycle, and
//! [`without_store`] when that fails.
//!
//! What is not here: what is an alarm (`lifeboat-control`), how it looks (`status`).

mod host;
mod scans;
mod sites;
mod sources;

use futures_util::stream::{self, StreamExt};
use lifeboat_control::alarms::{Assessed, Facts, NotifierHealth, RepositoryFacts, SourceFacts, Trouble};
use lifeboat_model::{Fault, SiteId, Timestamp};

use super::sites::{Known, PARALLEL, believed_line_of, line_of};
use crate::open::Open;
use crate::output::Failed;
use crate::{CliError, Context};

pub(super) use host::{HostAlone, disks, without_store};
pub(super) use scans::ScanStatus;
pub(super) use sites::{Gone, Reach, SiteStatus, reach};
pub(super) use sources::SourceStatus;
pub(super) use sources::all as captured;

/// Runs that are looked at beyond those in which a site has to have failed: some may not have looked at it.
const RUNS_BESIDE: usize = 2;

/// What was found.
pub(super) struct Assessment {
    pub facts: Facts,
    pub known: Known,
    pub sites: Vec<SiteStatus>,
    pub sources: Vec<SourceStatus>,
    pub scans: Vec<ScanStatus>,
    /// Sites whose state in the store cannot be read.
    pub failed: Vec<Failed>,
}

/// How much of what the catalog says of sites is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing: the bucket is asked for each site.
    Each,
    /// What the newest run does not gainsay. What other hosts did to a site since is not seen.
    Catalog,
}

/// Asks everybody.
///
/// # Errors
/// When the store does not answer. What is damaged of one site is a fact of that site.
pub(super) async fn assess(open: &Open, ask: Ask, context: &Context) -> Result<Assessment, CliError> {
    let now = Timestamp::now();
    let sources = sources::all(open).await?;
    let scans = scans::all(open);
    let runs = usize::try_from(open.config.alarms.limits.backup_failures).unwrap_or(usize::MAX);
    let known = Known::gather_of(open, context, runs.saturating_add(RUNS_BESIDE)).await?;
    let recovery_key_verified = Some(super::key::is_proven(&open.engine.repository).await?);
    let checks = open.memory.checks();
    let asked = known.sites().into_iter().map(async |site| {
        let line = match ask {
            Ask::Each => line_of(site, &known, open).await?,
            Ask::Catalog => believed_line_of(site, &known, open).await?,
        };
        SiteStatus::of(line, (&sources, &known), open).await
    });
    let asked: Vec<_> = stream::iter(asked).buffered(PARALLEL).collect().await;
    let (mut sites, mut site_facts, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (site, asked) in known.sites().into_iter().zip(asked) {
        match asked {
            Ok(status) => {
                site_facts.push(status.facts(&open.config, &known, checks.sites.get(site)));
                sites.push(status);
            }
            // The damage of one site must not hide the others.
            Err(error) if error.fault == Fault::Damage => {
                failed.push(Failed::of_site(site, &error));
                site_facts.push(unreadable(site, error, open));
            }
            Err(error) => return Err(error),
        }
    }
    let new = sites.iter().filter(|status| status.is_new(&known)).map(|status| status.line.site.clone()).collect();
    let all_answer = known.looks.iter().all(|look| look.failure.is_none());
    let new = open.memory.new_sites(&new, all_answer);
    site_facts.iter_mut().for_each(|facts| facts.new_since = new.get(&facts.site).copied());
    let facts = Facts {
        at: now,
        assessed: Assessed::All,
        repository: RepositoryFacts { failure: None, recovery_key_verified },
        sources: source_facts(open, &known, (&sources, &scans)),
        sites: site_facts,
        disks: disks(&open.config),
        notifiers: notifiers(open),
        jobs: open.memory.job_troubles(),
    };
    Ok(Assessment { facts, known, sites, sources, scans, failed })
}

fn unreadable(site: &SiteId, error: CliError, open: &Open) -> lifeboat_control::alarms::SiteFacts {
    let trouble = Trouble { reason: error.message, hint: error.hint };
    sites::unreadable(site.clone(), &open.config, trouble)
}

/// Those that are configured: another one has nobody to be told.
fn notifiers(open: &Open) -> Vec<NotifierHealth> {
    let names = crate::signals::names(&open.config);
    open.memory.notifiers().into_iter().filter(|health| names.contains(&health.name)).collect()
}

fn source_facts(open: &Open, known: &Known, (captured, scans): (&[SourceStatus], &[ScanStatus])) -> Vec<SourceFacts> {
    let checks = open.memory.checks();
    let trouble = |(reason, hint): &(String, String)| Trouble {
        reason: reason.clone(),
        hint: Some(hint.clone()).filter(|hint| !hint.is_empty()),
    };
    let facts = open.config.sources.iter().map(|source| {
        let name = &source.name;
        let look = known.looks.iter().find(|look| look.source == *name);
        SourceFacts {
            source: name.clone(),
            failure: look.and_then(|look| look.failure.as_ref()).map(trouble),
            left_out: look
                .and_then(|look| look.missed.as_ref())
                .map(|missed| Trouble { reason: missed.message.clone(), hint: missed.hint.clone() }),
            capture: captured
                .iter()
                .find(|status| status.source == *name)
                .map(|status| status.facts(open.config.capture.slot_limit_bytes)),
            scan: scans.iter().find(|status| status.source == *name).map(|status| status.facts.clone()),
            damage: checks.logs.get(name).and_then(|seen| seen.damage.clone()),
        }
    });
    facts.collect()
}
