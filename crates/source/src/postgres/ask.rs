//! A question of the operator's about one site: one statement, that reads, and answers with one value.
//!
//! The site's id is the statement's `$1`, sent as a value beside it and never as a part of it. The statement runs in a
//! transaction that cannot write and is rolled back, as one statement (the extended protocol takes no second), for a
//! bounded time, and never fetches more than two rows.
//!
//! Invariant (questions-read): a question of the operator's changes nothing in the database.
//!
//! What is not here: whether the answer is a good one (`lifeboat-engine`).

use std::error::Error as StdError;
use std::time::Duration;

use bytes::BytesMut;
use lifeboat_model::SiteId;
use postgres::types::{Format, IsNull, ToSql, Type};
use postgres::{Row, Transaction};

use super::source::PostgresSource;
use super::structure::ident;
use crate::Error;

/// What is asked of a site's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub sql: String,
    /// How long the server may take.
    pub timeout: Duration,
}

/// The one value of the one row that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Flag(bool),
    Number(i64),
    Null,
    /// Something else came than one row of one such value: what.
    Other(String),
}

const ASKING: &str = "cannot ask the database";

impl PostgresSource {
    /// Asks about one site. Names without a schema are of the site's own schema, where it has one, else of `public`; a
    /// site with a database is asked about there.
    ///
    /// # Errors
    /// What the server says against the statement, too.
    pub fn ask(&self, site: &SiteId, question: &Question) -> Result<Answer, Error> {
        let home = self.home(site)?.filter(|home| home.exists);
        let Some(home) = home else { return Ok(Answer::Other("no schema or database of the site".into())) };
        let mut session = home.server.connect()?;
        let path = home.schema.as_deref().map_or_else(|| "public".to_owned(), ident);
        let answer = answer(&mut session, site, question, &path);
        answer.map_err(|error| session.failed(ASKING, &error))
    }
}

fn answer(
    client: &mut postgres::Client,
    site: &SiteId,
    question: &Question,
    search_path: &str,
) -> Result<Answer, postgres::Error> {
    let mut transaction = client.build_transaction().read_only(true).start()?;
    let timeout = question.timeout.as_millis().max(1).to_string();
    let set = "SELECT set_config('search_path', $1, true), set_config('statement_timeout', $2, true), \
               set_config('lock_timeout', $2, true)";
    transaction.execute(set, &[&search_path, &timeout])?;
    let answer = ask(&mut transaction, site, &question.sql);
    transaction.rollback()?;
    answer
}

fn ask(transaction: &mut Transaction<'_>, site: &SiteId, sql: &str) -> Result<Answer, postgres::Error> {
    let statement = transaction.prepare(sql)?;
    let site = AsWritten(site.as_str());
    let parameters: &[&(dyn ToSql + Sync)] = match statement.params().len() {
        0 => &[],
        1 => &[&site],
        more => {
            return Ok(Answer::Other(format!("a statement with {more} parameters: `$1` is the site, and no other")));
        }
    };
    let columns = statement.columns();
    if columns.len() != 1 {
        return Ok(Answer::Other(format!("rows of {} columns", columns.len())));
    }
    let portal = transaction.bind(&statement, parameters)?;
    let rows = transaction.query_portal(&portal, 2)?;
    match rows.as_slice() {
        [] => Ok(Answer::Other("no row".into())),
        [row] => value(row, columns[0].type_()),
        _ => Ok(Answer::Other("more than one row".into())),
    }
}

fn value(row: &Row, of: &Type) -> Result<Answer, postgres::Error> {
    let number = |number: Option<i64>| number.map_or(Answer::Null, Answer::Number);
    Ok(match *of {
        Type::BOOL => row.try_get::<_, Option<bool>>(0)?.map_or(Answer::Null, Answer::Flag),
        Type::INT2 => number(row.try_get::<_, Option<i16>>(0)?.map(i64::from)),
        Type::INT4 => number(row.try_get::<_, Option<i32>>(0)?.map(i64::from)),
        Type::INT8 => number(row.try_get::<_, Option<i64>>(0)?),
        ref other => Answer::Other(format!("a value of type {other} (end it with ::bigint or ::boolean)")),
    })
}

/// A value in the words of a person, whatever type the statement takes it for: the server reads it.
#[derive(Debug)]
struct AsWritten<'a>(&'a str);

impl ToSql for AsWritten<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    postgres::types::to_sql_checked!();
}
