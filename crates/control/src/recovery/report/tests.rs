use std::sync::Arc;

use lifeboat_model::*;

use super::*;

const SECOND: i64 = 1_000_000;
/// The recovery begins.
const BEGIN: i64 = 1_000 * SECOND;

fn site(number: usize) -> SiteId {
    SiteId::new(format!("site-{number}")).unwrap()
}

fn plan(cases: usize) -> RecoveryPlan {
    let case = |number| CasePlan {
        site: site(number),
        priority: 100,
        deadline: (number == 1).then_some(Timestamp(BEGIN + 15 * SECOND)),
        aim: CaseAim::Point(PointInTime::Latest),
        snapshot: SnapshotId([1; 8]),
        at: Timestamp(BEGIN - 60 * SECOND),
        hash: "00".into(),
        conflicts: Vec::new(),
        work: CaseWork { write_bytes: 10, ..CaseWork::default() },
    };
    RecoveryPlan {
        id: RecoveryId([1; 8]),
        made_at: Timestamp(0),
        made_by: writer(),
        asked: String::new(),
        undoes: None,
        rules: RecoveryRules {
            canaries: 0,
            halt_percent: 100,
            keeps_later: false,
            verifies_read: false,
            skips_damaged: false,
        },
        cases: (0..cases).map(case).collect(),
    }
}

fn writer() -> WriterIdentity {
    WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 }
}

fn restored(number: usize) -> RecoveryEvent {
    let part = PartReceipt {
        source: SourceName::new("app").unwrap(),
        entries: 1,
        rows: 2,
        files: 3,
        removed: 0,
        kept: 0,
        bytes: 5,
        digest_ok: true,
        transaction: None,
    };
    let check = |passed| Check { name: "rows".into(), passed, detail: String::new() };
    let receipt = Receipt {
        restore: RestoreId([2; 8]),
        site: site(number),
        at: Timestamp(BEGIN - 60 * SECOND),
        snapshot: SnapshotId([1; 8]),
        parts: vec![part.clone(), part],
        bytes_read: 7,
        requests: 4,
        duration: Duration::from_secs(1),
        checks: vec![check(true), check(number != 0)],
        undo: None,
    };
    let receipt = Arc::new(SignedReceipt { receipt, signature: vec![0; 64] });
    RecoveryEvent::CaseRestored { site: site(number), receipt }
}

/// The state after what happened at these seconds.
fn state_of(plan: &RecoveryPlan, happened: &[(i64, Vec<RecoveryEvent>)]) -> RecoveryState {
    let mut state = RecoveryState::of(plan);
    for (number, (second, events)) in (1..).zip(happened) {
        let is_runners = !matches!(
            events[0],
            RecoveryEvent::Approved { .. } | RecoveryEvent::HandedOver { .. } | RecoveryEvent::RunBegan
        );
        let entry = RecoveryEntry {
            number,
            nonce: ObjectId([0; 16]),
            written_at: Timestamp(BEGIN + second * SECOND),
            writer: writer(),
            run: is_runners.then(|| state.run.as_ref().unwrap().number),
            events: events.clone(),
        };
        state.apply(&entry).unwrap();
    }
    state
}

fn began(number: usize) -> RecoveryEvent {
    RecoveryEvent::CaseBegan { site: site(number) }
}

fn failed(number: usize) -> RecoveryEvent {
    let failure = CaseFailure { message: "no".into(), hint: None, exit_code: 10 };
    RecoveryEvent::CaseFailed { site: site(number), failure }
}

