use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::*;

use super::*;
use crate::RepositoryKeys;
use crate::SecretKey;

fn keys() -> RepositoryKeys {
    RepositoryKeys::new(&SecretKey::from_bytes([3; 32]), ObjectId([9; 16])).unwrap()
}

fn writer() -> WriterIdentity {
    WriterIdentity { host: "host".into(), machine: "m".into(), boot: "b".into(), pid: 7, started: 8 }
}

fn site() -> SiteId {
    SiteId::new("acme").unwrap()
}

fn plan() -> RecoveryPlan {
    let case = |aim| CasePlan {
        site: site(),
        priority: 3,
        deadline: Some(Timestamp(99)),
        aim,
        snapshot: SnapshotId([4; 8]),
        at: Timestamp(12),
        hash: "0011223344556677".into(),
        conflicts: vec!["app: taken".into()],
        work: CaseWork { add: 1, replace: 2, remove: 3, write_bytes: 4, read_bytes: 5, read_requests: 6 },
    };
    let time = PointInTime::Time(Timestamp(1_649_143_080_000_000));
    RecoveryPlan {
        id: RecoveryId([1; 8]),
        made_at: Timestamp(10),
        made_by: writer(),
        asked: "--vanished-since 2022-04-05T07:38:00Z".into(),
        undoes: Some(RecoveryId([2; 8])),
        rules: RecoveryRules {
            canaries: 3,
            halt_percent: 34,
            keeps_later: true,
            verifies_read: false,
            skips_damaged: true,
        },
        cases: vec![case(CaseAim::Point(time)), case(CaseAim::Undo(RestoreId([5; 8])))],
    }
}

fn receipt() -> Receipt {
    Receipt {
        restore: RestoreId([5; 8]),
        site: site(),
        at: Timestamp(12),
        snapshot: SnapshotId([4; 8]),
        parts: vec![PartReceipt {
            source: SourceName::new("app").unwrap(),
            entries: 1,
            rows: 2,
            files: 3,
            removed: 4,
            kept: 5,
            bytes: 6,
            digest_ok: true,
            transaction: Some(lifeboat_model::TransactionId(7_000_000_001)),
        }],
        bytes_read: 7,
        requests: 8,
        duration: Duration::from_micros(9),
        checks: vec![Check { name: "app: rows".into(), passed: true, detail: "2 rows".into() }],
        undo: Some(SnapshotId([6; 8])),
    }
}

fn events() -> Vec<RecoveryEvent> {
    let failure = CaseFailure { message: "no".into(), hint: Some("do".into()), exit_code: 20 };
    let signed = SignedReceipt { receipt: receipt(), signature: vec![1; 64] };
    vec![
        RecoveryEvent::Approved { hash: "h".into() },
        RecoveryEvent::RunBegan,
        RecoveryEvent::RunEnded,
        RecoveryEvent::CaseBegan { site: site() },
        RecoveryEvent::CaseRestored { site: site(), receipt: Arc::new(signed) },
        RecoveryEvent::CaseFailed { site: site(), failure },
        RecoveryEvent::Halted { reason: "too many".into() },
        RecoveryEvent::Paused,
        RecoveryEvent::Resumed,
        RecoveryEvent::Skipped { site: site(), reason: "later".into() },
        RecoveryEvent::Retried { site: site() },
        RecoveryEvent::Reprioritised { site: site(), priority: 1 },
        RecoveryEvent::HandedOver { site: site(), to: HandOver::Accepted, note: "Ada".into() },
        RecoveryEvent::Beat,
        RecoveryEvent::Bystanders(Bystanders::Looked(Arc::new(look()))),
        RecoveryEvent::Bystanders(Bystanders::Proven(Arc::new(proof()))),
    ]
}

fn look() -> BystanderLook {
    let source = SourceName::new("app").unwrap();
    let part = |digest| BystanderPart { site: site(), source: source.clone(), digest };
    BystanderLook {
        looked_at: Timestamp(1),
        others: 2,
        moments: vec![SourceMoment { source: source.clone(), lsn: Lsn(3), sees: "4:5:".into() }],
        parts: vec![part(None), part(Some([6; 32]))],
    }
}

