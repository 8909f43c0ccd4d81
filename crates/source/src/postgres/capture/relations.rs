//! The tables of the stream: what a message calls them, and what the catalogue says besides.
//!
//! The stream's own word counts: columns, their types and the identity are as they were when the changes
//! were made. The catalogue, which is of today, is asked for what the stream lacks: how types are spelled,
//! and the primary key.
//!
//! What a row is known by: its primary key, if every old row tells it; else the columns of the replica
//! identity, which are a unique key as well; else all of its values.

use std::collections::HashMap;
use std::sync::Arc;

use lifeboat_model::{ChangedColumn, ChangedTable, ChangedValue, Fault, RowChange};

use super::output::{OldRow, Relation};
use super::session::quoted;
use crate::Error;
use crate::postgres::{Server, Session};

/// Tables by their number, as they last were.
pub(super) struct Relations {
    server: Server,
    session: Option<Session>,
    known: HashMap<u32, Known>,
    /// Names of types that are not the server's own.
    types: HashMap<u32, String>,
}

pub(super) struct Known {
    pub table: Arc<ChangedTable>,
    /// Which columns of an old row of kind `Key` are there.
    is_identity: Vec<bool>,
}

/// A row's change, with what else is known of the row before.
pub(super) struct Read {
    pub table: Arc<ChangedTable>,
    pub change: RowChange,
    pub identity: Vec<(usize, ChangedValue)>,
}

/// What a message of a table's structure turned out to be.
pub(super) enum Learned {
    /// The first of it in this stream, or nothing new.
    Same,
    /// It was another before.
    Changed(Arc<ChangedTable>),
}

impl Relations {
    pub fn new(server: &Server) -> Self {
        Self { server: server.clone(), session: None, known: HashMap::new(), types: HashMap::new() }
    }

    pub fn note_type(&mut self, oid: u32, schema: &str, name: &str) {
        self.types.insert(oid, format!("{}.{}", spelled(schema), spelled(name)));
    }

    pub fn get(&self, oid: u32) -> Result<&Known, Error> {
        self.known
            .get(&oid)
            .ok_or_else(|| self.broken(&format!("a change of a table it has not described: oid=`{oid}`")))
    }

    /// Takes in what the stream says of a table.
    pub fn learn(&mut self, relation: &Relation) -> Result<Learned, Error> {
        let asked = self.ask(relation)?;
        let known = self.describe(relation, asked);
        let before = self.known.get(&relation.oid);
        let is_same = before.is_some_and(|before| before.table == known.table);
        let is_new = before.is_none();
        let table = if is_same { before.map(|before| Arc::clone(&before.table)) } else { None };
        let table = table.unwrap_or_else(|| Arc::clone(&known.table));
        self.known.insert(relation.oid, Known { table: Arc::clone(&table), ..known });
        Ok(if is_same || is_new { Learned::Same } else { Learned::Changed(table) })
    }

    fn describe(&self, relation: &Relation, asked: Asked) -> Known {
        let type_name = |place: usize, oid: u32| match asked.types.get(place) {
            Some(name) if name != "???" => name.clone(), // its type has been dropped since
            _ => self.types.get(&oid).cloned().unwrap_or_else(|| format!("\"type {oid}\"")),
        };
        let columns = relation.columns.iter().enumerate();
        let columns = columns.map(|(place, column)| ChangedColumn {
            name: column.name.clone(),
            type_name: type_name(place, column.type_oid),
        });
        let key = key_of(relation, &asked.primary_key);
        let table = Arc::new(ChangedTable { name: asked.name, columns: columns.collect(), key });
        Known { table, is_identity: relation.columns.iter().map(|column| column.is_identity).collect() }
    }

    /// What the catalogue knows; over a new connection if the old one was lost while it was not used.
    fn ask(&mut self, relation: &Relation) -> Result<Asked, Error> {
        if self.session.as_ref().is_none_or(|session| session.is_closed()) {
            self.session = Some(self.server.connect()?);
        }
        let session = self.session.as_mut().expect("made above");
        match look_up(session, relation) {
            Ok(asked) => Ok(asked),
            Err(error) if error.is_closed() => {
                let mut session = self.server.connect()?;
                let asked = look_up(&mut session, relation);
                let asked = asked.map_err(|error| session.failed("cannot look up a table", &error));
                self.session = Some(session);
                asked
            }
            Err(error) => Err(session.failed("cannot look up a table", &error)),
        }
    }

