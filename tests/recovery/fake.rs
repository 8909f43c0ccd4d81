//! Cases that restore nothing, so that it is seen how they are given out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lifeboat_control::recovery::{CaseSteps, RecoveryEngine, Step, StepHooks, StepOut, Watch};
use lifeboat_engine::{Error, Journal, this_process};
use lifeboat_model::{
    CaseAim, CasePlan, CaseWork, PointInTime, Receipt, RecoveryId, RecoveryPlan, RecoveryRules, RestoreId, SiteId,
    SnapshotId, Timestamp,
};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn site(number: usize) -> SiteId {
    SiteId::new(format!("site-{number:03}")).unwrap()
}

pub fn plan(id: u8, cases: usize, canaries: u32) -> RecoveryPlan {
    let case = |number| CasePlan {
        site: site(number),
        priority: 1,
        deadline: None,
        aim: CaseAim::Point(PointInTime::Latest),
        snapshot: SnapshotId([1; 8]),
        at: Timestamp(1),
        hash: "00".into(),
        conflicts: Vec::new(),
        work: CaseWork::default(),
    };
    RecoveryPlan {
        id: RecoveryId([id; 8]),
        made_at: Timestamp::now(),
        made_by: this_process(),
        asked: "a test".into(),
        undoes: None,
        rules: RecoveryRules {
            canaries,
            halt_percent: 30,
            keeps_later: false,
            verifies_read: false,
            skips_damaged: false,
        },
        cases: (0..cases).map(case).collect(),
    }
}

/// What the fake cases do, and what was seen of them.
#[derive(Default)]
pub struct Theatre {
    seen: Mutex<Seen>,
    changed: Condvar,
    /// Sites whose case fails, panics, or goes on until it is told to stop.
    fails: Vec<usize>,
    panics: Vec<usize>,
    lasts: Vec<usize>,
    /// Every case lasts until it is let go.
    is_held: AtomicBool,
}

#[derive(Default)]
struct Seen {
    began: Vec<SiteId>,
    restores: HashMap<SiteId, Vec<RestoreId>>,
}

impl Theatre {
    pub fn failing(fails: &[usize]) -> Arc<Self> {
        Arc::new(Self { fails: fails.to_vec(), ..Self::default() })
    }

    pub fn panicking(fails: &[usize], panics: &[usize]) -> Arc<Self> {
        Arc::new(Self { fails: fails.to_vec(), panics: panics.to_vec(), ..Self::default() })
    }

    pub fn lasting(lasts: &[usize]) -> Arc<Self> {
        Arc::new(Self { lasts: lasts.to_vec(), ..Self::default() })
    }

    pub fn began(&self) -> Vec<SiteId> {
        self.seen.lock().unwrap().began.clone()
    }

    /// The ids under which a site was restored.
    pub fn restores(&self, number: usize) -> Vec<RestoreId> {
        self.seen.lock().unwrap().restores.get(&site(number)).cloned().unwrap_or_default()
    }

    pub fn wait_for_begun(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock().unwrap();
        while seen.began.len() < count {
            assert!(Instant::now() < until, "only {:?} began", seen.began);
            seen = self.changed.wait_timeout(seen, Duration::from_millis(20)).unwrap().0;
        }
    }

    pub fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::SeqCst);
    }

    pub fn workers(self: &Arc<Self>, count: usize) -> Vec<Box<dyn CaseSteps>> {
        (0..count).map(|_| Box::new(Actor(Arc::clone(self))) as Box<dyn CaseSteps>).collect()
    }
}

struct Actor(Arc<Theatre>);

impl CaseSteps for Actor {
    fn step(
        &mut self,
        step: Step,
        case: &CasePlan,
        _rules: RecoveryRules,
        hooks: &dyn StepHooks,
    ) -> Result<StepOut, Error> {
        if step == Step::Prove {
            return Ok(StepOut::Proven(Vec::new()));
        }
        let theatre = &self.0;
        let is = |numbers: &[usize]| numbers.iter().any(|number| site(*number) == case.site);
        {
            let mut seen = theatre.seen.lock().unwrap();
            seen.began.push(case.site.clone());
            seen.restores.entry(case.site.clone()).or_default().push(hooks.fence().restore);
            theatre.changed.notify_all();
        }
        hooks.beat(0, 1);
        let until = Instant::now() + PATIENCE;
        while theatre.is_held.load(Ordering::SeqCst) || is(&theatre.lasts) {
            if hooks.stop() {
                return Err(Error::Cancelled);
            }
            assert!(Instant::now() < until, "nobody let {} go", case.site);
            hooks.beat(0, 1); // far more often than any real case
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(!is(&theatre.panics), "as asked");
        if is(&theatre.fails) {
            return Err(Error::NotVerified { site: case.site.clone(), detail: "as asked".into() });
        }
        Ok(StepOut::Restored(Box::new(Receipt {
            restore: hooks.fence().restore,
            site: case.site.clone(),
            at: case.at,
            snapshot: case.snapshot,
            parts: Vec::new(),
            bytes_read: 0,
            requests: 0,
            duration: Duration::ZERO,
            checks: Vec::new(),
            undo: None,
        })))
    }
}

/// Looks at nothing.
pub struct Nobody;

impl Watch for Nobody {
    fn moved(&self, _journal: &Journal) {}
    fn beat(&self, _site: &SiteId, _at: u64, _of: u64) {}
}

/// Waits until the journal of a recovery says something.
pub fn wait_until(engine: &dyn RecoveryEngine, id: RecoveryId, what: &str, is_so: impl Fn(&Journal) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let journal = engine.status(id).unwrap();
        if is_so(&journal) {
            return;
        }
        assert!(Instant::now() < until, "never {what}: {:?}", journal.state().counts());
        std::thread::sleep(Duration::from_millis(20));
    }
}
