//! The slot: the server's promise to keep its log until we have it.
//!
//! ```text
//! create ─▶ consistent point + exported snapshot ─▶ bases are read under it ─▶ begin to follow
//! state  ─▶ may what we followed be followed further? if not, a new epoch begins, and says why
//! ```
//!
//! A slot is never resumed because its name is right: a name says nothing about whose log it is. It must be
//! of the same server and timeline, and no further than what the log has.
//!
//! What is not here: following (`stream`), which tables (`publication`).

use std::time::Duration;

use lifeboat_model::{Fault, Lsn};
use postgres::error::SqlState;

use super::session::{ANSWER_MAX, ReplicationSession, ServerIdentity, quoted};
use super::wire::WireError;
use crate::Error;
use crate::postgres::Session;

/// How names of our slots and publications begin.
pub(in crate::postgres) const CAPTURE_PREFIX: &str = "lifeboat_";

/// Names in PostgreSQL have 63 bytes; some are kept for a number behind.
const NAME_BYTES_MAX: usize = 56;

/// The name of the slot and of the publication of a source: lower case, digits and `_`, short.
///
/// Where the source's own name cannot be kept as it is, a part of its hash keeps two of them apart.
pub fn capture_name(source_name: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let prefix = CAPTURE_PREFIX;
    if source_name.bytes().all(is_safe) && prefix.len() + source_name.len() <= NAME_BYTES_MAX {
        return format!("{prefix}{source_name}");
    }
    let hash = blake3::hash(source_name.as_bytes()).to_hex();
    let safe =
        source_name.bytes().map(|byte| byte.to_ascii_lowercase()).map(|byte| if is_safe(byte) { byte } else { b'_' });
    let kept: String = safe.take(NAME_BYTES_MAX - prefix.len() - 9).map(char::from).collect();
    format!("{prefix}{kept}_{}", &hash[..8])
}

/// A slot that was followed, and up to where the log has what it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    pub server: ServerIdentity,
    pub slot: String,
    /// The end of what is durable in the log.
    pub confirmed: Lsn,
}

/// Whether it can be followed further. Every answer but `Ready` and `InUse` is a gap: the epoch is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotState {
    Ready(SlotFacts),
    /// Somebody is connected to it.
    InUse {
        facts: SlotFacts,
        process: i32,
    },
    Missing,
    /// The server has thrown away what the slot needed; `reason` in the server's words.
    Lost {
        reason: String,
    },
    /// Not the server that was followed.
    OtherServer {
        found: String,
    },
    /// A standby took over, or a backup was restored: what came after may be another history.
    OtherTimeline {
        found: u32,
    },
    /// The server's own log ends before ours: it was put back to an earlier time, and its positions mean something else.
    PutBack {
        at: Lsn,
    },
    /// Of this name, but of another database, plugin or kind.
    NotOurs {
        detail: String,
    },
    /// Further than the log: what lies between was given to somebody else.
    Ahead {
        confirmed: Lsn,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    pub restart: Option<Lsn>,
    pub confirmed: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: String,
    /// Bytes of log that may still be written before the slot is lost; `None`: without limit.
    pub safe_wal_bytes: Option<i64>,
    /// `max_slot_wal_keep_size`, as it is set; `-1`: the server rather fills its disk.
    pub keep_size: String,
    /// Log the server keeps for it.
    pub kept_bytes: Option<i64>,
}

