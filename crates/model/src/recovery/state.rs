//! What a recovery's entries add up to.
//!
//! ```text
//!   case:  waiting ──▶ running ──▶ restored ──▶ validated ──▶ accepted ──▶ opened
//!             ▲  │        │  └───▶ failed ──┐
//!             │  └──▶ skipped ──────────────┤
//!             └── the runner is replaced    └── retry ──▶ waiting
//! ```
//!
//! Invariant (one-runner): what a runner writes counts only while no later run has begun.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    BystanderLook, BystanderProof, Bystanders, CaseFailure, HandOver, RecoveryEntry, RecoveryEvent, RecoveryPlan,
    SignedReceipt, case_turn,
};
use crate::{ObjectId, SiteId, Timestamp, WriterIdentity};

/// Without canaries, fewer cases say nothing about the rest.
const JUDGED_MIN: u32 = 10;

/// A recovery as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryState {
    /// The newest entry in it; 0: none yet.
    pub number: u64,
    pub written_at: Option<Timestamp>,
    /// The hash that was approved.
    pub approved: Option<String>,
    /// When its first run began.
    pub began_at: Option<Timestamp>,
    pub run: Option<RecoveryRun>,
    pub is_paused: bool,
    pub halted: Option<String>,
    /// In the order of the plan.
    pub cases: Vec<CaseState>,
    /// The sites beside it, as they were before the first case since the last proof.
    pub looked: Option<Arc<BystanderLook>>,
    /// One a stretch of cases; oldest first.
    pub proofs: Vec<Arc<BystanderProof>>,
    canaries: u32,
    halt_percent: u32,
    places: HashMap<SiteId, usize>,
}

/// The process that does the cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryRun {
    /// The entry in which it began.
    pub number: u64,
    pub owner: WriterIdentity,
    pub began_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// When it last wrote anything; it does so every few seconds.
    pub heard_at: Timestamp,
    /// Those that ran before it, and are out: what they left open it may go on with.
    pub replaced: Vec<WriterIdentity>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseState {
    pub site: SiteId,
    pub priority: u32,
    pub deadline: Option<Timestamp>,
    pub stage: CaseStage,
    /// How often it was begun, and how often it has failed.
    pub attempts: u32,
    pub failures: u32,
    /// Each time it was begun: how often it had failed by then, and the run.
    pub begun: Vec<(u32, u64)>,
    /// It had ended when a person last said to go on, and was not asked for again: it is not judged any more.
    is_forgiven: bool,
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub hand_over: Option<HandOver>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseStage {
    Waiting,
    Running,
    Restored(Arc<SignedReceipt>),
    Failed(CaseFailure),
    Skipped(String),
}

/// Why an entry cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecovery {
    #[error("entries of the recovery are missing: number=`{found}`, expected=`{expected}`")]
    Gap { expected: u64, found: u64 },
    #[error("the recovery has no such site: site=`{site}`")]
    NoSuchSite { site: SiteId },
    #[error("the site cannot be {what}: site=`{site}`, state=`{state}`")]
    Wrong { site: SiteId, what: &'static str, state: &'static str },
}

/// How many cases are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryCounts {
    pub all: usize,
    pub waiting: usize,
    pub running: usize,
    pub restored: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl CaseStage {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Restored(_) => "restored",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }
}

impl CaseState {
    fn has_ended(&self) -> bool {
        matches!(self.stage, CaseStage::Restored(_) | CaseStage::Failed(_) | CaseStage::Skipped(_))
    }

    /// Back with a failed check, and nobody has vouched for it.
    fn is_not_validated(&self) -> bool {
        match &self.stage {
            CaseStage::Restored(signed) => self.hand_over.is_none() && !signed.receipt.all_passed(),
            _ => false,
        }
    }

    fn wrong(&self, what: &'static str) -> BadRecovery {
        BadRecovery::Wrong { site: self.site.clone(), what, state: self.stage.name() }
    }
}

impl RecoveryState {
    /// Before its first entry.
    pub fn of(plan: &RecoveryPlan) -> Self {
        let case = |case: &super::CasePlan| CaseState {
            site: case.site.clone(),
            priority: case.priority,
            deadline: case.deadline,
            stage: CaseStage::Waiting,
            attempts: 0,
            failures: 0,
            begun: Vec::new(),
            is_forgiven: false,
            began_at: None,
            ended_at: None,
            hand_over: None,
        };
        Self {
            number: 0,
            written_at: None,
            approved: None,
            began_at: None,
            run: None,
            is_paused: false,
            halted: None,
            cases: plan.cases.iter().map(case).collect(),
            looked: None,
            proofs: Vec::new(),
            canaries: plan.rules.canaries,
            halt_percent: plan.rules.halt_percent,
            places: plan.cases.iter().enumerate().map(|(place, case)| (case.site.clone(), place)).collect(),
        }
    }

