//! A case that ends because it was told to has not failed, wherever below it that was seen.

use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_control::recovery::{CaseSteps, Ledger, RecoveryEngine, RunEnd, RunOptions, Step, StepHooks, StepOut};
use lifeboat_engine::{Error, Recoveries};
use lifeboat_model::{CasePlan, RecoveryRules};
use lifeboat_testkit::world::engine_in_memory;

use crate::fake::{Nobody, plan, wait_until};

/// Reads from a repository until it is told to stop.
struct Reader;

impl CaseSteps for Reader {
    fn step(&mut self, _: Step, _: &CasePlan, _: RecoveryRules, hooks: &dyn StepHooks) -> Result<StepOut, Error> {
        while !hooks.stop() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Err(Error::Repo(lifeboat_repo::Error::Cancelled))
    }
}

#[test]
fn a_read_that_was_stopped_is_a_case_that_waits_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let recoveries = Recoveries::of(&runtime.block_on(engine_in_memory(Vec::new())));
    let ledger = Ledger::new(recoveries, runtime.handle().clone());
    let plan = plan(1, 2, 0);
    ledger.submit(plan.clone()).unwrap();
    ledger.approve(plan.id, ledger.status(plan.id).unwrap().hash()).unwrap();
    let stop = AtomicBool::new(false);
    let options = RunOptions { take_over: false, stop: &stop, watch: &Nobody, governor: None };
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| ledger.work(plan.id, vec![Box::new(Reader)], options));
        wait_until(&ledger, plan.id, "begun", |journal| journal.state().counts().running == 1);
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap()
    });
    let counts = ledger.status(plan.id).unwrap().state().counts();
    assert_eq!((ended, counts.waiting, counts.failed), (RunEnd::Stopped, 2, 0));
}
