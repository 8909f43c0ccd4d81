//! What a case does with a real site: what was approved of it, and nothing else.

use std::sync::Arc;

use lifeboat_engine::{CaseAsked, CaseAttempt, Error, plan_case, run_case};
use lifeboat_model::{CaseAim, CasePlan, PointInTime, RecoveryId, RecoveryRules};
use lifeboat_store::MemoryStore;
use lifeboat_testkit::world::{World, backup_all, site_id};

const RULES: RecoveryRules =
    RecoveryRules { canaries: 0, halt_percent: 33, keeps_later: false, verifies_read: false, skips_damaged: false };

fn attempt(run: u64, earlier: &[u64]) -> CaseAttempt {
    let id = |run| CaseAttempt::restore_id(RecoveryId([7; 8]), &site_id("acme"), 0, run);
    CaseAttempt { restore: id(run), earlier: earlier.iter().copied().map(id).collect(), replaced: Vec::new() }
}

// Explains invariant: approved-case
#[tokio::test(flavor = "multi_thread")]
async fn a_case_does_what_was_approved_or_goes_on_with_an_earlier_attempt_or_changes_nothing() {
    let store = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 20);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let before = world.picture("acme");
    std::fs::write(world.site_dir("acme").join("files/a.txt"), "somebody else's words").unwrap();
    std::fs::remove_file(world.site_dir("acme").join("notes.db")).unwrap();
    let spoilt = world.picture("acme");
    let aim = CaseAim::Point(PointInTime::Latest);
    let asked = CaseAsked { site: site_id("acme"), aim, priority: 1, deadline: None };
    let case = plan_case(&engine, &asked, RULES).await.unwrap();

    // Another plan than the approved one: nothing is changed, and nobody has to guess why.
    let other = CasePlan { hash: "0000000000000000".into(), ..case.clone() };
    let refused = run_case(&engine, &other, RULES, &attempt(2, &[])).await.unwrap_err();
    assert!(matches!(refused, Error::PlanChanged { .. }), "{refused}");
    assert_eq!(world.picture("acme"), spoilt);

    let receipt = run_case(&engine, &case, RULES, &attempt(2, &[])).await.unwrap();
    assert!(receipt.all_passed());
    assert_eq!(receipt.restore, attempt(2, &[]).restore);
    assert_eq!(world.picture("acme"), before);

    // It died before it could say so: whoever does it again comes to the same end, and names the undo of what was there
    // before the recovery, not of what the recovery itself had brought back.
    let again = run_case(&engine, &case, RULES, &attempt(5, &[2])).await.unwrap();
    assert!(again.all_passed());
    assert_eq!(world.picture("acme"), before);
    assert_eq!((again.restore, again.undo), (receipt.restore, receipt.undo));
    lifeboat_testkit::world::undo(&engine, "acme", again.restore).await.unwrap();
    assert_eq!(world.picture("acme"), spoilt);
}
