//! `lifeboat.json`, right, newer, and damaged.

use lifeboat_model::{Fault, Faulty};

use super::*;

fn config() -> RepositoryConfig {
    let mut config = RepositoryConfig::new(ObjectId([0xab; 16]), Timestamp(1_700_000_000_123_456));
    config.capabilities.insert("conditional_create".to_owned(), true);
    config.capabilities.insert("ordered_list".to_owned(), false);
    config
}

/// The file with `from` replaced and its hash made right again.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(config().encode().unwrap()).unwrap();
    let (body, _) = text.rsplit_once(HASH_KEY).unwrap();
    assert!(body.contains(from), "{body}");
    let body = body.replacen(from, to, 1);
    format!("{body}{HASH_KEY}{}{HASH_END}", HEXLOWER.encode(&Sha256::digest(&body))).into_bytes()
}

#[test]
fn the_config_is_read_back_and_is_plain_json() {
    let bytes = config().encode().unwrap();
    assert_eq!(RepositoryConfig::decode(&bytes), Ok(config()));
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["repository"], "ab".repeat(16));
    assert_eq!(json["created"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(json["version"], 1);
    assert_eq!(json["features"]["read"], serde_json::json!([]));
    assert_eq!(json["capabilities"]["conditional_create"], true);
    assert_eq!(json["sha256"].as_str().map(str::len), Some(64));
    assert!(config().check_writable().is_ok());
}

#[test]
fn any_changed_byte_is_damage_and_not_another_version() {
    let good = config().encode().unwrap();
    for at in 0..good.len() {
        for mask in [1, 0x20, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            let error = RepositoryConfig::decode(&bytes).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
        }
    }
    for len in 0..good.len() {
        assert!(RepositoryConfig::decode(&good[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_newer_version_says_which_and_to_upgrade() {
    let error = RepositoryConfig::decode(&edited("\"version\": 1", "\"version\": 7")).unwrap_err();
    assert_eq!(error, Error::NewerVersion { what: "the repository", found: 7, supported: 1 });
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.hint().unwrap().contains("format 7"));
    // Even when everything else has changed.
    let other = "{\n  \"version\": 9,\n";
    let text = format!("{other}{HASH_KEY}{}{HASH_END}", HEXLOWER.encode(&Sha256::digest(other)));
    let error = RepositoryConfig::decode(text.as_bytes()).unwrap_err();
    assert!(matches!(error, Error::NewerVersion { found: 9, .. }), "{error}");
    // One from before the first release is not told to upgrade.
    let error = RepositoryConfig::decode(&edited("\"version\": 1", "\"version\": 0")).unwrap_err();
    assert!(error.hint().unwrap().contains("format 0 is from before"), "{:?}", error.hint());
}

#[test]
fn an_unknown_read_feature_stops_readers_and_a_write_feature_only_writers() {
    let error = RepositoryConfig::decode(&edited("\"read\": []", "\"read\": [\"log\"]")).unwrap_err();
    assert_eq!(error, Error::UnknownFeature { feature: "log".to_owned(), writing: false });
    assert_eq!(error.fault(), Fault::Operator);
    let config = RepositoryConfig::decode(&edited("\"write\": []", "\"write\": [\"locks\"]")).unwrap();
    let error = config.check_writable().unwrap_err();
    assert_eq!(error, Error::UnknownFeature { feature: "locks".to_owned(), writing: true });
    let error = RepositoryConfig::decode(&edited("aes-256-gcm", "aes-257-gcm")).unwrap_err();
    assert!(matches!(error, Error::UnknownFeature { .. }), "{error}");
}

#[test]
fn a_later_member_is_ignored_and_a_missing_one_is_damage() {
    assert_eq!(RepositoryConfig::decode(&edited("\"version\"", "\"note\": \"hi\",\n  \"version\"")), Ok(config()));
    for (from, to) in
        [("\"repository\":", "\"repositorx\":"), ("abab", "ABAB"), ("2023-", "2023/"), ("lifeboat rep", "Lifeboat rep")]
    {
        let error = RepositoryConfig::decode(&edited(from, to)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{from}: {error}");
    }
}
