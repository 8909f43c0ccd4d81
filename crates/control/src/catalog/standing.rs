//! What else a site's head says: about its points' ages and marks, for alarms.
//!
//! It came later than the table of sites, and lies beside it as a text that only this cache reads. A site that has none was
//! noted by a version of before: whoever needs it asks the bucket.

use lifeboat_model::{Mark, SiteHandle, Timestamp};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Ages and marks of a site's points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its oldest good point.
    pub first_at: Option<Timestamp>,
    /// Its newest snapshot of all parts, whatever its mark.
    pub newest: Option<NewestSnapshot>,
    /// The newest good point that was read back or restored.
    pub read_back_till: Option<Timestamp>,
    /// When the restore that is open began.
    pub intent_opened_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestSnapshot {
    pub at: Timestamp,
    pub mark: Mark,
    /// Why it is not good.
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    first_at: Option<i64>,
    newest: Option<(i64, u8, Option<String>)>,
    read_back_till: Option<i64>,
    intent_opened_at: Option<i64>,
}

const MARKS: [Mark; 4] = [Mark::Good, Mark::Incomplete, Mark::Suspect, Mark::Undo];

pub(super) fn write(connection: &Connection, handle: SiteHandle, standing: Option<&Standing>) -> rusqlite::Result<()> {
    match standing.and_then(to_text) {
        Some(text) => connection
            .prepare_cached("INSERT OR REPLACE INTO standing (handle, standing) VALUES (?1, ?2)")?
            .execute(params![handle.0, text])?,
        None => connection.prepare_cached("DELETE FROM standing WHERE handle = ?1")?.execute([handle.0])?,
    };
    Ok(())
}

fn to_text(standing: &Standing) -> Option<String> {
    let newest = standing.newest.as_ref().map(|newest| {
        let mark = MARKS.iter().position(|mark| *mark == newest.mark).and_then(|at| u8::try_from(at).ok());
        mark.map(|mark| (newest.at.0, mark, newest.reason.clone()))
    });
    let row = Row {
        first_at: standing.first_at.map(|at| at.0),
        // A mark of a later model: better none of it than a wrong one.
        newest: match newest {
            Some(None) => return None,
            Some(newest) => newest,
            None => None,
        },
        read_back_till: standing.read_back_till.map(|at| at.0),
        intent_opened_at: standing.intent_opened_at.map(|at| at.0),
    };
    serde_json::to_string(&row).ok()
}

/// `None`: no text that this version wrote.
pub(super) fn of_text(text: &str) -> Option<Standing> {
    let row: Row = serde_json::from_str(text).ok()?;
    let newest = match row.newest {
        Some((at, mark, reason)) => {
            Some(NewestSnapshot { at: Timestamp(at), mark: *MARKS.get(usize::from(mark))?, reason })
        }
        None => None,
    };
    Some(Standing {
        first_at: row.first_at.map(Timestamp),
        newest,
        read_back_till: row.read_back_till.map(Timestamp),
        intent_opened_at: row.intent_opened_at.map(Timestamp),
    })
}
