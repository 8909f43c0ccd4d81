//! One site of a recovery: planned with the others, put back on its own.
//!
//! Invariant (approved-case): a case does what was approved of it, or goes on with what an earlier attempt of the same
//! recovery has begun, or changes nothing.

use lifeboat_model::{
    CaseAim, CasePlan, CaseWork, PointInTime, Receipt, RecoveryId, RecoveryRules, RestoreId, SiteId, StateError,
    Timestamp, WriterIdentity,
};
use sha2::{Digest, Sha256};

use super::drill::rehearse;
use super::left::{Left, receipt_of, what_is_left};
use crate::restore::Planned;
use crate::{
    Approval, Engine, Error, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget, is_gone, plan_restore, restore,
    this_process,
};

/// One site that is to come back, as a person asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseAsked {
    pub site: SiteId,
    pub aim: CaseAim,
    pub priority: u32,
    pub deadline: Option<Timestamp>,
}

/// Which attempt at a case this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseAttempt {
    pub recovery: RecoveryId,
    /// Under which id it restores, where it does not go on with an earlier one.
    pub restore: RestoreId,
    /// The ids of earlier attempts that died before they could say how they ended: they may have left the site half
    /// restored, or whole.
    pub unheard: Vec<RestoreId>,
    /// The ids of those that failed: they may have left it half restored.
    pub failed: Vec<RestoreId>,
    /// Processes that ran this recovery before and are out: what they hold open may be taken from them.
    pub replaced: Vec<WriterIdentity>,
}

impl CaseAttempt {
    /// The id of a case's restore: of the recovery, the site, how often the case has failed, and the run. So whoever
    /// goes on with a recovery knows what those before him may have begun.
    pub fn restore_id(recovery: RecoveryId, site: &SiteId, failures: u32, run: u64) -> RestoreId {
        let mut digest = Sha256::new_with_prefix(b"lifeboat case 1\0");
        digest.update(recovery.0);
        digest.update(failures.to_be_bytes());
        digest.update(run.to_be_bytes());
        digest.update(site.as_str());
        let mut id = [0; RestoreId::LEN];
        id.copy_from_slice(&digest.finalize()[..RestoreId::LEN]);
        RestoreId(id)
    }
}

/// Gathers the facts of one case, read-only, and says what its restore would do.
pub async fn plan_case(engine: &Engine, asked: &CaseAsked, rules: RecoveryRules) -> Result<CasePlan, Error> {
    let request = request(engine, &asked.site, &asked.aim, rules)?;
    let Planned { plan, .. } = plan_restore(engine, &request).await?;
    if let Some(barred) = plan.barred() {
        return Err(barred);
    }
    Ok(CasePlan {
        site: asked.site.clone(),
        priority: asked.priority,
        deadline: asked.deadline,
        aim: fixed(&asked.aim, &plan),
        snapshot: plan.snapshot,
        at: plan.at,
        hash: plan.hash.clone(),
        conflicts: plan.conflicts.iter().map(|conflict| format!("{}: {conflict}", conflict.source)).collect(),
        work: work(&plan),
    })
}

/// The newest point may be another one tomorrow: what was planned is what is meant.
fn fixed(aim: &CaseAim, plan: &RestorePlan) -> CaseAim {
    match aim {
        CaseAim::Point(PointInTime::Latest) if plan.replayed.is_none() => {
            CaseAim::Point(PointInTime::Snapshot(plan.snapshot))
        }
        CaseAim::Rehearsal(PointInTime::Latest) if plan.replayed.is_none() => {
            CaseAim::Rehearsal(PointInTime::Snapshot(plan.snapshot))
        }
        aim => aim.clone(),
    }
}

fn work(plan: &RestorePlan) -> CaseWork {
    let sum = |of: fn(&crate::PartPlan) -> u64| plan.parts.iter().map(of).sum();
    CaseWork {
        add: sum(|part| part.add),
        replace: sum(|part| part.replace + part.metadata),
        remove: sum(|part| part.remove),
        write_bytes: sum(|part| part.write_bytes),
        read_bytes: plan.read_bytes,
        read_requests: plan.read_requests,
    }
}

/// Puts one site back. What was done may be done again: it comes to the same end. Its receipt counts what was read before
/// its restore began, too: that is where a change log is read.
pub async fn run_case(
    engine: &Engine,
    case: &CasePlan,
    rules: RecoveryRules,
    attempt: &CaseAttempt,
) -> Result<Receipt, Error> {
    let before = (engine.usage)();
    let receipt = do_case(engine, case, rules, attempt).await?;
    let used = (engine.usage)().since(before);
    Ok(Receipt { requests: used.requests, bytes_read: used.bytes_read, ..receipt })
}

