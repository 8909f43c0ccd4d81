//! What a recovery has come to: a pure function of its plan, its state with the receipts, and the time.
//!
//!   plan, state, now ─▶ [`Report`]: where it stands, totals, the curve of sites that are back, and each site
//!
//! What is not here: how a report looks (`lifeboat-cli`), and whether receipts are signed (`lifeboat-engine`).

use std::time::Duration;

use lifeboat_engine::Journal;
use lifeboat_model::{
    CasePlan, CaseStage, CaseState, HandOver, RecoveryCounts, RecoveryPlan, RecoveryState, SignedReceipt, Timestamp,
};

use super::{Estimate, Runner, Standing, estimate};

/// A recovery as it stood at one moment.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    pub plan: &'a RecoveryPlan,
    /// Of the plan: what was, or is to be, approved.
    pub hash: &'a str,
    pub state: &'a RecoveryState,
    pub now: Timestamp,
    pub standing: Standing,
    pub runner: Runner,
    /// Whether a process is at it: the next report will say something else.
    pub is_live: bool,
    pub totals: Totals,
    /// When it will be done; `None`: it is not running, or too little has ended yet.
    pub estimate: Option<Estimate>,
    /// Ascending; empty while no site is back.
    pub curve: Vec<CurvePoint>,
}

/// So many sites were back, so long after the first run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurvePoint {
    pub after: Duration,
    pub restored: usize,
}

/// All sites together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub counts: RecoveryCounts,
    /// Of the restored ones, those that came so far at least.
    pub validated: usize,
    pub accepted: usize,
    pub opened: usize,
    pub deadlines_missed: usize,
    pub sums: SiteSums,
    /// From the first run's begin to the end of the last case, or till now.
    pub elapsed: Duration,
    /// Restored in that time.
    pub sites_per_hour: Option<f64>,
    /// From the first run's begin to the first site that was back.
    pub first_back: Option<Duration>,
    /// Of the restored sites, from the begin of the case to its end.
    pub took_median: Option<Duration>,
    pub took_p95: Option<Duration>,
}

/// What receipts add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteSums {
    pub entries: u64,
    pub rows: u64,
    pub files: u64,
    pub removed: u64,
    pub kept: u64,
    /// Bytes of content written.
    pub bytes: u64,
    pub bytes_read: u64,
    pub requests: u64,
    pub checks_passed: u64,
    pub checks_failed: u64,
}

/// One site of a report.
#[derive(Debug, Clone, Copy)]
pub struct SiteReport<'a> {
    pub case: &'a CasePlan,
    pub state: &'a CaseState,
    now: Timestamp,
}

impl<'a> Report<'a> {
    pub fn of_journal(journal: &'a Journal, now: Timestamp) -> Self {
        let state = journal.state();
        Self::of((journal.plan(), journal.hash()), state, Runner::of(state), now)
    }

    /// Of a plan and its hash.
    pub fn of(
        (plan, hash): (&'a RecoveryPlan, &'a str),
        state: &'a RecoveryState,
        runner: Runner,
        now: Timestamp,
    ) -> Self {
        let standing = Standing::of(state, runner);
        let is_live = runner == Runner::AtWork && standing != Standing::Done;
        let estimate = estimate(plan, state, (standing, now));
        let curve = curve(state);
        let totals = Totals::of(plan, state, (now, is_live), &curve);
        Self { plan, hash, state, now, standing, runner, is_live, totals, estimate, curve }
    }

    /// In the plan's order.
    pub fn sites(&self) -> impl Iterator<Item = SiteReport<'a>> + use<'a> {
        let now = self.now;
        self.plan.cases.iter().zip(&self.state.cases).map(move |(case, state)| SiteReport { case, state, now })
    }
}

