//! Keys as text.

use super::*;

fn key() -> SecretKey {
    let mut bytes = [0; KEY_LEN];
    bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8 * 7 + 3);
    SecretKey::from_bytes(bytes)
}

#[test]
fn a_key_is_read_back_from_both_its_texts() {
    let base64 = SecretKey::parse_base64(&format!(" {}\n", key().to_base64().as_str())).unwrap();
    let typed = SecretKey::parse_recovery_text(&key().to_recovery_text()).unwrap();
    assert_eq!(base64.as_bytes(), key().as_bytes());
    assert_eq!(typed.as_bytes(), key().as_bytes());
    assert_eq!(typed.id(), key().id());
}

#[test]
fn a_recovery_key_is_read_as_people_type_it() {
    let text = key().to_recovery_text();
    assert_eq!(text.len(), 14 * 4 + 13);
    for typed in [
        text.to_lowercase(),
        text.replace('-', " "),
        text.replace('-', ""),
        text.replace('0', "O").replace('1', "l"),
        format!("\n {}\n", text.as_str()),
    ] {
        assert_eq!(SecretKey::parse_recovery_text(&typed).map(|key| key.id()), Ok(key().id()), "{typed}");
    }
}

#[test]
fn any_one_wrong_character_of_a_recovery_key_is_told() {
    let text = key().to_recovery_text();
    for (at, was) in text.char_indices().filter(|(_, c)| *c != '-') {
        for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().filter(|c| *c != was) {
            let mut typed = text.to_string();
            typed.replace_range(at..at + 1, &other.to_string());
            assert!(SecretKey::parse_recovery_text(&typed).is_err(), "{at} {other}");
        }
    }
}

#[test]
fn text_that_is_no_key_is_refused_and_never_quoted() {
    for bad in ["", "hunter2", "AAAA", "ÄÖÜ", "0000-0000", &"A".repeat(1000), &"U".repeat(56)] {
        for error in [SecretKey::parse_base64(bad).unwrap_err(), SecretKey::parse_recovery_text(bad).unwrap_err()] {
            assert!(matches!(error, Error::NotAKey { .. }), "{bad}: {error}");
            assert!(bad.is_empty() || !error.to_string().contains(bad), "{error}");
        }
    }
}

#[test]
fn a_secret_is_never_shown_by_debug() {
    assert_eq!(format!("{:?}", key()), "SecretKey(..)");
}

#[test]
fn generated_keys_differ() {
    assert_ne!(SecretKey::generate().unwrap().as_bytes(), SecretKey::generate().unwrap().as_bytes());
}

#[test]
fn a_key_id_is_read_back_from_its_text() {
    let id = key().id();
    assert_eq!(KeyId::parse(&id.to_string()), Some(id));
    for bad in ["", "01020304050607", "010203040506070G", "0102030405060708ff", "0102030405060A0b"] {
        assert_eq!(KeyId::parse(bad), None, "{bad}");
    }
}
