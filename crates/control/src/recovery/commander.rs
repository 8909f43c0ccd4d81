//! One run of a recovery: it gives cases to workers, and writes down how they end.
//!
//! The commander alone owns the journal; workers tell it by messages, and other terminals by entries of their own, which it
//! reads twice a second, however much the workers have to tell. All that is to be written at one time goes into one entry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use lifeboat_engine::{CaseAttempt, Error, Journal, SigningKey};
use lifeboat_model::{
    CaseFailure, CasePlan, CaseState, Fault, Faulty, HandOver, Receipt, RecoveryEvent, RecoveryState, SiteId,
};

use super::seam::{CaseSteps, RunEnd, RunOptions, Step, StepHooks, StepOut};

/// How soon what another terminal says is seen.
const POLL: Duration = Duration::from_millis(500);
/// How long nothing is written at most.
const BEAT: Duration = Duration::from_secs(10);

/// What workers tell.
enum Told {
    Beat { site: SiteId, at: u64, of: u64 },
    Ended { worker: usize, site: SiteId, end: CaseEnd },
}

enum CaseEnd {
    Restored(Box<Receipt>),
    Failed(CaseFailure),
    /// It was told to stop, and has left nothing half done that is not gone on with.
    Stopped,
}

/// What a worker is to do.
struct Order {
    case: CasePlan,
    attempt: CaseAttempt,
}

pub(super) struct Commander<'a> {
    journal: Journal,
    runtime: &'a tokio::runtime::Handle,
    signing: SigningKey,
    options: RunOptions<'a>,
    /// This run.
    run: u64,
    /// What has happened and is not written yet.
    pending: Vec<RecoveryEvent>,
    written: Instant,
    /// When it was last read what other terminals wrote.
    followed: Instant,
    is_held: bool,
}

impl<'a> Commander<'a> {
    /// Of a journal whose newest entry begins this run.
    pub fn new(journal: Journal, runtime: &'a tokio::runtime::Handle, options: RunOptions<'a>) -> Result<Self, Error> {
        let Some(run) = journal.state().run.as_ref().map(|run| run.number) else {
            return Err(Error::Bug("a run that has not begun".into()));
        };
        let signing = runtime.block_on(journal.signing_key())?;
        let (pending, written, followed) = (Vec::new(), Instant::now(), Instant::now());
        Ok(Self { journal, runtime, signing, options, run, pending, written, followed, is_held: false })
    }

    pub fn run(mut self, workers: Vec<Box<dyn CaseSteps>>) -> Result<RunEnd, Error> {
        let (tell, told) = channel();
        let stop = self.options.stop;
        let rules = self.journal.plan().rules;
        std::thread::scope(|scope| {
            let orders: Vec<SyncSender<Order>> = workers
                .into_iter()
                .enumerate()
                .map(|(number, steps)| {
                    let (order, orders) = sync_channel(1);
                    let tell = tell.clone();
                    let worker = Worker { number, rules, tell, stop };
                    scope.spawn(move || work(steps, &worker, &orders));
                    order
                })
                .collect();
            // Whoever is put out ends what is under way, too.
            self.command(&orders, &told).inspect_err(|_| stop.store(true, Ordering::Relaxed))
        })
    }

