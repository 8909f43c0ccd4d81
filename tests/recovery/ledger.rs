//! The engine that is always there, and what only it promises.

use lifeboat_control::recovery::{Control, Ledger, RecoveryEngine};
use lifeboat_engine::Recoveries;
use lifeboat_testkit::world::engine_in_memory;

use crate::conformance;
use crate::fake::{plan, site};

#[test]
fn several_controls_are_one_entry_or_none() {
    let runtime = runtime();
    let recoveries = Recoveries::of(&runtime.block_on(engine_in_memory(Vec::new())));
    let ledger = Ledger::new(recoveries, runtime.handle().clone());
    let plan = plan(1, 3, 0);
    ledger.submit(plan.clone()).unwrap();
    let skip = |number| Control::Skip { site: site(number), reason: "as asked".into() };
    let skipped = || {
        let journal = ledger.status(plan.id).unwrap();
        (journal.state().number, journal.state().counts().skipped)
    };
    ledger.controls(plan.id, &[skip(0), skip(1), skip(9)]).unwrap_err();
    assert_eq!(skipped(), (0, 0), "the last site is a stranger: none is skipped");
    ledger.controls(plan.id, &[skip(0), skip(1)]).unwrap();
    assert_eq!(skipped(), (1, 2));
    ledger.controls(plan.id, &[Control::Retry { site: site(0) }, Control::Retry { site: site(2) }]).unwrap_err();
    assert_eq!(skipped(), (1, 2), "the last site is no failed one: none is retried");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

// Explains invariant: cases-are-alone
#[test]
fn the_ledger_does_what_any_engine_must() {
    let runtime = runtime();
    let recoveries = Recoveries::of(&runtime.block_on(engine_in_memory(Vec::new())));
    conformance::all(&|| Box::new(Ledger::new(recoveries.clone(), runtime.handle().clone())));
}
