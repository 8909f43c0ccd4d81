//! What any engine of recoveries must do, whoever it is.
//!
//! A suite over [`RecoveryEngine`]: another implementation joins by one more test that calls [`all`]. What ends a process
//! (a kill, a freeze) is told by the implementation: it gives engines that know nothing of each other, over one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_control::recovery::{Control, RecoveryEngine, RunEnd, RunOptions, Watch};
use lifeboat_engine::Journal;
use lifeboat_model::{Fault, Faulty, HandOver, RecoveryId, SiteId};

use crate::fake::{Nobody, PATIENCE, Theatre, plan, site, wait_until};

/// Engines over one store, each as another process would have it.
pub type Engines<'a> = &'a (dyn Fn() -> Box<dyn RecoveryEngine> + Sync);

const WORKERS: usize = 4;

pub fn all(engines: Engines<'_>) {
    every_case_ends_once_and_a_bad_one_stops_no_other(engines);
    only_the_approved_plan_runs(engines);
    canaries_that_fail_halt_it_until_a_person_says_go_on(engines);
    a_paused_recovery_begins_nothing_and_goes_on(engines);
    other_terminals_are_heard_while_workers_tell_much(engines);
    no_run_is_done_while_a_case_waits(engines);
    what_is_stopped_is_gone_on_with(engines);
    a_second_runner_is_refused_and_one_that_takes_over_puts_the_first_out(engines);
    skipping_retrying_and_handing_over_follow_what_happened(engines);
}

fn options(stop: &AtomicBool) -> RunOptions<'_> {
    RunOptions { take_over: false, stop, watch: &Nobody, governor: None }
}

fn taking_over(stop: &AtomicBool) -> RunOptions<'_> {
    RunOptions { take_over: true, ..options(stop) }
}

fn run(engine: &dyn RecoveryEngine, id: RecoveryId, theatre: &Arc<Theatre>) -> RunEnd {
    engine.work(id, theatre.workers(WORKERS), options(&AtomicBool::new(false))).unwrap()
}

fn submitted(engine: &dyn RecoveryEngine, number: u8, cases: usize, canaries: u32) -> RecoveryId {
    let plan = plan(number, cases, canaries);
    engine.submit(plan.clone()).unwrap();
    let hash = engine.status(plan.id).unwrap().hash().to_owned();
    engine.approve(plan.id, &hash).unwrap();
    plan.id
}

