//! Bystanders of a recovery: looked at around its cases, and what came of it, in a sentence and as JSON.

use std::collections::BTreeSet;

use lifeboat_control::recovery::{Ledger, RecoveryEngine, look_before, prove_after};
use lifeboat_engine::Journal;
use lifeboat_model::{BystanderChoice, BystanderProof, Faulty, RecoveryId, SiteId, Touched};
use serde_json::{Value, json};

use super::super::remembered::Remembered;
use super::on_thread;
use crate::args::RecoverRunArgs;
use crate::open::Open;
use crate::output::{Output, count};
use crate::{CliError, Context, exit};

/// A proof that is to fail where anything is open, and looks at nobody, is a mistake of whoever asks for it.
pub(super) fn refuse_blind(args: &RecoverRunArgs, open: &Open) -> Result<(), CliError> {
    let from = match args.bystanders {
        Some(BystanderChoice::None) => "--bystanders none",
        None if open.config.recovery.bystanders == BystanderChoice::None => "recovery.bystanders = \"none\"",
        _ => return Ok(()),
    };
    match args.bystanders_quiet {
        false => Ok(()),
        true => Err(CliError::usage(format!(
            "--bystanders-quiet asks for a proof, and nobody is to be looked at: `{from}`"
        ))
        .with_hint(
            "say who is looked at with --bystanders all or --bystanders sample:N, or leave --bystanders-quiet out",
        )),
    }
}

/// Before the first case. That they cannot be looked at is no reason to keep everybody waiting, unless a proof is asked for.
pub(super) async fn look(
    args: &RecoverRunArgs,
    id: RecoveryId,
    open: &Open,
    context: &Context,
) -> Result<(), CliError> {
    let choice = args.bystanders.unwrap_or(open.config.recovery.bystanders);
    if choice == BystanderChoice::None {
        return Ok(());
    }
    context.output.say(format!("Looking at bystanders ({choice}), to prove afterwards that nobody else was touched …"));
    match look_and_note(id, choice, open).await {
        Err(error) if error.exit_code() != exit::CANCELLED && !args.bystanders_quiet => {
            let hint = "the recovery goes on; that nobody else was touched will not be proven";
            context.output.warn(&format!("the bystanders cannot be looked at: {}", error.message), Some(hint));
            Ok(())
        }
        looked => looked,
    }
}

async fn look_and_note(id: RecoveryId, choice: BystanderChoice, open: &Open) -> Result<(), CliError> {
    let known = Remembered::gather(open).await?.backed_up();
    let runtime = tokio::runtime::Handle::current();
    let look = |ledger: &Ledger| look_before(&mut ledger.status(id)?, (&open.engine, &runtime), known, choice);
    Ok(on_thread(look, &open.engine)?)
}

/// After the last one; the exit code that it asks for.
pub(super) fn prove(id: RecoveryId, must_be_quiet: bool, open: &Open, context: &Context) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Handle::current();
    if on_thread(|ledger| Ok(ledger.status(id)?.state().looked.is_none()), &open.engine)? {
        return Ok(0); // nobody looked before
    }
    context.output.say("Looking at the bystanders again …");
    let proof =
        on_thread(|ledger| prove_after(&mut ledger.status(id)?, (&open.engine, &runtime), must_be_quiet), &open.engine);
    match proof {
        Ok(_) => Ok(0), // the journal has it
        Err(lifeboat_engine::Error::Cancelled) => Err(lifeboat_engine::Error::Cancelled.into()),
        Err(error) => {
            let hint = format!("what was restored stays; `lifeboat recover run {id}` proves it again");
            context.output.warn(&format!("the bystanders are not proven: {error}"), Some(&hint));
            Ok(error.fault().exit_code())
        }
    }
}

/// What the journal says of them.
pub(super) fn tell(journal: &Journal, output: &Output) {
    let (id, state) = (journal.plan().id, journal.state());
    let Some((last, earlier)) = state.proofs.split_last() else {
        if state.looked.is_some() && state.is_done() {
            output.line(format!("Bystanders: not proven yet; `lifeboat recover run {id}` does it."));
        }
        return;
    };
    output.line(sentence(last));
    for note in &last.notes {
        output.line(format!("  {}: {}: {}", note.site, note.source, note.detail));
    }
    for proof in earlier.iter().chain([last]).filter(|proof| proof.has_failed()) {
        output.line("  PROOF FAILED: a site that is not in this recovery may have been touched by it.");
        proof.touched.iter().for_each(|touched| tell_touched(touched, output));
        output.line(format!("  Begin nothing else until it is understood: lifeboat recover pause {id}"));
    }
}

fn tell_touched(touched: &Touched, output: &Output) {
    let Touched { site, source, table, transaction, by } = touched;
    output.line(format!(
        "  TOUCHED {site}: table `{table}` of {source}, by transaction {transaction}, which restored {by}"
    ));
    output.line(format!("          look: lifeboat diff {site} --at before-xid:{transaction}"));
    output.line(format!("          put back: lifeboat restore {site} --without-xid {transaction} --dry-run"));
}

