//! Scans of sources of files while the databases are followed: a round each interval, and hints taken in meanwhile.
//!
//! Whatever fails is told once, and tried again the next round: nothing of the databases waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_engine::{ScanReport, ScanRequest, Scanner};
use lifeboat_model::{Fault, Faulty, SiteId, SourceName, Timestamp};

use super::{Capturing, Error, News, POLL};
use crate::ScanNote;

/// How often hints are taken in: the kernel keeps some ten thousand of them.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// What the scans of a source came to.
#[derive(Debug)]
pub struct ScanEnd {
    pub source: SourceName,
    pub rounds: u64,
    /// Scans that were published.
    pub published: u64,
    /// Sites that could not be scanned in the last round, and why.
    pub failed: Vec<(SiteId, String)>,
    pub error: Option<Error>,
}

/// Remembers, for `status`, how a source's last round went.
pub type NoteScan = dyn Fn(&SourceName, &ScanNote) + Send + Sync;

struct Scans {
    shared: Arc<Capturing>,
    scanner: Scanner,
    end: ScanEnd,
    /// What was told already, by site, and is so still.
    told: BTreeMap<SiteId, String>,
    told_round: Option<String>,
    told_unwatched: bool,
}

/// Scans a source until it is told to stop; `once`: one round.
pub(super) async fn scan(shared: Arc<Capturing>, request: ScanRequest, once: bool) -> ScanEnd {
    let end = ScanEnd { source: request.source.clone(), rounds: 0, published: 0, failed: Vec::new(), error: None };
    let every = request.every;
    let mut scans = Scans {
        shared,
        scanner: Scanner::new(request),
        end,
        told: BTreeMap::new(),
        told_round: None,
        told_unwatched: false,
    };
    loop {
        let begun = Instant::now();
        let ended = scans.round().await;
        if once || scans.shared.is_cancelled() {
            scans.end.error = ended.err().filter(|error| error.fault() != Fault::Cancelled);
            return scans.end;
        }
        if let Err(error) = ended {
            scans.tell_trouble(&error);
        }
        scans.listen_till(begun + every).await;
    }
}

impl Scans {
    async fn round(&mut self) -> Result<(), Error> {
        let at = Timestamp::now();
        let report = tokio::select! {
            report = self.scanner.round(&self.shared.engine) => report?,
            () = self.shared.cancelled_long_ago() => return Err(Error::Cancelled),
        };
        self.told_round = None;
        self.end.rounds += 1;
        self.end.published += report.published.len() as u64;
        let note = ScanNote { scanned_at: at, sites: report.sites, failed: report.failed.len() as u64 };
        (self.shared.note_scan)(&self.end.source, &note);
        self.tell(report);
        Ok(())
    }

    fn tell(&mut self, report: ScanReport) {
        let tell = |news| (self.shared.tell)(&self.end.source, news);
        if let Some(reason) = report.unwatched.clone().filter(|_| !self.told_unwatched) {
            self.told_unwatched = true;
            tell(News::Unwatched(reason));
        }
        let now: BTreeMap<SiteId, String> =
            report.failed.iter().map(|(site, error)| (site.clone(), error.to_string())).collect();
        for (site, error) in report.failed.iter().filter(|(site, _)| self.told.get(site) != now.get(site)) {
            tell(News::NotScanned(site.clone(), error.to_string(), error.hint()));
        }
        self.end.failed = now.clone().into_iter().collect();
        self.told = now;
        tell(News::Scanned(report));
    }

    /// The same trouble is told once.
    fn tell_trouble(&mut self, error: &Error) {
        let message = error.to_string();
        if self.told_round.as_ref() != Some(&message) {
            (self.shared.tell)(&self.end.source, News::Waiting(message.clone(), error.hint()));
            self.told_round = Some(message);
        }
    }

    async fn listen_till(&mut self, due: Instant) {
        let mut listened = Instant::now();
        while Instant::now() < due && !self.shared.is_cancelled() {
            tokio::time::sleep(POLL.min(due.saturating_duration_since(Instant::now()))).await;
            if listened.elapsed() >= LISTEN_EVERY {
                tokio::task::block_in_place(|| self.scanner.listen(&self.shared.engine));
                listened = Instant::now();
            }
        }
    }
}