/// Four sites: two back after 10 and 20 seconds, one failed, one at work.
fn half_way() -> Vec<(i64, Vec<RecoveryEvent>)> {
    vec![
        (-5, vec![RecoveryEvent::Approved { hash: "x".into() }]),
        (0, vec![RecoveryEvent::RunBegan]),
        (2, vec![began(0), began(1)]),
        (10, vec![restored(0), began(2)]),
        (20, vec![restored(1), failed(2), began(3)]),
        (21, vec![RecoveryEvent::HandedOver { site: site(1), to: HandOver::Accepted, note: String::new() }]),
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp(BEGIN + second * SECOND)
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn totals_are_those_of_all_receipts_and_of_the_whole_time() {
    let plan = plan(4);
    let state = state_of(&plan, &half_way());
    let report = Report::of((&plan, "hash"), &state, Runner::of(&state), at(30));
    let totals = report.totals;
    assert_eq!((report.standing, report.is_live), (Standing::Running, true));
    assert_eq!((totals.counts.restored, totals.counts.failed, totals.counts.running), (2, 1, 1));
    assert_eq!((totals.validated, totals.accepted, totals.opened), (1, 1, 0));
    assert_eq!((totals.sums.rows, totals.sums.files, totals.sums.bytes, totals.sums.requests), (8, 12, 20, 8));
    assert_eq!((totals.sums.checks_passed, totals.sums.checks_failed), (3, 1));
    assert_eq!((Some(totals.elapsed), totals.first_back), (seconds(30), seconds(10)));
    assert_eq!(totals.sites_per_hour, Some(240.0));
    assert_eq!((totals.took_median, totals.took_p95), (seconds(8), seconds(18)));
    assert_eq!(totals.deadlines_missed, 1, "site-1 was to be back after 15 seconds");
    let points: Vec<_> = report.curve.iter().map(|point| (point.after.as_secs(), point.restored)).collect();
    assert_eq!(points, [(10, 1), (20, 2)]);
    assert!(report.estimate.is_some());
    let sites: Vec<SiteReport<'_>> = report.sites().collect();
    assert_eq!((sites[0].took(), Some(sites[0].data_age())), (seconds(8), seconds(70)), "as old as when it came back");
    assert_eq!((sites[3].took(), Some(sites[3].data_age())), (seconds(10), seconds(90)), "till now");
}

#[test]
fn time_stands_still_once_nobody_is_at_it() {
    let plan = plan(4);
    let mut happened = half_way();
    happened.push((25, vec![failed(3)]));
    happened.push((26, vec![RecoveryEvent::RunEnded]));
    let state = state_of(&plan, &happened);
    for now in [at(30), at(9_000)] {
        let report = Report::of((&plan, "hash"), &state, Runner::of(&state), now);
        assert_eq!((report.standing, report.is_live, report.estimate), (Standing::Done, false, None));
        assert_eq!(Some(report.totals.elapsed), seconds(25));
        assert_eq!(report.sites().next().unwrap().data_age(), Duration::from_secs(70));
    }
}

#[test]
fn only_of_one_that_runs_it_is_told_how_long_it_still_takes() {
    let plan = plan(4);
    let check = |more: Option<RecoveryEvent>, runner, want| {
        let mut happened = half_way();
        happened.extend(more.map(|event| (25, vec![event])));
        let state = state_of(&plan, &happened);
        let report = Report::of((&plan, "hash"), &state, runner, at(30));
        let told = (report.standing, report.is_live, report.estimate.is_some());
        assert_eq!(told, want, "{runner:?} {:?}", happened.last());
    };
    check(None, Runner::AtWork, (Standing::Running, true, true));
    check(None, Runner::Gone, (Standing::Stopped, false, false));
    check(Some(RecoveryEvent::Beat), Runner::Gone, (Standing::Stopped, false, false));
    check(Some(RecoveryEvent::RunEnded), Runner::Nobody, (Standing::Stopped, false, false));
    check(Some(RecoveryEvent::Paused), Runner::AtWork, (Standing::Paused, true, false));
    let halted = RecoveryEvent::Halted { reason: "many".into() };
    check(Some(halted), Runner::AtWork, (Standing::Halted, true, false));
}

#[test]
fn a_runner_is_heard_of_when_it_writes_and_not_when_somebody_else_does() {
    let plan = plan(4);
    let mut happened = half_way();
    happened.push((60, vec![RecoveryEvent::HandedOver { site: site(0), to: HandOver::Opened, note: String::new() }]));
    let state = state_of(&plan, &happened);
    assert_eq!((state.written_at, state.run.as_ref().unwrap().heard_at), (Some(at(60)), at(20)));
    assert_eq!(Runner::of(&state), Runner::AtWork, "it is on another machine, as far as anybody knows");
    assert_eq!(Runner::of(&RecoveryState::of(&plan)), Runner::Nobody);
    let mut gone = state;
    gone.run.as_mut().unwrap().owner = WriterIdentity { pid: u32::MAX, ..lifeboat_engine::this_process() };
    assert_eq!(Runner::of(&gone), Runner::Gone);
}

#[test]
fn a_second_run_counts_from_the_first_and_two_sites_of_one_moment_are_one_point() {
    let plan = plan(3);
    let happened = [
        (-5, vec![RecoveryEvent::Approved { hash: "x".into() }]),
        (0, vec![RecoveryEvent::RunBegan]),
        (1, vec![RecoveryEvent::RunEnded]),
        (100, vec![RecoveryEvent::RunBegan]),
        (101, vec![began(0), began(1)]),
        (110, vec![restored(0), restored(1)]),
    ];
    let state = state_of(&plan, &happened);
    let report = Report::of((&plan, "hash"), &state, Runner::AtWork, at(120));
    assert_eq!(report.curve, [CurvePoint { after: Duration::from_secs(110), restored: 2 }]);
    assert_eq!(report.totals.first_back, seconds(110));
}

#[test]
fn before_anything_happened_there_is_nothing_to_divide_by() {
    let plan = plan(2);
    let state = RecoveryState::of(&plan);
    let report = Report::of((&plan, "hash"), &state, Runner::Nobody, at(0));
    assert_eq!((report.standing, report.curve.len()), (Standing::NotApproved, 0));
    let totals = report.totals;
    assert_eq!((totals.sites_per_hour, totals.first_back, totals.took_p95), (None, None, None));
    assert_eq!(totals.counts.waiting, 2);
}

#[test]
fn a_rank_is_a_value_that_was_measured() {
    let check = |count: u64, percent, want| {
        let values: Vec<Duration> = (1..=count).map(Duration::from_secs).collect();
        assert_eq!(rank(&values, percent), want, "{count} {percent}");
    };
    check(0, 50, None);
    check(1, 95, seconds(1));
    check(2, 50, seconds(1));
    check(20, 95, seconds(19));
    check(100, 50, seconds(50));
}
