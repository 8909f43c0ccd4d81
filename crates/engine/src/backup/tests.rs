//! Claims about losses that are meant, and about what runs know of each other.

use super::*;

fn seen(name: &str, (generation, seen_at): (u64, i64), outcome: RunOutcome) -> RunSite {
    let generation = lifeboat_model::Generation(generation);
    RunSite { site: SiteId::new(name).unwrap(), generation, snapshot: None, seen_at: Timestamp(seen_at), outcome }
}

#[test]
fn a_loss_is_accepted_only_where_a_run_found_it_and_nothing_is_held_or_was_restored_since() {
    let hold = |reason| Hold { id: HoldId([0; 8]), reason, note: String::new(), placed_at: Timestamp(0) };
    let undo = |at| SnapshotRecord {
        mark: Mark::Undo,
        restore: Some(lifeboat_model::RestoreId([0; 8])),
        cut_till: Timestamp(at),
        ..judge::tests::record(0, Vec::new())
    };
    let check = |outcome: RunOutcome, held: &[HoldReason], restored_at: Option<i64>, want: bool| {
        let seen = seen("acme", (1, 50), outcome);
        let mut state = SiteState::new(seen.site.clone(), lifeboat_model::KeyNumber(1));
        state.holds = held.iter().map(|reason| hold(*reason)).collect();
        state.snapshots.extend(restored_at.map(undo));
        assert_eq!(is_loss_accepted(Some(&seen), &state), want, "{seen:?} {held:?} {restored_at:?}");
    };
    use HoldReason::{Asked, Shrank};
    check(RunOutcome::Vanished, &[], None, true);
    check(RunOutcome::Vanished, &[Asked, Shrank], None, true);
    check(RunOutcome::Vanished, &[Asked, HoldReason::Vanished], None, false);
    check(RunOutcome::Vanished, &[], Some(40), true);
    check(RunOutcome::Vanished, &[], Some(60), false);
    // No run has looked since it went.
    check(RunOutcome::Published, &[], None, false);
    check(RunOutcome::Unchanged, &[], None, false);
    check(RunOutcome::Failed { reason: "r".into() }, &[], None, false);
    assert!(!may_be_accepted(None));
}

#[test]
fn a_run_repeats_what_the_newest_one_knows_unless_it_looked_later_itself() {
    let seen = |name: &str, generation: u64, seen_at: i64| seen(name, (generation, seen_at), RunOutcome::Unchanged);
    let run = |sites: Vec<RunSite>| Run {
        number: RunNumber(7),
        nonce: ObjectId([0; 16]),
        started_at: Timestamp(0),
        finished_at: Timestamp(0),
        writer: this_process(),
        sources: Vec::new(),
        sites,
    };
    let check = |seen_now: Vec<RunSite>, last: Option<Run>, want: Vec<RunSite>| {
        assert_eq!(
            carry_over(
                seen_now,
                last,
                (&["back", "later"].map(|site| SiteId::new(site).unwrap()).into(), Timestamp(15))
            ),
            want
        );
    };
    check(vec![seen("b", 2, 20)], None, vec![seen("b", 2, 20)]);
    check(
        vec![seen("b", 2, 20)],
        Some(run(vec![seen("a", 1, 9), seen("b", 1, 9)])),
        vec![seen("a", 1, 9), seen("b", 2, 20)],
    );
    // Another run ended meanwhile, and looked at the same site later.
    check(vec![seen("b", 2, 20)], Some(run(vec![seen("b", 3, 25)])), vec![seen("b", 3, 25)]);
    // A clock that is ahead never makes a sequence look shorter than it is.
    check(vec![seen("b", 3, 20)], Some(run(vec![seen("b", 2, 99)])), vec![seen("b", 3, 20)]);
    // Who was gone and is listed again is not gone any more, though nobody has read them yet; unless somebody found so later.
    let gone = |name: &str, at| super::tests::seen(name, (1, at), RunOutcome::Vanished);
    let back = super::tests::seen("back", (1, 9), RunOutcome::Failed { reason: IS_BACK.into() });
    check(
        Vec::new(),
        Some(run(vec![gone("away", 9), gone("back", 9), gone("later", 20)])),
        vec![gone("away", 9), back, gone("later", 20)],
    );
}
