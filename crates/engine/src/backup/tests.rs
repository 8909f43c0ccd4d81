//! Claims about losses that are meant.

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
