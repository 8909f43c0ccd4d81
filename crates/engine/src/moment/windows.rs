//! From when to when a site's part can be put back to any moment, found as a restore to one of them finds it.
//!
//! ```text
//! base ───────────✕ rows came or went unseen        base ───────────▶ till where the log is complete
//!  └─ restorable ─┘                                  └─ restorable ──▶
//! ```
//!
//! What breaks a stretch is looked for in the newest day of an epoch: it is read for that.

use std::time::Duration;

use lifeboat_model::{SourceName, Timestamp};
use lifeboat_repo::Site;

use super::cut::Moment;
use super::is_base;
use super::locate::{Base, base_of};
use super::log::SourceLog;
use super::scan::{Scanned, Search};
use crate::bases::{EpochSeen, Window};
use crate::{Engine, Error};

/// Stretches that end so long before an epoch's end are not read.
const LOOKED_AT: Duration = Duration::from_secs(24 * 3_600);
/// What was cut long before the epoch began cannot join it; the rest is asked.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(3_600);

/// How sure the stretches are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Where they begin and end; what breaks them in between is not looked for.
    Ends,
    Whole,
}

/// Those of one epoch of a PostgreSQL, oldest first.
pub(crate) async fn windows_of(
    engine: &Engine,
    site: &Site,
    (source, seen): (&SourceName, &EpochSeen),
    certainty: Certainty,
) -> Result<Vec<Window>, Error> {
    let Some(till) = seen.till else { return Ok(Vec::new()) };
    let epoch = &seen.epoch;
    let (begun, read_from) = (epoch.facts.begun_at, till.saturating_sub(LOOKED_AT));
    let since = begun.saturating_sub(CLOCKS_DIFFER_MAX);
    let mut windows: Vec<Window> = Vec::new();
    let mut log = None;
    // One that goes on from a base, unread; where the last one was broken.
    let (mut unread, mut broken) = (None::<Window>, None::<Timestamp>);
    for record in site.state().snapshots.iter().filter(|record| is_base(record) && record.cut_till >= since) {
        if broken.is_some_and(|broken| record.cut_till <= broken) {
            continue;
        }
        let Some(base) = base_of(site, record, source, (epoch, seen.begins)).await? else { continue };
        let from = base.read.1.max(begun);
        if from > till {
            break;
        }
        let window = Window { epoch: epoch.id, from, till, base: record.id };
        if certainty == Certainty::Ends {
            return Ok(vec![window]);
        }
        if from < read_from {
            unread = unread.or(Some(window));
            continue;
        }
        let log = match &log {
            Some(log) => log,
            None => match SourceLog::open(engine, source).await? {
                Some(opened) => log.insert(opened),
                None => return Ok(Vec::new()),
            },
        };
        // Until here it is taken for whole.
        windows.extend(unread.take().map(|window| Window { till: from, ..window }));
        broken = match look(engine, site, (log, &base), (epoch.id, till)).await? {
            Look::Whole => {
                windows.push(window);
                return Ok(joined(windows));
            }
            Look::Broken(at) => {
                let before = at.saturating_sub(Duration::from_micros(1)).min(till);
                windows.extend((before > from).then_some(Window { till: before, ..window }));
                Some(at)
            }
            Look::Later => broken,
        };
    }
    windows.extend(unread);
    Ok(joined(windows))
}

enum Look {
    Whole,
    Broken(Timestamp),
    /// The log has not come as far as the base.
    Later,
}

async fn look(
    engine: &Engine,
    site: &Site,
    (log, base): (&SourceLog, &Base),
    (epoch, till): (lifeboat_model::EpochId, Timestamp),
) -> Result<Look, Error> {
    let search = Search { log, site: site.id(), base, moment: Moment::Time(till) };
    let kept = log.log.kept(epoch).await?;
    Ok(match search.run(engine, &kept).await? {
        Scanned::Found(scan) => scan.moved.map_or(Look::Whole, Look::Broken),
        Scanned::BaseIsLater | Scanned::LogIsGone | Scanned::AfterEnd(_) => Look::Later,
    })
}

/// Without what stands in two pieces for no reason.
fn joined(windows: Vec<Window>) -> Vec<Window> {
    let mut all: Vec<Window> = Vec::new();
    for window in windows {
        match all.last_mut() {
            Some(last) if last.till >= window.from => last.till = window.till,
            _ => all.push(window),
        }
    }
    all
}
