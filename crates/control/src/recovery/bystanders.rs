//! When the sites beside a recovery are looked at: before its first case, and after its last one, or when it halts.
//!
//! The first look is in the journal, so that whoever goes on with a killed recovery compares with what was there before
//! anything was done. It counts until it is proven; a run after that begins with a new one.
//!
//! What is not here: how they are looked at and compared (`lifeboat-engine`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{
    BystanderRequest, Engine, Error, Journal, ProofRequest, RestoreWrote, databases, look_again, look_at_bystanders,
    prove_bystanders,
};
use lifeboat_model::{
    BystanderChoice, BystanderProof, Bystanders, CaseStage, PartReceipt, RecoveryEvent, RecoveryState, SiteId,
    SourceName, Timestamp,
};
use tokio::runtime::Handle;

/// So long a sample may keep the first case waiting: what is not read by then is not compared.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long a change log that is behind is waited for, when all is done.
const LOG_PATIENCE: Duration = Duration::from_secs(20);

/// Looks at bystanders, where a case is still to come and no earlier look counts. Blocks.
///
/// `known`: every site that anybody knows of.
pub fn look_before(
    journal: &mut Journal,
    (engine, runtime): (&Engine, &Handle),
    known: BTreeSet<SiteId>,
    choice: BystanderChoice,
) -> Result<(), Error> {
    let (plan, state) = (journal.plan(), journal.state());
    if choice == BystanderChoice::None || state.looked.is_some() || state.is_done() {
        return Ok(());
    }
    let mut others = known;
    plan.cases.iter().for_each(|case| {
        others.remove(&case.site);
    });
    let patience = matches!(choice, BystanderChoice::Sample(_)).then_some(PATIENCE);
    let request = BystanderRequest { recovery: plan.id, choice, others: &others, patience };
    let look = Arc::new(look_at_bystanders(engine, &request)?);
    runtime.block_on(journal.append(None, |state| {
        let looked = || RecoveryEvent::Bystanders(Bystanders::Looked(Arc::clone(&look)));
        Ok(if state.looked.is_some() { Vec::new() } else { vec![looked()] })
    }))
}

/// Looks at the same sites again, proves what there is to prove, and writes it down; `None`: nobody looked before. Blocks.
pub fn prove_after(
    journal: &mut Journal,
    (engine, runtime): (&Engine, &Handle),
    must_be_quiet: bool,
) -> Result<Option<Arc<BystanderProof>>, Error> {
    let Some(first) = journal.state().looked.clone() else { return Ok(None) };
    let second = look_again(engine, &first)?;
    let wrote = wrote_since(journal.state(), first.looked_at, &databases(engine));
    let cases = journal.plan().cases.iter().map(|case| case.site.clone()).collect();
    let request = ProofRequest {
        first: &first,
        second: &second,
        cases: &cases,
        wrote: &wrote,
        must_be_quiet,
        patience: LOG_PATIENCE,
    };
    let proof = Arc::new(runtime.block_on(prove_bystanders(engine, request))?);
    runtime.block_on(journal.append(None, |state| {
        let proven = || RecoveryEvent::Bystanders(Bystanders::Proven(Arc::clone(&proof)));
        // Somebody else may have proven it meanwhile.
        Ok(if state.looked.as_ref() == Some(&first) { vec![proven()] } else { Vec::new() })
    }))?;
    Ok(Some(proof))
}

/// In which transactions the cases that began since then wrote. Where an attempt died, failed, or has left no account of
/// its rows, it may have written to any of the databases, in one that nobody knows.
fn wrote_since(state: &RecoveryState, since: Timestamp, databases: &[SourceName]) -> Vec<RestoreWrote> {
    let mut wrote = Vec::new();
    for case in state.cases.iter().filter(|case| case.began_at.is_some_and(|began| began >= since)) {
        let of = |source: &SourceName, transaction| RestoreWrote {
            source: source.clone(),
            site: case.site.clone(),
            transaction,
        };
        let parts = match &case.stage {
            CaseStage::Restored(signed) => signed.receipt.parts.as_slice(),
            _ => &[],
        };
        let has_told_all = case.begun.len() == 1 && !parts.is_empty();
        wrote.extend(parts.iter().filter_map(|part| Some(of(&part.source, Some(part.transaction?)))));
        wrote.extend(databases.iter().filter_map(|source| {
            let part = parts.iter().find(|part| part.source == *source);
            // Such as a database of the site's own, which is renamed.
            let has_no_single_one = |part: &PartReceipt| part.transaction.is_none() && part.rows + part.removed > 0;
            (!has_told_all || part.is_some_and(has_no_single_one)).then(|| of(source, None))
        }));
    }
    wrote
}

#[cfg(test)]
mod tests;
