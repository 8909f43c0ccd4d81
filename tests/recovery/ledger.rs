//! The engine that is always there, and what only it promises.

use lifeboat_control::recovery::{Control, Ledger, RecoveryEngine};
use lifeboat_engine::{Recoveries, this_process};
use lifeboat_model::{Fault, Faulty, ObjectId, RecoveryEntry, RecoveryEvent, Timestamp, WriterIdentity};
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

#[test]
fn who_would_skip_a_site_whose_runner_was_killed_is_told_so_and_how_to_go_on() {
    let runtime = runtime();
    let engine = runtime.block_on(engine_in_memory(Vec::new()));
    let ledger = Ledger::new(Recoveries::of(&engine), runtime.handle().clone());
    let plan = plan(1, 2, 0);
    ledger.submit(plan.clone()).unwrap();
    ledger.approve(plan.id, ledger.status(plan.id).unwrap().hash()).unwrap();
    let say = |number: u64, run: Option<u64>, pid: u32, event: RecoveryEvent| {
        let writer = WriterIdentity { pid, ..this_process() };
        let (nonce, written_at) = (ObjectId([1; 16]), Timestamp::now());
        let entry = RecoveryEntry { number, nonce, written_at, writer, run, events: vec![event] };
        assert!(runtime.block_on(engine.repository.append_recovery_entry(plan.id, &entry)).unwrap());
    };
    let skip = || ledger.control(plan.id, &Control::Skip { site: site(0), reason: "no".into() });
    // No process has that number.
    say(2, None, u32::MAX, RecoveryEvent::RunBegan);
    say(3, Some(2), u32::MAX, RecoveryEvent::CaseBegan { site: site(0) });
    let error = skip().unwrap_err();
    assert!(error.to_string().contains("the process that was at this site is gone: site=`site-000`"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("`lifeboat recover run {}` goes on with it", plan.id)), "{hint}");
    assert_eq!(error.fault(), Fault::Usage);
    // While it lives, it is only not the time for it.
    say(4, None, this_process().pid, RecoveryEvent::RunBegan);
    say(5, Some(4), this_process().pid, RecoveryEvent::CaseBegan { site: site(0) });
    let error = skip().unwrap_err().to_string();
    assert!(error.contains("cannot be skipped: site=`site-000`, state=`running`"), "{error}");
    // As the hint says: a run of a paused recovery lets it wait.
    ledger.control(plan.id, &Control::Pause).unwrap();
    say(7, None, this_process().pid, RecoveryEvent::RunBegan);
    skip().unwrap();
}