    fn broken(&self, detail: &str) -> Error {
        Error::Database {
            source_name: self.server.source_name().to_owned(),
            action: "the stream makes no sense".into(),
            detail: detail.to_owned(),
            hint: "this is a defect of lifeboat, or of the server: run the same command again, and report it".into(),
            fault: Fault::Bug,
        }
    }

    pub fn insert(&self, oid: u32, row: Vec<ChangedValue>) -> Result<Read, Error> {
        let table = self.shaped(oid, &row)?.table.clone();
        Ok(Read { table, change: RowChange::Insert { row }, identity: Vec::new() })
    }

    pub fn update(&self, oid: u32, old: Option<OldRow>, mut row: Vec<ChangedValue>) -> Result<Read, Error> {
        let known = self.shaped(oid, &row)?;
        let table = known.table.clone();
        let Some(old) = old else {
            return Ok(Read { table, change: RowChange::Update { row, key_before: None }, identity: Vec::new() });
        };
        let mut before = self.before(known, old)?;
        for (new, old) in row.iter_mut().zip(&before.row) {
            if let (ChangedValue::Unchanged, Some(old @ ChangedValue::Text(_))) = (&*new, old) {
                *new = old.clone(); // the old row, where it is whole, has what the new one leaves out
            }
        }
        let is_other = |place: &usize| before.row[*place].as_ref() != Some(&row[*place]);
        let key_before = if table.key.is_empty() {
            Some(before.take_all())
        } else if table.key.iter().any(is_other) {
            Some(before.take_key(&table.key))
        } else {
            before.forget(&table.key);
            None
        };
        Ok(Read { table, change: RowChange::Update { row, key_before }, identity: before.rest() })
    }

    pub fn delete(&self, oid: u32, old: OldRow) -> Result<Read, Error> {
        let known = self.get(oid)?;
        let table = known.table.clone();
        let mut before = self.before(known, old)?;
        let key = if table.key.is_empty() { before.take_all() } else { before.take_key(&table.key) };
        Ok(Read { table, change: RowChange::Delete { key }, identity: before.rest() })
    }

    fn shaped(&self, oid: u32, row: &[ChangedValue]) -> Result<&Known, Error> {
        let known = self.get(oid)?;
        if row.len() == known.is_identity.len() {
            return Ok(known);
        }
        Err(self.broken(&format!("a row with other columns than its table: table=`{}`", known.table.name)))
    }

    /// The values of the old row that are really there.
    fn before(&self, known: &Known, old: OldRow) -> Result<Before, Error> {
        let (row, is_whole) = match old {
            OldRow::Key(row) => (row, false),
            OldRow::Whole(row) => (row, true),
        };
        if row.len() != known.is_identity.len() {
            return self.shaped_error(known);
        }
        let values = row.into_iter().zip(&known.is_identity);
        let row: Vec<_> = values.map(|(value, is_there)| (is_whole || *is_there).then_some(value)).collect();
        let is_there = |place: &usize| row[*place].as_ref().is_some_and(|value| *value != ChangedValue::Null);
        let key = &known.table.key;
        let is_known = if key.is_empty() { row.iter().all(Option::is_some) } else { key.iter().all(is_there) };
        if !is_known {
            return Err(Error::Database {
                source_name: self.server.source_name().to_owned(),
                action: "a row that is gone cannot be told".into(),
                detail: format!("a partition's replica identity is not its root's: table=`{}`", known.table.name),
                hint: "ALTER TABLE … REPLICA IDENTITY: the same for all partitions of it".into(),
                fault: Fault::Operator,
            });
        }
        Ok(Before { row })
    }

    fn shaped_error(&self, known: &Known) -> Result<Before, Error> {
        Err(self.broken(&format!("an old row with other columns than its table: table=`{}`", known.table.name)))
    }
}

/// An old row: `None` where it is not known, or was taken.
struct Before {
    row: Vec<Option<ChangedValue>>,
}

impl Before {
    fn take_key(&mut self, key: &[usize]) -> Vec<ChangedValue> {
        key.iter().map(|place| self.row[*place].take().unwrap_or(ChangedValue::Null)).collect()
    }

    fn take_all(&mut self) -> Vec<ChangedValue> {
        self.row.iter_mut().map(|value| value.take().unwrap_or(ChangedValue::Null)).collect()
    }