fn every_case_ends_once_and_a_bad_one_stops_no_other(engines: Engines<'_>) {
    let engine = engines();
    let id = submitted(engine.as_ref(), 1, 60, 0);
    let theatre = Theatre::panicking(&[7], &[31]);
    assert_eq!(run(engine.as_ref(), id, &theatre), RunEnd::Done);
    let journal = engines().status(id).unwrap();
    let counts = journal.state().counts();
    assert_eq!((counts.restored, counts.failed, counts.waiting + counts.running), (58, 2, 0));
    let mut began = theatre.began();
    began.sort();
    assert_eq!(began, (0..60).map(site).collect::<Vec<_>>(), "each once");
    let failure = |number| match &journal.state().case(&site(number)).unwrap().stage {
        lifeboat_model::CaseStage::Failed(failure) => failure.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((failure(7).exit_code, failure(31).exit_code), (20, 1));
    assert!(failure(31).message.contains("as asked"), "{:?}", failure(31));
    // What has ended is not begun again.
    assert_eq!(run(engines().as_ref(), id, &theatre), RunEnd::Done);
    assert_eq!(theatre.began().len(), 60);
}

fn only_the_approved_plan_runs(engines: Engines<'_>) {
    let (engine, theatre) = (engines(), Arc::new(Theatre::default()));
    let plan = plan(2, 3, 0);
    engine.submit(plan.clone()).unwrap();
    assert!(engine.submit(plan.clone()).is_err(), "a plan is written once");
    let work = || engine.work(plan.id, theatre.workers(1), options(&AtomicBool::new(false)));
    assert!(work().unwrap_err().to_string().contains("not approved"));
    let other = engine.approve(plan.id, "0123456789abcdef").unwrap_err();
    assert_eq!(other.fault(), Fault::Operator);
    assert!(theatre.began().is_empty());
    engine.approve(plan.id, engine.status(plan.id).unwrap().hash()).unwrap();
    assert_eq!(work().unwrap(), RunEnd::Done);
}

fn canaries_that_fail_halt_it_until_a_person_says_go_on(engines: Engines<'_>) {
    let engine = engines();
    let id = submitted(engine.as_ref(), 3, 20, 3);
    let theatre = Theatre::failing(&[1]);
    assert_eq!(run(engine.as_ref(), id, &theatre), RunEnd::Halted);
    let mut began = theatre.began();
    began.sort();
    assert_eq!(began, [site(0), site(1), site(2)], "nothing but canaries");
    let halted = engines().status(id).unwrap().state().halted.clone().unwrap();
    assert!(halted.contains("1 of 3"), "{halted}");
    assert_eq!(run(engine.as_ref(), id, &theatre), RunEnd::Halted, "it stays so");
    engine.control(id, &Control::Resume).unwrap();
    assert_eq!(run(engine.as_ref(), id, &theatre), RunEnd::Done);
    assert_eq!(engine.status(id).unwrap().state().counts().restored, 19);
}

fn a_paused_recovery_begins_nothing_and_goes_on(engines: Engines<'_>) {
    let (runner, terminal) = (engines(), engines());
    let id = submitted(runner.as_ref(), 4, 12, 0);
    let theatre = Arc::new(Theatre::default());
    theatre.hold(true);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(runner.as_ref(), id, &theatre));
        theatre.wait_for_begun(WORKERS);
        terminal.control(id, &Control::Pause).unwrap();
        terminal.control(id, &Control::Reprioritise { site: site(11), priority: 0 }).unwrap();
        theatre.hold(false);
        wait_until(terminal.as_ref(), id, "idle", |journal| {
            journal.state().counts().restored == WORKERS && journal.state().counts().running == 0
        });
        assert_eq!(theatre.began().len(), WORKERS, "nothing begins while it is paused");
        theatre.hold(true);
        terminal.control(id, &Control::Resume).unwrap();
        // Each on a thread of its own: which is seen first says nothing.
        theatre.wait_for_begun(2 * WORKERS);
        assert!(theatre.began()[WORKERS..].contains(&site(11)), "{:?}", theatre.began());
        theatre.hold(false);
        assert_eq!(running.join().unwrap(), RunEnd::Done);
    });
}

/// Does something whenever the journal has moved.
struct OnMove<F>(F);

impl<F: Fn(&Journal) + Send + Sync> Watch for OnMove<F> {
    fn moved(&self, journal: &Journal) {
        self.0(journal);
    }

    fn beat(&self, _site: &SiteId, _at: u64, _of: u64) {}
}

fn other_terminals_are_heard_while_workers_tell_much(engines: Engines<'_>) {
    let (runner, terminal, stop) = (engines(), engines(), AtomicBool::new(false));
    let id = submitted(runner.as_ref(), 8, WORKERS, 0);
    let (theatre, is_paused) = (Arc::new(Theatre::default()), AtomicBool::new(false));
    theatre.hold(true);
    let watch = OnMove(|journal: &Journal| is_paused.store(journal.state().is_paused, Ordering::SeqCst));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            runner.work(id, theatre.workers(WORKERS), RunOptions { watch: &watch, ..options(&stop) }).unwrap()
        });
        theatre.wait_for_begun(WORKERS);
        terminal.control(id, &Control::Pause).unwrap();
        let until = Instant::now() + PATIENCE / 4; // long before the runner writes a beat, and reads because of it
        while !is_paused.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "nobody read what another terminal said");
            std::thread::sleep(Duration::from_millis(5));
        }
        theatre.hold(false);
        terminal.control(id, &Control::Resume).unwrap();
        assert_eq!(running.join().unwrap(), RunEnd::Done);
    });
}

// Somebody asks for a case again just when the last one has ended, before the runner has said that it ends.
fn no_run_is_done_while_a_case_waits(engines: Engines<'_>) {
    let (runner, terminal, stop) = (engines(), engines(), AtomicBool::new(false));
    let id = submitted(runner.as_ref(), 9, 3, 0);
    let (theatre, asked) = (Theatre::failing(&[1]), AtomicBool::new(false));
    let watch = OnMove(|journal: &Journal| {
        if journal.state().is_done() && !asked.swap(true, Ordering::SeqCst) {
            terminal.control(id, &Control::Retry { site: site(1) }).unwrap();
        }
    });
    let ended = runner.work(id, theatre.workers(1), RunOptions { watch: &watch, ..options(&stop) }).unwrap();
    let counts = engines().status(id).unwrap().state().counts();
    assert_eq!((ended, counts.waiting, theatre.restores(1).len()), (RunEnd::Done, 0, 2));
}

