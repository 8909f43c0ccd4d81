use super::*;
use crate::recovery::{CaseAim, CasePlan, CaseWork, RecoveryRules};
use crate::{Check, ObjectId, PointInTime, Receipt, RecoveryId, RestoreId, SnapshotId};

fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

fn writer(pid: u32) -> WriterIdentity {
    WriterIdentity { host: "host".into(), machine: "m".into(), boot: "b".into(), pid, started: 1 }
}

/// Cases as (site, priority, deadline).
fn plan(canaries: u32, cases: &[(&str, u32, Option<i64>)]) -> RecoveryPlan {
    let case = |(name, priority, deadline): &(&str, u32, Option<i64>)| CasePlan {
        site: site(name),
        priority: *priority,
        deadline: deadline.map(Timestamp),
        aim: CaseAim::Point(PointInTime::Latest),
        snapshot: SnapshotId([1; 8]),
        at: Timestamp(5),
        hash: "00".into(),
        conflicts: Vec::new(),
        work: CaseWork::default(),
    };
    RecoveryPlan {
        id: RecoveryId([7; 8]),
        made_at: Timestamp(1),
        made_by: writer(1),
        asked: "test".into(),
        undoes: None,
        rules: RecoveryRules {
            canaries,
            halt_percent: 50,
            keeps_later: false,
            verifies_read: false,
            skips_damaged: false,
        },
        cases: cases.iter().map(case).collect(),
    }
}

fn restored(name: &str) -> RecoveryEvent {
    let receipt = Receipt {
        restore: RestoreId([1; 8]),
        site: site(name),
        at: Timestamp(5),
        snapshot: SnapshotId([1; 8]),
        parts: Vec::new(),
        bytes_read: 0,
        requests: 0,
        duration: std::time::Duration::ZERO,
        checks: Vec::new(),
        undo: None,
    };
    RecoveryEvent::CaseRestored {
        site: site(name),
        receipt: Arc::new(SignedReceipt { receipt, signature: Vec::new() }),
    }
}

fn failed(name: &str) -> RecoveryEvent {
    let failure = CaseFailure { message: "no".into(), hint: None, exit_code: 10 };
    RecoveryEvent::CaseFailed { site: site(name), failure }
}

fn began(name: &str) -> RecoveryEvent {
    RecoveryEvent::CaseBegan { site: site(name) }
}

struct Story(RecoveryState);

impl Story {
    /// Approved, and a run has begun in entry 1.
    fn of(plan: &RecoveryPlan) -> Self {
        let mut story = Self(RecoveryState::of(plan));
        story.says(None, 1, vec![RecoveryEvent::Approved { hash: "h".into() }, RecoveryEvent::RunBegan]).unwrap();
        story
    }

    fn says(&mut self, run: Option<u64>, pid: u32, events: Vec<RecoveryEvent>) -> Result<(), BadRecovery> {
        let number = self.0.number + 1;
        let written_at = Timestamp(number as i64);
        let entry = RecoveryEntry { number, nonce: ObjectId([0; 16]), written_at, writer: writer(pid), run, events };
        let mut after = self.0.clone();
        after.apply(&entry)?;
        self.0 = after;
        Ok(())
    }

    fn ends(&mut self, name: &str, end: RecoveryEvent) {
        let run = self.0.run.as_ref().map(|run| run.number);
        self.says(run, 1, vec![began(name)]).unwrap();
        self.says(run, 1, vec![end]).unwrap();
    }

    fn next(&self) -> Option<&str> {
        self.0.next().map(|case| case.site.as_str())
    }

    fn stage(&self, name: &str) -> &'static str {
        self.0.case(&site(name)).unwrap().stage.name()
    }
}

#[test]
fn canaries_run_first_and_alone_then_priority_and_deadline_decide() {
    let plan =
        plan(2, &[("a", 5, None), ("b", 5, None), ("late", 1, Some(90)), ("soon", 1, Some(10)), ("first", 0, None)]);
    let mut story = Story::of(&plan);
    assert_eq!(story.next(), Some("a"));
    story.says(Some(1), 1, vec![began("a"), began("b")]).unwrap();
    assert_eq!(story.next(), None, "nothing runs beside a canary");
    story.says(Some(1), 1, vec![restored("a")]).unwrap();
    assert_eq!(story.next(), None);
    story.says(Some(1), 1, vec![restored("b")]).unwrap();
    for want in ["first", "soon", "late"] {
        assert_eq!(story.next(), Some(want));
        story.ends(want, restored(want));
    }
    assert!(story.0.is_done() && story.next().is_none());
}

