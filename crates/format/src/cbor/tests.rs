//! The rules every body keeps.

use super::*;

#[derive(Debug, PartialEq, Eq)]
struct Sample {
    number: u64,
    text: Option<String>,
    bytes: [u8; 2],
}

wire_map!(Sample { 0: number, 1: text, 3: bytes });
wire_lists!(Sample);

fn decode(bytes: &[u8]) -> Result<Sample> {
    from_bytes("sample", bytes)
}

#[test]
fn a_structure_is_a_map_in_ascending_order_without_what_is_absent() {
    let check = |sample: Sample, want: &[u8]| {
        assert_eq!(to_bytes(&sample), want);
        assert_eq!(decode(want), Ok(sample));
    };
    check(Sample { number: 24, text: None, bytes: [1, 2] }, &[0xa2, 0, 0x18, 24, 3, 0x42, 1, 2]);
    check(Sample { number: 1, text: Some("a".into()), bytes: [1, 2] }, &[0xa3, 0, 1, 1, 0x61, b'a', 3, 0x42, 1, 2]);
}

#[test]
fn keys_of_a_later_version_are_skipped() {
    let want = Ok(Sample { number: 1, text: None, bytes: [1, 2] });
    assert_eq!(decode(&[0xa3, 0, 1, 2, 0x82, 1, 2, 3, 0x42, 1, 2]), want);
    assert_eq!(decode(&[0xa3, 0, 1, 3, 0x42, 1, 2, 0x18, 99, 0xa1, 0, 0xf6]), want);
}

#[test]
fn what_breaks_a_rule_is_damage() {
    for (why, bytes) in [
        ("empty", &[][..]),
        ("a key is missing", &[0xa1, 0, 1]),
        ("a key comes twice", &[0xa3, 0, 1, 0, 1, 3, 0x42, 1, 2]),
        ("keys descend", &[0xa2, 3, 0x42, 1, 2, 0, 1]),
        ("an indefinite map", &[0xbf, 0, 1, 3, 0x42, 1, 2, 0xff]),
        ("bytes follow", &[0xa2, 0, 1, 3, 0x42, 1, 2, 0]),
        ("bytes of another length", &[0xa2, 0, 1, 3, 0x43, 1, 2, 3]),
        ("another type", &[0xa2, 0, 0x61, b'a', 3, 0x42, 1, 2]),
        ("negative", &[0xa2, 0, 0x20, 3, 0x42, 1, 2]),
        ("text that is no UTF-8", &[0xa3, 0, 1, 1, 0x61, 0xff, 3, 0x42, 1, 2]),
        ("a map of 2^64-1 keys", &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255, 0, 1]),
        ("a string of 2^64-1 bytes", &[0xa2, 0, 1, 3, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("an unknown key with 2^64-1 items", &[0xa3, 0, 1, 2, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255]),
    ] {
        assert!(matches!(decode(bytes), Err(Error::Damaged { what: "sample", .. })), "{why}");
    }
}

#[test]
fn a_list_that_promises_much_and_holds_little_allocates_little() {
    let bytes = [0x9b, 0, 0, 0, 255, 255, 255, 255, 255];
    assert!(from_bytes::<Vec<Sample>>("list", &bytes).is_err());
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    // An unknown key whose value is a million arrays, one in the other.
    let mut bytes = vec![0xa3, 0, 1, 2];
    bytes.resize(1_000_004, 0x81);
    bytes.extend_from_slice(&[0, 3, 0x42, 1, 2]);
    assert_eq!(decode(&bytes), Ok(Sample { number: 1, text: None, bytes: [1, 2] }));
}
