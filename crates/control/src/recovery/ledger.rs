//! The engine that is always there: threads of this process, and the journal in the bucket as its ledger.

use lifeboat_engine::{Error, Journal, Recoveries, is_gone};
use lifeboat_model::{CaseStage, RecoveryEvent, RecoveryId, RecoveryPlan, RecoveryState};

use super::commander::Commander;
use super::seam::{CaseSteps, Control, RecoveryEngine, RunEnd, RunOptions};

/// Runs recoveries of one repository. Its calls block, and must come from a thread that may.
pub struct Ledger {
    recoveries: Recoveries,
    runtime: tokio::runtime::Handle,
}

impl Ledger {
    pub fn new(recoveries: Recoveries, runtime: tokio::runtime::Handle) -> Self {
        Self { recoveries, runtime }
    }

    /// Several controls as one entry of the journal: where one cannot be, none is written.
    pub fn controls(&self, recovery: RecoveryId, controls: &[Control]) -> Result<(), Error> {
        let mut journal = self.open(recovery)?;
        self.runtime.block_on(journal.append(None, |state| {
            controls.iter().try_for_each(|control| refuse_left_behind(recovery, control, state))?;
            Ok(controls.iter().flat_map(|control| events_of(control, state)).collect())
        }))
    }

    fn open(&self, recovery: RecoveryId) -> Result<Journal, Error> {
        self.runtime.block_on(self.recoveries.open(recovery))
    }
}

impl RecoveryEngine for Ledger {
    fn submit(&self, plan: RecoveryPlan) -> Result<(), Error> {
        self.runtime.block_on(self.recoveries.create(&plan))
    }

    fn approve(&self, recovery: RecoveryId, hash: &str) -> Result<(), Error> {
        let mut journal = self.open(recovery)?;
        if journal.hash() != hash {
            let (approved, now) = (hash.to_owned(), journal.hash().to_owned());
            return Err(Error::PlanChanged { approved, now });
        }
        let approved = RecoveryEvent::Approved { hash: hash.to_owned() };
        self.runtime.block_on(
            journal
                .append(None, |state| Ok(if state.approved.is_some() { Vec::new() } else { vec![approved.clone()] })),
        )
    }

    fn control(&self, recovery: RecoveryId, control: &Control) -> Result<(), Error> {
        self.controls(recovery, std::slice::from_ref(control))
    }

    fn status(&self, recovery: RecoveryId) -> Result<Journal, Error> {
        self.open(recovery)
    }

    fn work(
        &self,
        recovery: RecoveryId,
        workers: Vec<Box<dyn CaseSteps>>,
        options: RunOptions<'_>,
    ) -> Result<RunEnd, Error> {
        let mut journal = self.open(recovery)?;
        let hash = journal.hash().to_owned();
        self.runtime.block_on(journal.append(None, |state| {
            check_startable(state, &hash, options.take_over)?;
            Ok(vec![RecoveryEvent::RunBegan])
        }))?;
        Commander::new(journal, &self.runtime, options)?.run(workers)
    }
}

fn check_startable(state: &RecoveryState, hash: &str, take_over: bool) -> Result<(), Error> {
    if state.approved.as_deref() != Some(hash) {
        return Err(Error::NotNow { detail: format!("the plan is not approved: plan=`{hash}`") });
    }
    match &state.run {
        Some(run) if run.ended_at.is_none() && !take_over && !is_gone(&run.owner) => Err(Error::RunsElsewhere {
            host: run.owner.host.clone(),
            pid: run.owner.pid,
            last: run.heard_at.to_string(),
        }),
        _ => Ok(()),
    }
}

/// What a process was at when it was killed stays `running` until somebody goes on: that is told, and how.
fn refuse_left_behind(recovery: RecoveryId, control: &Control, state: &RecoveryState) -> Result<(), Error> {
    let (Control::Skip { site, .. } | Control::Retry { site }) = control else { return Ok(()) };
    let is_running = state.case(site).is_some_and(|case| case.stage == CaseStage::Running);
    match &state.run {
        Some(run) if is_running && is_gone(&run.owner) => {
            Err(Error::LeftBehind { recovery, site: site.clone(), host: run.owner.host.clone(), pid: run.owner.pid })
        }
        _ => Ok(()),
    }
}

fn events_of(control: &Control, state: &RecoveryState) -> Vec<RecoveryEvent> {
    match control.clone() {
        Control::Pause => vec![RecoveryEvent::Paused],
        Control::Resume => vec![RecoveryEvent::Resumed],
        Control::Skip { site, reason } => vec![RecoveryEvent::Skipped { site, reason }],
        Control::Retry { site } => vec![RecoveryEvent::Retried { site }],
        Control::RetryFailed => {
            let failed = state.cases.iter().filter(|case| matches!(case.stage, CaseStage::Failed(_)));
            failed.map(|case| RecoveryEvent::Retried { site: case.site.clone() }).collect()
        }
        Control::Reprioritise { site, priority } => vec![RecoveryEvent::Reprioritised { site, priority }],
        Control::HandOver { site, to, note } => vec![RecoveryEvent::HandedOver { site, to, note }],
    }
}
