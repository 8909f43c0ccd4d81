//! A captured source's log: its epochs, and where in one a search begins.

use std::time::Duration;

use lifeboat_model::{Epoch, EpochId, LogState, Lsn, SegmentFooter, SegmentNumber, SourceName, Timestamp};
use lifeboat_repo::{ChangeLog, ListedSegment};

use super::locate::Base;
use crate::{Engine, Error};

/// A commit is in the log before others see it, and with synchronous replication that can take a while:
/// so far before a base, by the capturer's clock, segments are looked at in any case.
const LOOK_BACK_MICROS: i64 = 60 * 1_000_000;
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
    /// Only a segment whose transactions the base sees all says that nothing earlier matters. One without transactions does
    /// not: while a standby does not answer, nobody sees what was committed last, and then nobody writes on.
    pub async fn first_after(&self, kept: &LogState, base: &Base, last: u64) -> Result<Option<u64>, Error> {
        let (cut_from, _) = base.read;
        if base.is_birth {
            let since = (SegmentNumber(last), cut_from.saturating_sub(CLOCKS_DIFFER_MAX));
            return Ok(Some(first_sealed_since(&self.log, kept, since).await?.0));
        }
        let (epoch, begin) = (kept.epoch, kept.first().0);
        let first = self.first_reaching(kept, base.place.lsn, last).await?;
        let (mut number, xmin) = (first, base.place.xmin());
        while number > begin {
            if let Some(first) = self.idle_before(kept, number).await {
                number = first.max(begin);
                continue;
            }
            let before: Vec<u64> = (begin..number).rev().take(AT_ONCE).collect();
            for (at, found) in before.iter().zip(self.footers(epoch, &before).await) {
                let Some((_, before)) = found? else { return Ok(Some(number)) };
                let is_unseen = before.span.bounds.is_none_or(|bounds| bounds.highest >= xmin);
                let is_near = before.sealed_at.0.saturating_add(LOOK_BACK_MICROS) >= cut_from.0;
                if !is_unseen && !is_near {
                    return Ok(Some(number));
                }
                number = *at;
            }
        }
        Ok((begin == 1).then_some(number))
    }

    /// Where a long segment without any transaction begins, if one ends just before a number: the footers of hours in one.
    async fn idle_before(&self, kept: &LogState, number: u64) -> Option<u64> {
        let long = kept.long_segments.iter().find(|long| long.last.0.checked_add(1) == Some(number))?;
        let segment = ListedSegment { epoch: kept.epoch, number: long.last, len: long.len, long: Some(*long) };
        // Where it cannot be read, those that it stands for can.
        let footer = self.log.footer(&segment).await.ok()?;
        footer.span.bounds.is_none().then_some(long.first.0)
    }

    /// The first segment that is complete up to a position; `last` if none is. Several are looked at at once, in as many
    /// round trips as the number of segments has digits.
    async fn first_reaching(&self, kept: &LogState, lsn: Lsn, last: u64) -> Result<u64, Error> {
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
                    Ok(Some((_, footer))) if footer.span.complete_till < lsn => from = number + 1,
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
