//! Restoring one site.
//!
//!   gather facts ▸ plan (printed, approved) ▸ freeze ▸ open the intent ▸ facts still hold? ▸ keep undo
//!     ▸ stage ▸ verify ▸ switch (add files ▸ databases ▸ remove extras) ▸ thaw ▸ receipt ▸ close
//!
//! Invariant (plan-first): nothing is written before a plan is approved, and only that plan runs.
//! Invariant (undo-first): what a restore replaces or removes is in the repository, committed and
//! read back, before the switch.
//! Invariant (verified-or-not-done): the switch takes a [`Verified`], which only checking makes.
//! What is not here: how files and databases are written (`lifeboat-source`).

use std::time::Instant;

use lifeboat_model::{Fault, Faulty, ProgressEvent, ProgressPhase, Receipt, RestoreIntent};

use crate::{Engine, Error, Usage};

mod copy;
mod database;
mod elsewhere;
mod facts;
mod files;
mod intent;
mod keep;
mod later;
mod limits;
mod narrow;
mod part;
mod plan;
mod request;
mod rows;
mod since;
mod stage;
mod undo;
mod undo_files;

pub(crate) use copy::LOOK_AT_IT;
pub use facts::Facts;
pub use limits::{RowsCounted, RowsLimit};
pub use plan::{Change, Conflict, PartPlan, RestorePlan};
pub use request::{Only, RestorePoint, RestoreRequest, RestoreTarget};
pub use undo::find_undo;

use part::PartWork;

/// A plan and the facts it was made from.
pub struct Planned {
    pub plan: RestorePlan,
    pub(crate) facts: Facts,
    /// What the store was asked for it: a small site is read whole by then.
    used: Usage,
}

impl Planned {
    /// The restore that was open on the site when the facts were gathered.
    pub(crate) fn open_restore(&self) -> Option<&RestoreIntent> {
        self.facts.site.state().intent.as_ref()
    }
}

/// How a person agreed to a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// To this plan, whatever it says, by its hash; conflicts included.
    Hash(String),
    /// To a plan without conflicts.
    Yes,
}

/// Every staged byte was checked; only this opens.
pub(crate) struct Verified(());

/// Gathers the facts, read-only, and says what a restore would do.
pub async fn plan_restore(engine: &Engine, request: &RestoreRequest) -> Result<Planned, Error> {
    let before = (engine.usage)();
    let facts = facts::gather(engine, request).await?;
    let plan = plan::plan(&facts, request);
    Ok(Planned { plan, facts, used: (engine.usage)().since(before) })
}

/// Runs an approved plan and returns the proof, which counts what was read to plan it, too.
pub async fn restore(
    engine: &Engine,
    request: &RestoreRequest,
    planned: Planned,
    approval: &Approval,
) -> Result<Receipt, Error> {
    let started = Instant::now();
    let (before, planning) = ((engine.usage)(), planned.used);
    planned.plan.check_approval(approval)?;
    let site = planned.plan.site.clone();
    engine.progress.report(ProgressEvent::SiteStarted { site: site.clone() });
    let outcome = match request.target {
        RestoreTarget::InPlace => in_place(engine, request, planned).await,
        RestoreTarget::Beside(_) | RestoreTarget::Export(_) => elsewhere(engine, request, planned).await,
    };
    engine.progress.report(ProgressEvent::SiteFinished { site, ok: outcome.is_ok() });
    let mut receipt = outcome?;
    let used = (engine.usage)().since(before);
    receipt.requests = planning.requests + used.requests;
    receipt.bytes_read = planning.bytes_read + used.bytes_read;
    receipt.duration = started.elapsed();
    Ok(receipt)
}

/// Into the live parts, under the same ids, with an undo.
async fn in_place(engine: &Engine, request: &RestoreRequest, planned: Planned) -> Result<Receipt, Error> {
    intent::check_free(&planned.facts.site, request)?; // before the freeze: its thaw would be another restore's
    tokio::task::block_in_place(|| facts::check_not_switching(&planned.facts))?;
    let frozen = match engine.hooks.can_freeze() {
        true => Some(tokio::task::block_in_place(|| engine.hooks.freeze(&planned.plan.site))?),
        false => None,
    };
    let Planned { plan, mut facts, .. } = planned;
    let early = stage::wanted_early(&facts);
    let opening = intent::open(engine, &mut facts.site, &plan, request);
    // The intent is asked for first: everything after it waits for its answer.
    let reading = async { facts.manifest.begin_fetch(&engine.repository, early, engine.fetch) };
    let (opened, ()) = futures_util::future::join(opening, reading).await;
    let mut intent = opened?;
    if let Some(dead) = &intent.replaced {
        tokio::task::block_in_place(|| intent::sweep(engine, &plan.site, dead));
    }
    let worked = write_in_place(engine, request, &plan, &mut facts, &mut intent).await;
    let receipt = match worked {
        Ok(receipt) => receipt,
        Err(Failure { error, switched: false }) => {
            return Err(intent::abandon(engine, &mut facts.site, &intent, error).await);
        }
        // The intent stays open and the site frozen: the same command, run again, goes on from here.
        Err(Failure { error, switched: true }) => {
            if let Some(frozen) = frozen {
                frozen.stay();
            }
            return Err(Error::HalfSwitched { site: plan.site, source: Box::new(error) });
        }
    };
    if let Some(frozen) = frozen {
        tokio::task::block_in_place(|| frozen.thaw())?;
    }
    let recorded = intent::complete(engine, &mut facts.site, &intent, receipt.all_passed()).await;
    let not_recorded = |source: Error| match source.fault() {
        Fault::Fenced | Fault::Cancelled => source,
        _ => Error::NotRecorded { site: plan.site.clone(), restore: receipt.restore, source: Box::new(source) },
    };
    recorded.map_err(not_recorded)?;
    Ok(receipt)
}

