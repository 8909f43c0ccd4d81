//! One PostgreSQL that is followed on and on: what passes is waited for, what is for good ends it.
//!
//! What is not here: the slot's size (`guard`), bases (`bases`), following itself (`lifeboat-engine`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_engine::{
    CaptureNews, CaptureReport, CaptureRequest, Error, SlotDanger, SlotWatch, SpillEnd, capture, give_up_slot, spill,
    store_answers,
};
use lifeboat_model::{Fault, Faulty};
use tokio::sync::Notify;

use super::bases::Bases;
use super::guard::guard;
use super::{Capturing, FIRST_WAIT, LONGEST_WAIT, News, POLL, SourceEnd};

/// After so long without a segment, past the alarm line, the store is asked whether it is there.
const SILENT: Duration = Duration::from_secs(5);
/// The server may take so long to notice that whoever followed before is gone: after a kill, and after a
/// connection that broke.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
const OWN_SLOT_PATIENCE: Duration = Duration::from_secs(150);

/// One source that is followed.
pub(super) struct Follower {
    shared: Arc<Capturing>,
    pub request: CaptureRequest,
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
pub(super) struct Beyond {
    slot: Mutex<Option<SlotWatch>>,
    found: Notify,
    /// The alarm line is passed.
    is_half: AtomicBool,
    half: Notify,
}

/// How one capture ended.
enum Ended {
    Capture(Result<CaptureReport, Error>),
    Beyond(SlotWatch),
    /// The alarm line is passed, and the store does not answer: a request may be tried for minutes.
    Stuck,
    /// It was told to stop, and did not come to its end.
    GivenUp,
}

impl Follower {
    pub fn new(shared: Arc<Capturing>, number: usize, bases: Bases) -> Self {
        let request = shared.requests[number].clone();
        let (beyond, is_well) = (Arc::default(), Arc::default());
        Self { shared, request, bases, beyond, is_well, has_followed: false, is_spill_full: false }
    }

    /// On a thread of its own. Most of it blocks; on the runtime's threads each stretch would be on another one, and what is
    /// collected on one and let go on another stays with the allocator: it was twice the memory.
    pub fn start(self) -> tokio::task::JoinHandle<SourceEnd> {
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
        self.shared.tell_end(&self.request.source, (!self.request.until_caught_up, error.as_ref()));
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
                Ended::Stuck => {
                    if told.replace(true) != Some(true) {
                        self.tell(News::Waiting("the store does not answer".into(), None));
                    }
                    if !self.spill().await {
                        self.wait(wait).await;
                        wait = (wait * 2).min(LONGEST_WAIT);
                    }
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
        let (name, sealed) = (source.clone(), Arc::new(Mutex::new(Instant::now())));
        let seals = Arc::clone(&sealed);
        let tell = move |news: CaptureNews| {
            *seals.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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
            () = self.is_stuck(&sealed) => Ended::Stuck,
            () = self.shared.cancelled_long_ago() => Ended::GivenUp,
        }
    }

    /// Ends when nothing was sealed for a while, past the alarm line, and the store does not answer to a question either.
    /// Where nothing can be kept on this host it never does.
    async fn is_stuck(&self, sealed: &Mutex<Instant>) {
        let is_wanted = self.request.spill.as_ref().is_some_and(|spill| spill.is_wanted());
        loop {
            tokio::time::sleep(POLL * 5).await;
            let silent = sealed.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= SILENT;
            if !is_wanted || self.request.until_caught_up || !silent || !self.beyond.is_half.load(Ordering::Relaxed) {
                continue;
            }
            // On a task of its own: this one stands still while a capture works.
            let (repository, source) = (self.shared.engine.repository.clone(), self.request.source.clone());
            let asked = tokio::spawn(async move { store_answers(&repository, &source).await });
            if !asked.await.unwrap_or(false) {
                return;
            }
            *sealed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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
            let taken = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            match taken {
                Some(slot) => return slot,
                None => self.found.notified().await,
            }
        }
    }

    /// What the guard saw.
    pub fn note(&self, danger: SlotDanger) {
        let is_half = danger == SlotDanger::Half;
        if !self.is_half.swap(is_half, Ordering::Relaxed) && is_half {
            self.half.notify_one();
        }
    }

    pub fn put(&self, slot: SlotWatch) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
        self.found.notify_one();
    }
}