impl<'a> SiteReport<'a> {
    pub fn receipt(&self) -> Option<&'a SignedReceipt> {
        match &self.state.stage {
            CaseStage::Restored(signed) => Some(signed),
            _ => None,
        }
    }

    /// From the begin of its last attempt to its end, or till now.
    pub fn took(&self) -> Option<Duration> {
        let till = match self.state.stage {
            CaseStage::Running => Some(self.now),
            CaseStage::Restored(_) | CaseStage::Failed(_) => self.state.ended_at,
            CaseStage::Waiting | CaseStage::Skipped(_) => None,
        };
        Some(till?.since(self.state.began_at?))
    }

    /// How old what came back was when it came back; of what is not back, how old it would be now.
    pub fn data_age(&self) -> Duration {
        let back = self.state.ended_at.filter(|_| self.receipt().is_some());
        back.unwrap_or(self.now).since(self.case.at)
    }

    /// Whether it was not back by its deadline; nobody waits for one that was skipped.
    pub fn has_missed_deadline(&self) -> bool {
        let back = self.state.ended_at.filter(|_| self.receipt().is_some());
        let is_awaited = !matches!(self.state.stage, CaseStage::Skipped(_));
        is_awaited && self.state.deadline.is_some_and(|deadline| back.unwrap_or(self.now) > deadline)
    }

    pub fn sums(&self) -> SiteSums {
        let Some(SignedReceipt { receipt, .. }) = self.receipt() else { return SiteSums::default() };
        let failed = receipt.checks.iter().filter(|check| !check.passed).count() as u64;
        let mut sums = SiteSums {
            bytes_read: receipt.bytes_read,
            requests: receipt.requests,
            checks_passed: receipt.checks.len() as u64 - failed,
            checks_failed: failed,
            ..SiteSums::default()
        };
        for part in &receipt.parts {
            sums.entries += part.entries;
            sums.rows += part.rows;
            sums.files += part.files;
            sums.removed += part.removed;
            sums.kept += part.kept;
            sums.bytes += part.bytes;
        }
        sums
    }
}

impl SiteSums {
    fn add(&mut self, other: &Self) {
        let Self { entries, rows, files, removed, kept, bytes, bytes_read, requests, checks_passed, checks_failed } =
            other;
        self.entries += entries;
        self.rows += rows;
        self.files += files;
        self.removed += removed;
        self.kept += kept;
        self.bytes += bytes;
        self.bytes_read += bytes_read;
        self.requests += requests;
        self.checks_passed += checks_passed;
        self.checks_failed += checks_failed;
    }
}

impl Totals {
    fn of(plan: &RecoveryPlan, state: &RecoveryState, (now, is_live): (Timestamp, bool), curve: &[CurvePoint]) -> Self {
        let mut totals = Self { counts: state.counts(), ..Self::default() };
        let last = state.cases.iter().filter_map(|case| case.ended_at).max();
        let till = is_live.then_some(now).or(last).or(state.began_at).unwrap_or(now);
        let mut took = Vec::new();
        for (case, state) in plan.cases.iter().zip(&state.cases) {
            let site = SiteReport { case, state, now };
            totals.sums.add(&site.sums());
            totals.deadlines_missed += usize::from(site.has_missed_deadline());
            took.extend(site.took().filter(|_| site.receipt().is_some()));
            let has_come = |to| usize::from(state.hand_over.is_some_and(|reached| reached >= to));
            totals.validated += has_come(HandOver::Validated);
            totals.accepted += has_come(HandOver::Accepted);
            totals.opened += has_come(HandOver::Opened);
        }
        took.sort();
        (totals.took_median, totals.took_p95) = (rank(&took, 50), rank(&took, 95));
        if let Some(began) = state.began_at {
            totals.elapsed = till.since(began);
            totals.first_back = curve.first().map(|point| point.after);
            totals.sites_per_hour = sites_per_hour(totals.counts.restored, totals.elapsed);
        }
        totals
    }
}

/// Sites an hour, of so many that came back in this time; `None`: none did.
pub fn sites_per_hour(restored: usize, took: Duration) -> Option<f64> {
    let hours = took.as_secs_f64().max(0.001) / 3_600.0;
    (restored > 0).then(|| restored as f64 / hours)
}

/// The nearest rank: the smallest value that so many percent do not exceed.
fn rank(ascending: &[Duration], percent: usize) -> Option<Duration> {
    ascending.get((ascending.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

fn curve(state: &RecoveryState) -> Vec<CurvePoint> {
    let Some(began) = state.began_at else { return Vec::new() };
    let restored = state.cases.iter().filter(|case| matches!(case.stage, CaseStage::Restored(_)));
    let mut ends: Vec<Duration> = restored.filter_map(|case| Some(case.ended_at?.since(began))).collect();
    ends.sort();
    let mut curve: Vec<CurvePoint> = Vec::new();
    for (place, after) in ends.into_iter().enumerate() {
        match curve.last_mut() {
            Some(last) if last.after == after => last.restored = place + 1,
            _ => curve.push(CurvePoint { after, restored: place + 1 }),
        }
    }
    curve
}

#[cfg(test)]
mod tests;
