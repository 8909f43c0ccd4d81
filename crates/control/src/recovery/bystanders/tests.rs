use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::{
    CaseAim, CaseFailure, CasePlan, CaseWork, PointInTime, Receipt, RecoveryId, RecoveryPlan, RecoveryRules, RestoreId,
    SignedReceipt, SnapshotId, TransactionId, WriterIdentity,
};

use super::*;

const LOOKED: Timestamp = Timestamp(100);

fn source(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

/// A recovery of one case.
fn recovery() -> RecoveryState {
    let case = CasePlan {
        site: SiteId::new("acme").unwrap(),
        priority: 1,
        deadline: None,
        aim: CaseAim::Point(PointInTime::Latest),
        snapshot: SnapshotId([1; 8]),
        at: Timestamp(1),
        hash: "00".into(),
        conflicts: Vec::new(),
        work: CaseWork::default(),
    };
    RecoveryState::of(&RecoveryPlan {
        id: RecoveryId([1; 8]),
        made_at: Timestamp(1),
        made_by: WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 },
        asked: String::new(),
        undoes: None,
        rules: RecoveryRules {
            canaries: 0,
            halt_percent: 33,
            keeps_later: false,
            verifies_read: false,
            skips_damaged: false,
        },
        cases: vec![case],
    })
}

/// Parts as (source, transaction, rows).
fn restored(parts: &[(&str, Option<u64>, u64)]) -> CaseStage {
    let part = |(name, transaction, rows): &(&str, Option<u64>, u64)| PartReceipt {
        source: source(name),
        entries: 1,
        rows: *rows,
        files: 0,
        removed: 0,
        kept: 0,
        bytes: 0,
        digest_ok: true,
        transaction: transaction.map(TransactionId),
    };
    let receipt = Receipt {
        restore: RestoreId([1; 8]),
        site: SiteId::new("acme").unwrap(),
        at: Timestamp(1),
        snapshot: SnapshotId([1; 8]),
        parts: parts.iter().map(part).collect(),
        bytes_read: 0,
        requests: 0,
        duration: Duration::ZERO,
        checks: Vec::new(),
        undo: None,
    };
    CaseStage::Restored(Arc::new(SignedReceipt { receipt, signature: Vec::new() }))
}

/// What a case has written in, as `source:transaction`, begun at that time and so often.
fn wrote(stage: CaseStage, began: i64, attempts: usize) -> Vec<String> {
    let mut state = recovery();
    let case = &mut state.cases[0];
    (case.stage, case.began_at) = (stage, Some(Timestamp(began)));
    case.begun = (0..attempts as u64).map(|run| (0, run)).collect();
    let wrote = wrote_since(&state, LOOKED, &[source("app"), source("hr")]).into_iter();
    wrote.map(|one| format!("{}:{}", one.source, one.transaction.map_or("?".into(), |id| id.0.to_string()))).collect()
}

#[test]
fn whoever_did_not_say_in_which_transaction_he_wrote_may_have_written_to_any_database() {
    let told = || restored(&[("app", Some(7), 3), ("files", None, 0), ("hr", None, 0)]);
    assert_eq!(wrote(told(), 100, 1), ["app:7"], "no row of the other one was written");
    assert!(wrote(told(), 99, 1).is_empty(), "before anybody looked");
    assert_eq!(wrote(told(), 100, 2), ["app:7", "app:?", "hr:?"], "an earlier attempt may have committed");
    assert_eq!(wrote(restored(&[("app", None, 3), ("hr", Some(8), 1)]), 100, 1), ["hr:8", "app:?"], "in several");
    let failed = CaseStage::Failed(CaseFailure { message: "no".into(), hint: None, exit_code: 10 });
    for stage in [restored(&[]), failed, CaseStage::Waiting, CaseStage::Skipped("later".into())] {
        assert_eq!(wrote(stage.clone(), 100, 1), ["app:?", "hr:?"], "{stage:?}");
    }
}
