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
mod guard;
mod pages;
mod scans;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_engine::{
    CaptureIndex, CaptureNews, CaptureReport, CaptureRequest, Engine, Error, PagesRequest, ScanReport, ScanRequest,
    SlotDanger, SlotWatch, SpillEnd, capture, give_up_slot, spill,
};
use lifeboat_model::{Fault, Faulty, SiteId, SourceName};
use tokio::sync::Notify;

use bases::Bases;
pub use bases::BasesTaken;
use guard::guard;
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
/// The server may take so long to notice that whoever followed before is gone: after a kill, and after a
/// connection that broke.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
const OWN_SLOT_PATIENCE: Duration = Duration::from_secs(150);

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

/// One source that is followed.
struct Follower {
    shared: Arc<Capturing>,
    request: CaptureRequest,
    bases: Bases,
    /// The slot keeps too much: it is to be given up.
    beyond: Arc<Beyond>,
    /// Whether anything was followed since the last trouble.
    is_well: Arc<AtomicBool>,
    has_followed: bool,
    /// It was told that there is no more room on this host.
    is_spill_full: bool,
}

/// What the guard says.
#[derive(Default)]
struct Beyond {
    slot: std::sync::Mutex<Option<SlotWatch>>,
    found: Notify,
    /// The alarm line is passed.
    is_half: AtomicBool,
    half: Notify,
}

/// How one capture ended.
enum Ended {
    Capture(Result<CaptureReport, Error>),
    Beyond(SlotWatch),
    /// It was told to stop, and did not come to its end.
    GivenUp,
}

impl Follower {
    fn new(shared: Arc<Capturing>, number: usize, bases: Bases) -> Self {
        let request = shared.requests[number].clone();
        let (beyond, is_well) = (Arc::default(), Arc::default());
        Self { shared, request, bases, beyond, is_well, has_followed: false, is_spill_full: false }
    }

