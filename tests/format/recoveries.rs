//! The vectors of recoveries: kinds of objects that came to version 1 after it was frozen, beside those of that day.
//!
//! An event that is added gets an entry of its own: what is here stays as it is.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_format::*;
use lifeboat_model::*;

use crate::sample::{self, NOON};
use crate::vectors::{Folder, Vector, repository_keys, secret};

const RECOVERY: RecoveryId = RecoveryId([0x71; 8]);
const PLAN: ObjectId = ObjectId([0x70; 16]);

pub fn all() -> Vec<Vector> {
    let entry = |name: &'static str, entry: RecoveryEntry| {
        let number = entry.number;
        Vector::new(
            Folder::Recoveries,
            name,
            move || encode_recovery_entry(repository_keys().object_keys(), RECOVERY, &entry),
            move |bytes| {
                let entry = decode_recovery_entry(repository_keys().object_keys(), RECOVERY, number, bytes)?;
                Ok(format!("{entry:?} {:?}", signed(&entry)))
            },
        )
    };
    vec![
        Vector::new(
            Folder::Recoveries,
            "recovery-plan.bin",
            || encode_recovery_plan(repository_keys().object_keys(), PLAN, &plan()),
            |bytes| {
                let plan = decode_recovery_plan(repository_keys().object_keys(), RECOVERY, bytes)?;
                Ok(format!("{plan:?} {}", recovery_plan_hash(&plan)))
            },
        ),
        entry("recovery-entry-first.bin", first_entry()),
        entry("recovery-entry.bin", full_entry()),
        entry("recovery-bystanders.bin", bystanders_entry()),
    ]
}

/// A case of each aim, one of them of the fewest words.
pub fn plan() -> RecoveryPlan {
    let case = |site, aim| CasePlan {
        site,
        priority: 100,
        deadline: None,
        aim,
        snapshot: SnapshotId([0x51; 8]),
        at: NOON,
        hash: "0011223344556677".to_owned(),
        conflicts: Vec::new(),
        work: CaseWork::default(),
    };
    let full = CasePlan {
        priority: 1,
        deadline: Some(Timestamp(NOON.0 + 3_600_000_000)),
        conflicts: vec!["app: issues: the key 5 is another site's now".to_owned()],
        work: CaseWork {
            add: 1_000,
            replace: 20,
            remove: 3,
            write_bytes: 5_000_000,
            read_bytes: 4_000_000,
            read_requests: 60,
        },
        ..case(sample::site(), CaseAim::Point(PointInTime::Time(NOON)))
    };
    RecoveryPlan {
        id: RECOVERY,
        made_at: NOON,
        made_by: sample::writer(),
        asked: "recover plan --at 2022-04-05T11:38:00Z acme beta --expect 2".to_owned(),
        undoes: Some(RecoveryId([0x72; 8])),
        rules: RecoveryRules {
            canaries: 1,
            halt_percent: 33,
            keeps_later: true,
            verifies_read: false,
            skips_damaged: true,
        },
        cases: vec![full, case(sample::other_site(), CaseAim::Undo(RestoreId([0x5a; 8])))],
    }
}

/// What a person writes has no run.
fn first_entry() -> RecoveryEntry {
    RecoveryEntry {
        number: 1,
        nonce: ObjectId([0x73; 16]),
        written_at: NOON,
        writer: sample::writer(),
        run: None,
        events: vec![RecoveryEvent::Approved { hash: recovery_plan_hash(&plan()) }],
    }
}

fn full_entry() -> RecoveryEntry {
    RecoveryEntry { number: 5, nonce: ObjectId([0x74; 16]), run: Some(2), events: events(), ..first_entry() }
}

fn signing_key() -> SigningKey {
    let sealed = repository_keys().seal_signing_key(&secret(0x80)).unwrap();
    repository_keys().open_signing_key(&sealed).unwrap()
}

/// Of each receipt in an entry: whether the signature is over it.
fn signed(entry: &RecoveryEntry) -> Vec<bool> {
    let receipts = entry.events.iter().filter_map(|event| match event {
        RecoveryEvent::CaseRestored { receipt, .. } => Some(receipt),
        _ => None,
    });
    let key = signing_key();
    receipts.map(|signed| key.verifies(&receipt_bytes(RECOVERY, &signed.receipt), &signed.signature)).collect()
}

fn receipt() -> Receipt {
    let part = |source: SourceName, digest_ok| PartReceipt {
        source,
        entries: 9,
        rows: 1_000,
        files: 7,
        removed: 3,
        kept: 2,
        bytes: 12_000,
        digest_ok,
        transaction: None,
    };
    let check = |name: &str, passed| Check { name: name.to_owned(), passed, detail: "12 of 12".to_owned() };
    Receipt {
        restore: RestoreId([0x5a; 8]),
        site: sample::site(),
        at: NOON,
        snapshot: SnapshotId([0x51; 8]),
        parts: vec![part(sample::log_source(), true), part(sample::file_source(), false)],
        bytes_read: 24_000,
        requests: 14,
        duration: Duration::from_micros(1_500_001),
        checks: vec![check("app: rows", true), check("notes: pages", false)],
        undo: Some(SnapshotId([0x52; 8])),
    }
}

