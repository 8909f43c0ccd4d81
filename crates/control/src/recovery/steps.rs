//! What a case does with a real site: the restore, and what the operator wants done and asked around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_engine::{Around, Engine, Error, run_case};
use lifeboat_model::{CasePlan, ProgressEvent, ProgressPhase, ProgressSink, Receipt, RecoveryRules};

use super::seam::{CaseSteps, Step, StepHooks, StepOut};

/// How often a step tells how far it is.
const BEAT: Duration = Duration::from_millis(500);

/// One worker with sources and connections of its own.
pub struct EngineSteps {
    engine: Engine,
    runtime: tokio::runtime::Handle,
    reached: Arc<Reached>,
    around: Arc<Around>,
}

impl EngineSteps {
    /// `engine` is this worker's alone: nothing else may be done with its sources meanwhile.
    pub fn new(mut engine: Engine, runtime: tokio::runtime::Handle) -> Self {
        let reached = Arc::new(Reached::default());
        engine.progress = Arc::clone(&reached) as Arc<dyn ProgressSink>;
        Self { engine, runtime, reached, around: Arc::default() }
    }

    /// The same with what the operator wants around each restore.
    pub fn with_around(self, around: Arc<Around>) -> Self {
        Self { around, ..self }
    }

    fn restore(&self, case: &CasePlan, rules: RecoveryRules, hooks: &dyn StepHooks) -> Result<Receipt, Error> {
        let done = self.around.before(&case.site, &|| hooks.stop())?;
        self.reached.begin(case.work.write_bytes);
        let run = || self.runtime.block_on(run_case(&self.engine, case, rules, hooks.fence()));
        let mut receipt = self.reached.while_told(hooks, run)?;
        receipt.checks.splice(..0, done);
        Ok(receipt)
    }
}

impl CaseSteps for EngineSteps {
    fn step(
        &mut self,
        step: Step,
        case: &CasePlan,
        rules: RecoveryRules,
        hooks: &dyn StepHooks,
    ) -> Result<StepOut, Error> {
        match step {
            Step::Restore => Ok(StepOut::Restored(Box::new(self.restore(case, rules, hooks)?))),
            Step::Prove => {
                let checks = self.around.prove(&self.engine, &self.runtime, &case.site, &|| hooks.stop())?;
                Ok(StepOut::Proven(checks))
            }
        }
    }
}

/// How far the case at work has come, in bytes.
#[derive(Default)]
struct Reached {
    at: AtomicU64,
    of: AtomicU64,
}

impl Reached {
    fn begin(&self, of: u64) {
        self.at.store(0, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
    }

    /// Tells how far it is while `work` is done.
    fn while_told<T>(&self, hooks: &dyn StepHooks, work: impl FnOnce() -> T) -> T {
        let tell = || hooks.beat(self.at.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                while wait.recv_timeout(BEAT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    tell();
                }
            });
            let out = work();
            drop(done);
            out
        })
    }
}

impl ProgressSink for Reached {
    fn report(&self, event: ProgressEvent) {
        match event {
            ProgressEvent::BytesDone { bytes, .. } => drop(self.at.fetch_add(bytes, Ordering::Relaxed)),
            // What was planned is what is staged; bytes kept for the undo are others.
            ProgressEvent::PhaseChanged { phase: ProgressPhase::Staging, .. } => self.at.store(0, Ordering::Relaxed),
            _ => {}
        }
    }
}
