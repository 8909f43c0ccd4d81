//! A captured source's log: its epochs, and where in one a search begins.

use std::time::Duration;

use lifeboat_model::{Epoch, EpochId, LogState, SegmentFooter, SegmentNumber, SegmentSpan, SourceName, Timestamp};
use lifeboat_repo::{ChangeLog, ListedSegment};

use super::locate::Base;
use crate::{Engine, Error};

/// So long before a base, by the capturer's clock, segments are looked at in any case: of a table that was made then, and was
/// not followed yet when the base was cut, what came in between is in no change.
const TABLE_JOINS_IN: Duration = Duration::from_secs(60);
/// Clocks of hosts and servers differ by less.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(2 * 3_600);
/// Segments that are looked at at once while a search goes on: over a network each round trip is long.
const AT_ONCE: usize = 8;

/// The log of one source, with every epoch's first words.
pub(crate) struct SourceLog {
    pub log: ChangeLog,
    /// Oldest first.
    pub epochs: Vec<Epoch>,
}

impl SourceLog {
    /// `None`: nothing was ever captured of the source.
    pub async fn open(engine: &Engine, source: &SourceName) -> Result<Option<Self>, Error> {
        let log = engine.change_log(source).await?;
        let Some(newest) = log.newest() else { return Ok(None) };
        let mut epochs = Vec::new();
        for number in 1..=newest.epoch.0 {
            epochs.push(log.epoch(EpochId(number)).await?);
        }
        Ok(Some(Self { log, epochs }))
    }

    pub fn source(&self) -> &SourceName {
        self.log.source()
    }

    /// After which an epoch may lack changes, though it goes on; `None`: it lacks none.
    pub fn sound_till(&self, epoch: EpochId) -> Option<Timestamp> {
        self.epochs.iter().find(|other| other.id == epoch.next()).and_then(|next| next.facts.sound_till)
    }

    /// The number of an epoch's newest segment; 0: it has none.
    pub async fn last_number(&self, epoch: EpochId) -> Result<u64, Error> {
        Ok(self.log.newest_segment(epoch).await?.map_or(0, |segment| segment.number.0))
    }

    /// One segment's footer.
    pub async fn footer(&self, epoch: EpochId, number: u64) -> Result<Option<(ListedSegment, SegmentFooter)>, Error> {
        let number = SegmentNumber(number);
        let listed = self.log.segments(epoch, number..=number).await?;
        Ok(match listed.into_iter().next() {
            Some(segment) => {
                let footer = self.log.footer(&segment).await?;
                Some((segment, footer))
            }
            None => None,
        })
    }

    /// The first segment that may have a change which a base does not see. `None`: it may be one that is kept no more.
    ///
    /// What a base does not see has a number that is not below its oldest running transaction's, or comes behind where the
    /// base was cut. Each segment tells the highest number up to its end, so that these are halved: when it was sealed says
    /// nothing, for a commit is in the log before others see it, with a synchronous standby hours before.
    pub async fn first_after(&self, kept: &LogState, base: &Base, last: u64) -> Result<Option<u64>, Error> {
        let (begin, (cut_from, _)) = (kept.first().0, base.read);
        if base.is_birth {
            let since = (SegmentNumber(last), cut_from.saturating_sub(CLOCKS_DIFFER_MAX));
            return Ok(Some(first_sealed_since(&self.log, kept, since).await?.0));
        }
        let (lsn, xmin) = (base.place.lsn, base.place.xmin());
        let may_lack =
            |span: &SegmentSpan| span.complete_till >= lsn || span.highest.is_none_or(|highest| highest >= xmin);
        let first = self.first_with(kept, last, &may_lack).await?;
        let mut number = first;
        while number > begin {
            let before: Vec<u64> = (begin..number).rev().take(AT_ONCE).collect();
            for (at, found) in before.iter().zip(self.footers(kept.epoch, &before).await) {
                match found? {
                    Some((_, footer)) if footer.sealed_at.saturating_add(TABLE_JOINS_IN) >= cut_from => number = *at,
                    _ => return Ok(Some(number)),
                }
            }
        }
        Ok((first > begin || begin == 1).then_some(number))
    }

    /// The first segment of which something is true that is true of all behind it; `last` if of none. Several are looked at at
    /// once, in as many round trips as the number of segments has digits.
    async fn first_with(
        &self,
        kept: &LogState,
        last: u64,
        is_true: &(dyn Fn(&SegmentSpan) -> bool + Sync),
    ) -> Result<u64, Error> {
        let (epoch, begin) = (kept.epoch, kept.first().0);
        let (mut from, mut till) = (begin, last.max(begin));
        while from < till {
            let (mut probes, before) = (probes(from, till), (from, till));
            // Most epochs begin with bases of all their sites.
            if from == begin && till == last && probes.first() != Some(&begin) {
                probes.insert(0, begin);
            }
            let mut failed = None;
            for (number, found) in probes.iter().zip(self.footers(epoch, &probes).await) {
                match found {
                    Ok(Some((_, footer))) if !is_true(&footer.span) => from = number + 1,
                    Ok(_) => {
                        till = *number;
                        break;
                    }
                    // Others may tell as much.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed.filter(|_| (from, till) == before) {
                return Err(error);
            }
        }
        Ok(from)
    }

    /// Footers of single segments, all asked for at once.
    async fn footers(
        &self,
        epoch: EpochId,
        numbers: &[u64],
    ) -> Vec<Result<Option<(ListedSegment, SegmentFooter)>, Error>> {
        futures_util::future::join_all(numbers.iter().map(|number| self.footer(epoch, *number))).await
    }
}

/// The first of an epoch's segments that was not sealed before a time, found by halving: they were sealed in order. The last
/// one if all were.
pub(crate) async fn first_sealed_since(
    log: &ChangeLog,
    kept: &LogState,
    (last, since): (SegmentNumber, Timestamp),
) -> Result<SegmentNumber, Error> {
    let (mut from, mut till) = (kept.first().0, last.0);
    while from < till {
        let middle = from + (till - from) / 2;
        let number = SegmentNumber(middle);
        let Some(segment) = log.segments(kept.epoch, number..=number).await?.pop() else { break };
        match log.footer(&segment).await?.sealed_at < since {
            true => from = middle + 1,
            false => till = middle,
        }
    }
    Ok(SegmentNumber(from))
}

/// Numbers of `from..till`, evenly apart and ascending: all of them, if they are few.
fn probes(from: u64, till: u64) -> Vec<u64> {
    let step = (till - from).div_ceil(AT_ONCE as u64 + 1).max(1);
    (1..=AT_ONCE as u64).map(|place| from + place * step - 1).take_while(|number| *number < till).collect()
}

#[cfg(test)]
mod tests {
    use super::probes;

    #[test]
    fn probes_lie_within_and_leave_little_between_them() {
        assert_eq!(probes(5, 6), [5]);
        assert_eq!(probes(5, 13), [5, 6, 7, 8, 9, 10, 11, 12]);
        for (from, till) in [(1, 2), (1, 10), (1, 17_280), (17_000, 17_280), (3, 12)] {
            let probes = probes(from, till);
            assert!(!probes.is_empty() && probes.iter().all(|probe| (from..till).contains(probe)), "{from}..{till}");
            let ends = probes.iter().copied().chain([till]);
            let gaps = ends.scan(from, |from, end| Some(end - std::mem::replace(from, end + 1)));
            assert!(gaps.max() <= Some((till - from) / 9 + 1), "{from}..{till}: {probes:?}");
        }
    }
}