    /// On a thread of its own. Most of it blocks; on the runtime's threads each stretch would be on another one, and what is
    /// collected on one and let go on another stays with the allocator: it was twice the memory.
    fn start(self) -> tokio::task::JoinHandle<SourceEnd> {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(self.run()))
    }

    async fn run(mut self) -> SourceEnd {
        let guard = tokio::spawn(guard(Arc::clone(&self.shared), self.request.source.clone(), self.beyond.clone()));
        let ended = self.follow().await;
        guard.abort();
        let (report, error) = match ended {
            Ok(report) => (report, None),
            Err(error) => (None, Some(error)),
        };
        SourceEnd { source: self.request.source, report, error }
    }

    /// Until it is told to stop, or has come to its end. `None`: it was stopped before.
    async fn follow(&mut self) -> Result<Option<CaptureReport>, Error> {
        let (mut wait, mut fenced_since, mut told) = (FIRST_WAIT, None::<Instant>, None);
        let goes_on = !self.request.until_caught_up;
        loop {
            let ended = self.capture_once().await;
            if self.is_well.swap(false, Ordering::Relaxed) {
                (wait, fenced_since, told, self.has_followed) = (FIRST_WAIT, None, None, true);
                self.request.given_up = None; // that epoch is in the log
                self.is_spill_full = false;
            }
            let error = match ended {
                Ended::Capture(Ok(report)) => return Ok(Some(report)),
                Ended::GivenUp => return Ok(None),
                Ended::Beyond(slot) => {
                    self.give_up(slot).await;
                    continue;
                }
                Ended::Capture(Err(error)) => error,
            };
            if self.shared.is_cancelled() && matches!(error.fault(), Fault::Cancelled | Fault::Retry) {
                return Ok(None); // what was not confirmed comes again
            }
            // A server that is down comes back some time; where it never was, somebody reads what is told.
            let fault = if error.is_unreachable() && goes_on { Fault::Retry } else { error.fault() };
            match fault {
                // Somebody else extends the log: there is no waiting for that.
                Fault::Fenced if matches!(error, Error::Repo(_)) => return Err(error),
                Fault::Fenced => {
                    let patience = if self.has_followed { OWN_SLOT_PATIENCE } else { SLOT_PATIENCE };
                    if fenced_since.get_or_insert_with(Instant::now).elapsed() >= patience {
                        return Err(error);
                    }
                    self.shared.pause(FIRST_WAIT).await;
                }
                Fault::Retry if goes_on => {
                    let cause = matches!(error, Error::Repo(_));
                    if told != Some(cause) {
                        told = Some(cause);
                        self.tell(News::Waiting(error.to_string(), error.hint()));
                    }
                    if cause && self.beyond.is_half.load(Ordering::Relaxed) && self.spill().await {
                        continue;
                    }
                    self.wait(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                _ => return Err(error),
            }
        }
    }

    async fn capture_once(&self) -> Ended {
        let source = &self.request.source;
        // Opened anew each time: what a capture that failed had put, and not committed, is gone.
        let mut index = match (self.shared.open_index)(source) {
            Ok(index) => index,
            Err(error) => return Ended::Capture(Err(error)),
        };
        let (shared, bases, is_well) = (Arc::clone(&self.shared), self.bases.clone(), Arc::clone(&self.is_well));
        let name = source.clone();
        let tell = move |news: CaptureNews| {
            if let CaptureNews::NeedBase(sites) = &news {
                bases.want_again(&name, sites.clone());
            }
            if matches!(news, CaptureNews::Begun { .. } | CaptureNews::Following { .. }) {
                is_well.store(true, Ordering::Relaxed);
                bases.want();
            }
            (shared.tell)(&name, News::Capture(news));
        };
        tokio::select! {
            ended = capture(&self.shared.engine, &self.request, index.as_mut(), &tell) => Ended::Capture(ended),
            slot = self.beyond.found() => Ended::Beyond(slot),
            () = self.shared.cancelled_long_ago() => Ended::GivenUp,
        }
    }

    /// Keeps changes on this host until the store answers. Gives whether to capture again at once.
    async fn spill(&mut self) -> bool {
        let source = self.request.source.clone();
        let shared = Arc::clone(&self.shared);
        let tell = move |news: CaptureNews| (shared.tell)(&source, News::Capture(news));
        let mut index = match (self.shared.open_index)(&self.request.source) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(%error, source = %self.request.source, "changes cannot be kept on this host");
                return false;
            }
        };
        let ended = tokio::select! {
            ended = spill(&self.shared.engine, &self.request, index.as_mut(), &tell) => ended,
            slot = self.beyond.found() => {
                drop(index);
                self.give_up(slot).await;
                return true;
            }
        };
        match ended {
            Ok(SpillEnd::StoreAnswers | SpillEnd::Stopped) => true,
            Ok(SpillEnd::Full(error)) => {
                if !std::mem::replace(&mut self.is_spill_full, true) {
                    self.tell(News::SpillIsFull(error.to_string(), error.hint()));
                }
                false
            }
            Ok(SpillEnd::Unable(why)) => {
                tracing::info!(why, source = %self.request.source, "changes are not kept on this host");
                false
            }
            Err(error) => {
                tracing::warn!(%error, source = %self.request.source, "changes cannot be kept on this host");
                false
            }
        }
    }

    /// Drops the slot; the next capture begins a new epoch.
    async fn give_up(&mut self, slot: SlotWatch) {
        let note = format!("the slot kept too much and was given up: kept_bytes=`{}`", slot.kept_bytes);
        self.request.given_up = Some(note);
        self.tell(News::GaveUp(slot));
        let mut wait = FIRST_WAIT;
        // The connection that followed it may not have ended yet.
        while !self.shared.is_cancelled() {
            let dropped = tokio::task::block_in_place(|| give_up_slot(&self.shared.engine, &self.request.source));
            match dropped {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, source = %self.request.source, "cannot give the slot up yet"),
            }
            self.shared.pause(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits before the next try, and not when the slot must be given up, or has just passed the alarm line.
    async fn wait(&mut self, wait: Duration) {
        let slot = tokio::select! {
            () = self.shared.pause(wait) => None,
            () = self.beyond.half.notified() => None,
            slot = self.beyond.found() => Some(slot),
        };
        if let Some(slot) = slot {
            self.give_up(slot).await;
        }
    }

    fn tell(&self, news: News) {
        (self.shared.tell)(&self.request.source, news);
    }
}

impl Beyond {
    /// Waits until the slot keeps too much.
    async fn found(&self) -> SlotWatch {
        loop {
            let taken = self.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            match taken {
                Some(slot) => return slot,
                None => self.found.notified().await,
            }
        }
    }

    /// What the guard saw.
    fn note(&self, danger: SlotDanger) {
        let is_half = danger == SlotDanger::Half;
        if !self.is_half.swap(is_half, Ordering::Relaxed) && is_half {
            self.half.notify_one();
        }
    }

    fn put(&self, slot: SlotWatch) {
        *self.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(slot);
        self.found.notify_one();
    }
}
