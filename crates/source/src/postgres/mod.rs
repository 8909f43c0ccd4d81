//! The PostgreSQL source: one site's rows out of a database that many sites share.
//!
//! ```text
//! read   catalogue ─▶ classes (whose rows are these?) ─▶ one exported snapshot ─▶ COPY … ORDER BY key, as text
//! export rows ─▶ a directory of CSV that psql alone can load; no database is needed
//! follow publication, slot ─▶ the changes of rows, in the order of their commits (`capture`) ─▶ whose they are (`routing`)
//! replay rows at a base, and their changes since ─▶ rows at a later moment; no database is needed
//! ask    a statement of the operator's, that reads and answers with one value (`ask`)
//! write  staging, unlogged ─▶ compared with the live rows ─▶ one transaction: delete ▸ update ▸ insert ▸ prove ▸ commit
//! ```
//!
//! Every table of the database has a class: the tenant row itself, rows with a tenant column, rows
//! reached over foreign keys, rows that all sites share, or ignored. A table without a class is an
//! error, never a silent gap.
//!
//! What is not here: the change log itself, other databases than PostgreSQL.

mod ask;
mod bystanders;
pub mod capture;
mod catalogue;
mod classify;
mod config;
mod connect;
mod cut;
pub mod describe;
mod digests;
pub mod export;
mod indexes;
mod inspect;
mod large_objects;
mod load;
mod locks;
mod privileges;
mod reader;
mod reading;
pub mod replay;
pub mod routing;
mod rows;
mod source;
mod streams;
mod structure;
pub mod target;
mod tenancy;

pub use ask::{Answer, Question};
pub use bystanders::RowsLook;
pub use catalogue::{
    Catalogue, Column, ForeignKey, Identity, Sequence, ServerFacts, Table, TableKind, TableName, UniqueKey,
};
pub use classify::{Class, Classes, Step, Suggestion, TenantOf, classify};
pub use config::{PostgresConfig, Reference, TableRule, Tenancy};
pub(crate) use connect::UNREACHABLE;
pub use connect::{Server, Session};
pub use cut::CANNOT_LOCK;
pub use inspect::{InspectedTable, Inspection};
pub use load::ServerLoad;
pub use privileges::{MissingPrivilege, Need, missing_privileges};
pub use source::PostgresSource;
pub use structure::{ALTERED_MEANWHILE, Structure};
pub use tenancy::NamePattern;
