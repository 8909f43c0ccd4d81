//! Whether an existing log may be gone on with: the slot, the index and what was kept on this host must belong to it.
//!
//! What is not here: going on, and beginning anew (`capture`).

use lifeboat_model::EpochReason;
use lifeboat_repo::Appender;
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::capture::{Followed, ServerIdentity, SlotState};

use super::counted::{Broken, CountedOn, other_table};
use super::kept::Kept;
use super::{CaptureIndex, after, in_use, not_ours};
use crate::Error;

/// What an existing log allows.
pub(super) enum LogEnd {
    /// `kept`: what is read before the slot.
    GoOn { appender: Box<Appender>, kept: Option<Kept> },
    /// What comes next is another epoch; before it, what was kept still belongs to this one.
    Over { why: EpochReason, broken: Broken, kept: Option<(Box<Appender>, Kept)> },
}

impl LogEnd {
    /// All of the log until then is whole.
    pub fn over(why: EpochReason, detail: String) -> Self {
        Self::Over { why, broken: Broken { detail, sound_till: None }, kept: None }
    }
}

/// Whether the slot is as the log left it, or as what was kept left it, and the index belongs to the log.
pub(super) fn judge(
    source: &PostgresSource,
    appender: Appender,
    index: &mut dyn CaptureIndex,
    kept: Result<Option<Kept>, String>,
) -> Result<LogEnd, Error> {
    let facts = &appender.epoch().facts;
    let server = ServerIdentity { system_identifier: facts.system_identifier.clone(), timeline: facts.timeline };
    let (kept, of_no_use) = match kept {
        Ok(kept) => (kept, None),
        Err(why) => (None, Some(why)),
    };
    let log_has = after(appender.complete_till());
    let confirmed = kept.as_ref().map_or(log_has, |kept| kept.till().max(log_has));
    let followed = Followed { server, slot: facts.slot.clone(), confirmed };
    let confirmed = match source.slot_state(&followed)? {
        SlotState::Ready(facts) => facts.confirmed,
        SlotState::InUse { process, .. } => return Err(in_use(source, &followed.slot, process)),
        SlotState::NotOurs { detail } => return Err(not_ours(source, &followed.slot, detail)),
        SlotState::Missing => {
            let detail = format!("the slot is gone: slot=`{}`", followed.slot);
            return without_slot(source, (appender, kept), index, (EpochReason::SlotLost, detail));
        }
        SlotState::Lost { reason } => {
            return without_slot(source, (appender, kept), index, (EpochReason::SlotLost, reason));
        }
        SlotState::OtherTimeline { found } => {
            let detail = format!("another timeline: timeline=`{found}`");
            return without_slot(source, (appender, kept), index, (EpochReason::Failover, detail));
        }
        SlotState::OtherServer { found } => {
            let detail = format!("another server: system_identifier=`{found}`");
            return Ok(LogEnd::over(EpochReason::Failover, detail));
        }
        SlotState::PutBack { at } => {
            let detail =
                format!("the server was put back to an earlier time, its own log ends before ours: lsn=`{at}`");
            return Ok(LogEnd::over(EpochReason::Failover, detail));
        }
        SlotState::Ahead { confirmed } => {
            let why = of_no_use.unwrap_or_else(|| {
                "somebody else took what lies between, or it was only on a host and is gone".to_owned()
            });
            let note = format!("the slot is further than the log: confirmed=`{confirmed}`, {why}");
            return Ok(LogEnd::over(EpochReason::SlotLost, note));
        }
    };
    let epoch = appender.epoch().id;
    // An older copy of the index lacks what the server does not send again.
    let is_of_log = index.place()?.is_some_and(|place| {
        let has = kept.as_ref().map_or(after(place.position), Kept::till);
        let is_whole = confirmed.is_none_or(|confirmed| confirmed <= has);
        place.epoch == epoch && place.position <= appender.complete_till() && is_whole
    });
    if !is_of_log {
        let note = "the routing index of this host is gone, or does not belong to the log";
        return Ok(LogEnd::over(EpochReason::Asked, note.into()));
    }
    Ok(match not_as_counted(source, &appender, index)? {
        Some(broken) => LogEnd::Over { why: EpochReason::TableRewritten, broken, kept: None },
        None => LogEnd::GoOn { appender: Box::new(appender), kept },
    })
}

/// The epoch ends, and what was kept is taken first, where the tables are still those that it speaks of.
pub(super) fn without_slot(
    source: &PostgresSource,
    (appender, kept): (Appender, Option<Kept>),
    index: &mut dyn CaptureIndex,
    (why, detail): (EpochReason, String),
) -> Result<LogEnd, Error> {
    let kept = match kept {
        Some(kept) if not_as_counted(source, &appender, index)?.is_none() => Some((Box::new(appender), kept)),
        _ => None,
    };
    Ok(LogEnd::Over { why, broken: Broken { detail, sound_till: None }, kept })
}

/// How the tables are others than the index counts on.
fn not_as_counted(
    source: &PostgresSource,
    appender: &Appender,
    index: &mut dyn CaptureIndex,
) -> Result<Option<Broken>, Error> {
    let (router, counted) = (source.current_router()?, CountedOn::load(index)?);
    // What befalls a site's own table the stream says in its place, where it is noted.
    let is_told = router.has_own_tables() && source.partitions()?.are_noted;
    let other = other_table(&counted.tables, &router.counted_on()).filter(|_| !is_told);
    Ok(other.map(|table| Broken {
        detail: format!("a table has another name, or other rows, than the index counts on: table=`{table}`"),
        sound_till: Some(counted.looked_at.unwrap_or(appender.epoch().facts.begun_at)),
    }))
}
