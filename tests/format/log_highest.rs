//! The vector of a segment that tells the highest number of a transaction up to its end.
//!
//! A reader of before skips it. Where it is missing nobody can tell where the search for what a base does not see may begin,
//! and it begins with the epoch.

use lifeboat_format::*;
use lifeboat_model::*;

use crate::sample;
use crate::vectors::{Folder, Vector, read_segment, repository_keys, segment_name};

const HIGHEST: TransactionId = TransactionId(5_000_000_123);

pub fn all() -> Vec<Vector> {
    let read = |bytes: &[u8]| read_segment(&segment_name(3), bytes);
    vec![Vector::new(Folder::LogHighest, "segment-idle.bin", make_idle_segment, read)]
}

/// In which nothing was committed.
fn make_idle_segment() -> Result<Vec<u8>> {
    let till = sample::spans()[1].complete_till;
    let head = SegmentHead {
        name: segment_name(3),
        id: ObjectId([0x4f; 16]),
        previous: ObjectId([0x2f; 16]),
        span: SegmentSpan { from: till, complete_till: Lsn(till.0 + 0x100), bounds: None, highest: Some(HIGHEST) },
        sealed_at: sample::NOON,
        followed_by: None,
    };
    Ok(SegmentWriter::new(repository_keys().object_keys(), head).finish()?.0)
}

#[test]
fn the_vector_of_an_idle_segment_tells_the_highest_number() {
    let [vector] = &all()[..] else { panic!("one") };
    let said = (vector.read)(&vector.stored()).unwrap();
    assert_eq!(said.matches(&format!("bounds: None, highest: {:?}", Some(HIGHEST))).count(), 1, "{said}");
}
