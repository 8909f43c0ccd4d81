//! Random logs, compacted at random: read through long segments they say what they said before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use lifeboat_model::{
    ChangeKind, ChangePlace, ChangedColumn, ChangedTable, ChangedValue, EpochFacts, EpochReason, Lsn, RowChange,
    RowKeyHash, SharedFacts, SourceKind, SourceName, TransactionHead, TransactionId,
};

use super::*;
use crate::tests::{new_repository, writer};
use crate::{Repository, SegmentDraft, Unrouted};

const SITES: [&str; 4] = ["acme", "beta", "gamma", "delta"];

struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn facts() -> EpochFacts {
    EpochFacts {
        source: SourceName::new("app").unwrap(),
        kind: SourceKind::Postgres,
        system_identifier: "1".into(),
        timeline: 1,
        slot: "slot".into(),
        database: "app".into(),
        begins: Lsn(10),
        snapshot: "1:1:".into(),
        begun_at: Timestamp(1),
        why: EpochReason::First,
        note: String::new(),
        sound_till: None,
        partly: Vec::new(),
    }
}

fn table(name: &str) -> Arc<ChangedTable> {
    let columns = ["id", "body"].map(|name| ChangedColumn { name: name.into(), type_name: "text".into() }).to_vec();
    Arc::new(ChangedTable { name: name.into(), columns, key: vec![0] })
}

/// Commit times do not ascend with the commits.
fn head(commit: u64) -> TransactionHead {
    let committed_at = Timestamp((commit * 10 + commit % 7 * 9) as i64);
    TransactionHead { id: TransactionId(commit + commit % 3), commit: Lsn(commit), committed_at }
}

/// One change of a transaction, of whatever kind.
fn push(seed: &mut Seed, draft: &mut SegmentDraft, place: (&TransactionHead, u64)) {
    let table = table(["issues", "comments", "odd \"name\""][seed.below(3) as usize]);
    let text =
        |seed: &mut Seed| ChangedValue::Text(seed.below(1_000).to_string().repeat(seed.below(40) as usize).into());
    let row =
        vec![text(seed), [ChangedValue::Null, ChangedValue::Unchanged, text(seed)][seed.below(3) as usize].clone()];
    let change = match seed.below(3) {
        0 => RowChange::Insert { row },
        1 => RowChange::Update { row, key_before: (seed.below(2) == 0).then(|| vec![text(seed)]) },
        _ => RowChange::Delete { key: vec![text(seed)] },
    };
    match seed.below(12) {
        0 => draft.truncate(place, &["issues", "comments"], true, false).unwrap(),
        1 => draft.note(ChangePlace { commit: place.0.commit, sequence: place.1 }, "n".into(), b"said".to_vec()),
        2 => draft.restructure(place, None, &table).unwrap(),
        3 => {
            let unrouted = Unrouted {
                table: &table,
                kind: ChangeKind::Delete,
                key: RowKeyHash([place.1 as u8; 16]),
                change: None,
            };
            draft.push_unrouted(place, unrouted).unwrap();
        }
        _ => {
            let site = SiteId::new(SITES[seed.below(SITES.len() as u64) as usize]).unwrap();
            draft.push(&site, place, &table, &change).unwrap();
        }
    }
}

/// A log of so many segments; transactions go on from one to the next.
async fn random_log(repository: &Repository, seed: &mut Seed, segments: u64) {
    let log = ChangeLog::open(repository, &SourceName::new("app").unwrap()).await.unwrap();
    let mut appender = log.begin_epoch(facts(), &writer()).await.unwrap();
    let (mut commit, mut sequence) = (100, 0);
    for _ in 0..segments {
        let mut draft = SegmentDraft::new();
        for _ in 0..seed.below(12) {
            let head = head(commit);
            push(seed, &mut draft, (&head, sequence));
            sequence += 1 + seed.below(3);
            if seed.below(3) == 0 {
                draft.note_transaction(&head).unwrap();
                (commit, sequence) = (commit + 1 + seed.below(5), 0);
            }
        }
        appender.append(draft, Lsn(commit - 1)).await.unwrap();
    }
}

/// All that these segments say: of each site its changes, and what belongs to none.
async fn told(log: &ChangeLog, segments: Vec<ListedSegment>) -> Vec<String> {
    let mut all = Vec::new();
    for site in SITES.map(|site| SiteId::new(site).unwrap()) {
        let read = log.read_site(&site, segments.clone(), |head, change| {
            all.push(format!("{site} {head:?} {change:?}"));
            Ok::<(), String>(())
        });
        read.await.unwrap().unwrap();
    }
    let footers: Vec<(ListedSegment, SegmentFooter)> =
        log.footers(segments).await.unwrap().try_collect().await.unwrap();
    all.extend(told_of_no_site(log, &footers).await);
    if let (Some((_, first)), Some((_, last))) = (footers.first(), footers.last()) {
        all.push(format!("{:?} {:?} {:?} {:?}", first.previous, first.span.from, last.id, last.span.complete_till));
    }
    all
}