    fn forget(&mut self, key: &[usize]) {
        key.iter().for_each(|place| self.row[*place] = None);
    }

    /// What is left, with its places.
    fn rest(self) -> Vec<(usize, ChangedValue)> {
        self.row.into_iter().enumerate().filter_map(|(place, value)| Some((place, value?))).collect()
    }
}

struct Asked {
    name: String,
    types: Vec<String>,
    primary_key: Vec<String>,
}

fn look_up(session: &mut Session, relation: &Relation) -> Result<Asked, postgres::Error> {
    let (oids, modifiers): (Vec<u32>, Vec<i32>) =
        relation.columns.iter().map(|column| (column.type_oid, column.type_modifier)).unzip();
    let sql = "SELECT format('%I.%I', $1::text, $2::text),
            ARRAY(SELECT format_type(t.oid, t.modifier) FROM unnest($3::oid[], $4::int4[])
                WITH ORDINALITY t(oid, modifier, place) ORDER BY t.place),
            ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
                CROSS JOIN unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY k(number, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                WHERE i.indrelid = $5 AND i.indisprimary ORDER BY k.place)";
    let row = session.query_one(sql, &[&relation.schema, &relation.name, &oids, &modifiers, &relation.oid])?;
    Ok(Asked { name: row.get(0), types: row.get(1), primary_key: row.get(2) })
}

/// Places of the columns that a row is known by.
fn key_of(relation: &Relation, primary_key: &[String]) -> Vec<usize> {
    let place = |name: &String| relation.columns.iter().position(|column| column.name == *name);
    let primary: Option<Vec<usize>> = primary_key.iter().map(place).collect();
    let primary = primary.unwrap_or_default(); // renamed or dropped since
    let columns = relation.columns.iter().enumerate();
    let identity: Vec<usize> = columns.filter(|(_, column)| column.is_identity).map(|(place, _)| place).collect();
    let is_told = !primary.is_empty() && primary.iter().all(|place| identity.contains(place));
    match relation.identity {
        // The identity is the primary key: as it was then, in the order of today's if that is the same.
        b'd' if is_told && primary.len() == identity.len() => primary,
        b'd' => identity,
        b'f' | b'n' => primary,
        _ if is_told => primary,
        _ => identity,
    }
}

/// A name as the server prints it; a word of SQL's own is not quoted, which no type of a product is called.
fn spelled(name: &str) -> String {
    let is_plain =
        |(at, byte): (usize, u8)| byte.is_ascii_lowercase() || byte == b'_' || (at > 0 && byte.is_ascii_digit());
    match !name.is_empty() && name.bytes().enumerate().all(is_plain) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::capture::output::RelationColumn;

    #[test]
    fn a_type_is_called_as_the_server_prints_it() {
        let names = [
            ("mood", "mood"),
            ("tenant s2", "\"tenant s2\""),
            ("A", "\"A\""),
            ("a\"b", "\"a\"\"b\""),
            ("1a", "\"1a\""),
        ];
        names.into_iter().for_each(|(name, want)| assert_eq!(spelled(name), want));
    }

    #[test]
    fn a_row_is_known_by_its_primary_key_if_old_rows_tell_it() {
        let check = |identity: u8, identity_columns: &[&str], primary_key: &[&str], want: &[usize]| {
            let columns = ["a", "b", "c"].map(|name| RelationColumn {
                is_identity: identity_columns.contains(&name),
                name: name.into(),
                type_oid: 25,
                type_modifier: -1,
            });
            let (schema, name) = ("public".into(), "t".into());
            let relation = Relation { oid: 1, schema, name, identity, columns: columns.to_vec() };
            let primary_key: Vec<String> = primary_key.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(key_of(&relation, &primary_key), want, "{} {identity_columns:?}", char::from(identity));
        };
        check(b'd', &["a", "b"], &["b", "a"], &[1, 0]);
        check(b'd', &["a"], &["b"], &[0]); // the key has changed since: then it was another
        check(b'd', &["a"], &["gone"], &[0]);
        check(b'd', &[], &[], &[]);
        check(b'i', &["a", "b"], &["b"], &[1]);
        check(b'i', &["a"], &["b"], &[0]);
        check(b'f', &["a", "b", "c"], &["b"], &[1]);
        check(b'f', &["a", "b", "c"], &[], &[]);
        check(b'n', &[], &["b"], &[1]);
    }
}
