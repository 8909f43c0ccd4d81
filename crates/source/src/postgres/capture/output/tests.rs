//! Messages as a server writes them, whole, cut short and made up.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn text(value: &str) -> ChangedValue {
    ChangedValue::Text(value.as_bytes().to_vec())
}

/// One message of each kind, byte by byte.
fn messages() -> Vec<(Vec<u8>, Output)> {
    let key = || vec![text("7"), ChangedValue::Null];
    let row = || vec![text("8"), ChangedValue::Unchanged];
    let column =
        |name: &str, is_identity| RelationColumn { name: name.into(), is_identity, type_oid: 25, type_modifier: -1 };
    let relation = Relation {
        oid: 9,
        schema: "pg_catalog".into(),
        name: "t".into(),
        identity: b'd',
        columns: vec![column("id", true), column("é", false)],
    };
    let message = Output::Message { is_transactional: true, at: Lsn(5), prefix: "a".into(), content: b"\0xy".to_vec() };
    vec![
        (
            b"B\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x03".to_vec(),
            Output::Begin {
                commit: Lsn(0x1_0000_0002),
                committed_at: Timestamp(EPOCH_2000_MICROS + 1),
                transaction: 3,
            },
        ),
        (b"C\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03".to_vec(), Output::Commit { end: Lsn(2) }),
        (b"O\0\0\0\0\0\0\0\x01there\0".to_vec(), Output::Origin),
        (
            b"R\0\0\0\x09\0t\0d\0\x02\x01id\0\0\0\0\x19\xFF\xFF\xFF\xFF\0\xC3\xA9\0\0\0\0\x19\xFF\xFF\xFF\xFF".to_vec(),
            Output::Relation(relation),
        ),
        (b"Y\0\0\0\x09app\0mood\0".to_vec(), Output::Type { oid: 9, schema: "app".into(), name: "mood".into() }),
        (b"I\0\0\0\x09N\0\x02t\0\0\0\x018u".to_vec(), Output::Insert { relation: 9, row: row() }),
        (b"U\0\0\0\x09N\0\x02t\0\0\0\x018u".to_vec(), Output::Update { relation: 9, old: None, row: row() }),
        (
            b"U\0\0\0\x09K\0\x02t\0\0\0\x017nN\0\x02t\0\0\0\x018u".to_vec(),
            Output::Update { relation: 9, old: Some(OldRow::Key(key())), row: row() },
        ),
        (
            b"U\0\0\0\x09O\0\x02t\0\0\0\x017nN\0\x02t\0\0\0\x018u".to_vec(),
            Output::Update { relation: 9, old: Some(OldRow::Whole(key())), row: row() },
        ),
        (b"D\0\0\0\x09K\0\x02t\0\0\0\x017n".to_vec(), Output::Delete { relation: 9, old: OldRow::Key(key()) }),
        (b"D\0\0\0\x09O\0\x02t\0\0\0\x017n".to_vec(), Output::Delete { relation: 9, old: OldRow::Whole(key()) }),
        (
            b"T\0\0\0\x02\x03\0\0\0\x09\0\0\0\x0A".to_vec(),
            Output::Truncate { relations: vec![9, 10], is_cascade: true, restarts_sequences: true },
        ),
        (b"M\x01\0\0\0\0\0\0\0\x05a\0\0\0\0\x03\0xy".to_vec(), message),
    ]
}

#[test]
fn each_kind_of_message_is_read() {
    for (bytes, want) in messages() {
        assert_eq!(decode(&bytes), Ok(want));
    }
}

#[test]
fn a_message_that_is_cut_short_or_goes_on_is_an_error() {
    for (bytes, want) in messages() {
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes of {want:?}");
        }
        assert_eq!(decode(&[&bytes[..], b"\0"].concat()), Err(BadOutput::Long), "{want:?}");
    }
}

#[test]
fn lengths_that_cannot_be_are_errors_and_reserve_nothing() {
    let check = |bytes: &[u8], want| assert_eq!(decode(bytes), Err(want), "{bytes:?}");
    check(b"I\0\0\0\x09N\0\x01t\xFF\xFF\xFF\xFF", BadOutput::Short);
    check(b"I\0\0\0\x09N\0\x01t\x7F\xFF\xFF\xFF1", BadOutput::Short);
    check(b"I\0\0\0\x09N\xFF\xFFn", BadOutput::Short);
    check(b"T\x7F\xFF\xFF\xFF\0\0\0\0\x09", BadOutput::Short);
    check(b"T\xFF\xFF\xFF\xFF\0", BadOutput::Short);
    check(b"I\0\0\0\x09N\0\x01b\0\0\0\x011", BadOutput::Unknown(b'b'));
    check(b"Y\0\0\0\x09\xFF\0m\0", BadOutput::Name);
    check(b"", BadOutput::Short);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_message_with_a_few_bytes_changed_makes_it_panic(
        which in 0..13_usize, changes in vec((any::<u16>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = messages().swap_remove(which).0;
        for (place, byte) in changes {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        let _ = decode(&bytes);
    }
}
