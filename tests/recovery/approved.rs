//! What a case does with a real site: what was approved of it, and nothing else.

use std::sync::Arc;

use lifeboat_engine::{CaseAsked, CaseAttempt, Engine, Error, plan_case, run_case, this_process};
use lifeboat_model::{
    CaseAim, CasePlan, CommitEvent, Fault, Faulty, PointInTime, RecoveryId, RecoveryRules, RestoreId, RestoreIntent,
    RestoreOutcome, SourceName, Timestamp,
};
use lifeboat_store::MemoryStore;
use lifeboat_testkit::world::{World, backup_all, site_id};

const RULES: RecoveryRules =
    RecoveryRules { canaries: 0, halt_percent: 33, keeps_later: false, verifies_read: false, skips_damaged: false };

fn attempt(run: u64, earlier: &[u64]) -> CaseAttempt {
    let id = |run| CaseAttempt::restore_id(RecoveryId([7; 8]), &site_id("acme"), 0, run);
    CaseAttempt {
        recovery: RecoveryId([7; 8]),
        restore: id(run),
        unheard: earlier.iter().copied().map(id).collect(),
        failed: Vec::new(),
        replaced: Vec::new(),
    }
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

/// A site whose `files/a.txt` was changed and whose database is gone, and the case that puts it back.
async fn damaged() -> (World, Engine, CasePlan) {
    let store = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 20);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::write(world.site_dir("acme").join("files/a.txt"), "somebody else's words").unwrap();
    std::fs::remove_file(world.site_dir("acme").join("notes.db")).unwrap();
    let aim = CaseAim::Point(PointInTime::Latest);
    let asked = CaseAsked { site: site_id("acme"), aim, priority: 1, deadline: None };
    let case = plan_case(&engine, &asked, RULES).await.unwrap();
    (world, engine, case)
}

fn open(case: &CasePlan, restore: RestoreId, takes_over: Option<RestoreId>) -> RestoreIntent {
    RestoreIntent {
        restore,
        snapshot: case.snapshot,
        moment: None,
        keeps_later: false,
        parts: ["files", "notes"].map(|name| SourceName::new(name).unwrap()).to_vec(),
        opened_at: Timestamp::now(),
        owner: this_process(),
        takes_over,
    }
}

// Explains invariant: done-once
#[tokio::test(flavor = "multi_thread")]
async fn what_users_wrote_after_an_attempt_that_nobody_heard_of_stays() {
    let (world, engine, case) = damaged().await;
    let receipt = run_case(&engine, &case, RULES, &attempt(2, &[])).await.unwrap();
    std::fs::write(world.site_dir("acme").join("files/a.txt"), "the customer's own words").unwrap();
    let used = world.picture("acme");
    for run in [3, 4] {
        let again = run_case(&engine, &case, RULES, &attempt(run, &[1, 2])).await.unwrap();
        assert!(again.all_passed());
        assert_eq!((again.restore, again.undo), (receipt.restore, receipt.undo));
        assert_eq!(world.picture("acme"), used);
    }
    // Who asks for it again, after it was said to have failed, has it again.
    let failed = CaseAttempt { failed: vec![attempt(2, &[]).restore], ..attempt(5, &[]) };
    let again = run_case(&engine, &case, RULES, &failed).await.unwrap();
    assert_eq!(again.restore, failed.restore);
    assert_ne!(world.picture("acme"), used);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_of_an_attempt_that_changed_nothing_is_not_the_cases() {
    let (world, engine, case) = damaged().await;
    let (spoilt, left) = (world.picture("acme"), attempt(2, &[]).restore);
    run_case(&engine, &case, RULES, &attempt(2, &[])).await.unwrap();
    // As if that attempt had kept its undo and been given up, and the site had been written to since.
    lifeboat_testkit::world::undo(&engine, "acme", left).await.unwrap();
    let mut site = engine.site(&case.site).await.unwrap();
    let closed = CommitEvent::RestoreClosed { restore: left, outcome: RestoreOutcome::Abandoned };
    for event in [CommitEvent::RestoreOpened(open(&case, left, None)), closed] {
        site.commit(&this_process(), |_, _| Ok(event.clone())).await.unwrap();
    }
    let undo = site.state().undo_of(left).map(|kept| kept.id);
    assert!(undo.is_some());
    assert_eq!(world.picture("acme"), spoilt);
    std::fs::write(world.site_dir("acme").join("files/a.txt"), "words of the hour after").unwrap();
    let spoilt = world.picture("acme");

    let receipt = run_case(&engine, &case, RULES, &attempt(3, &[2])).await.unwrap();
    assert_eq!(receipt.restore, attempt(3, &[2]).restore);
    assert_ne!(receipt.undo, undo);
    lifeboat_testkit::world::undo(&engine, "acme", receipt.restore).await.unwrap();
    assert_eq!(world.picture("acme"), spoilt);
}

// What a process has left open under any of a case's ids, its own next attempt goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_that_left_the_restore_open_is_gone_on_with() {
    let (world, engine, case) = damaged().await;
    let mut site = engine.site(&case.site).await.unwrap();
    let left = attempt(2, &[]).restore;
    // The second is one that went on under an id that the recovery does not know.
    for intent in [open(&case, left, None), open(&case, RestoreId([9; 8]), Some(left))] {
        let event = CommitEvent::RestoreOpened(intent);
        site.commit(&this_process(), |_, _| Ok(event.clone())).await.unwrap();
    }
    let refused = run_case(&engine, &case, RULES, &attempt(3, &[])).await.unwrap_err();
    assert!(refused.to_string().contains("another restore of the site is open"), "{refused}");
    // What is to be typed is of the site's restore, not of the recovery.
    let (hint, fault) = (refused.hint().unwrap(), refused.fault());
    assert!(hint.contains("`lifeboat restore acme --take-over`") && fault == Fault::Fenced, "{hint} {fault:?}");

    let failed = CaseAttempt { failed: vec![left], ..attempt(4, &[]) };
    let receipt = run_case(&engine, &case, RULES, &failed).await.unwrap();
    assert!(receipt.all_passed());
    assert_ne!(std::fs::read(world.site_dir("acme").join("files/a.txt")).unwrap(), b"somebody else's words");
}
