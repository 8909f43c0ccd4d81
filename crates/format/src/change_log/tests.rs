//! Blocks and segments, there and back, and what is refused.

use std::sync::Arc;

use lifeboat_model::{
    BlockRef, ChangedTable, ChangedValue, EpochId, KeyNumber, Lsn, ObjectId, ObjectPlace, RowChange, SegmentFooter,
    SegmentNumber, SegmentSpan, SourceName, SpanBounds, TransactionHead, TransactionId,
};

use super::*;
use crate::{
    Compressor, Decompressor, Error, FrameKind, HEADER_LEN, ObjectKind, ObjectOpener, ObjectWriter, RepositoryKeys,
    Result, SecretKey, SiteKeys, TRAILER_LEN, sample,
};

fn keys() -> (RepositoryKeys, SiteKeys) {
    let keys = RepositoryKeys::new(&SecretKey::from_bytes([1; 32]), ObjectId([2; 16])).unwrap();
    let sealed = keys.seal_site_key(keys.site_handle(&sample::site()), KeyNumber(1), &SecretKey::from_bytes([3; 32]));
    let site = keys.open_site_key(keys.site_handle(&sample::site()), KeyNumber(1), &sealed.unwrap()).unwrap();
    (keys, site)
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

fn head(commit: u64) -> TransactionHead {
    TransactionHead { id: TransactionId(commit), commit: Lsn(commit), committed_at: sample::NOON }
}

fn insert(id: u64, body: Vec<u8>) -> RowChange {
    let text = |text: &str| ChangedValue::Text(text.as_bytes().to_vec());
    RowChange::Insert { row: vec![text(&id.to_string()), text("title"), ChangedValue::Text(body)] }
}

fn block_ref(block: &SealedBlock) -> BlockRef {
    let place = ObjectPlace { id: block.id, offset: 0, len: block.bytes.len() as u64 };
    BlockRef { site: sample::site(), place, counts: block.counts, first: block.first, last: block.last }
}

fn sealed(writer: BlockWriter) -> SealedBlock {
    writer.seal(&keys().1, ObjectId([7; 16]), &mut Compressor::new().unwrap()).unwrap().unwrap()
}

fn frames(block: &SealedBlock) -> Result<Vec<Vec<TransactionChanges>>> {
    let (reference, mut bytes) = (block_ref(block), block.bytes.clone());
    let keys = keys().1;
    let mut reader = BlockReader::new(&keys, &reference, &mut bytes)?;
    std::iter::from_fn(|| reader.next_frame().transpose()).collect()
}

#[test]
fn a_large_transaction_goes_on_in_the_next_frame_and_each_frame_is_read_by_itself() {
    let mut writer = BlockWriter::new();
    let [table, _] = sample::tables();
    for sequence in 0..40 {
        writer.push(&head(5), sequence * 3, &table, &insert(sequence, vec![b'x'; 100_000])).unwrap();
    }
    writer.push(&head(6), 0, &table, &insert(0, Vec::new())).unwrap();
    assert!((4_000_000..4_100_000).contains(&writer.len()), "{}", writer.len());
    let frames = frames(&sealed(writer)).unwrap();
    assert_eq!(frames.len(), 4, "about 1 MiB each");
    assert!(frames[..3].iter().all(|frame| frame.len() == 1 && frame[0].head == head(5)));
    assert_eq!(frames[3].last().unwrap().head, head(6));
    let all: Vec<(Lsn, u64)> = frames
        .iter()
        .flatten()
        .flat_map(|transaction| transaction.changes.iter().map(|change| (transaction.head.commit, change.sequence)))
        .collect();
    let want: Vec<_> = (0..40).map(|n| (Lsn(5), n * 3)).chain([(Lsn(6), 0)]).collect();
    assert_eq!(all, want);
}

#[test]
fn a_row_larger_than_a_frame_has_one_of_its_own_and_one_beyond_the_limit_is_refused() {
    let mut writer = BlockWriter::new();
    let [table, _] = sample::tables();
    writer.push(&head(5), 0, &table, &insert(1, Vec::new())).unwrap();
    writer.push(&head(5), 1, &table, &insert(2, vec![b'x'; 3 << 20])).unwrap();
    let too_large = writer.push(&head(5), 2, &table, &insert(3, vec![b'x'; 64 << 20]));
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    writer.push(&head(5), 2, &table, &insert(4, Vec::new())).unwrap();
    assert_eq!(frames(&sealed(writer)).unwrap().len(), 3);
}

// Explains invariant: changes-in-order
#[test]
fn changes_out_of_order_or_of_other_columns_are_refused_by_the_writer() {
    let [issues, audit] = sample::tables();
    let check = |pushed: &[(u64, u64, &Arc<ChangedTable>, RowChange)], is_fine: bool| {
        let mut writer = BlockWriter::new();
        let results: Vec<_> = pushed
            .iter()
            .map(|(commit, sequence, table, change)| writer.push(&head(*commit), *sequence, table, change))
            .collect();
        assert!(results[..results.len() - 1].iter().all(Result::is_ok), "{results:?}");
        assert_eq!(results.last().unwrap().is_ok(), is_fine, "{pushed:?}");
        // What was refused left nothing behind.
        assert_eq!(writer.counts().changes(), results.iter().filter(|result| result.is_ok()).count() as u64);
    };
    let value = || sample::value("1");
    let row = || insert(1, Vec::new());
    check(&[(5, 1, &issues, row()), (5, 2, &issues, row())], true);
    check(&[(5, 1, &issues, row()), (6, 0, &issues, row())], true);
    check(&[(5, 1, &issues, row()), (5, 1, &issues, row())], false);
    check(&[(5, 1, &issues, row()), (5, 0, &issues, row())], false);
    check(&[(5, 1, &issues, row()), (4, 2, &issues, row())], false);
    check(&[(5, 0, &audit, row())], false);
    check(&[(5, 0, &issues, RowChange::Delete { key: vec![value()] })], true);
    check(&[(5, 0, &audit, RowChange::Delete { key: vec![value()] })], false);
    check(&[(5, 0, &audit, RowChange::Delete { key: vec![value(), value()] })], true);
    let update = |key_before| RowChange::Update { row: vec![value(), value(), value()], key_before };
    check(&[(5, 0, &issues, update(None))], true);
    check(&[(5, 0, &issues, update(Some(vec![value(), value()])))], false);
    for key in [vec![3], vec![0, 0], vec![usize::MAX]] {
        let bad = Arc::new(ChangedTable { key, ..(*issues).clone() });
        check(&[(5, 0, &bad, row())], false);
    }
}

fn segment(number: u64, blocks: &[SealedBlock]) -> (Vec<u8>, SegmentFooter) {
    let bounds = Some(SpanBounds::of(&head(5)).with(&head(6)));
    let head = SegmentHead {
        name: name(number),
        id: ObjectId([number as u8; 16]),
        previous: ObjectId([0; 16]),
        span: SegmentSpan { from: Lsn(4), complete_till: Lsn(6), bounds, highest: None },
        sealed_at: sample::NOON,
        followed_by: None,
    };
    let mut writer = SegmentWriter::new(keys().0.object_keys(), head);
    for block in blocks {
        writer.push_block(&sample::site(), block.clone()).unwrap();
    }
    writer.finish().unwrap()
}

fn name(number: u64) -> SegmentName {
    SegmentName { source: sample::log_source(), epoch: EpochId(1), number: SegmentNumber(number) }
}

fn footer_of(name: &SegmentName, bytes: &[u8]) -> Result<SegmentFooter> {
    let tail = SegmentTail::parse(bytes, bytes.len() as u64)?;
    let footer = &bytes[tail.footer_offset as usize..bytes.len() - SegmentTail::LEN];
    decode_footer(keys().0.object_keys(), name, &tail, footer)
}

fn block(id: u8, row: u64) -> SealedBlock {
    let mut writer = BlockWriter::new();
    writer.push(&head(5), 0, &sample::tables()[0], &insert(row, Vec::new())).unwrap();
    writer.seal(&keys().1, ObjectId([id; 16]), &mut Compressor::new().unwrap()).unwrap().unwrap()
}

// Explains invariant: segment-in-its-place
#[test]
fn a_segment_under_another_name_and_a_block_of_another_segment_are_damage() {
    let (mut first, footer) = segment(1, &[block(0x11, 1)]);
    let (second, _) = segment(2, &[block(0x22, 2)]);
    assert_eq!(footer_of(&name(1), &first).unwrap(), footer);
    assert!(footer_of(&name(2), &first).is_err());
    for other in [SegmentName { epoch: EpochId(2), ..name(1) }, SegmentName { source: source("b"), ..name(1) }] {
        assert!(footer_of(&other, &first).is_err(), "{other}");
    }
    // The two blocks are of one site, one kind and one length, and both seals are whole.
    let len = footer.blocks[0].place.len as usize;
    first[..len].copy_from_slice(&second[..len]);
    assert_eq!(footer_of(&name(1), &first).unwrap(), footer);
    let keys = keys().1;
    assert!(BlockReader::new(&keys, &footer.blocks[0], &mut first[..len]).is_err());
}

#[test]
fn a_block_that_holds_less_than_its_footer_says_is_damage() {
    let whole = block(0x11, 1);
    let check = |change: fn(&mut BlockRef)| {
        let mut reference = block_ref(&whole);
        change(&mut reference);
        let (keys, mut bytes) = (keys().1, whole.bytes.clone());
        let read = BlockReader::new(&keys, &reference, &mut bytes)
            .and_then(|mut reader| std::iter::from_fn(|| reader.next_frame().transpose()).collect::<Result<Vec<_>>>());
        read.map(|frames| frames.len())
    };
    assert_eq!(check(|_| ()).unwrap(), 1);
    assert!(check(|reference| reference.counts.inserts += 1).is_err());
    assert!(check(|reference| reference.first.sequence += 1).is_err());
    assert!(check(|reference| reference.last.commit.0 += 1).is_err());
    assert!(check(|reference| reference.place.len += 1).is_err());
    assert!(check(|reference| reference.place.id.0[0] ^= 1).is_err());
}

#[test]
fn a_segment_no_reader_would_accept_is_not_written() {
    let (keys, _) = keys();
    let whole = |change: fn(&mut SegmentHead)| {
        let bounds = Some(SpanBounds::of(&head(5)));
        let span = SegmentSpan { from: Lsn(4), complete_till: Lsn(6), bounds, highest: None };
        let id = ObjectId([1; 16]);
        let mut head =
            SegmentHead { name: name(1), id, previous: id, span, sealed_at: sample::NOON, followed_by: None };
        change(&mut head);
        let mut writer = SegmentWriter::new(keys.object_keys(), head);
        writer.push_block(&sample::site(), block(0x11, 1))?;
        writer.finish().map(|_| ())
    };
    assert!(whole(|_| ()).is_ok());
    assert!(whole(|head| head.span.from = Lsn(5)).is_err(), "a transaction that was complete before");
    assert!(whole(|head| head.span.complete_till = Lsn(3)).is_err(), "backwards");
    assert!(whole(|head| head.span.bounds = None).is_err(), "a block in a segment without transactions");
    assert!(whole(|head| head.span.bounds.as_mut().unwrap().last_commit = Lsn(4)).is_err(), "no such bounds");
    let head = segment(1, &[]).1;
    assert!(head.blocks.is_empty(), "a segment of nothing says that nothing was there");
}

#[test]
fn the_hash_of_a_key_is_of_its_source_table_and_values() {
    let (keys, _) = keys();
    let app = sample::log_source();
    let hash = keys.row_key_hash(&app, "issues", &[sample::value("5")]);
    assert_eq!(hash, keys.row_key_hash(&app, "issues", &[sample::value("5")]));
    assert_ne!(hash, keys.row_key_hash(&source("b"), "issues", &[sample::value("5")]));
    assert_ne!(hash, keys.row_key_hash(&app, "issue", &[sample::value("5")]));
    assert_ne!(hash, keys.row_key_hash(&app, "issues", &[sample::value("5"), sample::value("")]));
    let other = RepositoryKeys::new(&SecretKey::from_bytes([9; 32]), ObjectId([2; 16])).unwrap();
    assert_ne!(hash, other.row_key_hash(&app, "issues", &[sample::value("5")]));
}

/// What the one frame of a block holds.
fn plain_of(block: &SealedBlock) -> Vec<u8> {
    let (mut bytes, mut plain) = (block.bytes.clone(), Vec::new());
    let opener = ObjectOpener::from_header(&keys().1, &bytes, ObjectKind::Block, block.id).unwrap();
    let end = bytes.len() - TRAILER_LEN;
    let opened = opener.open_frame(FrameKind::Changes, HEADER_LEN as u64, &mut bytes[HEADER_LEN..end]).unwrap();
    opened.plain_into(&mut Decompressor::new().unwrap(), &mut plain).unwrap();
    plain
}

/// The changes in a block whose one frame holds `plain`, whatever that is.
fn read_plain(plain: &[u8], counted: &SealedBlock) -> Result<usize> {
    let (keys, id) = (keys().1, counted.id);
    let mut object = ObjectWriter::new(&keys, ObjectKind::Block, id)?;
    object.push_frame(FrameKind::Changes, plain, None)?;
    let (bytes, _) = object.finish()?;
    let block = SealedBlock { bytes, ..counted.clone() };
    Ok(frames(&block)?.iter().flatten().map(|one| one.changes.len()).sum())
}

#[test]
fn a_frame_of_changes_of_any_bytes_is_read_or_refused() {
    let [issues, audit] = sample::tables();
    let mut writer = BlockWriter::new();
    let row = vec![sample::value("1"), ChangedValue::Null, ChangedValue::Unchanged];
    writer.push(&head(5), 3, &issues, &RowChange::Update { row, key_before: Some(vec![sample::value("2")]) }).unwrap();
    writer.push(&head(5), 9, &audit, &RowChange::Delete { key: vec![sample::value("a"); 2] }).unwrap();
    writer.push(&head(6), 0, &issues, &insert(1, vec![b'x'; 3])).unwrap();
    let whole = sealed(writer);
    let mut open = plain_of(&whole);
    assert_eq!(read_plain(&open, &whole), Ok(3));
    for at in 0..open.len() {
        assert!(read_plain(&open[..at], &whole).is_err(), "cut off at {at}");
        let kept = open[at];
        for value in [0, 1, 0x7f, 0x80, 0x9b, 0x9f, 0xbf, 0xf7, 0xff, kept.wrapping_add(1)] {
            open[at] = value;
            let _ = read_plain(&open, &whole);
        }
        open[at] = kept;
    }
    // Lengths that nothing pays for: arrays of 2^64 - 1 tables, transactions, changes.
    let huge = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for before in [&[][..], &[0x82], &[0x82, 0x80], &[0x82, 0x80, 0x81, 0x82, 0x83, 5, 5, 0]] {
        assert!(read_plain(&[before, &huge].concat(), &whole).is_err(), "{before:?}");
    }
}
