//! What there is of the log: all that is kept, not much else, and in the end nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{CondemnedSegments, EpochId, LogState, ObjectId, SegmentNumber, Timestamp};
use lifeboat_repo::ChangeLog;
use lifeboat_store::{MemoryStore, Store};

use super::app::source;
use super::host::Host;
use super::tidy::{RULES, UNDELETE};
use super::{DAY, WINDOW};

/// How old the oldest base may be that the log is kept for: a window and the time between two bases, and while what is needed
/// no more can be had.
const AGE_MAX: i64 = WINDOW + WINDOW / 2 + UNDELETE + 2 * DAY;

/// Objects of an epoch, as the store has them.
struct There {
    plain: BTreeSet<SegmentNumber>,
    longs: BTreeSet<ObjectId>,
    kept: LogState,
}

async fn look(store: &Arc<MemoryStore>, host: &Host, context: &str) -> Vec<There> {
    let log = ChangeLog::open(&host.repository, &source()).await.unwrap();
    let mut all = Vec::new();
    for epoch in (1..=log.newest().map_or(0, |newest| newest.epoch.0)).map(EpochId) {
        let kept = log.log_state(epoch).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        let listed = store.list(&names::epoch_prefix(&source(), epoch), None, usize::MAX).await.unwrap();
        let (mut plain, mut longs) = (BTreeSet::new(), BTreeSet::new());
        for listed in &listed {
            match names::parse_object_name(listed.name.as_str()) {
                Some(ParsedName::Segment(name)) => drop(plain.insert(name.number)),
                Some(ParsedName::LongSegment(_, _, id)) => drop(longs.insert(id)),
                _ => {}
            }
        }
        all.push(There { plain, longs, kept });
    }
    all
}

/// Nothing is missing of what is kept; gives how many objects there are.
pub async fn check(store: &Arc<MemoryStore>, host: &Host, context: &str) -> u64 {
    let mut count = 0;
    for There { plain, longs, kept } in look(store, host, context).await {
        let last = plain.last().map_or(0, |last| last.0);
        let missing: Vec<u64> =
            (kept.first().0..=last).filter(|number| !plain.contains(&SegmentNumber(*number))).collect();
        assert!(missing.is_empty(), "{context}: epoch {} has lost segments {missing:?}: {kept:?}", kept.epoch);
        let missing: Vec<_> = kept.long_segments.iter().filter(|long| !longs.contains(&long.id)).collect();
        assert!(missing.is_empty(), "{context}: epoch {} has lost {missing:?}", kept.epoch);
        count += (plain.len() + longs.len()) as u64;
    }
    count
}

/// In the end: nothing waits longer than it must, what is there is kept or waits, and nothing is kept that was let go of
/// long ago.
pub async fn check_rest(store: &Arc<MemoryStore>, host: &Host, now: Timestamp, context: &str) {
    let all = look(store, host, context).await;
    let newest = all.len();
    for (number, There { plain, longs, kept }) in (1..).zip(all) {
        let context = format!("{context}: epoch {}", kept.epoch);
        let late = |one: &&CondemnedSegments| one.at.0 + (RULES.grace.as_micros() as i64) < now.0;
        let late: Vec<_> = kept.condemned.iter().filter(late).collect();
        assert!(late.is_empty(), "{context}: condemned long ago: {late:?}");
        let waits = |number: &SegmentNumber| kept.condemned.iter().any(|one| (one.from..one.till).contains(number));
        let early: Vec<_> = plain.iter().filter(|number| **number < kept.first() && !waits(number)).collect();
        assert!(early.is_empty(), "{context}: it begins at {}, after {early:?}", kept.first());
        let waiting = kept.condemned.iter().flat_map(|one| &one.longs).copied();
        let named: BTreeSet<ObjectId> = kept.long_segments.iter().map(|long| long.id).chain(waiting).collect();
        let extra: Vec<_> = longs.difference(&named).collect();
        assert!(extra.is_empty(), "{context}: long segments that nothing names: {extra:?}");
        if number < newest {
            // How far it was followed, and that it ended; a long segment that has both is kept whole.
            let long = kept.long_segments.first().map_or(0, |long| (long.last.0 - long.first.0) as usize);
            let left = plain.range(kept.first()..).count();
            assert!(left <= 2 + long, "{context}: {left} segments are left: {kept:?}");
        } else {
            let since = kept.begins.map(|begins| begins.bases_since);
            let is_young = since.is_some_and(|since| now.0 - since.0 <= AGE_MAX);
            assert!(is_young, "{context}: kept since {since:?}");
        }
    }
}
