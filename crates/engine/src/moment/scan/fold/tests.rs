//! Random logs, folded twice: from footers that say what their shared blocks tell, and from footers that do not, so that
//! every block is read.

use lifeboat_model::{
    BlockRef, ChangeCounts, EpochId, LogNote, ObjectId, ObjectPlace, SegmentNumber, SegmentSpan, SourceName,
    SpanBounds, TransactionFacts, TransactionHead, TransactionId,
};

use super::*;

struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Segment = (ListedSegment, SegmentFooter, SharedFacts);

/// Commit times do not ascend with the commits, and ids do not either.
fn head(seed: &mut Seed, commit: u64) -> TransactionHead {
    let committed_at = Timestamp((commit * 1_000_000 + seed.below(4) * 3_000_000) as i64);
    TransactionHead { id: TransactionId(commit + seed.below(9)), commit: Lsn(commit), committed_at }
}

fn note(seed: &mut Seed, commit: Lsn) -> LogNote {
    let (prefix, content) = match seed.below(12) {
        0 => (MOVED, "acme"),
        1 => (DROPPED, "public.issues"),
        2 => (STRUCTURE, "public.issues"),
        3 => (PARTLY, "public.audit"),
        4 => (UNFOLLOWED, "acme\npublic.own"),
        5 => (FOLLOWED, "acme\npublic.own\nempty"),
        _ => ("outbox", "of an application"),
    };
    LogNote {
        place: ChangePlace { commit, sequence: seed.below(50) },
        prefix: prefix.into(),
        content: content.as_bytes().to_vec(),
    }
}

/// Segments of up to four transactions each. Some are cut in two, some are told of before their heads come, and most
/// segments tell of nothing else.
fn log(seed: &mut Seed) -> Vec<Segment> {
    let (mut segments, mut commit, mut cut_in_two) = (Vec::new(), 100, None);
    let last = 3 + seed.below(12);
    for number in 1..=last {
        let mut shared = SharedFacts { tables: vec!["public.issues".into()], ..SharedFacts::default() };
        let mut heads: Vec<TransactionHead> = cut_in_two.take().into_iter().collect();
        for _ in 0..seed.below(5) {
            commit += 1 + seed.below(6);
            heads.push(head(seed, commit));
        }
        let tells = seed.below(4) == 0;
        for head in heads.iter().filter(|_| tells) {
            let place = ChangePlace { commit: head.commit, sequence: seed.below(50) };
            if seed.below(4) == 0 {
                shared.truncations.push(Truncation {
                    place,
                    tables: vec![0],
                    cascades: false,
                    restarts_sequences: false,
                });
            }
            shared.notes.push(note(seed, head.commit));
        }
        if number < last && seed.below(5) == 0 {
            // The next one begins with a transaction that is told of here, with its head or without.
            commit += 1 + seed.below(6);
            let open = head(seed, commit);
            shared.notes.push(note(seed, open.commit));
            cut_in_two = Some(open);
            heads.extend(cut_in_two.filter(|_| seed.below(2) == 0));
        }
        let facts = |head: &TransactionHead| TransactionFacts { head: *head, counts: Vec::new(), unrouted: 0 };
        shared.transactions = heads.iter().map(facts).collect();
        let complete_till = cut_in_two.map_or(commit, |open| open.commit.0 - 1);
        segments.push(segment(seed, (number, number == last), complete_till, shared));
    }
    segments
}

fn segment(seed: &mut Seed, (number, is_last): (u64, bool), complete_till: u64, shared: SharedFacts) -> Segment {
    let heads = shared.transactions.iter().map(|facts| &facts.head);
    let bounds = heads.fold(None, |bounds: Option<SpanBounds>, head| {
        Some(bounds.map_or_else(|| SpanBounds::of(head), |bounds| bounds.with(head)))
    });
    let place = ObjectPlace { id: ObjectId([1; 16]), offset: 0, len: 100 };
    let block = bounds.filter(|_| seed.below(2) == 0).map(|bounds| {
        let at = ChangePlace { commit: bounds.first_commit, sequence: 0 };
        BlockRef { site: SiteId::new("acme").unwrap(), place, counts: ChangeCounts::default(), first: at, last: at }
    });
    let footer = SegmentFooter {
        source: SourceName::new("app").unwrap(),
        epoch: EpochId(1),
        number: SegmentNumber(number),
        id: ObjectId([0; 16]),
        previous: ObjectId([0; 16]),
        span: SegmentSpan { from: Lsn(0), complete_till: Lsn(complete_till), bounds, highest: None },
        sealed_at: Timestamp(complete_till as i64 * 1_000_000),
        blocks: block.into_iter().collect(),
        shared: (!shared.is_empty()).then_some(place),
        unrouted: None,
        followed_by: (is_last && seed.below(4) == 0).then_some(EpochId(2)),
        shared_kinds: (!shared.is_empty()).then(|| SharedKinds::of(&shared)),
    };
    (ListedSegment { epoch: EpochId(1), number: SegmentNumber(number), len: 100, long: None }, footer, shared)
}