#[test]
fn an_order_given_while_it_runs_counts_from_the_next_case_on() {
    let mut story = Story::of(&plan(0, &[("a", 1, None), ("b", 1, None), ("c", 1, None)]));
    assert_eq!(story.next(), Some("a"));
    story.says(None, 9, vec![RecoveryEvent::Reprioritised { site: site("c"), priority: 0 }]).unwrap();
    assert_eq!(story.next(), Some("c"));
    story.says(None, 9, vec![RecoveryEvent::Skipped { site: site("c"), reason: "later".into() }]).unwrap();
    assert_eq!(story.next(), Some("a"));
    story.says(None, 9, vec![RecoveryEvent::Paused]).unwrap();
    assert_eq!(story.next(), None);
    story.says(None, 9, vec![RecoveryEvent::Resumed, RecoveryEvent::Retried { site: site("c") }]).unwrap();
    assert_eq!(story.next(), Some("c"), "it kept its order");
}

#[test]
fn too_many_failures_are_a_reason_to_halt_until_a_person_says_go_on() {
    let mut story = Story::of(&plan(2, &[("a", 0, None), ("b", 0, None), ("c", 0, None), ("d", 0, None)]));
    story.ends("a", failed("a"));
    assert_eq!(story.0.reason_to_halt(), None, "not before the canaries have ended");
    story.ends("b", failed("b"));
    let reason = story.0.reason_to_halt().unwrap();
    assert_eq!(reason, "2 of 2 ended cases have failed, more than 50 %");
    story.says(Some(1), 1, vec![RecoveryEvent::Halted { reason }]).unwrap();
    assert_eq!(story.next(), None);
    story.says(None, 9, vec![RecoveryEvent::Resumed]).unwrap();
    assert_eq!((story.next(), story.0.reason_to_halt()), (Some("c"), None), "what was forgiven is not judged again");
}

#[test]
fn canaries_that_fail_a_second_time_halt_it_again() {
    let mut story = Story::of(&plan(2, &[("a", 0, None), ("b", 0, None), ("c", 0, None)]));
    for name in ["a", "b"] {
        story.ends(name, failed(name));
    }
    let retried = |name| RecoveryEvent::Retried { site: site(name) };
    story.says(None, 9, vec![RecoveryEvent::Resumed, retried("a"), retried("b")]).unwrap();
    for name in ["a", "b"] {
        assert_eq!(story.0.reason_to_halt(), None);
        story.ends(name, failed(name));
    }
    assert_eq!(story.0.reason_to_halt().unwrap(), "2 of 2 ended cases have failed, more than 50 %");
}

#[test]
fn a_canary_that_was_skipped_hides_no_failure_of_the_others() {
    let mut story = Story::of(&plan(2, &[("a", 0, None), ("b", 0, None), ("c", 0, None)]));
    story.says(None, 9, vec![RecoveryEvent::Skipped { site: site("a"), reason: String::new() }]).unwrap();
    story.ends("b", failed("b"));
    assert_eq!(story.0.reason_to_halt().unwrap(), "1 of 1 ended cases have failed, more than 50 %");
}

#[test]
fn a_failed_check_counts_as_a_failure_until_somebody_vouches_for_the_site() {
    let cases = [("a", 0, None), ("b", 0, None), ("c", 0, None)];
    let with = |passed| match restored("a") {
        RecoveryEvent::CaseRestored { site, receipt } => {
            let mut signed = SignedReceipt::clone(&receipt);
            signed.receipt.checks.push(Check { name: "check: page".into(), passed, detail: String::new() });
            RecoveryEvent::CaseRestored { site, receipt: Arc::new(signed) }
        }
        other => other,
    };
    let mut well = Story::of(&plan(1, &cases));
    well.ends("a", with(true));
    assert_eq!((well.0.reason_to_halt(), well.0.not_validated().count()), (None, 0));
    let mut story = Story::of(&plan(1, &cases));
    story.ends("a", with(false));
    let reason = story.0.reason_to_halt().unwrap();
    assert_eq!(reason, "1 of 1 ended cases have failed or are not validated, more than 50 %");
    assert_eq!(story.0.not_validated().count(), 1);
    let vouched = RecoveryEvent::HandedOver { site: site("a"), to: HandOver::Accepted, note: "Ada".into() };
    story.says(None, 9, vec![vouched]).unwrap();
    assert_eq!((story.0.reason_to_halt(), story.0.not_validated().count()), (None, 0));
}

