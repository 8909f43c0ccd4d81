//! Databases for the tests of this program.

use lifeboat_source::postgres::{Catalogue, Server, Session, TableName};
use lifeboat_testkit::postgres::{Postgres, nasty_schema, pooled_fleet};

/// A database with the nasty schema; `None` when there is no server.
#[track_caller]
pub fn nasty(test: &str) -> Option<String> {
    let url = Postgres::shared_or_skip(test)?.fresh_database().unwrap();
    nasty_schema(&url).unwrap();
    Some(url)
}

/// A database with a small fleet of `sites` sites; `None` when there is no server.
#[track_caller]
pub fn pooled(test: &str, sites: u32) -> Option<String> {
    let url = Postgres::shared_or_skip(test)?.fresh_database().unwrap();
    pooled_fleet(&url, sites, 200).unwrap();
    Some(url)
}

pub fn connect(url: &str) -> Session {
    Server::new("app", url).unwrap().connect().unwrap()
}

pub fn catalogue(url: &str) -> Catalogue {
    Catalogue::load(&mut connect(url)).unwrap()
}

pub fn name(table: &str) -> TableName {
    TableName::quoted(table)
}
