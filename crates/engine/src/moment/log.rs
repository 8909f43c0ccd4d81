//! A captured source's log: its epochs, and where in one a search begins.

use lifeboat_model::{Epoch, EpochId, Lsn, SegmentFooter, SegmentNumber, SourceName, Timestamp};
use lifeboat_repo::{ChangeLog, ListedSegment};

use super::base::BasePlace;
use crate::{Engine, Error};

/// A commit is in the log before others see it, and with synchronous replication that can take a while:
/// so far before a base, by the capturer's clock, segments are looked at in any case.
const LOOK_BACK_MICROS: i64 = 60 * 1_000_000;

/// The log of one source, with every epoch's first words.
pub(super) struct SourceLog {
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

    /// The first segment that may have a change which a base does not see.
    pub async fn first_after(
        &self,
        epoch: EpochId,
        (base, cut_from): (&BasePlace, Timestamp),
        last: u64,
    ) -> Result<u64, Error> {
        let first = self.first_reaching(epoch, base.lsn, last).await?;
        let (mut number, xmin) = (first, base.xmin());
        while number > 1 {
            let Some((_, before)) = self.footer(epoch, number - 1).await? else { break };
            let is_unseen = before.span.bounds.is_some_and(|bounds| bounds.highest >= xmin);
            let is_near = before.sealed_at.0.saturating_add(LOOK_BACK_MICROS) >= cut_from.0;
            if !is_unseen && !is_near {
                break;
            }
            number -= 1;
        }
        Ok(number)
    }

    /// The first segment that is complete up to a position, by halves; `last` if none is.
    async fn first_reaching(&self, epoch: EpochId, lsn: Lsn, last: u64) -> Result<u64, Error> {
        let (mut from, mut till) = (1, last.max(1));
        while from < till {
            let middle = from + (till - from) / 2;
            match self.footer(epoch, middle).await? {
                Some((_, footer)) if footer.span.complete_till < lsn => from = middle + 1,
                _ => till = middle,
            }
        }
        Ok(from)
    }
}