async fn do_case(
    engine: &Engine,
    case: &CasePlan,
    rules: RecoveryRules,
    attempt: &CaseAttempt,
) -> Result<Receipt, Error> {
    if let CaseAim::Rehearsal(_) = case.aim {
        return rehearse(engine, case, rules, attempt.recovery).await;
    }
    let left = what_is_left(engine, &case.site, attempt).await?;
    if let Left::Done { restore, outcome, undo } = left {
        return Ok(receipt_of(case, restore, outcome, undo));
    }
    let mut request =
        RestoreRequest { restore: Some(attempt.restore), ..request(engine, &case.site, &case.aim, rules)? };
    let mut planned = plan_restore(engine, &request).await?;
    let open = planned.open_restore().filter(|open| left == Left::Open(open.restore));
    if let Some(open) = open {
        // This process itself has ended the attempt that left it open.
        let is_out = open.owner == this_process() || attempt.replaced.contains(&open.owner);
        request.take_over = !is_gone(&open.owner) && is_out;
    }
    let goes_on = open.is_some();
    if !goes_on && is_more(&planned.plan, case) {
        request.exact = true; // what only may differ may be equal all the same
        planned = plan_restore(engine, &request).await?;
    }
    let approval = Approval::Hash(match goes_on || planned.plan.is_empty() {
        true => {
            refuse_new_conflicts(&planned.plan, case)?;
            planned.plan.hash.clone()
        }
        false if is_more(&planned.plan, case) => return Err(more(&planned.plan, case)),
        // Exact counts are more than was approved, on the same ground.
        false if request.exact && planned.plan.ground == case.hash => planned.plan.hash.clone(),
        false => case.hash.clone(),
    });
    restore(engine, &request, planned, &approval).await.map_err(|error| held(error, &case.site))
}

/// `--take-over` of a recovery is of its process, not of a site's restore: so that hint would mislead.
fn held(error: Error, site: &SiteId) -> Error {
    match error {
        Error::Repo(lifeboat_repo::Error::State(StateError::RestoreOpen(_))) => {
            Error::CaseHeld { site: site.clone(), source: Box::new(error) }
        }
        error => error,
    }
}

/// A plan's hash is over no live counts, for a site that is used grows. But where nothing stood nothing may be replaced or
/// removed, and elsewhere hardly more than was approved.
fn is_more(plan: &RestorePlan, case: &CasePlan) -> bool {
    let (now, then) = (work(plan), case.work);
    let is_more = |now: u64, then: u64| now > then + then / GROWTH;
    // Counted exactly, what was to be removed and added may be replaced: what is lost of it is the same.
    is_more(now.replace + now.remove, then.replace + then.remove)
}

fn more(plan: &RestorePlan, case: &CasePlan) -> Error {
    let (now, then) = (work(plan), case.work);
    Error::Conflict {
        detail: format!(
            "the site was written to since the plan was approved: to replace=`{}`, approved=`{}`, to remove=`{}`, \
             approved=`{}`",
            now.replace, then.replace, now.remove, then.remove
        ),
        hint: "somebody has put something there: look with `lifeboat diff SITE`; then skip the site, or plan it anew"
            .into(),
    }
}

/// A site may have grown by a tenth.
const GROWTH: u64 = 10;

/// What nobody has approved.
fn refuse_new_conflicts(plan: &RestorePlan, case: &CasePlan) -> Result<(), Error> {
    let told = plan.conflicts.iter().map(|conflict| format!("{}: {conflict}", conflict.source));
    match told.into_iter().find(|conflict| !case.conflicts.contains(conflict)) {
        None => Ok(()),
        Some(conflict) => Err(Error::Conflict {
            detail: format!("the case has a conflict that was not approved: {conflict}"),
            hint: "look at it with `lifeboat restore SITE --dry-run`; skip the case, and restore the site alone".into(),
        }),
    }
}

pub(super) fn request(
    engine: &Engine,
    site: &SiteId,
    aim: &CaseAim,
    rules: RecoveryRules,
) -> Result<RestoreRequest, Error> {
    Ok(RestoreRequest {
        site: site.clone(),
        point: match aim {
            CaseAim::Point(point) | CaseAim::Rehearsal(point) => RestorePoint::At(point.clone()),
            CaseAim::Undo(restore) => RestorePoint::Undo(*restore),
        },
        only: None,
        target: match aim {
            CaseAim::Point(_) | CaseAim::Undo(_) => RestoreTarget::InPlace,
            CaseAim::Rehearsal(_) => engine.scratch()?.target(site)?,
        },
        restore: None,
        take_over: false,
        skip_damaged: rules.skips_damaged,
        verify_read: rules.verifies_read,
        exact: false,
        keep_later: rules.keeps_later,
    })
}
