//! Captures that go on for ever, one task a source, and what each of them needs beside it.
//!
//! ```text
//! source ─▶ capture ─ store down, server stopped ─▶ wait, longer each time ─▶ capture …
//!               │                       for good ─▶ ends, with its exit code; the others go on
//!               ├ store down, and the slot half full ─▶ spill: changes are kept on this host until the store is back
//!               ├ epoch begun ─▶ bases: one task for all sources, while changes are followed
//! files  ─▶ scans: a round each interval, of the sites that changed
//! server ─▶ guard: how much log does the slot keep? ─ beyond the limit ─▶ the slot is given up, a new epoch
//! ```
//!
//! Invariant (disk-before-log): the server keeps no more log for a slot than it may, whatever the store does: the
//! guard looks at the server alone.
//!
//! What is not here: following (`lifeboat-engine`), and how news is told (`lifeboat-cli`).

mod bases;
mod compactor;
mod follower;
mod guard;
mod pages;
mod scans;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_engine::{
    CaptureIndex, CaptureNews, CaptureReport, CaptureRequest, Engine, Error, PagesRequest, ScanReport, ScanRequest,
    SlotWatch,
};
use lifeboat_model::{Faulty, SiteId, SourceName};

use bases::Bases;
pub use bases::BasesTaken;
use follower::Follower;
pub use pages::{OpenPages, PagesEnd};
pub use scans::{NoteScan, ScanEnd};

/// Opens the routing index of a source, as it was committed last.
pub type OpenIndex = dyn Fn(&SourceName) -> Result<Box<dyn CaptureIndex>, Error> + Send + Sync;
/// Takes news of a source; it must not block for long.
pub type Tell = dyn Fn(&SourceName, News) + Send + Sync;

/// What happens while sources are captured.
#[derive(Debug)]
pub enum News {
    Capture(CaptureNews),
    /// Something passing is in the way: told once, until it is over.
    Waiting(String, Option<String>),
    /// The server keeps much for the slot: told once, until it is over.
    SlotGrows(SlotWatch),
    SlotShrank(SlotWatch),
    /// The slot was given up, rather than fill the server's disk: what is not in the log yet is lost to it.
    GaveUp(SlotWatch),
    /// There is no more room for changes on this host, and why: told once, until it is over.
    SpillIsFull(String, Option<String>),
    /// A source is followed no more, for good; the others go on.
    Ended(String, Option<String>),
    /// Bases are being taken of so many sites.
    TakingBases(u64),
    BasesTaken(BasesTaken),
    /// A round of scans of a source of files.
    Scanned(ScanReport),
    /// A site could not be scanned: told once, until it is otherwise.
    NotScanned(SiteId, String, Option<String>),
    /// Nothing hints at changes: each round walks every site.
    Unwatched(String),
}

/// Sources to be captured.
pub struct Capturing {
    pub engine: Arc<Engine>,
    pub requests: Vec<CaptureRequest>,
    /// Sources of database files.
    pub files: Vec<PagesRequest>,
    /// Sources of files.
    pub scans: Vec<ScanRequest>,
    /// Log that the server may keep for a slot.
    pub slot_limit_bytes: u64,
    pub open_index: Box<OpenIndex>,
    pub open_pages: Box<OpenPages>,
    pub note_scan: Box<NoteScan>,
    pub tell: Box<Tell>,
}

/// How the captures of all sources ended.
#[derive(Debug)]
pub struct Ends {
    pub rows: Vec<SourceEnd>,
    pub files: Vec<PagesEnd>,
    pub scans: Vec<ScanEnd>,
    /// Bases that were taken on the way, where the capture ends by itself.
    pub bases: Option<BasesTaken>,
}

/// How the capture of a source ended.
#[derive(Debug)]
pub struct SourceEnd {
    pub source: SourceName,
    /// Over all of its epochs; `None`: it never came to its end.
    pub report: Option<CaptureReport>,
    pub error: Option<Error>,
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How soon a wish to stop is noticed.
const POLL: Duration = Duration::from_millis(200);
/// What is under way when the wish comes may take so long: a store that does not answer keeps nobody from stopping.
const STOP_MAX: Duration = Duration::from_secs(15);

impl Capturing {
    /// Follows every source until it is told to stop. Must run on a multi-threaded runtime.
    pub async fn go_on(self) -> Ends {
        let (shared, bases) = (Arc::new(self), Bases::default());
        let files = spawn_files(&shared);
        let scans = spawn_scans(&shared, false);
        let compacting = tokio::spawn(compactor::compact(Arc::clone(&shared)));
        let taking = tokio::spawn(bases.clone().keep(Arc::clone(&shared)));
        let tasks: Vec<_> = (0..shared.requests.len())
            .map(|number| {
                let source = Follower::new(Arc::clone(&shared), number, bases.clone());
                (shared.requests[number].source.clone(), source.start())
            })
            .collect();
        let mut rows = Vec::new();
        for (source, task) in tasks {
            rows.push(task.await.unwrap_or_else(|panic| panicked(source, &panic)));
        }
        let (files, scans) = (ends_of(files).await, scan_ends_of(scans).await);
        compacting.abort();
        bases.end();
        let _ = taking.await;
        Ends { rows, files, scans, bases: None }
    }

