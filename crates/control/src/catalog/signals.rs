//! What is firing since when, who was told what, and how telling them went.
//!
//! The bucket says none of it: lost with the catalog, alarms begin anew and are told again, which is the better mistake.

use std::collections::BTreeMap;

use lifeboat_model::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::Catalog;
use crate::Error;
use crate::alarms::{AlarmNote, NotifierHealth, Round, Told};

/// What is remembered of one cycle.
#[derive(Debug, Clone, Default)]
pub struct SignalNote {
    /// Ids of all alarms that fire, and since when. Every other one is forgotten.
    pub firing: BTreeMap<String, Timestamp>,
    /// What was told to whom, at this time.
    pub told: Vec<(String, Round, Timestamp)>,
    /// How telling them goes now; those that are not named any more are forgotten.
    pub notifiers: Vec<NotifierHealth>,
}

impl Catalog {
    /// Ids of the alarms that fired when they were last looked at, and since when.
    pub fn firing(&self) -> Result<BTreeMap<String, Timestamp>, Error> {
        let read = || -> rusqlite::Result<BTreeMap<String, Timestamp>> {
            let mut statement = self.connection.prepare_cached("SELECT id, since FROM alarm")?;
            statement.query_map([], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?.collect()
        };
        read().map_err(|error| self.failed(error))
    }

    /// What a notifier was told and not told the end of, by the alarm's id.
    pub fn told(&self, notifier: &str) -> Result<BTreeMap<String, Told>, Error> {
        self.try_told(notifier).map_err(|error| self.failed(error))
    }

    /// How telling goes, of every notifier that was ever used.
    pub fn notifiers(&self) -> Result<Vec<NotifierHealth>, Error> {
        let read = || -> rusqlite::Result<Vec<NotifierHealth>> {
            let sql = "SELECT name, sent, failed, failing_since, reason FROM notifier ORDER BY name";
            self.connection.prepare_cached(sql)?.query_map([], health_of)?.collect()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Remembers a cycle, as a whole.
    pub fn note_signals(&mut self, note: &SignalNote) -> Result<(), Error> {
        self.try_note_signals(note).map_err(|error| Error::of_sqlite(&self.file, error))
    }

    fn try_told(&self, notifier: &str) -> rusqlite::Result<BTreeMap<String, Told>> {
        let sql = "SELECT id, told_at, alarm FROM told WHERE notifier = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([notifier], |row| {
            // What another version wrote is told again.
            let alarm = serde_json::from_str::<AlarmNote>(row.get_ref(2)?.as_str()?).ok();
            let at = Timestamp(row.get(1)?);
            Ok(alarm.map(|alarm| Told { at, alarm }).map(|told| (told.alarm.id.clone(), told)))
        })?;
        rows.filter_map(Result::transpose).collect()
    }

    fn try_note_signals(&mut self, note: &SignalNote) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM alarm", [])?;
        for (id, since) in &note.firing {
            let sql = "INSERT INTO alarm (id, since) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute(params![id, since.0])?;
        }
        for (notifier, round, at) in &note.told {
            note_round(&transaction, notifier, round, *at)?;
        }
        let names: Vec<&str> = note.notifiers.iter().map(|health| health.name.as_str()).collect();
        let names = serde_json::to_string(&names).unwrap_or_default();
        for table in ["DELETE FROM told WHERE notifier", "DELETE FROM notifier WHERE name"] {
            transaction.execute(&format!("{table} NOT IN (SELECT value FROM json_each(?1))"), [&names])?;
        }
        for health in &note.notifiers {
            let (since, reason) = health.failing.as_ref().map(|(since, reason)| (since.0, reason)).unzip();
            let sql = "INSERT OR REPLACE INTO notifier (name, sent, failed, failing_since, reason)
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            let counts = (health.sent.cast_signed(), health.failed.cast_signed());
            transaction.prepare_cached(sql)?.execute(params![health.name, counts.0, counts.1, since, reason])?;
        }
        transaction.commit()
    }
}

fn note_round(connection: &Connection, notifier: &str, round: &Round, at: Timestamp) -> rusqlite::Result<()> {
    for alarm in round.firing() {
        let sql = "INSERT OR REPLACE INTO told (notifier, id, told_at, alarm) VALUES (?1, ?2, ?3, ?4)";
        let text = serde_json::to_string(alarm).unwrap_or_default();
        connection.prepare_cached(sql)?.execute(params![notifier, alarm.id, at.0, text])?;
    }
    for alarm in &round.resolved {
        let sql = "DELETE FROM told WHERE notifier = ?1 AND id = ?2";
        connection.prepare_cached(sql)?.execute(params![notifier, alarm.id])?;
    }
    Ok(())
}

fn health_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<NotifierHealth> {
    let failing = match row.get::<_, Option<i64>>(3)? {
        Some(since) => Some((Timestamp(since), row.get::<_, Option<String>>(4)?.unwrap_or_default())),
        None => None,
    };
    Ok(NotifierHealth {
        name: row.get(0)?,
        sent: row.get::<_, i64>(1)?.cast_unsigned(),
        failed: row.get::<_, i64>(2)?.cast_unsigned(),
        failing,
    })
}
