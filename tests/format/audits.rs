//! The vectors of the audit log: a kind of object that came to version 1 after it was frozen.
//!
//! ```text
//! audit-first.bin ◀─previous─ audit-full.bin ◀─previous─ audit-later.bin      as their numbers say: 1, 2, 3
//! ```
//!
//! The last one is of a version that does not exist yet: an action and a target that nobody knows are in their place all
//! the same.

use std::collections::BTreeSet;

use lifeboat_format::*;
use lifeboat_model::*;
use sha2::{Digest, Sha256};

use crate::sample::{self, NOON};
use crate::vectors::{Folder, Vector, repository_keys};

pub fn all() -> Vec<Vector> {
    let vector = |name: &'static str, number: u64, entry: fn() -> AuditEntry| {
        let read = move |bytes: &[u8]| {
            let entry = decode_audit_entry(repository_keys().object_keys(), AuditNumber(number), bytes)?;
            Ok(format!("{entry:?}"))
        };
        Vector::new(Folder::Audit, name, move || encode(&entry()), read)
    };
    vec![vector("audit-first.bin", 1, first), vector("audit-full.bin", 2, full), vector("audit-later.bin", 3, later)]
}

fn encode(entry: &AuditEntry) -> Result<Vec<u8>> {
    encode_audit_entry(repository_keys().object_keys(), entry)
}

/// The fewest words.
fn first() -> AuditEntry {
    AuditEntry {
        number: AuditNumber(1),
        previous: [0; 32],
        nonce: ObjectId([0x81; 16]),
        written_at: NOON,
        writer: sample::writer(),
        record: AuditRecord {
            account: AuditAccount { uid: 1_000, user: None, sudo_user: None },
            action: AuditAction::Began,
            command: "restore".to_owned(),
            options: Vec::new(),
            closes: None,
            sites: AuditSites::one(sample::site()),
            targets: Vec::new(),
            exit_code: None,
            details: String::new(),
        },
    }
}

/// Every word, and every target.
fn full() -> AuditEntry {
    let sites: BTreeSet<SiteId> = (0..101).map(|number| SiteId::new(format!("site-{number:03}")).unwrap()).collect();
    AuditEntry {
        number: AuditNumber(2),
        previous: commit_hash(&encode(&first()).unwrap()),
        nonce: ObjectId([0x82; 16]),
        written_at: Timestamp(NOON.0 + 60_000_000),
        writer: sample::writer(),
        record: AuditRecord {
            account: AuditAccount { uid: 0, user: Some("root".to_owned()), sudo_user: Some("ada".to_owned()) },
            action: AuditAction::Ended,
            command: "recover run".to_owned(),
            options: vec!["--at".to_owned(), "--yes".to_owned()],
            closes: Some(AuditNumber(1)),
            sites: audit_sites(&sites),
            targets: vec![
                AuditTarget::Recovery(RecoveryId([0x71; 8])),
                AuditTarget::Restore(RestoreId([0x5a; 8])),
                AuditTarget::Plan("0011223344556677".to_owned()),
                AuditTarget::Snapshot(SnapshotId([0x51; 8])),
                AuditTarget::Hold(HoldId([0x61; 8])),
                AuditTarget::Key("0102030405060708".to_owned()),
                AuditTarget::Source(sample::log_source()),
                AuditTarget::Point("2022-04-05T11:38:00Z".to_owned()),
            ],
            exit_code: Some(20),
            details: "2 of 101".to_owned(),
        },
    }
}

fn later() -> AuditEntry {
    let first = first();
    let record =
        AuditRecord { action: AuditAction::Other(200), targets: vec![AuditTarget::Other(99)], ..first.record.clone() };
    AuditEntry {
        number: AuditNumber(3),
        previous: commit_hash(&encode(&full()).unwrap()),
        nonce: ObjectId([0x83; 16]),
        record,
        ..first
    }
}

#[test]
fn the_vectors_of_the_audit_log_are_a_chain() {
    let stored: Vec<Vec<u8>> = all().iter().map(Vector::stored).collect();
    let mut previous = [0; 32];
    for (number, bytes) in (1..).zip(&stored) {
        let entry = decode_audit_entry(repository_keys().object_keys(), AuditNumber(number), bytes).unwrap();
        assert_eq!(entry.previous, previous, "{number}");
        previous = Sha256::digest(bytes).into();
    }
    assert_eq!(commit_hash(&stored[2]), previous);
}

#[test]
fn the_format_page_tells_the_names_and_the_hash_of_the_vectors_of_the_audit_log() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    let hash = full().record.sites.hash.unwrap();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    for told in [names::audit_entry(AuditNumber(2)), hash] {
        assert!(page.contains(&told), "docs/format.md does not tell `{told}`");
    }
}