    /// Captures what has happened until now, with bases where there are none: then once more, so that the log has
    /// come further than they have. Databases first, then files: whoever writes a row after its file has both.
    pub async fn catch_up(self) -> Ends {
        let shared = Arc::new(self);
        let files = ends_of(spawn_files(&shared)).await;
        let bases = Bases::default();
        let mut rows = catch_up_once(&shared, &bases, |_| true).await;
        let captured: Vec<SourceName> =
            rows.iter().filter(|end| end.error.is_none()).map(|end| end.source.clone()).collect();
        let taken = bases.take(&shared, &captured).await;
        if taken.as_ref().is_some_and(|taken| taken.good > 0) {
            for again in catch_up_once(&shared, &bases, |source| captured.contains(source)).await {
                let Some(end) = rows.iter_mut().find(|end| end.source == again.source) else { continue };
                end.report = end.report.take().map(|first| add(first, again.report));
                end.error = again.error;
            }
        }
        let scans = scan_ends_of(spawn_scans(&shared, true)).await;
        compactor::compact_once(&shared).await;
        Ends { rows, files, scans, bases: taken }
    }

    /// What is over before all of it is, is told when it is: the last words may be days away.
    fn tell_end(&self, source: &SourceName, (goes_on, error): (bool, Option<&Error>)) {
        if let Some(error) = error.filter(|_| goes_on && !self.is_cancelled()) {
            (self.tell)(source, News::Ended(error.to_string(), error.hint()));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.engine.cancel.load(Ordering::Relaxed)
    }

    /// Ends some time after the wish to stop.
    async fn cancelled_long_ago(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(STOP_MAX).await;
    }

    /// Waits, unless it is told to stop.
    async fn pause(&self, wait: Duration) {
        let till = Instant::now() + wait;
        while Instant::now() < till && !self.is_cancelled() {
            tokio::time::sleep(POLL.min(till.saturating_duration_since(Instant::now()))).await;
        }
    }
}

type FileTasks = Vec<(SourceName, tokio::task::JoinHandle<PagesEnd>)>;

fn spawn_files(shared: &Arc<Capturing>) -> FileTasks {
    let one = |request: &PagesRequest| {
        (request.source.clone(), tokio::spawn(pages::follow(Arc::clone(shared), request.clone())))
    };
    shared.files.iter().map(one).collect()
}

type ScanTasks = Vec<(SourceName, tokio::task::JoinHandle<ScanEnd>)>;

fn spawn_scans(shared: &Arc<Capturing>, once: bool) -> ScanTasks {
    let one = |request: &ScanRequest| {
        (request.source.clone(), tokio::spawn(scans::scan(Arc::clone(shared), request.clone(), once)))
    };
    shared.scans.iter().map(one).collect()
}

async fn scan_ends_of(tasks: ScanTasks) -> Vec<ScanEnd> {
    let mut ends = Vec::new();
    for (source, task) in tasks {
        ends.push(task.await.unwrap_or_else(|panic| {
            let SourceEnd { source, error, .. } = panicked(source, &panic);
            ScanEnd { source, rounds: 0, published: 0, failed: Vec::new(), error }
        }));
    }
    ends
}

async fn ends_of(tasks: FileTasks) -> Vec<PagesEnd> {
    let mut ends = Vec::new();
    for (source, task) in tasks {
        ends.push(task.await.unwrap_or_else(|panic| {
            let SourceEnd { source, error, .. } = panicked(source, &panic);
            PagesEnd { source, report: None, error }
        }));
    }
    ends
}

async fn catch_up_once(
    shared: &Arc<Capturing>,
    bases: &Bases,
    is_wanted: impl Fn(&SourceName) -> bool,
) -> Vec<SourceEnd> {
    let numbers = (0..shared.requests.len()).filter(|number| is_wanted(&shared.requests[*number].source));
    let start = |number: usize| {
        let mut follower = Follower::new(Arc::clone(shared), number, bases.clone());
        follower.request.until_caught_up = true;
        (shared.requests[number].source.clone(), follower.start())
    };
    let mut ends = Vec::new();
    for (source, task) in numbers.map(start).collect::<Vec<_>>() {
        ends.push(task.await.unwrap_or_else(|panic| panicked(source, &panic)));
    }
    ends
}

fn add(first: CaptureReport, then: Option<CaptureReport>) -> CaptureReport {
    let Some(then) = then else { return first };
    CaptureReport {
        segments: first.segments + then.segments,
        transactions: first.transactions + then.transactions,
        changes: first.changes + then.changes,
        unrouted: first.unrouted + then.unrouted,
        begun: then.begun.clone().or(first.begun),
        ..then
    }
}

fn panicked(source: SourceName, panic: &tokio::task::JoinError) -> SourceEnd {
    let error = Error::Bug(format!("the capture of a source panicked: source=`{source}`, {panic}"));
    SourceEnd { source, report: None, error: Some(error) }
}
