use lifeboat_model::*;
use proptest::prelude::*;

use super::*;
use crate::{RepositoryKeys, SecretKey, cbor, names};

fn keys() -> RepositoryKeys {
    RepositoryKeys::new(&SecretKey::from_bytes([3; 32]), ObjectId([9; 16])).unwrap()
}

fn entry(number: u64) -> AuditEntry {
    let record = AuditRecord {
        account: AuditAccount { uid: 1_000, user: Some("ada".into()), sudo_user: None },
        action: AuditAction::Began,
        command: "restore".into(),
        options: vec!["--at".into(), "--yes".into()],
        closes: None,
        sites: AuditSites::one(SiteId::new("acme").unwrap()),
        targets: vec![AuditTarget::Point("latest".into()), AuditTarget::Restore(RestoreId([5; 8]))],
        exit_code: Some(0),
        details: String::new(),
    };
    AuditEntry {
        number: AuditNumber(number),
        previous: [7; 32],
        nonce: ObjectId([2; 16]),
        written_at: Timestamp(6),
        writer: WriterIdentity { host: "host".into(), machine: "m".into(), boot: "b".into(), pid: 7, started: 8 },
        record,
    }
}

// Explains invariant: audit-in-its-place
#[test]
fn an_entry_comes_back_as_it_was_and_only_under_its_own_number() {
    let (keys, entry) = (keys(), entry(5));
    let object = encode_audit_entry(keys.object_keys(), &entry).unwrap();
    assert_eq!(decode_audit_entry(keys.object_keys(), AuditNumber(5), &object).unwrap(), entry);
    let other = decode_audit_entry(keys.object_keys(), AuditNumber(6), &object);
    assert!(other.unwrap_err().to_string().contains("it is another entry"));
    let mut edited = object.clone();
    edited[200] ^= 1;
    assert!(decode_audit_entry(keys.object_keys(), AuditNumber(5), &edited).is_err());
}

#[test]
fn what_a_later_version_adds_is_read_as_something_of_a_later_version() {
    let action: AuditAction = cbor::from_bytes("action", &[0x18, 200]).unwrap();
    assert_eq!(action, AuditAction::Other(200));
    // [99, "x", 1]
    let target: AuditTarget = cbor::from_bytes("target", &[0x83, 0x18, 99, 0x61, b'x', 1]).unwrap();
    assert_eq!(target, AuditTarget::Other(99));
}

#[test]
fn a_code_once_given_keeps_its_meaning() {
    let names = [
        "planned",
        "approved",
        "began",
        "ended",
        "read",
        "hold placed",
        "hold released",
        "loss accepted",
        "forgotten",
        "undeleted",
        "condemned",
        "pruned",
        "shredded",
        "key used",
        "key added",
        "key rotated",
        "action 16",
    ];
    for (code, name) in (0u8..).zip(names) {
        let action: AuditAction = cbor::from_bytes("action", &[code]).unwrap();
        assert_eq!((action.name().as_str(), cbor::to_bytes(&action)), (name, vec![code]));
    }
}

#[test]
fn many_sites_are_a_number_and_a_hash_and_the_first_ones_by_name() {
    let site = |number: u32| SiteId::new(format!("site-{number:05}")).unwrap();
    let few: Vec<SiteId> = (0..100).rev().map(site).collect();
    let many: Vec<SiteId> = (0..101).map(site).collect();
    let told = audit_sites(&few);
    assert_eq!((told.named.len(), told.count, told.hash), (100, 100, None));
    assert!(told.named.is_sorted());
    let told = audit_sites(&many);
    assert_eq!((told.named.len(), told.count), (100, 101));
    assert_ne!(told.hash, audit_sites(many.iter().skip(1).chain([&site(200)])).hash);
    assert_eq!(told, audit_sites(many.iter().rev().chain([&site(7)])), "order and repetition say nothing");
}

#[test]
fn names_go_back_in_time_and_there_is_no_entry_zero() {
    let name = names::audit_entry(AuditNumber(1));
    assert_eq!(name, "audit/18446744073709551614");
    assert_eq!(names::parse_audit_entry(&name), Some(AuditNumber(1)));
    assert!(names::audit_entry(AuditNumber(2)) < name);
    for bad in ["audit/18446744073709551615", "audit/1", "audit/", "audit/18446744073709551614/x"] {
        assert_eq!(names::parse_object_name(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = cbor::from_bytes::<AuditBody>("audit entry", &bytes);
        let _ = cbor::from_bytes::<AuditTarget>("target", &bytes);
    }
}
