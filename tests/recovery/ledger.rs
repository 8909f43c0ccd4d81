//! The engine that is always there, and what only it promises.

use lifeboat_control::recovery::Ledger;
use lifeboat_engine::Recoveries;
use lifeboat_testkit::world::engine_in_memory;

use crate::conformance;

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