/// Why a restore ended, and whether the live parts had been touched by then.
struct Failure {
    error: Error,
    switched: bool,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), switched: false }
    }
}

async fn write_in_place(
    engine: &Engine,
    request: &RestoreRequest,
    approved: &RestorePlan,
    facts: &mut Facts,
    intent: &mut intent::Intent,
) -> Result<Receipt, Failure> {
    phase(engine, approved, ProgressPhase::Planning);
    facts::look_again(engine, facts)?;
    let plan = plan::plan(facts, request);
    if plan.ground != approved.ground {
        return Err(Error::PlanChanged { approved: approved.hash.clone(), now: plan.hash }.into());
    }
    if intent.resumed && keep::are_rows_others(engine, facts, intent).await? {
        intent::renew(engine, &mut facts.site, intent).await?;
    }
    let mut parts = PartWork::all(engine, facts, request, intent.restore)?;
    if intent.resumed {
        parts.iter_mut().for_each(PartWork::expect_leftovers);
    }
    let mut undo = None;
    if !request.keep_later {
        phase(engine, &plan, ProgressPhase::KeepingUndo);
        undo = keep::keep_undo(engine, facts, &parts, intent, !request.skip_damaged).await?;
    }
    let worked = async {
        phase(engine, &plan, ProgressPhase::Staging);
        tokio::task::block_in_place(|| stage::stage(engine, facts, &mut parts, request))?;
        phase(engine, &plan, ProgressPhase::Verifying);
        let verified = verify(engine, &mut parts, request)?;
        parts.iter().try_for_each(|part| part.check_limits(approved))?;
        if request.keep_later {
            // What it will leave is in no snapshot: the undo says it, and by now it is known.
            phase(engine, &plan, ProgressPhase::KeepingUndo);
            undo = keep::keep_undo(engine, facts, &parts, intent, !request.skip_damaged).await?;
        }
        tokio::task::block_in_place(|| parts.iter_mut().try_for_each(PartWork::lock_switch))?;
        let restore = intent.restore;
        let still_ours = intent::still_ours(&mut facts.site, restore);
        futures_util::future::try_join(intent.read_back(), still_ours).await?;
        engine.check_cancelled()?;
        Ok::<Verified, Error>(verified)
    };
    let verified = match worked.await {
        Ok(verified) => verified,
        Err(error) => {
            tokio::task::block_in_place(|| parts.iter_mut().for_each(PartWork::discard));
            return Err(error.into());
        }
    };
    phase(engine, &plan, ProgressPhase::Switching);
    let opened = tokio::task::block_in_place(|| {
        open(&mut parts, &verified).inspect_err(|failure| {
            if !failure.switched {
                parts.iter_mut().for_each(PartWork::discard);
            }
        })
    });
    let receipts = opened?;
    Ok(plan.receipt(intent.restore, receipts, undo))
}

/// Beside the live site or into a directory: nothing live is touched, so there is nothing to undo.
async fn elsewhere(engine: &Engine, request: &RestoreRequest, planned: Planned) -> Result<Receipt, Error> {
    let Planned { plan, facts, .. } = planned;
    let restore = intent::new_restore()?;
    let mut parts = PartWork::all(engine, &facts, request, restore)?;
    phase(engine, &plan, ProgressPhase::Staging);
    let staged = tokio::task::block_in_place(|| stage::stage(engine, &facts, &mut parts, request));
    phase(engine, &plan, ProgressPhase::Verifying);
    let verified = staged.and_then(|()| verify(engine, &mut parts, request));
    let verified =
        verified.inspect_err(|_| tokio::task::block_in_place(|| parts.iter_mut().for_each(PartWork::discard)))?;
    phase(engine, &plan, ProgressPhase::Switching);
    let opened = tokio::task::block_in_place(|| {
        // Nobody goes on with what is elsewhere: what was staged there goes.
        open(&mut parts, &verified).inspect_err(|_| parts.iter_mut().for_each(PartWork::discard))
    });
    Ok(plan.receipt(restore, opened.map_err(|failure| failure.error)?, None))
}

/// Checks everything that is staged; what is not equal never opens.
fn verify(engine: &Engine, parts: &mut [PartWork], request: &RestoreRequest) -> Result<Verified, Error> {
    tokio::task::block_in_place(|| {
        for part in parts {
            engine.check_cancelled()?;
            part.verify(request.verify_read)?;
        }
        Ok(Verified(()))
    })
}

/// The switch: files are added first and removed last, so that no row ever points at nothing.
fn open(parts: &mut [PartWork], verified: &Verified) -> Result<Vec<part::Opened>, Failure> {
    let mut switched = parts.iter().any(PartWork::adds_files);
    let failure = |error, switched| Failure { error, switched };
    parts.iter_mut().try_for_each(|part| part.add_files(verified)).map_err(|error| failure(error, true))?;
    for part in &mut *parts {
        // What a transaction did not do, nobody has to go on with.
        part.switch_database(verified).map_err(|error| {
            let is_unsure = matches!(error, Error::Source(lifeboat_source::Error::Unsure { .. }));
            let is_undone = part.is_transactional() && !is_unsure;
            failure(error, switched || !is_undone)
        })?;
        switched |= part.has_database();
    }
    parts.iter_mut().try_for_each(|part| part.remove_extras(verified)).map_err(|error| failure(error, true))?;
    parts.iter_mut().map(PartWork::finish).collect::<Result<_, _>>().map_err(|error| failure(error, true))
}

fn phase(engine: &Engine, plan: &RestorePlan, phase: ProgressPhase) {
    engine.progress.report(ProgressEvent::PhaseChanged { site: plan.site.clone(), phase });
}