#[test]
fn nothing_is_halted_where_no_case_waits() {
    let mut story = Story::of(&plan(1, &[("a", 0, None), ("b", 0, None)]));
    story.ends("a", failed("a"));
    assert!(story.0.reason_to_halt().is_some());
    let skipped = RecoveryEvent::Skipped { site: site("b"), reason: String::new() };
    story.says(None, 9, vec![skipped]).unwrap();
    assert_eq!(story.0.reason_to_halt(), None);
}

// Explains invariant: one-runner
#[test]
fn what_a_replaced_runner_writes_counts_for_nothing() {
    let mut story = Story::of(&plan(0, &[("a", 0, None), ("b", 0, None)]));
    story.says(Some(1), 1, vec![began("a")]).unwrap();
    story.says(None, 2, vec![RecoveryEvent::RunBegan]).unwrap();
    assert_eq!(story.stage("a"), "waiting", "nobody is at it any more");
    assert_eq!(story.0.run.as_ref().unwrap().replaced, [writer(1)]);
    story.says(Some(1), 1, vec![restored("a"), began("b"), RecoveryEvent::Halted { reason: "late".into() }]).unwrap();
    assert_eq!((story.stage("a"), story.stage("b"), &story.0.halted), ("waiting", "waiting", &None));
    story.says(Some(3), 2, vec![began("a")]).unwrap();
    story.says(Some(3), 2, vec![restored("a")]).unwrap();
    assert_eq!((story.stage("a"), story.0.case(&site("a")).unwrap().attempts), ("restored", 2));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut story = Story::of(&plan(0, &[("a", 0, None)]));
    let mut check = |events: Vec<RecoveryEvent>, want: &str| {
        let error = story.says(Some(1), 1, events).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(vec![RecoveryEvent::Retried { site: site("a") }], "cannot be retried: site=`a`, state=`waiting`");
    check(vec![RecoveryEvent::Retried { site: site("z") }], "no such site: site=`z`");
    check(vec![restored("a")], "cannot be restored");
    check(
        vec![RecoveryEvent::HandedOver { site: site("a"), to: HandOver::Opened, note: String::new() }],
        "handed over",
    );
    story.ends("a", restored("a"));
    let error = story.says(None, 9, vec![RecoveryEvent::Skipped { site: site("a"), reason: String::new() }]);
    assert!(error.unwrap_err().to_string().contains("cannot be skipped"));
    let gap = RecoveryEntry {
        number: 9,
        nonce: ObjectId([0; 16]),
        written_at: Timestamp(9),
        writer: writer(1),
        run: None,
        events: Vec::new(),
    };
    assert_eq!(story.0.apply(&gap), Err(BadRecovery::Gap { expected: 4, found: 9 }));
}

#[test]
fn the_first_look_at_bystanders_counts_until_it_is_proven_and_no_proof_is_forgotten() {
    let look = |others| {
        let look = BystanderLook { looked_at: Timestamp(1), others, moments: Vec::new(), parts: Vec::new() };
        RecoveryEvent::Bystanders(Bystanders::Looked(Arc::new(look)))
    };
    let proof = |not_proven| {
        let proof = BystanderProof {
            proven_at: Timestamp(2),
            others: 9,
            looked: 1,
            equal: 0,
            own_users: 0,
            not_proven,
            not_comparable: 0,
            transactions: 0,
            transactions_logged: 0,
            must_be_quiet: true,
            notes: Vec::new(),
            touched: Vec::new(),
        };
        RecoveryEvent::Bystanders(Bystanders::Proven(Arc::new(proof)))
    };
    let mut story = Story::of(&plan(0, &[("a", 1, None)]));
    let looked = |story: &Story| story.0.looked.as_ref().map(|look| look.others);
    story.says(None, 1, vec![look(3)]).unwrap();
    // Who goes on with it looks again: what may have been done to somebody meanwhile is no beginning.
    story.says(None, 2, vec![look(4)]).unwrap();
    assert_eq!(looked(&story), Some(3));
    story.says(None, 2, vec![proof(1)]).unwrap();
    assert_eq!(looked(&story), None);
    story.says(None, 2, vec![look(5)]).unwrap();
    assert_eq!(looked(&story), Some(5));
    story.says(None, 2, vec![proof(0)]).unwrap();
    let failed: Vec<bool> = story.0.proofs.iter().map(|proof| proof.has_failed()).collect();
    assert_eq!(failed, [true, false]);
}
