//! A step that failed: what to tell a person, and what the server called it.

use std::io;
use std::time::Duration;

use lifeboat_model::Fault;
use postgres::error::SqlState;

use super::super::Session;
use super::super::locks::Watch;
use crate::Error;

/// Most often of an enumeration: of other types it is one that was altered.
const UNREADABLE: &str = "the column's type does not have this value: an enumeration got it after the snapshot that the structure is \
    from, or lost it since. Choose a moment from the next snapshot on (`lifeboat points`), or add the value (ALTER TYPE … ADD VALUE) \
    where the type is live";

/// An error with the server's code beside it, because some are tried again and some get better words.
pub(super) struct Fail {
    pub error: Box<Error>,
    pub code: Option<SqlState>,
}

pub(super) type Outcome<T> = Result<T, Fail>;

impl Fail {
    pub fn new(session: &Session, action: impl Into<String>, error: &postgres::Error) -> Self {
        let action = action.into();
        let db = error.as_db_error();
        let told = match (error.code(), db) {
            (Some(&SqlState::UNIQUE_VIOLATION | &SqlState::EXCLUSION_VIOLATION), Some(db)) => Error::Conflict {
                path: named(db.schema(), db.table()),
                detail: format!(
                    "{action}: another row holds a value that must be unique: constraint=`{}`",
                    db.constraint().unwrap_or("")
                ),
                hint: "free the value there, or restore beside and choose the rows by hand; nothing was changed".into(),
            },
            // Their messages quote values, which are a tenant's.
            (Some(code), Some(db)) if holds_values(code) => Error::Database {
                source_name: session.source_name().to_owned(),
                action,
                detail: format!("a value does not fit today's table{}, SQLSTATE={}", place(db), code.code()),
                hint: match *code {
                    SqlState::INVALID_TEXT_REPRESENTATION => UNREADABLE,
                    _ => "the table's types or constraints have changed since the snapshot: restore beside, or take the change back",
                }
                .into(),
                fault: Fault::Operator,
            },
            _ => session.failed(action, error),
        };
        Self { error: Box::new(told), code: error.code().cloned() }
    }

    /// An error of a COPY, which reads and writes like a file.
    pub fn of_copy(session: &Session, action: impl Into<String>, error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
            Some(inner) => Self::new(session, action, inner),
            None => Self::from(Error::Database {
                source_name: session.source_name().to_owned(),
                action: action.into(),
                detail: error.to_string(),
                hint: "the connection was lost: run the same command again".into(),
                fault: Fault::Retry,
            }),
        }
    }

    /// A wait that took too long says for whom it waited.
    pub fn naming(self, watch: &Watch, patience: Duration) -> Self {
        if self.code != Some(SqlState::LOCK_NOT_AVAILABLE) {
            return self;
        }
        let source_name = match &*self.error {
            Error::Database { source_name, .. } => source_name.clone(),
            _ => String::new(),
        };
        let action = "the site's rows or tables are locked, nothing is changed";
        Self { error: Box::new(watch.tell(&source_name, action, patience)), ..self }
    }

    /// Whether the same transaction may succeed when it is tried again at once.
    pub fn is_passing(&self) -> bool {
        self.code == Some(SqlState::T_R_SERIALIZATION_FAILURE) || self.code == Some(SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// Whether the connection went, so that nobody knows if the step was done.
    pub fn is_lost(&self) -> bool {
        self.code.as_ref().is_none_or(|code| code.code().starts_with("57") || code.code().starts_with("08"))
    }

    /// Whether the server refused to answer at all: class 42, a privilege that is missing among it.
    pub fn is_refused_question(&self) -> bool {
        self.code.as_ref().is_some_and(|code| code.code().starts_with("42"))
    }

    /// Whether the value itself was refused: its type or a constraint has changed.
    pub fn is_refused_value(&self) -> bool {
        self.code.as_ref().is_some_and(holds_values)
    }
}

/// Classes 22 (data exception) and 23 (integrity constraint violation).
fn holds_values(code: &SqlState) -> bool {
    code.code().starts_with("22") || code.code().starts_with("23")
}

/// Of which table, and what of it, as far as the server says.
fn place(db: &postgres::error::DbError) -> String {
    let table = db.table().map(|table| format!(": table=`{}`", named(db.schema(), Some(table))));
    let part = db.constraint().map(|name| ("constraint", name)).or(db.column().map(|name| ("column", name)));
    let part =
        part.or(db.datatype().map(|name| ("type", name))).or(db.where_().and_then(copied).map(|name| ("column", name)));
    let part = part.map(|(what, name)| format!("{}{what}=`{name}`", if table.is_some() { ", " } else { ": " }));
    format!("{}{}", table.unwrap_or_default(), part.unwrap_or_default())
}

/// The column that a COPY had come to: of `COPY t, line 1, column c: "…"` the name alone.
fn copied(context: &str) -> Option<&str> {
    let (place, rest) = context.strip_prefix("COPY ")?.split_once(", column ")?;
    if place.contains([':', '"']) {
        return None; // within a value
    }
    rest.split_once(':').map(|(column, _)| column).filter(|column| !column.contains('\n'))
}

fn named(schema: Option<&str>, table: Option<&str>) -> String {
    format!("{}.{}", schema.unwrap_or(""), table.unwrap_or(""))
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self { error: Box::new(error), code: None }
    }
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        *fail.error
    }
}

/// The few things the steps ask of a session, with their errors told.
pub(super) trait Ask {
    fn run(&mut self, action: &str, sql: &str) -> Outcome<()>;
    /// How many rows a statement touched.
    fn touch(&mut self, action: &str, sql: &str) -> Outcome<u64>;
    /// The one number a query gives.
    fn number(&mut self, action: &str, sql: &str) -> Outcome<u64>;
    fn rows(&mut self, action: &str, sql: &str) -> Outcome<Vec<postgres::Row>>;
}

impl Ask for Session {
    fn run(&mut self, action: &str, sql: &str) -> Outcome<()> {
        self.batch_execute(sql).map_err(|error| Fail::new(self, action, &error))
    }

    fn touch(&mut self, action: &str, sql: &str) -> Outcome<u64> {
        self.execute(sql, &[]).map_err(|error| Fail::new(self, action, &error))
    }

    fn number(&mut self, action: &str, sql: &str) -> Outcome<u64> {
        let row = self.query_one(sql, &[]).map_err(|error| Fail::new(self, action, &error))?;
        let number: i64 = row.try_get(0).map_err(|error| Fail::new(self, action, &error))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    fn rows(&mut self, action: &str, sql: &str) -> Outcome<Vec<postgres::Row>> {
        self.query(sql, &[]).map_err(|error| Fail::new(self, action, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::copied;

    #[test]
    fn of_a_copy_the_column_is_named_and_no_value() {
        assert_eq!(copied("COPY t, line 1, column mood: \"a: secret\""), Some("mood"));
        assert_eq!(copied("COPY t, line 1: \"a secret, column x: y\""), None);
        assert_eq!(copied("SQL statement"), None);
    }
}