/// `Bystanders: 20 of 4,117 looked at: 19 equal, 1 changed by its own users, 0 touched.`
///
/// Fewer than all is not always a sample: of all that anybody knows, some may be in no source any more.
pub(super) fn sentence(proof: &BystanderProof) -> String {
    let touched: BTreeSet<&SiteId> = proof.touched.iter().map(|touched| &touched.site).collect();
    let mut found = vec![format!("{} equal", count(proof.equal))];
    let mut add = |number: u64, what: &str| {
        if number > 0 {
            found.push(format!("{} {what}", count(number)));
        }
    };
    add(proof.own_users, "changed by its own users");
    add(proof.not_proven, "changed meanwhile, not proven by whom");
    found.push(format!("{} touched", count(touched.len() as u64)));
    let (looked, others) = (count(proof.looked), count(proof.others));
    let compared = match proof.compared() {
        0 if proof.others > 0 => " nobody was compared, so nothing is shown:".to_owned(),
        compared if compared < proof.looked => format!(" {} of {looked} asked were compared:", count(compared)),
        _ => String::new(),
    };
    format!("Bystanders: {looked} of {others} looked at:{compared} {}.{}", found.join(", "), logged(proof))
}

/// What the change logs have of the restores; where nothing is captured, nothing is said.
fn logged(proof: &BystanderProof) -> String {
    let (logged, all) = (count(proof.transactions_logged), count(proof.transactions));
    match proof.transactions {
        0 => String::new(),
        wrote if wrote == proof.transactions_logged => {
            format!(" In the change log: {logged} of {all} restores, every change of theirs read.")
        }
        _ => format!(
            " The change log has {logged} of {all} of the restores' transactions: whom the others wrote to is not proven."
        ),
    }
}

/// Of the last proof; `null`: there is none.
pub(super) fn json(journal: &Journal) -> Value {
    journal.state().proofs.last().map_or(Value::Null, |proof| proof_json(proof))
}

pub(super) fn proof_json(proof: &BystanderProof) -> Value {
    let notes = proof
        .notes
        .iter()
        .map(|note| json!({ "site": note.site.as_str(), "source": note.source.as_str(), "detail": note.detail }));
    let touched = proof.touched.iter().map(|touched| {
        json!({
            "site": touched.site.as_str(),
            "source": touched.source.as_str(),
            "table": touched.table,
            "transaction": touched.transaction.0,
            "by": touched.by.as_str(),
        })
    });
    json!({
        "proven_at": proof.proven_at.to_string(),
        "others": proof.others,
        "looked": proof.looked,
        "equal": proof.equal,
        "changed_by_own_users": proof.own_users,
        "not_proven": proof.not_proven,
        "not_comparable": proof.not_comparable,
        "transactions": proof.transactions,
        "transactions_logged": proof.transactions_logged,
        "failed": proof.has_failed(),
        "notes": notes.collect::<Vec<_>>(),
        "touched": touched.collect::<Vec<_>>(),
    })
}

/// The exit code that the proofs ask for: one that has failed is not made good by a later one.
pub(super) fn exit_code(journal: &Journal) -> u8 {
    if journal.state().proofs.iter().any(|proof| proof.has_failed()) { exit::DAMAGE } else { 0 }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::Timestamp;

    use super::*;

    #[test]
    fn one_sentence_says_how_many_were_looked_at_and_what_became_of_them() {
        let proof = BystanderProof {
            proven_at: Timestamp(0),
            others: 4_117,
            looked: 20,
            equal: 19,
            own_users: 1,
            not_proven: 0,
            not_comparable: 0,
            transactions: 0,
            transactions_logged: 0,
            must_be_quiet: false,
            notes: Vec::new(),
            touched: Vec::new(),
        };
        assert_eq!(
            sentence(&proof),
            "Bystanders: 20 of 4,117 looked at: 19 equal, 1 changed by its own users, 0 touched."
        );
        let check = |proof: BystanderProof, want: &str| assert_eq!(sentence(&proof), want);
        let all = BystanderProof { others: 20, own_users: 0, not_proven: 1, ..proof.clone() };
        check(
            BystanderProof { transactions: 400, transactions_logged: 400, ..all.clone() },
            "Bystanders: 20 of 20 looked at: 19 equal, 1 changed meanwhile, not proven by whom, 0 touched. In the \
             change log: 400 of 400 restores, every change of theirs read.",
        );
        check(
            BystanderProof { transactions: 5, transactions_logged: 3, not_proven: 0, ..all.clone() },
            "Bystanders: 20 of 20 looked at: 19 equal, 0 touched. The change log has 3 of 5 of the restores' \
             transactions: whom the others wrote to is not proven.",
        );
        check(
            BystanderProof { looked: 200, equal: 40, own_users: 0, not_comparable: 160, ..proof.clone() },
            "Bystanders: 200 of 4,117 looked at: 40 of 200 asked were compared: 40 equal, 0 touched.",
        );
        check(
            BystanderProof { looked: 20, equal: 0, own_users: 0, not_comparable: 20, transactions: 2, ..proof },
            "Bystanders: 20 of 4,117 looked at: nobody was compared, so nothing is shown: 0 equal, 0 touched. The change \
             log has 0 of 2 of the restores' transactions: whom the others wrote to is not proven.",
        );
    }
}
