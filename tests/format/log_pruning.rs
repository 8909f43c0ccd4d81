//! The vectors of change logs that are pruned: segments that are marked, condemned, and deleted.
//!
//! A reader of before refuses these events as those of a newer version. Behind them it skips where what is kept begins, and
//! finds missing what it looks for before that.

use lifeboat_format::*;
use lifeboat_model::*;

use crate::sample::{self, NOON};
use crate::vectors::{Folder, Vector, repository_keys};

pub fn all() -> Vec<Vector> {
    let deleted = LogState { condemned: Vec::new(), ..state() };
    vec![
        commit((Folder::LogPruning, "log-commit-condemned.bin"), LogEvent::Condemned(condemnation()), state()),
        commit((Folder::LogPruning, "log-commit-deleted.bin"), LogEvent::Deleted { till: LogCommitNumber(3) }, deleted),
        commit((Folder::LogMarks, "log-commit-marked.bin"), LogEvent::Marked(marks()[1]), marked()),
        commit((Folder::LogMarks, "log-commit-ripe.bin"), LogEvent::Condemned(condemnation()), ripe()),
    ]
}

fn begins() -> LogBegin {
    LogBegin { first: SegmentNumber(101), bases_since: NOON }
}

fn condemnation() -> LogCondemnation {
    let leftovers = vec![ObjectId([0xca; 16])];
    LogCondemnation { begins: Some(begins()), leftovers, at: Timestamp(NOON.0 + 1), run: RunNumber(12) }
}

/// That of the log commit of the other vectors, whose first hundred segments go.
fn state() -> LogState {
    let before = sample::log_commit().state;
    let longs = vec![before.long_segments[0].id, ObjectId([0xca; 16])];
    let LogCondemnation { at, run, .. } = condemnation();
    let (from, till) = (SegmentNumber(1), SegmentNumber(101));
    let condemned = CondemnedSegments { commit: LogCommitNumber(3), at, run, from, till, longs };
    LogState {
        long_segments: before.long_segments[1..].to_vec(),
        begins: Some(begins()),
        condemned: vec![condemned],
        ..before
    }
}

/// The first is where the condemned ones end.
fn marks() -> [LogMark; 2] {
    let second = LogBegin { first: SegmentNumber(131), bases_since: Timestamp(NOON.0 + 86_400_000_000) };
    [LogMark { begins: begins(), at: Timestamp(NOON.0 + 2) }, LogMark { begins: second, at: Timestamp(NOON.0 + 3) }]
}

fn marked() -> LogState {
    LogState { marks: marks().to_vec(), ..sample::log_commit().state }
}

fn ripe() -> LogState {
    LogState { marks: marks()[1..].to_vec(), ..state() }
}

fn commit((folder, name): (Folder, &'static str), event: LogEvent, state: LogState) -> Vector {
    let commit = LogCommit { event, state, ..sample::log_commit() };
    Vector::new(
        folder,
        name,
        move || encode_log_commit(repository_keys().object_keys(), &commit),
        |bytes| {
            let (keys, source) = (repository_keys(), sample::log_source());
            let read = decode_log_commit(keys.object_keys(), (&source, EpochId(2)), LogCommitNumber(3), bytes)?;
            Ok(format!("{read:?}"))
        },
    )
}

#[test]
fn the_vectors_of_pruned_logs_hold_what_is_new() {
    let said: Vec<String> = all().iter().map(|vector| (vector.read)(&vector.stored()).unwrap()).collect();
    let has = |at: usize, what: String, times: usize| {
        assert_eq!(said[at].matches(&what).count(), times, "{what} in {}", said[at]);
    };
    has(0, format!("{:?}", condemnation()), 1);
    has(0, format!("{:?}", state()), 1);
    has(1, "Deleted { till: LogCommitNumber(3) }".to_owned(), 1);
    has(1, format!("begins: {:?}, marks: [], condemned: []", Some(begins())), 1);
    has(2, format!("event: {:?}", LogEvent::Marked(marks()[1])), 1);
    has(2, format!("{:?}", marked()), 1);
    has(3, format!("{:?}", ripe()), 1);
    let (before, number) = (sample::log_commit().state, LogCommitNumber(3));
    assert_eq!(before.after(&LogEvent::Condemned(condemnation()), number), Some(state()));
    assert_eq!(marked().after(&LogEvent::Condemned(condemnation()), number), Some(ripe()));
    let first = LogState { marks: marks()[..1].to_vec(), ..before };
    assert_eq!(first.after(&LogEvent::Marked(marks()[1]), number), Some(marked()));
}