    /// Gives out cases until none is left, or none may begin any more and all have ended.
    fn command(&mut self, orders: &[SyncSender<Order>], told: &Receiver<Told>) -> Result<RunEnd, Error> {
        let mut idle: Vec<usize> = (0..orders.len()).rev().collect();
        loop {
            let stops = self.options.stop.load(Ordering::Relaxed);
            let places = if stops { 0 } else { self.allowed(idle.len()) };
            let begun = self.write(places)?;
            self.options.watch.moved(&self.journal);
            for case in begun {
                let order = self.order(&case)?;
                // An idle worker waits for its next order.
                idle.pop().and_then(|worker| orders[worker].send(order).ok()).ok_or_else(gone)?;
            }
            let is_idle = idle.len() == orders.len() && self.pending.is_empty();
            if is_idle && let Some(end) = self.close(stops)? {
                self.options.watch.moved(&self.journal);
                return Ok(end);
            }
            match told.recv_timeout(POLL.saturating_sub(self.followed.elapsed())) {
                Ok(first) => {
                    for told in std::iter::once(first).chain(told.try_iter().collect::<Vec<_>>()) {
                        self.hear(told, &mut idle);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
            self.follow()?;
        }
    }

    /// How many cases may begin, where there are places for so many.
    fn allowed(&mut self, places: usize) -> usize {
        // What has just ended and is not written yet may let any of those that wait begin.
        let waits = places > 0 && self.journal.state().counts().waiting > 0;
        let why = self.options.governor.filter(|_| waits).and_then(|governor| governor.holds());
        if why.is_some() != self.is_held {
            self.is_held = why.is_some();
            self.options.watch.held(why.as_deref());
        }
        if why.is_some() { 0 } else { places }
    }

    /// Ends the run, nobody being at work, where nothing is left to do: by the newest state there is, for another
    /// terminal may have asked for a case a moment ago. `None`: it goes on.
    fn close(&mut self, stops: bool) -> Result<Option<RunEnd>, Error> {
        let (run, mut end) = (self.run, None);
        self.runtime.block_on(self.journal.append(Some(run), |state| {
            check_ours(state, run)?;
            end = end_of(state, stops);
            Ok(end.map(|_| RecoveryEvent::RunEnded).into_iter().collect())
        }))?;
        Ok(end)
    }

    fn hear(&mut self, told: Told, idle: &mut Vec<usize>) {
        let (worker, site, end) = match told {
            Told::Beat { site, at, of } => return self.options.watch.beat(&site, at, of),
            Told::Ended { worker, site, end } => (worker, site, end),
        };
        idle.push(worker);
        match end {
            CaseEnd::Restored(receipt) => {
                let is_valid = receipt.all_passed();
                let receipt = Arc::new(self.journal.sign(&self.signing, *receipt));
                self.pending.push(RecoveryEvent::CaseRestored { site: site.clone(), receipt });
                if is_valid {
                    let (to, note) = (HandOver::Validated, String::new());
                    self.pending.push(RecoveryEvent::HandedOver { site, to, note });
                }
            }
            CaseEnd::Failed(failure) => self.pending.push(RecoveryEvent::CaseFailed { site, failure }),
            CaseEnd::Stopped => {} // the end of the run says so
        }
    }

    /// Writes what has happened, and which cases begin, `places` at most. Those are given.
    fn write(&mut self, places: usize) -> Result<Vec<SiteId>, Error> {
        let (run, pending) = (self.run, std::mem::take(&mut self.pending));
        let needs_beat = self.written.elapsed() >= BEAT;
        let mut begun = Vec::new();
        let before = self.journal.state().number;
        self.runtime.block_on(self.journal.append(Some(run), |state| {
            check_ours(state, run)?;
            let mut events = pending.clone();
            begun = begin(state, run, places, &mut events)?;
            if events.is_empty() && needs_beat {
                events.push(RecoveryEvent::Beat);
            }
            Ok(events)
        }))?;
        if self.journal.state().number > before {
            self.written = Instant::now();
        }
        Ok(begun)
    }

    /// Reads what other terminals wrote, if that is some time ago.
    fn follow(&mut self) -> Result<(), Error> {
        if self.followed.elapsed() < POLL {
            return Ok(());
        }
        self.followed = Instant::now();
        self.runtime.block_on(self.journal.refresh())?;
        check_ours(self.journal.state(), self.run)
    }

    fn order(&self, site: &SiteId) -> Result<Order, Error> {
        let (plan, state) = (self.journal.plan(), self.journal.state());
        let case = plan.cases.iter().find(|case| case.site == *site);
        let (Some(case), Some(now), Some(run)) = (case, state.case(site), &state.run) else {
            return Err(Error::Bug(format!("a case that is not in the plan: site=`{site}`")));
        };
        Ok(Order { case: case.clone(), attempt: attempt(plan.id, now, self.run, run.replaced.clone()) })
    }
}

/// Why nothing is left to do, when nobody is at work; `None`: a person may still say go on.
fn end_of(state: &RecoveryState, stops: bool) -> Option<RunEnd> {
    match () {
        () if stops => Some(RunEnd::Stopped),
        () if state.halted.is_some() => Some(RunEnd::Halted),
        () if state.is_done() => Some(RunEnd::Done),
        () => None,
    }
}

/// Each attempt has an id of its own.
fn attempt(
    recovery: lifeboat_model::RecoveryId,
    case: &CaseState,
    run: u64,
    replaced: Vec<lifeboat_model::WriterIdentity>,
) -> CaseAttempt {
    let id = |(failures, run)| CaseAttempt::restore_id(recovery, &case.site, failures, run);
    let this = (case.failures, run);
    let (unheard, failed) =
        case.begun.iter().copied().filter(|begun| *begun != this).partition::<Vec<_>, _>(|begun| begun.0 == this.0);
    CaseAttempt {
        recovery,
        restore: id(this),
        unheard: unheard.into_iter().map(id).collect(),
        failed: failed.into_iter().map(id).collect(),
        replaced,
    }
}

/// Adds the cases that begin now to the events, and gives them.
fn begin(
    state: &RecoveryState,
    run: u64,
    places: usize,
    events: &mut Vec<RecoveryEvent>,
) -> Result<Vec<SiteId>, Error> {
    if events.is_empty() && places == 0 {
        return Ok(Vec::new()); // as most of the time, with a beat now and then: nothing can follow
    }
    let mut after = state.clone();
    let foresee = |after: &mut RecoveryState, events: &[RecoveryEvent]| {
        after.foresee(run, events).map_err(|error| Error::Bug(format!("an entry that cannot follow: {error}")))
    };
    foresee(&mut after, events)?;
    if let (Some(reason), None) = (after.reason_to_halt(), &after.halted) {
        events.push(RecoveryEvent::Halted { reason });
        return Ok(Vec::new());
    }
    let mut begun = Vec::new();
    while begun.len() < places {
        let Some(next) = after.next().map(|case| case.site.clone()) else { break };
        let began = RecoveryEvent::CaseBegan { site: next.clone() };
        foresee(&mut after, std::slice::from_ref(&began))?;
        events.push(began);
        begun.push(next);
    }
    Ok(begun)
}

fn check_ours(state: &RecoveryState, run: u64) -> Result<(), Error> {
    match &state.run {
        Some(now) if now.number == run => Ok(()),
        Some(now) => Err(Error::RunTakenOver { host: now.owner.host.clone(), pid: now.owner.pid }),
        None => Err(Error::Bug("a run that has not begun".into())),
    }
}

fn gone() -> Error {
    Error::Bug("a worker is gone".into())
}

struct Worker<'a> {
    number: usize,
    rules: lifeboat_model::RecoveryRules,
    tell: Sender<Told>,
    stop: &'a AtomicBool,
}

/// One worker: case after case, each on its own.
fn work(mut steps: Box<dyn CaseSteps>, worker: &Worker<'_>, orders: &Receiver<Order>) {
    let Worker { number, rules, tell, stop } = worker;
    while let Ok(Order { case, attempt }) = orders.recv() {
        let hooks = Hooks { site: &case.site, attempt: &attempt, tell, stop };
        let done = catch_unwind(AssertUnwindSafe(|| do_case(steps.as_mut(), &case, *rules, &hooks)));
        let end = match done {
            Ok(Ok(receipt)) => CaseEnd::Restored(Box::new(receipt)),
            // A task that broke says that it was cancelled, too.
            Ok(Err(error)) if error.fault() == Fault::Cancelled && hooks.stop() => CaseEnd::Stopped,
            Ok(Err(error)) => CaseEnd::Failed(failure(&error)),
            Err(panic) => CaseEnd::Failed(failure(&Error::Bug(said(&panic)))),
        };
        if tell.send(Told::Ended { worker: *number, site: case.site, end }).is_err() {
            return;
        }
    }
}

/// The steps of a case, in order.
fn do_case(
    steps: &mut dyn CaseSteps,
    case: &CasePlan,
    rules: lifeboat_model::RecoveryRules,
    hooks: &dyn StepHooks,
) -> Result<Receipt, Error> {
    let StepOut::Restored(mut receipt) = steps.step(Step::Restore, case, rules, hooks)? else {
        return Err(Error::Bug("a restore without a receipt".into()));
    };
    if let StepOut::Proven(checks) = steps.step(Step::Prove, case, rules, hooks)? {
        receipt.checks.extend(checks);
    }
    Ok(*receipt)
}

fn failure(error: &Error) -> CaseFailure {
    CaseFailure { message: error.to_string(), hint: error.hint(), exit_code: error.fault().exit_code().into() }
}

fn said(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

struct Hooks<'a> {
    site: &'a SiteId,
    attempt: &'a CaseAttempt,
    tell: &'a Sender<Told>,
    stop: &'a AtomicBool,
}

impl StepHooks for Hooks<'_> {
    fn beat(&self, at: u64, of: u64) {
        let _ = self.tell.send(Told::Beat { site: self.site.clone(), at, of });
    }

    fn resume_at(&self) -> u64 {
        0
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fence(&self) -> &CaseAttempt {
        self.attempt
    }
}
