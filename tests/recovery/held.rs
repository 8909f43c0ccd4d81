//! A governor that holds cases back: none begins, what is under way goes on, and whoever watches is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_control::recovery::{Governor, Ledger, RecoveryEngine, RunEnd, RunOptions, Watch};
use lifeboat_engine::{Journal, Recoveries};
use lifeboat_model::SiteId;
use lifeboat_testkit::world::engine_in_memory;

use crate::fake::{Theatre, plan, wait_until};

const WORKERS: usize = 3;

#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
}

impl Governor for Gate {
    fn holds(&self) -> Option<String> {
        self.is_shut.load(Ordering::SeqCst).then(|| "the gate is shut".to_owned())
    }
}

fn options<'a>(stop: &'a AtomicBool, watch: &'a Seen, gate: &'a Gate) -> RunOptions<'a> {
    RunOptions { take_over: false, stop, watch, governor: Some(gate) }
}

#[derive(Default)]
struct Seen(Mutex<Vec<Option<String>>>);

impl Watch for Seen {
    fn moved(&self, _journal: &Journal) {}
    fn beat(&self, _site: &SiteId, _at: u64, _of: u64) {}

    fn held(&self, why: Option<&str>) {
        self.0.lock().unwrap().push(why.map(str::to_owned));
    }
}

#[test]
fn while_it_is_held_nothing_begins_and_what_is_under_way_goes_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let recoveries = Recoveries::of(&runtime.block_on(engine_in_memory(Vec::new())));
    let ledger = Ledger::new(recoveries, runtime.handle().clone());
    // When the canaries have ended, all others could begin in one go.
    let plan = plan(1, 9, 3);
    ledger.submit(plan.clone()).unwrap();
    ledger.approve(plan.id, ledger.status(plan.id).unwrap().hash()).unwrap();
    let (theatre, gate, seen) = (Arc::new(Theatre::default()), Gate::default(), Seen::default());
    theatre.hold(true);
    let shut = |is_shut| gate.is_shut.store(is_shut, Ordering::SeqCst);
    let stop = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| ledger.work(plan.id, theatre.workers(WORKERS), options(&stop, &seen, &gate)));
        theatre.wait_for_begun(WORKERS);
        assert!(seen.0.lock().unwrap().is_empty(), "without a free worker nobody asks");
        shut(true);
        theatre.hold(false);
        wait_until(&ledger, plan.id, "idle", |journal| journal.state().counts().restored == WORKERS);
        // The journal is written only by whoever has looked at the gate again.
        let until = std::time::Instant::now() + crate::fake::PATIENCE;
        while seen.0.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < until, "nobody was told");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let counts = ledger.status(plan.id).unwrap().state().counts();
        assert_eq!((theatre.began().len(), counts.running, counts.waiting), (WORKERS, 0, 9 - WORKERS));
        shut(false);
        running.join().unwrap().unwrap()
    });
    assert_eq!((ended, theatre.began().len()), (RunEnd::Done, 9));
    assert_eq!(*seen.0.lock().unwrap(), [Some("the gate is shut".to_owned()), None]);
}

#[test]
fn what_is_held_can_be_stopped() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let recoveries = Recoveries::of(&runtime.block_on(engine_in_memory(Vec::new())));
    let ledger = Ledger::new(recoveries, runtime.handle().clone());
    let plan = plan(2, 3, 0);
    ledger.submit(plan.clone()).unwrap();
    ledger.approve(plan.id, ledger.status(plan.id).unwrap().hash()).unwrap();
    let gate = Gate { is_shut: AtomicBool::new(true) };
    let theatre = Arc::new(Theatre::default());
    let (stop, seen) = (AtomicBool::new(false), Seen::default());
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| ledger.work(plan.id, theatre.workers(1), options(&stop, &seen, &gate)));
        wait_until(&ledger, plan.id, "begun", |journal| journal.state().run.is_some());
        stop.store(true, Ordering::SeqCst);
        running.join().unwrap().unwrap()
    });
    assert_eq!((ended, theatre.began().len()), (RunEnd::Stopped, 0));
}
