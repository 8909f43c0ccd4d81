//! Pruning change logs: where what is kept of each epoch begins.
//!
//!   what the sites need ─▶ sealed before it, by two hours ─▶ and by no base of that time unseen ─▶ begin ─▶ marked, condemned, deleted
//!
//! A base needs more than what was sealed since it was cut: whatever it does not see, which a transaction that was open for
//! long may have begun long before. So each that is in question is asked, as a restore asks it.
//!
//! What is not here: what sites need (`lifeboat-control`), and deleting (`lifeboat-repo`).

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_model::{Epoch, LogBegin, LogState, SegmentNumber, SiteId, SnapshotId, SourceKind, SourceName, Timestamp};
use lifeboat_repo::{EpochPruned, LogWanted, PruneRules, TrustedNow};

use crate::moment::locate::base_of;
use crate::moment::log::{SourceLog, first_sealed_since};
use crate::{Engine, Error, this_process};

/// Bases asked at once.
const BASES_AT_ONCE: usize = 8;

/// What all sites together need of a source's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogNeeds {
    /// Snapshots that were cut since must find all that they do not see.
    pub since: Timestamp,
    /// Clocks of hosts differ by less, and a cut takes no longer.
    pub doubt: Duration,
    /// They, by the time at which they were cut. Of an epoch the first that joins it is asked, and those that were cut no
    /// later than that behind it: what these do not see, no later one needs from before. Where there is none, what one that
    /// is under way does not see nobody can say.
    pub bases: Vec<NeededBase>,
    /// What is not needed is condemned when it was not needed for so long.
    pub undelete: Duration,
}

/// A snapshot that must find all that it does not see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededBase {
    pub cut_from: Timestamp,
    pub site: SiteId,
    pub snapshot: SnapshotId,
}

/// Prunes every epoch of a source's log, or says what that would do. Epochs that nothing is to be done to are left out.
pub async fn prune_log(
    engine: &Engine,
    source: &SourceName,
    needs: &LogNeeds,
    (rules, clock): (&PruneRules, &TrustedNow),
    acts: bool,
) -> Result<Vec<EpochPruned>, Error> {
    let Some(log) = SourceLog::open(engine, source).await? else { return Ok(Vec::new()) };
    let mut done = Vec::new();
    for epoch in &log.epochs {
        engine.check_cancelled()?;
        let begin = begin_of(engine, (&log, epoch), needs).await?;
        done.push(match acts {
            true => log.log.prune(epoch.id, begin, (rules, clock), &this_process()).await?,
            false => {
                let plan = log.log.plan_prune(epoch.id, begin, (rules, clock)).await?;
                EpochPruned { plan, deleted: 0, condemned: 0 }
            }
        });
    }
    done.retain(|one| !one.plan.is_nothing() || (one.plan.waits + one.plan.marked).objects > 0);
    Ok(done)
}

/// Where what is kept of an epoch is to begin; `None`: nobody can tell, or it cannot begin later.
async fn begin_of(
    engine: &Engine,
    (log, epoch): (&SourceLog, &Epoch),
    needs: &LogNeeds,
) -> Result<Option<LogWanted>, Error> {
    let kept = log.log.log_state(epoch.id).await?;
    let last = log.last_number(epoch.id).await?;
    if last <= kept.first().0 {
        return Ok(None);
    }
    let before = needs.since.saturating_sub(needs.doubt);
    let next = log.epochs.iter().find(|other| other.id > epoch.id);
    let is_over = next.is_some_and(|next| next.facts.begun_at <= before);
    let mut first = match is_over {
        true => last,
        // The one before it says that nothing earlier matters.
        false => first_sealed_since(&log.log, &kept, (SegmentNumber(last), before)).await?.0.saturating_sub(1),
    };
    if first > kept.first().0 && epoch.facts.kind == SourceKind::Postgres {
        match first_of_bases(engine, (log, epoch, &kept), needs, last).await? {
            Some(needed) => first = first.min(needed.saturating_sub(1)),
            None if !is_over && is_followed(log, &kept, (last, before)).await? => return Ok(None),
            None => {}
        }
    }
    let begins = LogBegin { first: SegmentNumber(first).max(kept.first()), bases_since: needs.since };
    Ok(Some(LogWanted { begins, undelete: needs.undelete }))
}

/// What the first bases of an epoch need of it; `None`: it has none.
async fn first_of_bases(
    engine: &Engine,
    (log, epoch, kept): (&SourceLog, &Epoch, &LogState),
    needs: &LogNeeds,
    last: u64,
) -> Result<Option<u64>, Error> {
    let from = epoch.facts.begun_at.saturating_sub(needs.doubt);
    let from = kept.begins.map_or(from, |begins| begins.bases_since.max(from));
    let next = log.epochs.iter().find(|other| other.id > epoch.id);
    let till = next.map(|next| next.facts.begun_at.saturating_add(needs.doubt));
    let may_join = |base: &&NeededBase| base.cut_from >= from && till.is_none_or(|till| base.cut_from <= till);
    let asked = needs.bases.iter().filter(may_join).map(async |base| {
        let needed = first_needed(engine, (log, epoch, kept), base, last).await?;
        Ok::<_, Error>((base.cut_from, needed))
    });
    let mut asked = std::pin::pin!(futures_util::stream::iter(asked).buffered(BASES_AT_ONCE));
    let mut found: Option<(Timestamp, u64)> = None;
    while let Some((at, needed)) = asked.try_next().await? {
        if found.is_some_and(|(first, _)| at > first.saturating_add(needs.doubt)) {
            break;
        }
        found = match (found, needed) {
            (Some((first, so_far)), Some(needed)) => Some((first, so_far.min(needed))),
            (None, Some(needed)) => Some((at, needed)),
            (found, None) => found,
        };
    }
    Ok(found.map(|(_, needed)| needed))
}

/// Whether an epoch was followed at a time, or since: a snapshot of then may go on in it.
async fn is_followed(log: &SourceLog, kept: &LogState, (last, at): (u64, Timestamp)) -> Result<bool, Error> {
    let newest = log.footer(kept.epoch, last).await?;
    Ok(newest.is_none_or(|(_, footer)| footer.sealed_at >= at))
}

/// The first segment that may have a change which a snapshot does not see; `None`: it is no base in the epoch.
async fn first_needed(
    engine: &Engine,
    (log, epoch, kept): (&SourceLog, &Epoch, &LogState),
    base: &NeededBase,
    last: u64,
) -> Result<Option<u64>, Error> {
    engine.check_cancelled()?;
    let nobody_can_tell = Some(kept.first().0);
    let site = engine.site(&base.site).await?;
    let Some(record) = site.state().snapshot_or_forgotten(base.snapshot) else { return Ok(nobody_can_tell) };
    let Some(base) = base_of(&site, record, log.source(), (epoch, kept.begins)).await? else { return Ok(None) };
    Ok(log.first_after(kept, &base, last).await?.or(nobody_can_tell))
}