/// A slot that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSlot {
    /// A transaction belongs to the snapshot if its commit is before it, and to the stream if not.
    pub consistent: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`, as long as the session that made it does nothing else.
    pub snapshot: String,
}

impl ReplicationSession {
    /// Makes a slot, and holds a snapshot of its first moment open. It waits for every transaction that
    /// writes, `wait` for each at most.
    pub fn create_slot(&mut self, name: &str, wait: Duration) -> Result<NewSlot, Error> {
        self.create(name, "", wait)
    }

    /// The same for a slot that goes with this session: an exact snapshot, and nothing left behind.
    pub fn create_temporary_slot(&mut self, name: &str, wait: Duration) -> Result<NewSlot, Error> {
        self.create(name, "TEMPORARY ", wait)
    }

    fn create(&mut self, name: &str, kind: &str, wait: Duration) -> Result<NewSlot, Error> {
        const ACTION: &str = "cannot create the slot";
        let wal_level = self.query("SHOW wal_level", ACTION, ANSWER_MAX)?;
        let wal_level = wal_level.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
        if wal_level != "logical" {
            return Err(Error::Database {
                source_name: self.source_name.clone(),
                action: "changes cannot be followed".into(),
                detail: format!("the server's log does not have them: wal_level=`{wal_level}`"),
                hint: "ALTER SYSTEM SET wal_level = logical, then restart the server".into(),
                fault: Fault::Operator,
            });
        }
        // Waiting for transactions is waiting for locks; it must not be left to the settings' 10 s.
        self.query(&format!("SET lock_timeout = {}", wait.as_millis()), ACTION, ANSWER_MAX)?;
        // This older spelling is understood by 14 and by 18.
        let command = format!("CREATE_REPLICATION_SLOT {} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT", quoted(name));
        let bound = wait.saturating_mul(3).saturating_add(ANSWER_MAX); // it waits in three rounds
        self.wire_query(&command, bound).map_err(|error| self.cannot_create(name, error)).and_then(|rows| {
            let slot = rows.first().and_then(|row| {
                let consistent = Lsn::parse(row.get(1)?.as_deref()?).ok()?;
                Some(NewSlot { consistent, snapshot: row.get(2)?.clone()? })
            });
            slot.ok_or_else(|| self.nonsense(ACTION))
        })
    }

    fn cannot_create(&self, name: &str, error: WireError) -> Error {
        let action = format!("cannot create the slot `{name}`");
        let hint = match error.code() {
            Some(SqlState::LOCK_NOT_AVAILABLE) => {
                "a transaction that writes has been open for long, perhaps a prepared one: look at pg_stat_activity and \
                 pg_prepared_xacts, end it, and run the same command again"
            }
            Some(SqlState::CONFIGURATION_LIMIT_EXCEEDED) => "raise max_replication_slots, then restart the server",
            Some(SqlState::DUPLICATE_OBJECT) => {
                "it is there already: follow it, or drop it with pg_drop_replication_slot"
            }
            _ => return error.failed(&self.source_name, &action),
        };
        let mut failed = error.failed(&self.source_name, &action);
        if let Error::Database { hint: said, .. } = &mut failed {
            *said = hint.to_owned();
        }
        failed
    }
}

/// Looks at the slot that was followed.
pub fn slot_state(session: &mut Session, found: &ServerIdentity, followed: &Followed) -> Result<SlotState, Error> {
    if found.system_identifier != followed.server.system_identifier {
        return Ok(SlotState::OtherServer { found: found.system_identifier.clone() });
    }
    if found.timeline != followed.server.timeline {
        return Ok(SlotState::OtherTimeline { found: found.timeline });
    }
    // An epoch without a change yet begins where the log ends, and what is confirmed is one behind it.
    if let Some(at) = log_end(session)?.filter(|at| at.0.saturating_add(1) < followed.confirmed.0) {
        return Ok(SlotState::PutBack { at });
    }
    let Some(slot) = look_up(session, &followed.slot)? else { return Ok(SlotState::Missing) };
    Ok(judge(slot, followed.confirmed))
}

/// Up to where the server has written its log; `None`: it only replays another's.
fn log_end(session: &mut Session) -> Result<Option<Lsn>, Error> {
    let sql = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END";
    let row = session.query_one(sql, &[]);
    let row = row.map_err(|error| session.failed("cannot ask where the server's log is", &error))?;
    Ok(row.get::<_, Option<&str>>(0).and_then(|text| Lsn::parse(text).ok()))
}

/// The facts of a slot, whoever's it is; `None`: there is none.
pub fn slot_facts(session: &mut Session, name: &str) -> Result<Option<SlotFacts>, Error> {
    Ok(look_up(session, name)?.map(|slot| slot.facts))
}

/// A slot as whoever watches it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSeen {
    pub facts: SlotFacts,
    /// Somebody follows it now.
    pub is_followed: bool,
    /// Why it can be followed no further, in the server's words.
    pub lost: Option<String>,
}

/// The slot of this name; `None`: there is none.
pub(super) fn slot_seen(session: &mut Session, name: &str) -> Result<Option<SlotSeen>, Error> {
    // One of another database is none of this source's.
    let seen = |slot: FoundSlot| SlotSeen { facts: slot.facts, is_followed: slot.process.is_some(), lost: slot.lost };
    Ok(look_up(session, name)?.filter(|slot| slot.foreign.is_none()).map(seen))
}

/// Drops a slot that nobody follows. One that is not there is dropped; one of another database, whose changes it would
/// lose, is not.
pub fn drop_slot(session: &mut Session, name: &str) -> Result<(), Error> {
    if let Some(detail) = look_up(session, name)?.and_then(|slot| slot.foreign) {
        return Err(Error::Conflict {
            path: name.to_owned(),
            detail: format!("the slot is not this source's: {detail}"),
            hint:
                "slots are named after their source, once for the whole server: give this source another name, or drop \
                   that slot with pg_drop_replication_slot if nobody needs it"
                    .into(),
        });
    }
    let sql = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
        WHERE slot_name = $1";
    let dropped = session.execute(sql, &[&name]);
    match dropped {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
        Err(error) => Err(session.failed(format!("cannot drop the slot `{name}`"), &error)),
    }
}

struct FoundSlot {
    facts: SlotFacts,
    process: Option<i32>,
    lost: Option<String>,
    /// Why it is none of ours.
    foreign: Option<String>,
}

fn look_up(session: &mut Session, name: &str) -> Result<Option<FoundSlot>, Error> {
    // As JSON the columns of newer versions can be asked for everywhere.
    let sql = "SELECT s.restart_lsn::text, s.confirmed_flush_lsn::text, coalesce(s.wal_status, ''), s.safe_wal_size,
            current_setting('max_slot_wal_keep_size'), s.active_pid,
            CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_lsn() - s.restart_lsn)::int8 END,
            coalesce(to_jsonb(s) ->> 'invalidation_reason',
                CASE WHEN to_jsonb(s) ->> 'conflicting' = 'true' THEN 'conflict with recovery' END),
            CASE WHEN s.slot_type <> 'logical' THEN 'kind=`' || s.slot_type || '`'
                WHEN s.database <> current_database() THEN 'database=`' || s.database || '`'
                WHEN s.plugin <> 'pgoutput' THEN 'plugin=`' || s.plugin || '`' END
        FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1";
    let failed = |session: &Session, error: &postgres::Error| session.failed("cannot look at the slot", error);
    let row = session.query_opt(sql, &[&name]);
    let Some(row) = row.map_err(|error| failed(session, &error))? else { return Ok(None) };
    let lsn = |column: usize| row.get::<_, Option<&str>>(column).and_then(|text| Lsn::parse(text).ok());
    let facts = SlotFacts {
        restart: lsn(0),
        confirmed: lsn(1),
        wal_status: row.get(2),
        safe_wal_bytes: row.get(3),
        keep_size: row.get(4),
        kept_bytes: row.get(6),
    };
    let reason: Option<String> = row.get(7);
    let is_lost = facts.wal_status == "lost" || facts.restart.is_none() || reason.is_some();
    let lost = is_lost.then(|| reason.unwrap_or_else(|| format!("max_slot_wal_keep_size=`{}`", facts.keep_size)));
    Ok(Some(FoundSlot { facts, process: row.get(5), lost, foreign: row.get(8) }))
}

fn judge(slot: FoundSlot, log_has: Lsn) -> SlotState {
    if let Some(detail) = slot.foreign {
        return SlotState::NotOurs { detail };
    }
    if let Some(reason) = slot.lost {
        return SlotState::Lost { reason };
    }
    match (slot.facts.confirmed, slot.process) {
        (Some(confirmed), _) if confirmed > log_has => SlotState::Ahead { confirmed },
        (_, Some(process)) => SlotState::InUse { facts: slot.facts, process },
        _ => SlotState::Ready(slot.facts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_s_name_is_one_that_the_server_takes_and_no_other_source_s() {
        assert_eq!(capture_name("app"), "lifeboat_app");
        let names = ["App", "app-eu", "app.eu", "größe", &"x".repeat(100), &"x".repeat(101), ""].map(capture_name);
        for (place, name) in names.iter().enumerate() {
            assert!(name.len() <= NAME_BYTES_MAX, "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert!(!names[..place].contains(name), "{name}");
        }
    }

    #[test]
    fn a_slot_is_ready_only_where_the_log_ends() {
        let facts = |confirmed: u64| SlotFacts {
            restart: Some(Lsn(1)),
            confirmed: Some(Lsn(confirmed)),
            wal_status: "reserved".into(),
            safe_wal_bytes: None,
            keep_size: "-1".into(),
            kept_bytes: Some(1),
        };
        let slot = |confirmed| FoundSlot { facts: facts(confirmed), process: None, lost: None, foreign: None };
        let check = |slot: FoundSlot, want: SlotState| assert_eq!(judge(slot, Lsn(10)), want);
        check(slot(10), SlotState::Ready(facts(10)));
        check(slot(9), SlotState::Ready(facts(9)));
        check(slot(11), SlotState::Ahead { confirmed: Lsn(11) });
        check(FoundSlot { process: Some(7), ..slot(10) }, SlotState::InUse { facts: facts(10), process: 7 });
        let lost = FoundSlot { lost: Some("wal_removed".into()), process: Some(7), ..slot(11) };
        check(lost, SlotState::Lost { reason: "wal_removed".into() });
        let foreign = FoundSlot { foreign: Some("plugin=`x`".into()), ..slot(10) };
        check(foreign, SlotState::NotOurs { detail: "plugin=`x`".into() });
    }
}
