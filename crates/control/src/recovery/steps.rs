//! What a case does with a real site: the restore, and what the operator wants done and asked around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_engine::{Engine, Error, run_case};
use lifeboat_model::{CasePlan, ProgressEvent, ProgressSink, RecoveryRules};

use super::seam::{CaseSteps, Step, StepHooks, StepOut};

/// How often a step tells how far it is.
const BEAT: Duration = Duration::from_millis(500);

/// One worker with sources and connections of its own.
pub struct EngineSteps {
    engine: Engine,
    runtime: tokio::runtime::Handle,
    reached: Arc<Reached>,
}

impl EngineSteps {
    /// `engine` is this worker's alone: nothing else may be done with its sources meanwhile.
    pub fn new(mut engine: Engine, runtime: tokio::runtime::Handle) -> Self {
        let reached = Arc::new(Reached::default());
        engine.progress = Arc::clone(&reached) as Arc<dyn ProgressSink>;
        Self { engine, runtime, reached }
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
            Step::Restore => {
                self.reached.begin(case.work.write_bytes);
                let receipt = self
                    .reached
                    .while_told(hooks, || self.runtime.block_on(run_case(&self.engine, case, rules, hooks.fence())))?;
                Ok(StepOut::Restored(Box::new(receipt)))
            }
            Step::Prove => Ok(StepOut::Proven(Vec::new())),
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
        if let ProgressEvent::BytesDone { bytes, .. } = event {
            self.at.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
