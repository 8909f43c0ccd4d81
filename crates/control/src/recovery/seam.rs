//! The seam between what a case does and who does it when.
//!
//! A step may be done again from its beginning, by another process on another host, and comes to the same end: what it
//! has done so far lies in the target and in the bucket. The rules for any engine:
//!
//! 1. A step's result is small; all else is in the repository.
//! 2. A second attempt begins only under a later fence. What issues it is the store that is written: the journal numbers
//!    the runs, the site's own sequence lets one restore switch, and the database one transaction.
//! 3. A worker that was thought dead and wakes changes nothing: its next switch is refused.

use std::sync::atomic::AtomicBool;

use lifeboat_engine::{CaseAttempt, Error, Journal};
use lifeboat_model::{CasePlan, Check, HandOver, Receipt, RecoveryId, RecoveryPlan, RecoveryRules, SiteId};

/// The steps of a case, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The operator's commands before; then plans again, and restores if that is what was approved.
    Restore,
    /// The operator's commands after, and checks.
    Prove,
}

/// What a step gives.
#[derive(Debug)]
pub enum StepOut {
    Restored(Box<Receipt>),
    Proven(Vec<Check>),
}

/// What the steps of one worker need of whoever runs them.
pub trait StepHooks: Send + Sync {
    /// So much of so much is done: told now and then.
    fn beat(&self, at: u64, of: u64);
    /// What the last attempt told by [`Self::beat`]; 0 where the target itself knows how far it is.
    fn resume_at(&self) -> u64;
    /// Stop at the next safe place: cancelled, or somebody else does this case now.
    fn stop(&self) -> bool;
    /// Which attempt this is: it goes into everything that is written.
    fn fence(&self) -> &CaseAttempt;
}

/// What one worker does with cases; each worker has its own.
pub trait CaseSteps: Send {
    /// # Errors
    /// Whatever the step cannot do: the case has failed, and no other one.
    fn step(
        &mut self,
        step: Step,
        case: &CasePlan,
        rules: RecoveryRules,
        hooks: &dyn StepHooks,
    ) -> Result<StepOut, Error>;
}

/// Holds cases back, where those who use the same systems would feel them.
pub trait Governor: Send + Sync {
    /// Why no other case may begin now. Never waits for an answer.
    fn holds(&self) -> Option<String>;
}

/// What a person tells a recovery, from any terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    Pause,
    /// After a pause or a halt.
    Resume,
    Skip {
        site: SiteId,
        reason: String,
    },
    Retry {
        site: SiteId,
    },
    /// All that have failed.
    RetryFailed,
    Reprioritise {
        site: SiteId,
        priority: u32,
    },
    HandOver {
        site: SiteId,
        to: HandOver,
        note: String,
    },
}

/// Sees what happens, while it happens.
pub trait Watch: Send + Sync {
    /// The journal has come further.
    fn moved(&self, journal: &Journal);
    /// A case's worker has come so far.
    fn beat(&self, site: &SiteId, at: u64, of: u64);
    /// Cases could begin, and may not: why; `None`: they may again. Told when that changes.
    fn held(&self, _why: Option<&str>) {}
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// No case waits.
    Done,
    /// Too many have failed.
    Halted,
    /// As asked, on this terminal.
    Stopped,
}

/// How a run goes, and who looks on.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Another process that runs the recovery is put out.
    pub take_over: bool,
    /// Ends the run at the next safe place; it is set when somebody else takes the recovery over.
    pub stop: &'a AtomicBool,
    pub watch: &'a dyn Watch,
    /// Says whether another case may begin now; `None`: each may, as soon as there is a worker.
    pub governor: Option<&'a dyn Governor>,
}

/// Who does the cases of a recovery.
pub trait RecoveryEngine: Send + Sync {
    /// Stores a plan; nothing is done yet.
    fn submit(&self, plan: RecoveryPlan) -> Result<(), Error>;
    /// Agrees to the plan of this hash, and of no other.
    fn approve(&self, recovery: RecoveryId, hash: &str) -> Result<(), Error>;
    fn control(&self, recovery: RecoveryId, control: &Control) -> Result<(), Error>;
    fn status(&self, recovery: RecoveryId) -> Result<Journal, Error>;
    /// Does cases until none waits, with one worker for each of `workers`.
    ///
    /// # Errors
    /// When the plan is not approved, or another process runs the recovery. The cases' own failures are in the journal.
    fn work(
        &self,
        recovery: RecoveryId,
        workers: Vec<Box<dyn CaseSteps>>,
        options: RunOptions<'_>,
    ) -> Result<RunEnd, Error>;
}
