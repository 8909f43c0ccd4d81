//! Claims about losses that are meant, and about what runs know of each other.

use super::*;

#[test]
fn a_loss_is_accepted_only_where_a_run_found_it_and_nothing_is_held_for_it() {
    let hold = |reason| Hold { id: HoldId([0; 8]), reason, note: String::new(), placed_at: Timestamp(0) };
    let check = |seen: Option<RunOutcome>, held: &[HoldReason], want: bool| {
        let holds: Vec<Hold> = held.iter().map(|reason| hold(*reason)).collect();
        assert_eq!(is_loss_accepted(seen.as_ref(), &holds), want, "{seen:?} {held:?}");
    };
    use HoldReason::{Asked, Shrank};
    check(Some(RunOutcome::Vanished), &[], true);
    check(Some(RunOutcome::Vanished), &[Asked, Shrank], true);
    check(Some(RunOutcome::Vanished), &[Asked, HoldReason::Vanished], false);
    // No run has looked since it went.
    check(Some(RunOutcome::Published), &[], false);
    check(Some(RunOutcome::Unchanged), &[], false);
    check(Some(RunOutcome::Failed { reason: "r".into() }), &[], false);
    check(None, &[], false);
}

#[test]
fn a_run_repeats_what_the_newest_one_knows_unless_it_looked_later_itself() {
    let seen = |name: &str, generation: u64, seen_at: i64| RunSite {
        site: SiteId::new(name).unwrap(),
        generation: lifeboat_model::Generation(generation),
        snapshot: None,
        seen_at: Timestamp(seen_at),
        outcome: RunOutcome::Unchanged,
    };
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
        assert_eq!(carry_over(seen_now, last), want);
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
}
