//! Scans of one source of files, over and over: which of its sites are walked, and when.
//!
//! ```text
//! changes in a site's tree ─▶ watch ─ a hint ─▶ walked at the next round ─▶ scan (`backup::scan`)
//! every hour, the first round, a hint that was lost, no watch ─▶ every site is walked
//! ```
//!
//! Invariant (hints-only-hint): what the watch does not say is found all the same, when every site is walked the next time.
//!
//! What is not here: when a round is due (`lifeboat-control`), and what a scan is (`backup::scan`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lifeboat_model::{Fault, Faulty, RunSource, SiteId, SourceName};
use lifeboat_source::files::{FilesSource, Hint, Watch};

use crate::backup::{ScanMemory, Scanned, last_run, scan_sites};
use crate::fleet::AnySource;
use crate::{Engine, Error};

/// What to scan.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    pub source: SourceName,
    /// Between two rounds.
    pub every: Duration,
    /// However quiet a site is, it is walked so often.
    pub walk_all_every: Duration,
    /// Take hints from the kernel; without, every round walks every site.
    pub watches: bool,
}

impl ScanRequest {
    pub const EVERY: Duration = Duration::from_secs(300);
    pub const WALK_ALL_EVERY: Duration = Duration::from_secs(3_600);
}

/// What one round did.
#[derive(Debug, Default)]
pub struct ScanReport {
    /// Sites that the source lists.
    pub sites: u64,
    /// Sites whose trees were walked.
    pub walked: u64,
    /// Sites of which a scan was published.
    pub published: Vec<SiteId>,
    pub added_bytes: u64,
    /// Sites that could not be scanned now, and why; they are walked again the next round.
    pub failed: Vec<(SiteId, Error)>,
    /// Why there are no hints: told each round.
    pub unwatched: Option<String>,
}

/// A source that is scanned for as long as this lives.
pub struct Scanner {
    request: ScanRequest,
    memory: ScanMemory,
    watch: Option<Watch>,
    /// Why there is no watch.
    unwatched: Option<String>,
    /// Sites to be walked in the next round.
    wanted: BTreeSet<SiteId>,
    walked_all: Option<Instant>,
    /// How the last run found the source: whether it has failed since.
    before: Option<BTreeMap<SourceName, RunSource>>,
}

impl Scanner {
    pub fn new(request: ScanRequest) -> Self {
        let (watch, unwatched) = match request.watches.then(Watch::new) {
            None => (None, None),
            Some(Ok(watch)) => (Some(watch), None),
            Some(Err(error)) => (None, Some(told(&error))),
        };
        let (memory, wanted) = (ScanMemory::new(request.every), BTreeSet::new());
        Self { request, memory, watch, unwatched, wanted, walked_all: None, before: None }
    }

    /// Takes in what the watch says. To be called often: the kernel keeps only so much.
    pub fn listen(&mut self, engine: &Engine) {
        let Ok(source) = files(engine, &self.request.source) else { return };
        if let Some(watch) = &mut self.watch
            && let Err(error) = watch.listen(source)
        {
            self.stop_watching(&error);
        }
    }

    /// Scans what is due. Must run on a multi-threaded runtime.
    pub async fn round(&mut self, engine: &Engine) -> Result<ScanReport, Error> {
        let source = files(engine, &self.request.source)?;
        let listed = self.list(engine).await?;
        let is_due = self.walked_all.is_none_or(|at| at.elapsed() >= self.request.walk_all_every);
        let walks_all = tokio::task::block_in_place(|| self.take_hints(source, &listed)) || is_due;
        let begun = Instant::now();
        let sites: Vec<SiteId> = match walks_all {
            true => listed.clone(),
            false => listed.iter().filter(|site| self.wanted.contains(site)).cloned().collect(),
        };
        self.wanted.clear();
        if walks_all {
            self.walked_all = Some(begun);
        }
        let mut report = ScanReport {
            sites: listed.len() as u64,
            walked: sites.len() as u64,
            unwatched: self.unwatched.clone(),
            ..ScanReport::default()
        };
        let done = scan_sites(engine, source, &sites, &self.memory);
        let left = &sites[done.len()..];
        self.wanted.extend(left.iter().cloned());
        for (site, scanned) in done {
            match scanned {
                Scanned::Same => {}
                Scanned::Published(record) => {
                    report.added_bytes += record.added_bytes;
                    report.published.push(site);
                }
                Scanned::Waits => self.wanted.extend([site]),
                Scanned::Failed(error) if error.fault() == Fault::Cancelled => return Err(Error::Cancelled),
                Scanned::Failed(error) => {
                    self.wanted.insert(site.clone());
                    report.failed.push((site, error));
                }
            }
        }
        Ok(report)
    }

    /// The sites that the source lists, unless it has failed since the last run.
    async fn list(&mut self, engine: &Engine) -> Result<Vec<SiteId>, Error> {
        let before = match self.before.take() {
            Some(before) => before,
            None => {
                let sources = last_run(engine).await?.map(|run| run.sources).unwrap_or_default();
                sources.into_iter().map(|source| (source.source.clone(), source)).collect()
            }
        };
        let health = tokio::task::block_in_place(|| engine.fleet.look_at(&self.request.source, &before));
        self.before = Some(before);
        let health = health.ok_or_else(|| unknown(&self.request.source))?;
        match health.failure {
            None => Ok(health.sites),
            Some((detail, hint)) => {
                self.before = None; // the next run may have been told that the loss is meant
                Err(Error::Conflict { detail, hint })
            }
        }
    }

    /// Watches the sites that are listed, and takes the hints; gives whether every site must be walked.
    fn take_hints(&mut self, source: &FilesSource, listed: &[SiteId]) -> bool {
        let Some(watch) = &mut self.watch else { return true };
        match watch.cover(source, listed).and_then(|()| watch.listen(source)) {
            Ok(()) => match watch.take() {
                Hint::Changed(sites) => {
                    self.wanted.extend(sites);
                    false
                }
                Hint::Lost => true,
            },
            Err(error) => {
                self.stop_watching(&error);
                true
            }
        }
    }

    fn stop_watching(&mut self, error: &lifeboat_source::Error) {
        self.watch = None;
        self.unwatched = Some(told(error));
    }
}

fn told(error: &lifeboat_source::Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

fn files<'e>(engine: &'e Engine, source: &SourceName) -> Result<&'e FilesSource, Error> {
    match engine.fleet.source(source) {
        Some(AnySource::Files(files)) => Ok(files),
        _ => Err(unknown(source)),
    }
}

fn unknown(source: &SourceName) -> Error {
    Error::Bug(format!("no source of files has this name: source=`{source}`"))
}