/// Facts in words, those of one transaction in several segments added up: without what joins them in a compaction.
async fn told_of_no_site(log: &ChangeLog, footers: &[(ListedSegment, SegmentFooter)]) -> Vec<String> {
    let mut counts: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut unrouted: BTreeMap<String, u64> = BTreeMap::new();
    let (mut said, mut moved) = (Vec::new(), BTreeSet::new());
    for (segment, footer) in footers {
        let SharedFacts { sites, tables, transactions, truncations, structure, notes } =
            log.shared(segment, footer).await.unwrap();
        for facts in transactions {
            *unrouted.entry(format!("{:?}", facts.head)).or_default() += facts.unrouted;
            for one in facts.counts {
                let name = format!("{:?} {} {}", facts.head, sites[one.site as usize], tables[one.table as usize]);
                let sum = counts.entry(name).or_default();
                let more = [one.counts.inserts, one.counts.updates, one.counts.deletes];
                sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
        said.extend(truncations.iter().map(|one| {
            let names: Vec<&String> = one.tables.iter().map(|table| &tables[*table as usize]).collect();
            format!("{:?} {names:?} {} {}", one.place, one.cascades, one.restarts_sequences)
        }));
        said.extend(structure.iter().map(|one| format!("{one:?}")));
        said.extend(notes.iter().map(|one| format!("{one:?}")));
        let more = log.unrouted(segment, footer).await.unwrap();
        moved.extend(more.changes.iter().map(|one| {
            let table = &more.tables[one.table as usize].name;
            format!("{:?} {table} {:?} {:?} {:?}", one.place, one.kind, one.key, one.change)
        }));
    }
    said.sort_unstable(); // by segment they come kind by kind
    said.extend(moved);
    said.push(format!("{counts:?} {unrouted:?}"));
    said
}

/// A range of two numbers or more up to `last`.
fn range(seed: &mut Seed, last: u64) -> RangeInclusive<SegmentNumber> {
    let from = 1 + seed.below(last - 1);
    let till = from + 1 + seed.below(last - from);
    SegmentNumber(from)..=SegmentNumber(till)
}

// Explains invariant: compaction-loses-nothing
#[tokio::test(flavor = "multi_thread")]
async fn through_long_segments_every_site_and_range_reads_as_through_those_they_stand_for() {
    const SEGMENTS: u64 = 24;
    let mut longs_read = 0;
    for number in 1..=25 {
        let mut seed = Seed(number);
        let (_, _, repository) = new_repository().await;
        random_log(&repository, &mut seed, SEGMENTS).await;
        let log = ChangeLog::open(&repository, &SourceName::new("app").unwrap()).await.unwrap();
        for round in 0..8 {
            let compacted = log.compact(EpochId(1), range(&mut seed, SEGMENTS), &writer()).await;
            compacted.unwrap_or_else(|error| panic!("seed {number}, round {round}: {error}"));
            let all = SegmentNumber(1)..=SegmentNumber(SEGMENTS);
            let asked = if round % 2 == 0 { range(&mut seed, SEGMENTS) } else { all };
            let plain = log.plain_segments(EpochId(1), asked.start().0, asked.end().0).await.unwrap();
            let through = log.segments(EpochId(1), asked.clone()).await.unwrap();
            longs_read += through.iter().filter(|segment| segment.long.is_some()).count();
            let numbers: BTreeSet<u64> =
                through.iter().flat_map(|segment| segment.first().0..=segment.number.0).collect();
            assert!(numbers.iter().copied().eq(asked.start().0..=asked.end().0), "seed {number}: {through:?}");
            let (want, got) = (told(&log, plain).await, told(&log, through).await);
            assert_eq!(got, want, "seed {number}, round {round}, {asked:?}");
        }
    }
    assert!(longs_read > 150, "{longs_read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_written_again_until_nothing_is_and_the_log_goes_on() {
    let (_, _, repository) = new_repository().await;
    let mut seed = Seed(7);
    random_log(&repository, &mut seed, 30).await;
    let log = ChangeLog::open(&repository, &SourceName::new("app").unwrap()).await.unwrap();
    assert_eq!(log.compact_due(Timestamp::now(), &writer()).await.unwrap(), None, "none of it is an hour old");
    let later = Timestamp(Timestamp::now().0 + 3_700_000_000);
    let compacted = log.compact_due(later, &writer()).await.unwrap().unwrap();
    assert_eq!((compacted.long.first, compacted.long.last), (SegmentNumber(1), SegmentNumber(30)));
    assert_eq!(log.compact_due(later, &writer()).await.unwrap(), None);
    // What is appended afterwards follows from it.
    let mut appender = log.appender().await.unwrap().unwrap();
    let till = appender.complete_till();
    appender.append(SegmentDraft::new(), till).await.unwrap();
    let segments = log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(31)).await.unwrap();
    assert_eq!(segments.len(), 2);
    assert_eq!(told(&log, segments).await, told(&log, log.plain_segments(EpochId(1), 1, 31).await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_segment_in_the_place_of_another_is_refused() {
    let (store, _, repository) = new_repository().await;
    random_log(&repository, &mut Seed(3), 12).await;
    let log = ChangeLog::open(&repository, &SourceName::new("app").unwrap()).await.unwrap();
    let mut longs = Vec::new();
    for (first, last) in [(1, 5), (6, 12)] {
        let range = SegmentNumber(first)..=SegmentNumber(last);
        longs.push(log.compact(EpochId(1), range, &writer()).await.unwrap().unwrap().long);
    }
    let (one, other) = (longs[0], longs[1]);
    let name = |long: &LongSegment| {
        lifeboat_store::ObjectName::new(names::long_segment(log.source(), EpochId(1), &long.id)).unwrap()
    };
    let body = store.get(&name(&other)).await.unwrap();
    store.delete(&name(&one)).await.unwrap();
    store.create(&name(&one), body).await.unwrap();
    let segments = log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(12)).await.unwrap();
    let error = log.footer(&segments[0]).await.unwrap_err();
    assert!(error.to_string().contains(&one.id.to_string()), "{error}");
}
