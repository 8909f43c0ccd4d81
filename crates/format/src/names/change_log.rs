//! Names in the change log of a source.
//!
//! Epochs and segments are under inverted numbers too: the newest of each is the first name of its
//! listing, and a listing goes backwards through the log.

use lifeboat_model::{EpochId, LogCommitNumber, ObjectId, SegmentNumber, SourceName};

use super::{ParsedName, fixed_decimal, parse_inverted};
use crate::SegmentName;

pub const LOG_PREFIX: &str = "log/";

/// Everything of one source's change log, the newest epoch first.
pub fn log_prefix(source: &SourceName) -> String {
    format!("{LOG_PREFIX}{source}/")
}

pub fn epoch_prefix(source: &SourceName, epoch: EpochId) -> String {
    format!("{}{:010}/", log_prefix(source), u32::MAX - epoch.0)
}

pub fn epoch(source: &SourceName, epoch: EpochId) -> String {
    format!("{}epoch", epoch_prefix(source, epoch))
}

/// The segments of an epoch, the newest first.
pub fn segments_prefix(source: &SourceName, epoch: EpochId) -> String {
    format!("{}seg/", epoch_prefix(source, epoch))
}

pub fn segment(name: &SegmentName) -> String {
    format!("{}{:020}", segments_prefix(&name.source, name.epoch), u64::MAX - name.number.0)
}

pub fn log_commits_prefix(source: &SourceName, epoch: EpochId) -> String {
    format!("{}commit/", epoch_prefix(source, epoch))
}

pub fn log_commit(source: &SourceName, epoch: EpochId, number: LogCommitNumber) -> String {
    format!("{}{:020}", log_commits_prefix(source, epoch), u64::MAX - number.0)
}

pub fn long_segments_prefix(source: &SourceName, epoch: EpochId) -> String {
    format!("{}long/", epoch_prefix(source, epoch))
}

/// A segment that stands for many.
pub fn long_segment(source: &SourceName, epoch: EpochId, id: &ObjectId) -> String {
    format!("{}{id}", long_segments_prefix(source, epoch))
}

/// Reads back what follows `log/`.
pub(super) fn parse(rest: &str) -> Option<ParsedName> {
    let mut segments = rest.split('/');
    let source = SourceName::new(segments.next()?).ok()?;
    let inverted = fixed_decimal(segments.next()?, 10).and_then(|number| u32::try_from(number).ok())?;
    let epoch = EpochId(u32::MAX - inverted);
    let (folder, last) = (segments.next()?, segments.next());
    if segments.next().is_some() {
        return None;
    }
    match (folder, last) {
        ("epoch", None) => Some(ParsedName::Epoch(source, epoch)),
        ("seg", Some(last)) => {
            let number = SegmentNumber(parse_inverted(last)?);
            Some(ParsedName::Segment(SegmentName { source, epoch, number }))
        }
        ("commit", Some(last)) => Some(ParsedName::LogCommit(source, epoch, LogCommitNumber(parse_inverted(last)?))),
        ("long", Some(last)) => Some(ParsedName::LongSegment(source, epoch, ObjectId::parse(last).ok()?)),
        _ => None,
    }
}
