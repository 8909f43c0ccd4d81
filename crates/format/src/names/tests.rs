//! Names, there and back.

use lifeboat_model::SegmentNumber;

use super::*;

const SITE: SiteHandle = SiteHandle([0xab, 0xcd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
const ID: ObjectId = ObjectId([0x10; 16]);
const KEY: KeyId = KeyId([1, 2, 3, 4, 5, 6, 7, 8]);

#[test]
fn every_name_is_read_back_as_what_it_was_made_from() {
    let check = |name: String, text: &str, want: ParsedName| {
        assert_eq!(name, text);
        assert_eq!(parse_object_name(&name), Some(want), "{name}");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"./_-".contains(&b);
        assert!(name.bytes().all(plain), "{name}");
    };
    let (handle, id) = ("abcd0001020304050607 08090a0b0c0d".replace(' ', ""), "10".repeat(16));
    check(CONFIG.to_owned(), "lifeboat.json", ParsedName::Config);
    check(SIGNING_KEY.to_owned(), "keys/repository/signing", ParsedName::SigningKey);
    check(root_key(&KEY), "keys/repository/0102030405060708", ParsedName::RootKey(KEY));
    check(recovery_verified(&KEY), "keys/repository/0102030405060708.verified", ParsedName::RecoveryVerified(KEY));
    check(site_key(&SITE, KeyNumber(7)), &format!("keys/{handle}/0000000007"), ParsedName::SiteKey(SITE, KeyNumber(7)));
    check(
        site_key_copy(&SITE, KeyNumber(u32::MAX)),
        &format!("sites/ab/{handle}/key/4294967295"),
        ParsedName::SiteKeyCopy(SITE, KeyNumber(u32::MAX)),
    );
    check(
        commit(&SITE, Generation(1)),
        &format!("sites/ab/{handle}/commit/18446744073709551614"),
        ParsedName::Commit(SITE, Generation(1)),
    );
    for (made, folder, kind) in [
        (manifest(&SITE, &ID), "manifest", ObjectKind::Manifest),
        (index(&SITE, &ID), "index", ObjectKind::Index),
        (pack(&SITE, &ID), "pack", ObjectKind::Pack),
    ] {
        check(made, &format!("sites/ab/{handle}/{folder}/{id}"), ParsedName::Object(SITE, kind, ID));
    }
    check(run(RunNumber(u64::MAX)), "runs/00000000000000000000", ParsedName::Run(RunNumber(u64::MAX)));
    check(probe(&ID), &format!("probe/{id}"), ParsedName::Probe(ID));
}

#[test]
fn every_name_of_a_change_log_is_read_back_and_the_newest_is_first() {
    let source = SourceName::new("app-1").unwrap();
    let name = |number| SegmentName { source: source.clone(), epoch: EpochId(2), number: SegmentNumber(number) };
    let check = |made: String, text: &str, want: ParsedName| {
        assert_eq!(made, text);
        assert_eq!(parse_object_name(&made), Some(want), "{made}");
    };
    let long = long_segment(&source, EpochId(2), &ID);
    check(epoch(&source, EpochId(2)), "log/app-1/4294967293/epoch", ParsedName::Epoch(source.clone(), EpochId(2)));
    check(segment(&name(1)), "log/app-1/4294967293/seg/18446744073709551614", ParsedName::Segment(name(1)));
    check(
        log_commit(&source, EpochId(2), LogCommitNumber(7)),
        "log/app-1/4294967293/commit/18446744073709551608",
        ParsedName::LogCommit(source.clone(), EpochId(2), LogCommitNumber(7)),
    );
    check(
        long.clone(),
        &format!("log/app-1/4294967293/long/{ID}"),
        ParsedName::LongSegment(source.clone(), EpochId(2), ID),
    );
    assert!(epoch(&source, EpochId(10)) < epoch(&source, EpochId(9)));
    assert!(segment(&name(10)) < segment(&name(9)));
    for bad in [
        "log/",
        "log/app-1/4294967293",
        "log/app-1/4294967296/epoch",
        "log/App/4294967293/epoch",
        "log/app-1/4294967293/epoch/1",
        "log/app-1/4294967293/seg",
        "log/app-1/4294967293/seg/1",
        "log/app-1/4294967293/seg/18446744073709551616",
        "log/app-1/4294967293/long/1",
        "log/app-1/1/epoch",
    ] {
        assert_eq!(parse_object_name(bad), None, "{bad}");
    }
}

#[test]
fn the_newest_commit_and_run_come_first_in_a_listing() {
    assert!(commit(&SITE, Generation(10)) < commit(&SITE, Generation(9)));
    assert!(run(RunNumber(1_000)) < run(RunNumber(999)));
    assert_eq!(parse_commit(&commit(&SITE, Generation(42))), Some((SITE, Generation(42))));
    assert_eq!(parse_run(&run(RunNumber(42))), Some(RunNumber(42)));
    assert_eq!(parse_key_number(&site_key_copy(&SITE, KeyNumber(3))), Some((SITE, KeyNumber(3))));
}

#[test]
fn a_name_that_is_not_ours_is_refused() {
    let handle = SITE.to_string();
    for name in [
        "",
        "lifeboat.json/",
        "keys/repository/",
        "keys/repository/signing2",
        "keys/repository/0102030405060708.verified.verified",
        "runs/18446744073709551616",
        "runs/+1234567890123456789",
        "runs/1",
        "probe/xx",
        &format!("keys/{handle}/7"),
        &format!("keys/{handle}/9999999999"),
        &format!("keys/{}/0000000007", handle.to_uppercase()),
        &format!("sites/ac/{handle}/commit/18446744073709551614"),
        &format!("sites/abcd/{handle}/commit/18446744073709551614"),
        &format!("sites/ab/{handle}/commit/18446744073709551614/x"),
        &format!("sites/ab/{handle}/other/{ID}"),
        &format!("sites/ab/{handle}/pack/{ID}0"),
    ] {
        assert_eq!(parse_object_name(name), None, "{name}");
    }
}

#[test]
fn every_name_of_a_site_begins_with_its_prefix() {
    let prefix = site_prefix(&SITE);
    for name in [commit(&SITE, Generation(1)), pack(&SITE, &ID), site_key_copy(&SITE, KeyNumber(1))] {
        assert!(name.starts_with(&prefix), "{name}");
    }
    assert!(site_key(&SITE, KeyNumber(1)).starts_with(&site_keys_prefix(&SITE)));
    assert!(!site_key(&SITE, KeyNumber(1)).starts_with(SITES_PREFIX));
}
