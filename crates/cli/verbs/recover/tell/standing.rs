//! Where a recovery stands, who is at it, and about how long it still takes: the same words in every verb.

use lifeboat_control::recovery::{Estimate, Report, Runner, Standing, estimate, sites_per_hour};
use lifeboat_engine::Journal;
use lifeboat_model::{CaseStage, RecoveryPlan, RecoveryRun, RecoveryState, Timestamp};
use serde_json::{Map, Value, json};

use crate::output::{ago, duration};

/// A recovery as it stands now.
pub(in crate::verbs::recover) struct Stand<'a> {
    plan: &'a RecoveryPlan,
    state: &'a RecoveryState,
    now: Timestamp,
    pub runner: Runner,
    pub standing: Standing,
}

impl<'a> Stand<'a> {
    pub fn of(journal: &'a Journal) -> Self {
        let runner = Runner::of(journal.state());
        Self::at(journal.plan(), journal.state(), runner, Timestamp::now())
    }

    pub fn of_report(report: &Report<'a>) -> Self {
        Self::at(report.plan, report.state, report.runner, report.now)
    }

    fn at(plan: &'a RecoveryPlan, state: &'a RecoveryState, runner: Runner, now: Timestamp) -> Self {
        Self { plan, state, now, runner, standing: Standing::of(state, runner) }
    }

    /// The process whose run has no end, where there is anything left to do.
    fn process(&self) -> Option<&'a RecoveryRun> {
        let is_told = self.runner != Runner::Nobody && self.standing != Standing::Done;
        self.state.run.as_ref().filter(|_| is_told)
    }

    fn what(&self) -> String {
        match (self.standing, &self.state.halted) {
            (Standing::Halted, Some(reason)) => format!("HALTED: {reason}"),
            (standing, _) => standing.name().to_owned(),
        }
    }

    /// In a table.
    pub fn brief(&self) -> String {
        let gone = if self.is_left() { ": its process is gone" } else { "" };
        format!("{}{gone}", self.what())
    }

    /// With who is at it, or was.
    pub fn words(&self) -> String {
        let Some(run) = self.process() else { return self.brief() };
        let (process, heard) = (format!("{} (pid {})", run.owner.host, run.owner.pid), ago(run.heard_at, self.now));
        let what = self.what();
        match (self.runner, self.standing) {
            (Runner::Gone, _) => format!("{what}: its process on {process} is gone, last heard of {heard}"),
            (_, Standing::Running) => format!("{what} on {process}, last heard of {heard}"),
            _ => format!("{what}; its process on {process} was last heard of {heard}"),
        }
    }

    /// Whether its process ended without a word, with something left to do.
    pub fn is_left(&self) -> bool {
        self.runner == Runner::Gone && self.standing != Standing::Done
    }

    pub fn estimate(&self) -> Option<Estimate> {
        estimate(self.plan, self.state, (self.standing, self.now))
    }

    /// Of the last run, as long as it went on; `None`: no site came back in it.
    pub fn sites_per_hour(&self) -> Option<f64> {
        let run = self.state.run.as_ref()?;
        let till = run.ended_at.unwrap_or(if self.runner == Runner::Gone { run.heard_at } else { self.now });
        let restored = self.state.cases.iter().filter(|case| {
            matches!(case.stage, CaseStage::Restored(_)) && case.ended_at.is_some_and(|ended| ended >= run.began_at)
        });
        sites_per_hour(restored.count(), till.since(run.began_at))
    }

    /// Beside a bar: `running: 3 at work, 1 failed, about 5 min left`.
    pub fn progress(&self) -> String {
        let counts = self.state.counts();
        let left = self.estimate().map_or_else(String::new, |left| format!(", about {} left", duration(left.left)));
        format!("{}: {} at work, {} failed{left}", self.standing.name(), counts.running, counts.failed)
    }

    /// For programs: `state` is one of a few words, and what else there is to know has keys of its own.
    pub fn json(&self) -> Map<String, Value> {
        let runner = self.process().map(|run| {
            json!({
                "host": run.owner.host,
                "pid": run.owner.pid,
                "is_gone": self.runner == Runner::Gone,
                "last_heard_at": run.heard_at.to_string(),
            })
        });
        let fields = [
            ("state", self.standing.name().into()),
            ("halted", self.state.halted.as_deref().into()),
            ("runner", runner.unwrap_or(Value::Null)),
        ];
        fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn plan() -> RecoveryPlan {
        RecoveryPlan {
            id: RecoveryId([0x71; 8]),
            made_at: Timestamp(0),
            made_by: writer(),
            asked: String::new(),
            undoes: None,
            rules: RecoveryRules {
                canaries: 0,
                halt_percent: 50,
                keeps_later: false,
                verifies_read: false,
                skips_damaged: false,
            },
            cases: vec![CasePlan {
                site: SiteId::new("acme").unwrap(),
                priority: 1,
                deadline: None,
                aim: CaseAim::Point(PointInTime::Latest),
                snapshot: SnapshotId([1; 8]),
                at: Timestamp(0),
                hash: String::new(),
                conflicts: Vec::new(),
                work: CaseWork::default(),
            }],
        }
    }

    fn writer() -> WriterIdentity {
        WriterIdentity { host: "db-3".into(), machine: "m".into(), boot: "b".into(), pid: 4711, started: 1 }
    }

    #[test]
    fn a_word_says_where_it_stands_and_the_rest_who_is_at_it() {
        let plan = plan();
        let check = |more: Option<RecoveryEvent>, runner, state: &str, words: &str, process: Value| {
            let approved = RecoveryEvent::Approved { hash: "x".into() };
            let (mut told, mut now) = (RecoveryState::of(&plan), 0);
            for event in [approved, RecoveryEvent::RunBegan].into_iter().chain(more) {
                now += 10;
                told.apply(&RecoveryEntry {
                    number: told.number + 1,
                    nonce: ObjectId([0; 16]),
                    written_at: Timestamp(now * SECOND),
                    writer: writer(),
                    run: None,
                    events: vec![event],
                })
                .unwrap();
            }
            let stand = Stand::at(&plan, &told, runner, Timestamp(200 * SECOND));
            assert_eq!(stand.words(), words);
            let json = stand.json();
            assert_eq!((&json["state"], &json["runner"]), (&state.into(), &process));
        };
        let process = |is_gone: bool| json!({ "host": "db-3", "pid": 4711, "is_gone": is_gone, "last_heard_at": "1970-01-01T00:00:20Z" });
        check(None, Runner::AtWork, "running", "running on db-3 (pid 4711), last heard of 3 min ago", process(false));
        let gone = "stopped: its process on db-3 (pid 4711) is gone, last heard of 3 min ago";
        check(None, Runner::Gone, "stopped", gone, process(true));
        let paused = "paused; its process on db-3 (pid 4711) was last heard of 3 min ago";
        check(Some(RecoveryEvent::Paused), Runner::AtWork, "paused", paused, process(false));
        check(Some(RecoveryEvent::RunEnded), Runner::Nobody, "stopped", "stopped", Value::Null);
        let halted = RecoveryEvent::Halted { reason: "3 of 4 have failed".into() };
        check(Some(halted), Runner::Nobody, "halted", "HALTED: 3 of 4 have failed", Value::Null);
        let skipped = RecoveryEvent::Skipped { site: SiteId::new("acme").unwrap(), reason: String::new() };
        check(Some(skipped), Runner::Gone, "done", "done", Value::Null);
    }
}