    /// # Errors
    /// When the entry is not the next one, or says what cannot be. The state is then half changed and of no use.
    pub fn apply(&mut self, entry: &RecoveryEntry) -> Result<(), BadRecovery> {
        if entry.number != self.number + 1 {
            return Err(BadRecovery::Gap { expected: self.number + 1, found: entry.number });
        }
        (self.number, self.written_at) = (entry.number, Some(entry.written_at));
        if let Some(run) = self.run.as_mut().filter(|run| Some(run.number) == entry.run) {
            run.heard_at = entry.written_at;
        }
        for event in &entry.events {
            self.take(entry, event)?;
        }
        Ok(())
    }

    /// What the state would be, if a run said so now.
    ///
    /// # Errors
    /// As of [`Self::apply`].
    pub fn foresee(&mut self, run: u64, events: &[RecoveryEvent]) -> Result<(), BadRecovery> {
        let Some(writer) = self.run.as_ref().map(|run| run.owner.clone()) else { return Ok(()) };
        let written_at = self.written_at.unwrap_or(Timestamp(0));
        let entry = RecoveryEntry {
            number: self.number + 1,
            nonce: ObjectId([0; 16]),
            written_at,
            writer,
            run: Some(run),
            events: Vec::new(),
        };
        events.iter().try_for_each(|event| self.take(&entry, event))
    }

    fn take(&mut self, entry: &RecoveryEntry, event: &RecoveryEvent) -> Result<(), BadRecovery> {
        let is_current = self.run.as_ref().map(|run| run.number) == entry.run;
        if entry.run.is_some() && !is_current {
            return Ok(()); // a replaced runner says it in vain
        }
        match event {
            RecoveryEvent::Approved { hash } => self.approved = Some(hash.clone()),
            RecoveryEvent::RunBegan => self.begin_run(entry),
            RecoveryEvent::Paused => self.is_paused = true,
            RecoveryEvent::Resumed => {
                (self.is_paused, self.halted) = (false, None);
                self.cases.iter_mut().for_each(|case| case.is_forgiven = case.has_ended());
            }
            RecoveryEvent::Skipped { site, reason } => {
                let case = self.case_mut(site)?;
                match case.stage {
                    CaseStage::Waiting | CaseStage::Failed(_) => case.stage = CaseStage::Skipped(reason.clone()),
                    _ => return Err(case.wrong("skipped")),
                }
                case.ended_at = Some(entry.written_at);
            }
            RecoveryEvent::Retried { site } => {
                let case = self.case_mut(site)?;
                match case.stage {
                    CaseStage::Failed(_) | CaseStage::Skipped(_) => case.stage = CaseStage::Waiting,
                    _ => return Err(case.wrong("retried")),
                }
                (case.ended_at, case.is_forgiven) = (None, false);
            }
            RecoveryEvent::Reprioritised { site, priority } => self.case_mut(site)?.priority = *priority,
            RecoveryEvent::HandedOver { site, to, .. } => {
                let case = self.case_mut(site)?;
                match case.stage {
                    CaseStage::Restored(_) => case.hand_over = Some(*to),
                    _ => return Err(case.wrong("handed over")),
                }
            }
            RecoveryEvent::RunEnded => self.end_run(entry),
            RecoveryEvent::Halted { reason } => self.halted = Some(reason.clone()),
            RecoveryEvent::CaseBegan { site } => self.step(site, entry, CaseStage::Running)?,
            RecoveryEvent::CaseRestored { site, receipt } => {
                self.step(site, entry, CaseStage::Restored(receipt.clone()))?;
            }
            RecoveryEvent::CaseFailed { site, failure } => {
                self.step(site, entry, CaseStage::Failed(failure.clone()))?;
            }
            RecoveryEvent::Beat => {}
            RecoveryEvent::Bystanders(told) => self.take_bystanders(told),
        }
        Ok(())
    }

    /// The first look counts until there is a proof: what came later may be what was done to somebody.
    fn take_bystanders(&mut self, told: &Bystanders) {
        match told {
            Bystanders::Looked(look) => {
                self.looked.get_or_insert_with(|| Arc::clone(look));
            }
            Bystanders::Proven(proof) => {
                self.looked = None;
                self.proofs.push(Arc::clone(proof));
            }
        }
    }

    fn begin_run(&mut self, entry: &RecoveryEntry) {
        self.interrupt();
        let replaced = match self.run.take() {
            Some(run) => run.replaced.into_iter().chain([run.owner]).collect(),
            None => Vec::new(),
        };
        self.began_at.get_or_insert(entry.written_at);
        let (number, owner, began_at) = (entry.number, entry.writer.clone(), entry.written_at);
        self.run = Some(RecoveryRun { number, owner, began_at, ended_at: None, heard_at: began_at, replaced });
    }

