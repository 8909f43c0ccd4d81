//! What a footer says of its shared block.

use lifeboat_model::TransactionId;

use super::*;
use crate::cbor::{self, In, Out, Wire, WireResult, emit};
use crate::{RepositoryKeys, SecretKey, sample};

fn keys() -> RepositoryKeys {
    RepositoryKeys::new(&SecretKey::from_bytes([1; 32]), ObjectId([2; 16])).unwrap()
}

fn name() -> SegmentName {
    SegmentName { source: sample::log_source(), epoch: EpochId(1), number: SegmentNumber(1) }
}

/// Of the transactions of the sample's shared block.
fn span() -> SegmentSpan {
    let heads = sample::shared().transactions.into_iter().map(|facts| facts.head);
    let bounds = heads.fold(None, |bounds: Option<SpanBounds>, head| {
        Some(bounds.map_or_else(|| SpanBounds::of(&head), |bounds| bounds.with(&head)))
    });
    let SpanBounds { first_commit, last_commit, .. } = bounds.unwrap();
    SegmentSpan { from: Lsn(first_commit.0 - 1), complete_till: last_commit, bounds, highest: None }
}

fn written(span: SegmentSpan, says: bool) -> Vec<u8> {
    let (keys, id) = (keys(), ObjectId([7; 16]));
    let head = SegmentHead { name: name(), id, previous: id, span, sealed_at: sample::NOON, followed_by: None };
    let mut writer = SegmentWriter::new(keys.object_keys(), head);
    match says {
        true => writer.push_shared_with_kinds(ObjectId([8; 16]), &sample::shared()).unwrap(),
        false => writer.push_shared(ObjectId([8; 16]), &sample::shared()).unwrap(),
    }
    writer.finish().unwrap().0
}

fn tail_of(bytes: &[u8]) -> (SegmentTail, &[u8]) {
    let tail = SegmentTail::parse(bytes, bytes.len() as u64).unwrap();
    (tail, &bytes[tail.footer_offset as usize..bytes.len() - SegmentTail::LEN])
}

fn footer_of(bytes: &[u8]) -> SegmentFooter {
    let (tail, footer) = tail_of(bytes);
    decode_footer(keys().object_keys(), &name(), &tail, footer).unwrap()
}

/// A footer as a later version may write it: a key more.
struct Later(FooterBody);

impl Wire for Later {
    fn put(&self, out: &mut Out<'_>) {
        let plain = cbor::to_bytes(&self.0);
        // A map of up to 23 keys has its length in its first byte.
        emit(out.map(u64::from(plain[0] & 0x1f) + 1));
        out.writer_mut().extend_from_slice(&plain[1..]);
        emit(out.u32(999));
        emit(out.str("what nobody knows yet"));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Wire::take(input).map(Self)
    }
}

#[test]
fn a_footer_says_what_its_shared_block_tells_where_its_bounds_are_of_that_blocks_transactions() {
    let told = SharedKinds::of(&sample::shared());
    assert_ne!(told, SharedKinds(0));
    assert_eq!(footer_of(&written(span(), true)).shared_kinds, Some(told));
    assert_eq!(footer_of(&written(span(), false)).shared_kinds, None, "segments from before say nothing");
    let bounds = span().bounds.map(|bounds| SpanBounds { highest: TransactionId(u64::MAX), ..bounds });
    assert_eq!(footer_of(&written(SegmentSpan { bounds, ..span() }, true)).shared_kinds, None);
}

#[test]
fn keys_that_only_a_later_version_knows_are_skipped_in_a_footer() {
    let (keys, bytes) = (keys(), written(span(), true));
    let (tail, footer) = tail_of(&bytes);
    let (id, body): (_, FooterBody) = decode_body(keys.object_keys(), ObjectKind::Footer, footer).unwrap();
    let later = encode_body(keys.object_keys(), ObjectKind::Footer, id, &Later(body)).unwrap();
    assert_ne!(later.len(), footer.len());
    let tail = SegmentTail { footer_len: later.len() as u32, ..tail };
    assert_eq!(decode_footer(keys.object_keys(), &name(), &tail, &later).unwrap(), footer_of(&bytes));
}

#[test]
fn what_a_shared_block_may_tell_is_known_by_its_kinds() {
    let footer = |kinds: Option<u64>| {
        let bytes = written(span(), true);
        SegmentFooter { shared_kinds: kinds.map(SharedKinds), ..footer_of(&bytes) }
    };
    let check = |kinds: Option<u64>, asked: SharedKinds, want: bool| {
        assert_eq!(footer(kinds).may_tell(asked), want, "{kinds:?}, {asked:?}");
    };
    check(None, SharedKinds::TRUNCATIONS, true);
    check(Some(0), SharedKinds::TRUNCATIONS, false);
    check(Some(1), SharedKinds::TRUNCATIONS, true);
    check(Some(8), SharedKinds::OWN_NOTES, false);
    check(Some(8), SharedKinds::NOTES, true);
    check(Some(2), SharedKinds::NOTES, false);
    // A kind that only a later version knows.
    check(Some(16), SharedKinds::NOTES, true);
    let none = SegmentFooter { shared: None, ..footer(None) };
    assert!(!none.may_tell(SharedKinds::NOTES), "there is no such block");
}
