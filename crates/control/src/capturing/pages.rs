//! Captures of database files: each source is looked at each second, and tried again where something passing is in the way.
//!
//! An epoch that begins takes snapshots of every site, so that its changes lead somewhere; those that are there
//! already, and still are the files, cost nothing.

use std::sync::Arc;

use lifeboat_engine::{BackupRequest, PageIndex, PagesReport, PagesRequest, SiteOutcome, backup, capture_pages};
use lifeboat_model::{Fault, Faulty, SourceName};

use super::{BasesTaken, Capturing, Error, FIRST_WAIT, LONGEST_WAIT, News};

/// Opens the hashes of a source's files, as they were committed last.
pub type OpenPages = dyn Fn(&SourceName) -> Result<Box<dyn PageIndex>, Error> + Send + Sync;

/// How the capture of a source of files ended.
#[derive(Debug)]
pub struct PagesEnd {
    pub source: SourceName,
    /// Of the last stretch; `None`: it never came to its end.
    pub report: Option<PagesReport>,
    pub error: Option<Error>,
}

/// Follows the files of one source until it is told to stop, or is caught up.
pub(super) async fn follow(shared: Arc<Capturing>, request: PagesRequest) -> PagesEnd {
    let source = request.source.clone();
    match follow_on(&shared, &request).await {
        Ok(report) => PagesEnd { source, report, error: None },
        Err(error) => {
            shared.tell_end(&source, (!request.until_caught_up, Some(&error)));
            PagesEnd { source, report: None, error: Some(error) }
        }
    }
}

async fn follow_on(shared: &Capturing, request: &PagesRequest) -> Result<Option<PagesReport>, Error> {
    let goes_on = !request.until_caught_up;
    let (mut wait, mut is_told, mut has_begun) = (FIRST_WAIT, false, false);
    loop {
        // First everything once: what an epoch begins with must be known before its bases are taken.
        let once = PagesRequest { until_caught_up: !(goes_on && has_begun), ..request.clone() };
        let error = match capture_once(shared, &once).await {
            Ok(report) => {
                (wait, is_told) = (FIRST_WAIT, false);
                if report.begun.is_some() && !shared.is_cancelled() {
                    take_bases(shared, request).await;
                }
                if shared.is_cancelled() || !goes_on || has_begun {
                    return Ok(Some(report));
                }
                has_begun = true;
                continue;
            }
            Err(error) => error,
        };
        has_begun = false;
        match error.fault() {
            Fault::Cancelled => return Ok(None),
            Fault::Retry if shared.is_cancelled() => return Ok(None),
            Fault::Retry if goes_on => {
                if !std::mem::replace(&mut is_told, true) {
                    (shared.tell)(&request.source, News::Waiting(error.to_string(), error.hint()));
                }
                shared.pause(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            _ => return Err(error),
        }
    }
}

async fn capture_once(shared: &Capturing, request: &PagesRequest) -> Result<PagesReport, Error> {
    let mut index = (shared.open_pages)(&request.source)?;
    tokio::select! {
        ended = capture_pages(&shared.engine, request, index.as_mut()) => ended,
        () = shared.cancelled_long_ago() => Err(Error::Cancelled),
    }
}

/// A snapshot of every site that has files there.
async fn take_bases(shared: &Capturing, request: &PagesRequest) {
    let listed = tokio::task::block_in_place(|| shared.engine.fleet.look(&Default::default(), false));
    let health = listed.into_iter().find(|health| health.source == request.source);
    let sites = health.map(|health| health.sites).unwrap_or_default();
    (shared.tell)(&request.source, News::TakingBases(sites.len() as u64));
    let taken = match backup(&shared.engine, &BackupRequest { sites, ..BackupRequest::default() }).await {
        Err(error) => BasesTaken { error: Some(error.to_string()), ..BasesTaken::default() },
        Ok(report) => {
            let mut taken = BasesTaken::default();
            for site in report.sites {
                match site.outcome {
                    SiteOutcome::Published(_) | SiteOutcome::Unchanged(_) => taken.good += 1,
                    SiteOutcome::Failed(error) => taken.failed.push((site.site, error.to_string())),
                    SiteOutcome::Vanished { .. } => {}
                }
            }
            taken
        }
    };
    (shared.tell)(&request.source, News::BasesTaken(taken));
}