    fn end_run(&mut self, entry: &RecoveryEntry) {
        self.interrupt();
        if let Some(run) = &mut self.run {
            run.ended_at = Some(entry.written_at);
        }
    }

    /// What nobody is at any more waits again.
    fn interrupt(&mut self) {
        for case in self.cases.iter_mut().filter(|case| case.stage == CaseStage::Running) {
            case.stage = CaseStage::Waiting;
        }
    }

    /// A step of the runner's.
    fn step(&mut self, site: &SiteId, entry: &RecoveryEntry, stage: CaseStage) -> Result<(), BadRecovery> {
        let case = self.case_mut(site)?;
        match (&case.stage, &stage) {
            (CaseStage::Waiting, CaseStage::Running) => {
                case.attempts += 1;
                case.begun.extend(entry.run.map(|run| (case.failures, run)));
                (case.began_at, case.ended_at) = (Some(entry.written_at), None);
            }
            (CaseStage::Running, CaseStage::Restored(_) | CaseStage::Failed(_)) => {
                if matches!(stage, CaseStage::Failed(_)) {
                    case.failures += 1;
                }
                case.ended_at = Some(entry.written_at);
            }
            _ => return Err(case.wrong(stage.name())),
        }
        case.stage = stage;
        Ok(())
    }

    pub fn case(&self, site: &SiteId) -> Option<&CaseState> {
        self.places.get(site).map(|place| &self.cases[*place])
    }

    fn case_mut(&mut self, site: &SiteId) -> Result<&mut CaseState, BadRecovery> {
        let place = self.places.get(site).copied();
        place.map(|place| &mut self.cases[place]).ok_or_else(|| BadRecovery::NoSuchSite { site: site.clone() })
    }

    /// The case that should begin now; `None`: none may, or none is left.
    ///
    /// First the canaries, in the plan's order, and nothing beside them until all have ended. Then by priority, deadline,
    /// and the plan's order.
    pub fn next(&self) -> Option<&CaseState> {
        if self.is_paused || self.halted.is_some() || self.approved.is_none() {
            return None;
        }
        let canaries = &self.cases[..(self.canaries as usize).min(self.cases.len())];
        let waiting = |case: &&CaseState| case.stage == CaseStage::Waiting;
        if !canaries.iter().all(CaseState::has_ended) {
            return canaries.iter().find(waiting);
        }
        self.cases.iter().filter(waiting).min_by_key(|case| case_turn(case.priority, case.deadline))
    }

    /// Why no other case should begin: so many have failed, or are back and a check of them failed, which nobody has vouched
    /// for. Judged once the canaries have ended; without any, once ten have. Where none waits nothing is to be halted.
    pub fn reason_to_halt(&self) -> Option<String> {
        let canaries = &self.cases[..(self.canaries as usize).min(self.cases.len())];
        let tried = canaries.iter().filter(|case| !matches!(case.stage, CaseStage::Skipped(_))).count();
        let least = if tried == 0 { JUDGED_MIN } else { tried as u32 };
        let (ended, failed) = self.judged();
        let none_waits = self.counts().waiting == 0;
        if none_waits || !canaries.iter().all(CaseState::has_ended) || ended < least {
            return None;
        }
        let or = if self.not_validated().next().is_some() { " or are not validated" } else { "" };
        (u64::from(failed) * 100 > u64::from(ended) * u64::from(self.halt_percent))
            .then(|| format!("{failed} of {ended} ended cases have failed{or}, more than {} %", self.halt_percent))
    }

    /// Cases that were restored or have failed, and those of them that did not end well.
    fn judged(&self) -> (u32, u32) {
        let judged = |case: &&CaseState| {
            !case.is_forgiven && matches!(case.stage, CaseStage::Restored(_) | CaseStage::Failed(_))
        };
        let judged: Vec<&CaseState> = self.cases.iter().filter(judged).collect();
        let failed = judged.iter().filter(|case| matches!(case.stage, CaseStage::Failed(_)) || case.is_not_validated());
        (judged.len() as u32, failed.count() as u32)
    }

    /// Cases that are back with a failed check, and that nobody has vouched for.
    pub fn not_validated(&self) -> impl Iterator<Item = &CaseState> {
        self.cases.iter().filter(|case| case.is_not_validated())
    }

    pub fn counts(&self) -> RecoveryCounts {
        let mut counts = RecoveryCounts { all: self.cases.len(), ..RecoveryCounts::default() };
        for case in &self.cases {
            *match case.stage {
                CaseStage::Waiting => &mut counts.waiting,
                CaseStage::Running => &mut counts.running,
                CaseStage::Restored(_) => &mut counts.restored,
                CaseStage::Failed(_) => &mut counts.failed,
                CaseStage::Skipped(_) => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Whether nothing waits or runs.
    pub fn is_done(&self) -> bool {
        self.cases.iter().all(CaseState::has_ended)
    }
}

#[cfg(test)]
mod tests;