/// As a search does it: what it comes to, and how many shared blocks it took.
fn folded(segments: &[Segment], moment: Moment, base: &BasePlace, base_till: Timestamp) -> (String, usize) {
    let site = SiteId::new("acme").unwrap();
    let (mut fold, mut taken) = (Fold::new(moment, (&site, base)), 0);
    for (segment, footer, shared) in segments {
        let needed = fold.needs(footer).then_some(shared);
        taken += usize::from(needed.is_some());
        fold.take((*segment, footer.clone()), needed);
        if fold.is_over(base_till) {
            break;
        }
    }
    let last = fold.last_segment().map(|(segment, _)| segment.number.0);
    if let Some(last) = last {
        taken += 1;
        fold.take_last(&segments[last as usize - 1].2);
    }
    (format!("{:?}", fold.finish(base_till)), taken)
}

fn moment(seed: &mut Seed, till: u64) -> Moment {
    let commit = 95 + seed.below(till - 85);
    match seed.below(5) {
        0 => Moment::End,
        1 => Moment::Position(Lsn(commit)),
        _ => Moment::Time(Timestamp((commit * 1_000_000) as i64)),
    }
}

// Explains invariant: lazy-as-full
#[test]
fn a_search_that_reads_only_the_shared_blocks_it_needs_finds_what_one_finds_that_reads_all() {
    let (mut lazy_taken, mut all_taken, mut found, mut later, mut ended) = (0, 0, 0, 0, 0);
    for number in 0..20_000 {
        let seed = &mut Seed(number);
        let segments = log(seed);
        let till = segments.last().unwrap().1.span.complete_till.0;
        let unsaid = |(segment, footer, shared): &Segment| {
            (*segment, SegmentFooter { shared_kinds: None, ..footer.clone() }, shared.clone())
        };
        // As after an update: the first ones were written by a version that does not say it.
        let updated: Vec<Segment> =
            segments.iter().take(3).map(unsaid).chain(segments.iter().skip(3).cloned()).collect();
        let unsaid: Vec<Segment> = segments.iter().map(unsaid).collect();
        let (xmin, more) = (95 + seed.below(till - 85), seed.below(8));
        let running = if more > 2 { format!("{},{}", xmin, xmin + 2) } else { String::new() };
        let position = format!("lsn=0/{:X}, timeline=1, snapshot={xmin}:{}:{running}", xmin, xmin + more);
        let base = BasePlace::of(&position, "postgresql 7").unwrap();
        let base_till = Timestamp((xmin as i64 - 60) * 1_000_000);
        let moment = moment(seed, till);
        let (lazy, lazily) = folded(&segments, moment, &base, base_till);
        let (full, fully) = folded(&unsaid, moment, &base, base_till);
        assert_eq!(lazy, full, "log {number}, {moment:?}, {position}");
        assert_eq!(folded(&updated, moment, &base, base_till).0, full, "log {number}, {moment:?}, {position}");
        (lazy_taken, all_taken) = (lazy_taken + lazily, all_taken + fully);
        found += usize::from(lazy.starts_with("Found"));
        later += usize::from(lazy.starts_with("BaseIsLater"));
        ended += usize::from(lazy.starts_with("AfterEnd"));
    }
    assert!(found > 2_000 && later > 2_000 && ended > 500, "found=`{found}`, later=`{later}`, ended=`{ended}`");
    assert!(lazy_taken < all_taken * 3 / 4, "taken=`{lazy_taken}`, all=`{all_taken}`");
}

#[test]
fn a_long_log_that_tells_of_nothing_is_folded_with_one_shared_block_or_two() {
    let base = BasePlace::of("lsn=0/1, timeline=1, snapshot=1:1:", "postgresql 7").unwrap();
    let seed = &mut Seed(1);
    let quiet: Vec<Segment> = (1..=500)
        .map(|number| {
            let facts = TransactionFacts { head: head(seed, 100 + number), counts: Vec::new(), unrouted: 0 };
            let shared = SharedFacts { transactions: vec![facts], ..SharedFacts::default() };
            segment(seed, (number, false), 100 + number, shared)
        })
        .collect();
    for moment in [Moment::End, Moment::Position(Lsn(400)), Moment::Time(Timestamp(400_000_000))] {
        let (found, taken) = folded(&quiet, moment, &base, Timestamp(0));
        assert!(found.starts_with("Found") && taken <= 2, "{moment:?}: {taken}");
    }
}
