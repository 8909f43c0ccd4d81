//! What the last checks found, so that damage is told until a check finds it gone.
//!
//! A check that reads less than the one that found the damage proves nothing: what was found by reading packs is over only when
//! all of them were read and were whole. The bucket does not say any of this. With the catalog it is lost, and the next check
//! says it again.

use std::collections::BTreeMap;

use lifeboat_model::{SiteId, SourceName, Timestamp};
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::Catalog;
use crate::Error;
use crate::alarms::DamageSeen;

const COLUMNS: &str = "read_at, found_at, findings, first, by_reading, sweep_from, sweep_percent, sweep_turn";

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckScope<'a> {
    Site(&'a SiteId),
    /// The change log of a source.
    Log(&'a SourceName),
}

/// How much of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckReach {
    Structure,
    /// And so many per cent of the packs, those whose turn it was: so many turns one after another come round to all of them.
    Share {
        percent: u8,
        turn: u64,
    },
    /// And all of them.
    All,
}

/// A check that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckNote {
    pub at: Timestamp,
    pub reach: CheckReach,
    pub findings: u64,
    /// The first of them, in one line.
    pub first: String,
}

/// What is known of earlier checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckSeen {
    /// Since when all of it has been read and was whole: when the check that read all of it was, or the first of those that
    /// did so together.
    pub read_at: Option<Timestamp>,
    pub damage: Option<DamageSeen>,
}

/// Of everything that was checked from here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChecksSeen {
    pub sites: BTreeMap<SiteId, CheckSeen>,
    pub logs: BTreeMap<SourceName, CheckSeen>,
}

/// A row of the table.
#[derive(Default)]
struct Row {
    read_at: Option<i64>,
    damage: Option<Damage>,
    sweep: Option<Sweep>,
}

struct Damage {
    found_at: i64,
    findings: u64,
    first: String,
    /// Only reading all of it can say that it is over.
    by_reading: bool,
}

/// Checks that read a share each, turn after turn, and found nothing.
struct Sweep {
    from: i64,
    percent: u64,
    turn: u64,
}

impl Row {
    /// What is known after one more check.
    fn after(self, note: &CheckNote) -> Self {
        let found_by_reading = self.damage.as_ref().is_some_and(|damage| damage.by_reading);
        if note.findings > 0 {
            let found_at = self.damage.map_or(note.at.0, |damage| damage.found_at);
            let by_reading = found_by_reading || note.reach != CheckReach::Structure;
            let damage = Damage { found_at, findings: note.findings, first: note.first.clone(), by_reading };
            return Self { read_at: self.read_at, damage: Some(damage), sweep: None };
        }
        let (read_at, sweep) = match note.reach {
            CheckReach::Structure => (None, self.sweep),
            CheckReach::All => (Some(note.at.0), None),
            CheckReach::Share { percent, turn } => swept(self.sweep, (percent, turn), note.at.0),
        };
        let is_over = !found_by_reading || read_at.is_some();
        Self { read_at: read_at.or(self.read_at), damage: self.damage.filter(|_| !is_over), sweep }
    }
}

/// When the sweep began that has now come round; and the one that goes on.
fn swept(sweep: Option<Sweep>, (percent, turn): (u8, u64), at: i64) -> (Option<i64>, Option<Sweep>) {
    let sweep = match sweep {
        // The same share once more.
        Some(sweep) if sweep.turn == turn => return (None, Some(sweep)),
        // A turn that was left out is a share that nobody read.
        Some(sweep) if sweep.turn.checked_add(1) == Some(turn) => {
            Sweep { percent: sweep.percent + u64::from(percent), turn, ..sweep }
        }
        _ => Sweep { from: at, percent: u64::from(percent), turn },
    };
    match sweep.percent >= 100 {
        true => (Some(sweep.from), None),
        false => (None, Some(sweep)),
    }
}

impl CheckScope<'_> {
    fn text(&self) -> String {
        match self {
            Self::Site(site) => format!("site:{site}"),
            Self::Log(source) => format!("log:{source}"),
        }
    }
}

impl Catalog {
    pub fn note_check(&mut self, scope: CheckScope<'_>, note: &CheckNote) -> Result<(), Error> {
        self.try_note_check(&scope.text(), note).map_err(|error| Error::of_sqlite(&self.file, error))
    }

    /// The result of every check that was noted.
    pub fn checks(&self) -> Result<ChecksSeen, Error> {
        self.try_checks().map_err(|error| Error::of_sqlite(&self.file, error))
    }

    fn try_note_check(&mut self, scope: &str, note: &CheckNote) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!("SELECT {COLUMNS} FROM checked WHERE scope = ?1");
        let known = transaction.query_row(&sql, [scope], |row| row_of(row, 0)).optional()?.unwrap_or_default();
        let Row { read_at, damage, sweep } = known.after(note);
        let sweep = sweep.map(|sweep| (sweep.from, sweep.percent.cast_signed(), sweep.turn.cast_signed()));
        transaction.execute(
            &format!("INSERT OR REPLACE INTO checked (scope, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"),
            params![
                scope,
                read_at,
                damage.as_ref().map(|damage| damage.found_at),
                damage.as_ref().map_or(0, |damage| damage.findings.cast_signed()),
                damage.as_ref().map(|damage| &damage.first),
                damage.as_ref().is_some_and(|damage| damage.by_reading),
                sweep.map(|(from, _, _)| from),
                sweep.map(|(_, percent, _)| percent),
                sweep.map(|(_, _, turn)| turn),
            ],
        )?;
        transaction.commit()
    }

    fn try_checks(&self) -> rusqlite::Result<ChecksSeen> {
        let mut statement = self.connection.prepare_cached(&format!("SELECT scope, {COLUMNS} FROM checked"))?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row_of(row, 1)?)))?;
        let mut checks = ChecksSeen::default();
        for row in rows {
            let (scope, Row { read_at, damage, .. }) = row?;
            let seen = CheckSeen {
                read_at: read_at.map(Timestamp),
                damage: damage.map(|damage| DamageSeen {
                    found_at: Timestamp(damage.found_at),
                    findings: damage.findings,
                    first: damage.first,
                }),
            };
            match scope.split_once(':') {
                Some(("site", site)) => SiteId::new(site).ok().and_then(|site| checks.sites.insert(site, seen)),
                Some(("log", source)) => SourceName::new(source).ok().and_then(|name| checks.logs.insert(name, seen)),
                _ => None,
            };
        }
        Ok(checks)
    }
}

fn row_of(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Row> {
    let damage = match row.get::<_, Option<i64>>(first + 1)? {
        Some(found_at) => Some(Damage {
            found_at,
            findings: row.get::<_, i64>(first + 2)?.cast_unsigned(),
            first: row.get::<_, Option<String>>(first + 3)?.unwrap_or_default(),
            by_reading: row.get(first + 4)?,
        }),
        None => None,
    };
    let sweep = match row.get::<_, Option<i64>>(first + 5)? {
        Some(from) => Some(Sweep {
            from,
            percent: row.get::<_, i64>(first + 6)?.cast_unsigned(),
            turn: row.get::<_, i64>(first + 7)?.cast_unsigned(),
        }),
        None => None,
    };
    Ok(Row { read_at: row.get(first)?, damage, sweep })
}
