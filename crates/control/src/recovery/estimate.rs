//! When a recovery will be done, from what it has done.

use std::time::Duration;

use lifeboat_model::{CaseStage, CaseState, RecoveryPlan, RecoveryState, Timestamp};

use super::Standing;

/// When it is done: most likely, and the ends of an interval around that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub left: Duration,
    pub left_min: Duration,
    pub left_max: Duration,
}

/// Cases of so many are told nothing from.
const ENDED_MIN: usize = 2;

/// What is left, by the work that is left and the rate of this run so far; `None`: it is not running, or too little has
/// ended yet. Of one that is paused, halted or stopped nobody knows when it goes on.
///
/// A case weighs a constant and its bytes: both are fitted by what one byte and one case took on the average, with half
/// of the time put down to each, for tiny cases cost their round trips and large ones their bytes. The interval is two
/// standard errors of the mean time of a case, and a quarter at least, for cases are not alike.
pub fn estimate(
    plan: &RecoveryPlan,
    state: &RecoveryState,
    (standing, now): (Standing, Timestamp),
) -> Option<Estimate> {
    let run = state.run.as_ref().filter(|_| standing == Standing::Running)?;
    let weight_mean = {
        let bytes: u64 = plan.cases.iter().map(|case| case.work.write_bytes).sum();
        (bytes / plan.cases.len().max(1) as u64).max(1) as f64
    };
    let weights = || plan.cases.iter().map(move |case| 0.5 + 0.5 * case.work.write_bytes as f64 / weight_mean);
    let of_this_run = |case: &&CaseState| case.ended_at.is_some_and(|ended| ended >= run.began_at);
    let (mut done, mut left, mut seconds) = (0.0, 0.0, Vec::new());
    for (case, weight) in state.cases.iter().zip(weights()) {
        match case.stage {
            CaseStage::Waiting => left += weight,
            // Half done, as far as anybody knows.
            CaseStage::Running => (left, done) = (left + weight / 2.0, done + weight / 2.0),
            CaseStage::Restored(_) | CaseStage::Failed(_) if of_this_run(&case) => {
                done += weight;
                seconds.extend(case.ended_at.zip(case.began_at).map(|(end, begin)| end.since(begin).as_secs_f64()));
            }
            _ => {}
        }
    }
    if seconds.len() < ENDED_MIN || done <= 0.0 {
        return None;
    }
    let elapsed = now.since(run.began_at).as_secs_f64();
    let most_likely = elapsed / done * left;
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let variance = seconds.iter().map(|second| (second - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let error = 2.0 * (variance / count).sqrt() / mean.max(1e-9);
    let spread = error.clamp(0.25, 0.9);
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Some(Estimate {
        left: duration(most_likely),
        left_min: duration(most_likely * (1.0 - spread)),
        left_max: duration(most_likely * (1.0 + spread)),
    })
}