fn what_is_stopped_is_gone_on_with(engines: Engines<'_>) {
    let (engine, stop) = (engines(), AtomicBool::new(false));
    let id = submitted(engine.as_ref(), 5, 9, 0);
    let theatre = Theatre::lasting(&[2]);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| engine.work(id, theatre.workers(2), options(&stop)).unwrap());
        wait_until(engines().as_ref(), id, "nearly done", |journal| journal.state().counts().restored == 8);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(running.join().unwrap(), RunEnd::Stopped);
    });
    let state = engines().status(id).unwrap().state().clone();
    assert_eq!((state.counts().waiting, state.counts().failed), (1, 0), "stopped is not failed");
    let next = Arc::new(Theatre::default());
    assert_eq!(run(engines().as_ref(), id, &next), RunEnd::Done);
    assert_eq!(next.began(), [site(2)]);
    assert_ne!(next.restores(2), theatre.restores(2), "each attempt has a fence of its own");
}

fn a_second_runner_is_refused_and_one_that_takes_over_puts_the_first_out(engines: Engines<'_>) {
    let (frozen, second) = (engines(), engines());
    let id = submitted(frozen.as_ref(), 6, 10, 0);
    let (theatre, next) = (Arc::new(Theatre::default()), Arc::new(Theatre::default()));
    theatre.hold(true);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| frozen.work(id, theatre.workers(2), options(&AtomicBool::new(false))));
        theatre.wait_for_begun(2);
        let refused = second.work(id, next.workers(1), options(&AtomicBool::new(false))).unwrap_err();
        assert_eq!((refused.fault(), next.began().len()), (Fault::Fenced, 0), "{refused}");
        let done = second.work(id, next.workers(2), taking_over(&AtomicBool::new(false))).unwrap();
        assert_eq!(done, RunEnd::Done);
        // The first one wakes: what it was at it may end, and it counts for nothing.
        theatre.hold(false);
        let out = running.join().unwrap().unwrap_err();
        assert_eq!(out.fault(), Fault::Fenced, "{out}");
    });
    assert_eq!(next.began().len(), 10, "those that were under way are begun anew");
    let state = engines().status(id).unwrap().state().clone();
    assert_eq!(state.counts().restored, 10);
    let receipt_of = |number| match &state.case(&site(number)).unwrap().stage {
        lifeboat_model::CaseStage::Restored(signed) => signed.receipt.restore,
        other => panic!("{other:?}"),
    };
    assert_eq!(vec![receipt_of(0)], next.restores(0));
}

fn skipping_retrying_and_handing_over_follow_what_happened(engines: Engines<'_>) {
    let engine = engines();
    let id = submitted(engine.as_ref(), 7, 4, 0);
    engine.control(id, &Control::Skip { site: site(1), reason: "its owner left".into() }).unwrap();
    let theatre = Theatre::failing(&[0]);
    assert_eq!(run(engine.as_ref(), id, &theatre), RunEnd::Done);
    let refused = engine.control(id, &Control::Retry { site: site(2) }).unwrap_err();
    assert!(refused.to_string().contains("cannot be retried: site=`site-002`, state=`restored`"), "{refused}");
    assert!(engine.control(id, &Control::Retry { site: site(99) }).is_err());
    engine.control(id, &Control::RetryFailed).unwrap();
    engine.control(id, &Control::Retry { site: site(1) }).unwrap();
    let well = Arc::new(Theatre::default());
    assert_eq!(run(engine.as_ref(), id, &well), RunEnd::Done);
    let mut began = well.began();
    began.sort();
    assert_eq!(began, [site(0), site(1)]);
    let accept = Control::HandOver { site: site(0), to: HandOver::Accepted, note: "Ada".into() };
    engine.control(id, &accept).unwrap();
    let state = engines().status(id).unwrap().state().clone();
    assert_eq!(state.case(&site(0)).unwrap().hand_over, Some(HandOver::Accepted));
    assert_eq!(state.case(&site(1)).unwrap().hand_over, Some(HandOver::Validated));
}