fn proof() -> BystanderProof {
    let (site, source) = (site(), SourceName::new("app").unwrap());
    BystanderProof {
        proven_at: Timestamp(1),
        others: 2,
        looked: 3,
        equal: 4,
        own_users: 5,
        not_proven: 6,
        not_comparable: 7,
        transactions: 8,
        transactions_logged: 9,
        must_be_quiet: true,
        notes: vec![BystanderNote { site: site.clone(), source: source.clone(), detail: "why".into() }],
        touched: vec![Touched {
            site: site.clone(),
            source,
            table: "public.t".into(),
            transaction: lifeboat_model::TransactionId(10),
            by: site,
        }],
    }
}

// Explains invariant: entry-in-its-place
#[test]
fn plans_and_entries_come_back_as_they_were_and_only_in_their_places() {
    let keys = keys();
    let plan = plan();
    let object = encode_recovery_plan(keys.object_keys(), ObjectId([1; 16]), &plan).unwrap();
    assert_eq!(decode_recovery_plan(keys.object_keys(), plan.id, &object).unwrap(), plan);
    assert!(decode_recovery_plan(keys.object_keys(), RecoveryId([3; 8]), &object).is_err());
    let nonce = ObjectId([2; 16]);
    for run in [None, Some(4)] {
        let entry =
            RecoveryEntry { number: 5, nonce, written_at: Timestamp(6), writer: writer(), run, events: events() };
        let object = encode_recovery_entry(keys.object_keys(), plan.id, &entry).unwrap();
        assert_eq!(decode_recovery_entry(keys.object_keys(), plan.id, 5, &object).unwrap(), entry);
        assert!(decode_recovery_entry(keys.object_keys(), plan.id, 6, &object).is_err());
        assert!(decode_recovery_entry(keys.object_keys(), RecoveryId([3; 8]), 5, &object).is_err());
    }
}

#[test]
fn a_plans_hash_is_over_what_is_approved_and_over_nothing_else() {
    let hash = recovery_plan_hash(&plan());
    assert_eq!(hash.len(), HASH_DIGITS);
    let check = |change: fn(&mut RecoveryPlan), is_same: bool| {
        let mut other = plan();
        change(&mut other);
        assert_eq!(recovery_plan_hash(&other) == hash, is_same, "{other:?}");
    };
    check(|plan| plan.made_at = Timestamp(11), true);
    check(|plan| plan.asked.clear(), true);
    check(|plan| plan.cases[0].work.read_bytes = 0, true);
    check(|plan| plan.rules.halt_percent = 35, false);
    check(|plan| plan.cases[0].hash = "00".into(), false);
    check(|plan| plan.cases[0].priority = 0, false);
    check(|plan| plan.cases[1].aim = CaseAim::Undo(RestoreId([0; 8])), false);
    check(|plan| plan.cases[1].conflicts.clear(), false);
    check(|plan| plan.cases.truncate(1), false);
    check(|plan| plan.id = RecoveryId([8; 8]), false);
}

#[test]
fn a_signature_is_of_one_receipt_of_one_recovery() {
    let keys = keys();
    let (_, key) = keys.new_signing_key().unwrap();
    let (recovery, receipt) = (RecoveryId([1; 8]), receipt());
    let signature = key.sign(&receipt_bytes(recovery, &receipt));
    assert!(key.verifies(&receipt_bytes(recovery, &receipt), &signature));
    assert!(!key.verifies(&receipt_bytes(RecoveryId([2; 8]), &receipt), &signature));
    let mut other = receipt.clone();
    other.checks[0].passed = false;
    assert!(!key.verifies(&receipt_bytes(recovery, &other), &signature));
    assert!(!key.verifies(&receipt_bytes(recovery, &receipt), &signature[1..]));
}