/// Every event, and each optional word of it both ways.
fn events() -> Vec<RecoveryEvent> {
    let (site, other) = (sample::site, sample::other_site);
    let restored = |site: SiteId, receipt: Receipt| {
        let signature = signing_key().sign(&receipt_bytes(RECOVERY, &receipt));
        RecoveryEvent::CaseRestored { site, receipt: Arc::new(SignedReceipt { receipt, signature }) }
    };
    let failed = |hint: Option<&str>| RecoveryEvent::CaseFailed {
        site: site(),
        failure: CaseFailure {
            message: "the disk is full: path=`/srv`".to_owned(),
            hint: hint.map(str::to_owned),
            exit_code: 10,
        },
    };
    let handed = |to| RecoveryEvent::HandedOver { site: site(), to, note: "Ada".to_owned() };
    let short = Receipt { site: other(), parts: Vec::new(), checks: Vec::new(), undo: None, ..receipt() };
    vec![
        RecoveryEvent::Approved { hash: "0011223344556677".to_owned() },
        RecoveryEvent::RunBegan,
        RecoveryEvent::RunEnded,
        RecoveryEvent::CaseBegan { site: site() },
        restored(site(), receipt()),
        restored(other(), short),
        failed(None),
        failed(Some("make room, then `lifeboat recover retry`")),
        RecoveryEvent::Halted { reason: "2 of 3 ended cases have failed, more than 33 %".to_owned() },
        RecoveryEvent::Paused,
        RecoveryEvent::Resumed,
        RecoveryEvent::Skipped { site: site(), reason: "later".to_owned() },
        RecoveryEvent::Retried { site: site() },
        RecoveryEvent::Reprioritised { site: site(), priority: 7 },
        handed(HandOver::Validated),
        handed(HandOver::Accepted),
        handed(HandOver::Opened),
        RecoveryEvent::Beat,
    ]
}

fn bystanders_entry() -> RecoveryEntry {
    let (source, files) = (sample::log_source(), sample::file_source());
    let part = |site, source, digest| BystanderPart { site, source, digest };
    let look = BystanderLook {
        looked_at: NOON,
        others: 4_117,
        moments: vec![SourceMoment { source: source.clone(), lsn: Lsn(0x1_6B37_4D48), sees: "731:735:732".to_owned() }],
        parts: vec![
            part(sample::site(), source.clone(), Some([0x77; 32])),
            part(sample::other_site(), files.clone(), None),
        ],
    };
    let proof = BystanderProof {
        proven_at: Timestamp(NOON.0 + 60_000_000),
        others: 4_117,
        looked: 20,
        equal: 17,
        own_users: 1,
        not_proven: 1,
        not_comparable: 1,
        transactions: 12,
        transactions_logged: 11,
        must_be_quiet: true,
        notes: vec![BystanderNote { site: sample::site(), source: files, detail: "changed meanwhile".to_owned() }],
        touched: vec![Touched {
            site: sample::other_site(),
            source,
            table: "public.issues".to_owned(),
            transaction: TransactionId(734),
            by: sample::site(),
        }],
    };
    let mut receipt = receipt();
    receipt.parts[0].transaction = Some(TransactionId(734));
    let signature = signing_key().sign(&receipt_bytes(RECOVERY, &receipt));
    let receipt = Arc::new(SignedReceipt { receipt, signature });
    let events = vec![
        RecoveryEvent::Bystanders(Bystanders::Looked(Arc::new(look))),
        RecoveryEvent::CaseRestored { site: sample::site(), receipt },
        RecoveryEvent::Bystanders(Bystanders::Proven(Arc::new(proof))),
    ];
    RecoveryEntry { number: 6, nonce: ObjectId([0x75; 16]), run: Some(2), events, ..first_entry() }
}

/// The vector that holds such an event. A new one has to be named here, and to be written into a vector of its own.
fn vector_of(event: &RecoveryEvent) -> &'static str {
    match event {
        RecoveryEvent::Approved { .. }
        | RecoveryEvent::RunBegan
        | RecoveryEvent::RunEnded
        | RecoveryEvent::CaseBegan { .. }
        | RecoveryEvent::CaseRestored { .. }
        | RecoveryEvent::CaseFailed { .. }
        | RecoveryEvent::Halted { .. }
        | RecoveryEvent::Paused
        | RecoveryEvent::Resumed
        | RecoveryEvent::Skipped { .. }
        | RecoveryEvent::Retried { .. }
        | RecoveryEvent::Reprioritised { .. }
        | RecoveryEvent::HandedOver { .. }
        | RecoveryEvent::Beat => "recovery-entry.bin",
        RecoveryEvent::Bystanders(_) => "recovery-bystanders.bin",
    }
}

#[test]
fn every_event_of_a_recovery_is_in_a_vector_and_every_receipt_in_it_is_signed() {
    let vectors = all();
    let beside = bystanders_entry().events.into_iter().map(|event| ("recovery-bystanders.bin", event));
    for (name, event) in events().into_iter().map(|event| (vector_of(&event), event)).chain(beside) {
        let vector = vectors.iter().find(|vector| vector.name == name).unwrap();
        let said = (vector.read)(&vector.stored()).unwrap();
        assert!(said.contains(&format!("{event:?}")), "{name} does not hold {event:?}");
    }
    assert_eq!(signed(&full_entry()), [true, true]);
    assert_eq!(signed(&bystanders_entry()), [true]);
}

#[test]
fn the_format_page_tells_the_hash_and_the_names_of_the_vectors_of_recoveries() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    for told in [recovery_plan_hash(&plan()), names::recovery_plan(RECOVERY), names::recovery_entry(RECOVERY, 5)] {
        assert!(page.contains(&told), "docs/format.md does not tell `{told}`");
    }
}
