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
    BystanderRequest, Engine, Error, Journal, ProofRequest, RestoreWrote, look_again, look_at_bystanders,
    prove_bystanders,
};
use lifeboat_model::{
    BystanderChoice, BystanderLook, BystanderProof, Bystanders, CaseStage, RecoveryEvent, RecoveryState, SiteId,
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
    let wrote = wrote_since(journal.state(), &first);
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

/// The transactions of the cases that ended since the look.
fn wrote_since(state: &RecoveryState, look: &BystanderLook) -> Vec<RestoreWrote> {
    let mut wrote = Vec::new();
    for case in state.cases.iter().filter(|case| case.ended_at.is_some_and(|ended| ended >= look.looked_at)) {
        let CaseStage::Restored(signed) = &case.stage else { continue };
        wrote.extend(signed.receipt.parts.iter().filter_map(|part| {
            let (source, transaction, site) = (part.source.clone(), part.transaction?, case.site.clone());
            Some(RestoreWrote { source, transaction, site })
        }));
    }
    wrote
}
