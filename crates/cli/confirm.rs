//! Approval of a plan that was shown: by a person, by its hash, or in advance.
//!
//! | approval        | on a terminal                         | without a terminal             |
//! |-----------------|---------------------------------------|--------------------------------|
//! | none            | asks y/N; conflicts: type the id      | refused, exit 2                |
//! | `--yes`         | runs; with conflicts it asks for the id | runs; conflicts: refused, exit 10 |
//! | `--plan HASH`   | runs if it is this plan, else refused, exit 10 (conflicts are part of the hash) | same |
//!
//! `--yes` never approves a conflict: whoever wrote it into a script did not see this one.

use crate::CliError;
use crate::args::ApprovalArgs;
use crate::output::Output;

/// What is to be approved.
#[derive(Debug, Clone, Copy)]
pub struct Approvable<'a> {
    /// What a person types to confirm a conflict: what it is, such as `the site's id`, and itself.
    pub subject: (&'a str, &'a str),
    /// The plan's hash as it was shown.
    pub hash: &'a str,
    pub has_conflicts: bool,
}

/// How a plan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was approved.
    Run,
    /// It was only to be shown, or the person said no.
    Leave(Left),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    DryRun,
    Declined,
}

/// Decides about a plan that was printed already.
pub fn decide(approval: &ApprovalArgs, plan: Approvable<'_>, output: &Output) -> Result<Decision, CliError> {
    if approval.dry_run {
        return Ok(Decision::Leave(Left::DryRun));
    }
    if let Some(hash) = &approval.plan {
        return if same_hash(hash, plan.hash) { Ok(Decision::Run) } else { Err(other_plan(hash, plan)) };
    }
    let asks_for_subject = plan.has_conflicts;
    if approval.yes && !asks_for_subject {
        return Ok(Decision::Run);
    }
    if !output.is_interactive() {
        return Err(refuse(approval, plan));
    }
    let approved = if asks_for_subject {
        let (what, id) = plan.subject;
        let question = format!("This plan has conflicts. Type {what} to go on in spite of them ({id}): ");
        output.ask(&question).is_some_and(|answer| answer.trim() == id)
    } else {
        let answer = output.ask("Go on? [y/N] ");
        answer.is_some_and(|answer| matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    };
    Ok(if approved { Decision::Run } else { Decision::Leave(Left::Declined) })
}

/// A hash may be shortened, as people copy it, to no less than this.
const HASH_DIGITS_MIN: usize = 8;

fn same_hash(given: &str, hash: &str) -> bool {
    given.len() >= HASH_DIGITS_MIN && hash.starts_with(&given.to_lowercase())
}

fn other_plan(given: &str, plan: Approvable<'_>) -> CliError {
    if given.len() < HASH_DIGITS_MIN {
        return CliError::operator(format!("too few digits of a plan's hash: given=`{given}`, now=`{}`", plan.hash))
            .with_hint(format!("give at least {HASH_DIGITS_MIN} digits of the hash that --dry-run prints"));
    }
    CliError::operator(format!("this is not the approved plan: approved=`{given}`, now=`{}`", plan.hash))
        .with_hint("the site, the point or the options changed since; look at it with --dry-run and approve it anew")
}

fn refuse(approval: &ApprovalArgs, plan: Approvable<'_>) -> CliError {
    if approval.yes {
        return CliError::operator("the plan has conflicts, and --yes does not approve them")
            .with_hint(format!("look at the plan, then approve exactly this one with `--plan {}`", plan.hash));
    }
    CliError::usage("nobody is there to approve the plan").with_hint(format!(
        "run it on a terminal, or approve this plan with `--plan {}`, or any plan without conflicts with `--yes`",
        plan.hash
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Manner;
    use crate::testing::{captured, captured_terminal};

    const HASH: &str = "0123456789abcdef";

    fn approval(words: &[&str]) -> ApprovalArgs {
        ApprovalArgs {
            dry_run: words.contains(&"dry"),
            yes: words.contains(&"yes"),
            plan: words.iter().find_map(|word| word.strip_prefix("plan:")).map(str::to_owned),
        }
    }

    /// `Ok(true)`: runs; `Ok(false)`: left; `Err(code)`: refused.
    fn check(words: &[&str], typed: Option<&str>, has_conflicts: bool, want: Result<bool, u8>) {
        let (streams, captured) = match typed {
            Some(typed) => captured_terminal(typed),
            None => captured("y\n"),
        };
        let output = Output::new(streams, Manner::default());
        let plan = Approvable { subject: ("the recovery's id", "acme"), hash: HASH, has_conflicts };
        let got = decide(&approval(words), plan, &output);
        let got = got.map(|decision| decision == Decision::Run).map_err(|error| {
            assert!(error.hint.is_some());
            error.exit_code()
        });
        assert_eq!(got, want, "{words:?} {typed:?} {has_conflicts}");
        let asked = captured.stderr();
        assert!(!asked.contains("conflicts") || asked.contains("Type the recovery's id to go on"), "{asked}");
    }

    #[test]
    fn nothing_runs_without_an_approval_that_fits() {
        check(&[], Some("y\n"), false, Ok(true));
        check(&[], Some("YES\n"), false, Ok(true));
        check(&[], Some("\n"), false, Ok(false));
        check(&[], Some(""), false, Ok(false));
        check(&[], None, false, Err(2));
        check(&[], Some("y\n"), true, Ok(false));
        check(&[], Some("acme\n"), true, Ok(true));
        check(&["yes"], None, false, Ok(true));
        check(&["yes"], None, true, Err(10));
        check(&["yes"], Some("acme\n"), true, Ok(true));
        check(&["yes"], Some("\n"), true, Ok(false));
        check(&["dry"], None, true, Ok(false));
        check(&["plan:0123456789abcdef"], None, true, Ok(true));
        check(&["plan:01234567"], None, false, Ok(true));
        check(&["plan:0123456"], None, false, Err(10));
        check(&["plan:fedcba98"], Some("y\n"), false, Err(10));
        check(&["plan:"], None, false, Err(10));
    }
}
