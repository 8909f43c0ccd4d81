//! One batch of sites that are due: a run like any other, told in the log site by site.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_engine::{BackupRequest, SiteBackup, SiteOutcome, backup};
use lifeboat_model::{Fault, Faulty, Mark, SiteId};
use serde_json::json;

use super::facts::Rules;
use super::telling;
use crate::output::Failed;
use crate::verbs::backup::{failed_source, failure, missed, name, published};
use crate::{CliError, Context, words};

/// What came of a batch.
pub(super) struct Came {
    pub done: Vec<SiteId>,
    /// Sites to be tried again; true: what was in the way passes, or was not the site's own.
    pub failed: Vec<(SiteId, bool)>,
    /// Sites that the sources listed meanwhile: some may be new.
    pub listed: BTreeSet<SiteId>,
    /// What is told once, until it is otherwise: sources that have failed, customers who are in no snapshot.
    pub troubles: Vec<Failed>,
    /// A source has failed: those of its sites that nobody else lists were not looked at.
    pub has_failed_source: bool,
}

pub(super) async fn back_up(
    job: &str,
    sites: Vec<SiteId>,
    rules: Arc<Rules>,
    context: Context,
) -> Result<Came, CliError> {
    let asked = sites.len();
    let key = context.master_key(&rules.config)?;
    let open = context.open_with(rules.config.clone(), &key).await?;
    let request = BackupRequest { sites, is_a_turn: true, ..BackupRequest::default() };
    let before = (open.engine.usage)().requests;
    let report = backup(&open.engine, &request).await?;
    let requests = (open.engine.usage)().requests.saturating_sub(before);
    let has_failed_source = report.sources.iter().any(|source| source.failure.is_some());
    let troubles = report.sources.iter().flat_map(|source| failed_source(source).into_iter().chain(missed(source)));
    let healthy = report.sources.iter().filter(|source| source.failure.is_none());
    let mut came = Came {
        done: Vec::new(),
        failed: Vec::new(),
        listed: healthy.flat_map(|source| source.sites.iter().cloned()).collect(),
        troubles: troubles.collect(),
        has_failed_source,
    };
    for site in &report.sites {
        tell(job, site, has_failed_source);
        match verdict(site, has_failed_source) {
            Verdict::Done => came.done.push(site.site.clone()),
            Verdict::Failed { passes } => came.failed.push((site.site.clone(), passes)),
            Verdict::Stopped => {}
        }
    }
    let of = |wanted: &str| report.sites.iter().filter(|site| name(site) == wanted).count();
    let (new, same, gone, failed) = (of("published"), of("unchanged"), of("vanished"), came.failed.len());
    let added: u64 = report.sites.iter().filter_map(published).map(|record| record.added_bytes).sum();
    let run = report.run;
    tracing::info!(job, %run, asked, published = new, unchanged = same, vanished = gone, failed, added_bytes = added, requests, "backed up");
    context.output.event(
        "backup",
        json!({
            "job": job, "run": run.0, "asked": asked, "published": new, "unchanged": same, "vanished": gone, "failed": failed,
            "added_bytes": added, "requests": requests,
        }),
    );
    Ok(came)
}

enum Verdict {
    Done,
    Failed { passes: bool },
    Stopped,
}

fn verdict(site: &SiteBackup, has_failed_source: bool) -> Verdict {
    match &site.outcome {
        SiteOutcome::Failed(error) => match error.fault() {
            Fault::Cancelled => Verdict::Stopped,
            fault => Verdict::Failed { passes: fault == Fault::Retry },
        },
        // It may be whole when it is read once more.
        SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) if record.mark == Mark::Incomplete => {
            Verdict::Failed { passes: has_failed_source }
        }
        // A suspect one is for a person to look at: another is no better.
        SiteOutcome::Published(_) | SiteOutcome::Unchanged(_) | SiteOutcome::Vanished { .. } => Verdict::Done,
    }
}

fn tell(job: &str, site: &SiteBackup, has_failed_source: bool) {
    if let SiteOutcome::Failed(error) = &site.outcome
        && error.fault() == Fault::Cancelled
    {
        return tracing::info!(job, site = %site.site, "stopped before it was backed up");
    }
    if let Some(failed) = failure(site, has_failed_source) {
        return telling::failed(job, &failed);
    }
    match published(site) {
        Some(record) => {
            let (mark, entries, bytes) = (words::mark(record.mark), record.entries, record.added_bytes);
            tracing::info!(job, site = %site.site, snapshot = %record.id, mark, entries, added_bytes = bytes, "published");
        }
        None => tracing::debug!(job, site = %site.site, outcome = name(site), "nothing new"),
    }
}
