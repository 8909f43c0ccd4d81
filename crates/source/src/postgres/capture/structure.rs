//! Changes of a table's structure, in their place among the changes of its rows.
//!
//! Where the role may (event triggers take a superuser), three event triggers note each of them in the log
//! itself. Where it may not, a table that the stream describes anew tells of it, at its next change of a
//! row; a rewrite, a dropped table and a detached partition then go unseen.
//!
//! A note is a word, not a proof: whoever may call `pg_logical_emit_message` can write one.

use postgres::error::SqlState;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::postgres::Session;

/// Of notes that the event triggers make.
pub(super) const PREFIX: &str = "lifeboat.ddl";

/// Whether changes of structure are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StructureNotes {
    /// By event triggers, which are there.
    Noted,
    /// Only a superuser may set them up.
    NotAllowed,
}

/// What became of a table's structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructureChange {
    pub oid: u32,
    /// As SQL prints it: its name after the change, or when it was dropped.
    pub table: String,
    /// The partitioned table whose rows it holds.
    pub root: Option<String>,
    pub kind: StructureKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StructureKind {
    /// `tag` is the command, such as `ALTER TABLE`; columns and, of partitioned tables, leaves are those after it.
    Altered { tag: String, columns: Vec<StructureColumn>, leaves: Option<Vec<Leaf>> },
    /// The table, or this column of it.
    Dropped { tag: String, column: Option<String> },
    /// All of its rows were written anew, which the stream does not show.
    Rewritten { tag: String },
    /// Something that is no table was made or altered in its schema; `table` is the schema, and `*`.
    Other(OtherChange),
    /// The stream describes it otherwise than before; nothing has noted why.
    Differs,
}

/// What became of something that is no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherChange {
    pub tag: String,
    pub renames_values: bool,
    /// An enumeration has values that it had not, and nothing else became of it.
    pub adds_values: bool,
    /// `None`: event triggers of an earlier version noted it.
    pub object: Option<OtherObject>,
}

/// An index, a view, a function, a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherObject {
    /// As the server calls it: `index`, `view`, `table constraint`.
    pub kind: String,
    /// As SQL prints it, with its schema.
    pub name: String,
    /// Of an enumeration: all of its values since, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    #[serde(default)]
    pub is_dropped: bool,
}

/// A table that holds rows, a partition or whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    pub oid: u32,
    /// `relfilenode`: another one after `TRUNCATE`, which of one partition nothing else tells.
    pub file: u32,
    /// Whether it has any pages.
    pub has_rows: bool,
    /// It is no partition.
    #[serde(default)]
    pub is_whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StructureColumn {
    /// `attnum`: stays when the column is renamed.
    pub number: i16,
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// What rows that were there before the column hold in it, not escaped; `None`: NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A table's columns after a change of its structure, as a change log keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumns {
    /// As SQL prints it.
    pub table: String,
    pub columns: Vec<StructureColumn>,
}

impl TableColumns {
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers and texts: there is nothing in it that JSON cannot say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None`: it is nothing of the kind.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

impl OtherObject {
    pub fn to_json(&self) -> String {
        // Texts: there is nothing in it that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None`: it is nothing of the kind.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

impl StructureChange {
    /// Whether rows changed without the stream showing it: what was followed of this table ends here.
    pub fn is_rewrite(&self) -> bool {
        matches!(self.kind, StructureKind::Rewritten { .. })
    }
}

/// Sets the event triggers up, or anew.
pub fn note_structure(session: &mut Session) -> Result<StructureNotes, Error> {
    match session.batch_execute(&format!("BEGIN; {}; COMMIT", include_str!("ddl.sql"))) {
        Ok(()) => Ok(StructureNotes::Noted),
        Err(error) => {
            let _ = session.batch_execute("ROLLBACK");
            match error.code() {
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) if are_noted(session)? => Ok(StructureNotes::Noted),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(StructureNotes::NotAllowed),
                _ => Err(session.failed("cannot set up the event triggers", &error)),
            }
        }
    }
}

/// Whether somebody has set them up.
pub(super) fn are_noted(session: &mut Session) -> Result<bool, Error> {
    let sql = "SELECT count(*) = 3 FROM pg_catalog.pg_event_trigger WHERE evtenabled = 'A'
        AND evtname IN ('lifeboat_capture_end', 'lifeboat_capture_drop', 'lifeboat_capture_rewrite')";
    let row = session.query_one(sql, &[]);
    row.map(|row| row.get(0)).map_err(|error| session.failed("cannot look for the event triggers", &error))
}

/// Takes them away again.
pub fn forget_structure(session: &mut Session) -> Result<(), Error> {
    let sql = "DROP EVENT TRIGGER IF EXISTS lifeboat_capture_end, lifeboat_capture_drop, lifeboat_capture_rewrite";
    let sql = sql.replace(", ", "; DROP EVENT TRIGGER IF EXISTS ");
    let done = session.batch_execute(&format!("{sql}; DROP SCHEMA IF EXISTS lifeboat_capture CASCADE"));
    done.map_err(|error| session.failed("cannot take the event triggers away", &error))
}

/// As the event triggers write it.
#[derive(Deserialize)]
struct Note {
    event: String,
    tag: String,
    oid: u32,
    table: String,
    #[serde(default)]
    root: Option<String>,
    #[serde(default)]
    column: Option<String>,
    #[serde(default)]
    columns: Vec<StructureColumn>,
    #[serde(default)]
    leaves: Option<Vec<Leaf>>,
    #[serde(default)]
    renames_values: bool,
    #[serde(default)]
    adds_values: bool,
    #[serde(default)]
    object: Option<OtherObject>,
}

/// `None`: not written by the event triggers.
pub(super) fn read_note(content: &[u8]) -> Option<StructureChange> {
    let Note { event, tag, oid, table, root, column, columns, leaves, renames_values, adds_values, object } =
        serde_json::from_slice(content).ok()?;
    let kind = match event.as_str() {
        "altered" => StructureKind::Altered { tag, columns, leaves },
        "dropped" => StructureKind::Dropped { tag, column },
        "rewritten" => StructureKind::Rewritten { tag },
        "other" => StructureKind::Other(OtherChange { tag, renames_values, adds_values, object }),
        _ => return None,
    };
    Some(StructureChange { oid, table, root, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_somebody_else_is_none_of_structure() {
        let note = r#"{"event":"rewritten","tag":"ALTER TABLE","oid":7,"table":"public.t","root":null}"#;
        let read = read_note(note.as_bytes()).unwrap();
        assert_eq!((read.oid, read.table.as_str(), read.is_rewrite()), (7, "public.t", true));
        for other in ["", "{}", "[1]", "\"x\"", &note.replace("rewritten", "eaten"), &note.replace('7', "-7")] {
            assert_eq!(read_note(other.as_bytes()), None, "{other}");
        }
    }
}
