//! The SQLite source: one database file a site.
//!
//! ```text
//! read   stat ─▶ cold, quiet file? ─yes▶ immutable, no locks, stat again at the end
//!                     └─no▶ ordinary read transaction: WAL streams, rollback mode is spooled first
//! write  stage ▸ verify ▸ live absent?  ─yes▶ rename into place
//!                         live database? ─yes▶ copied into it through SQLite's backup API
//!                         anything else? ─────▶ replaced only when no process has it open
//! ```
//!
//! Content is the database's pages in order from one read transaction, through SQLite's own page
//! table (`sqlite_dbpage`), so that committed pages of a write-ahead log are in it and POSIX locks
//! are SQLite's own affair. Opening and closing a database file beside SQLite in one process drops
//! every lock the process holds on it (fcntl(2)); hence reading a live file by `std::fs` happens
//! only where SQLite has refused the file.
//!
//! Invariant (in-place): a file that an application may have open is never renamed over or removed,
//! because the application would go on writing into the lost file.
//! Invariant (no-trace): reading a quiet database changes nothing in its directory.
//!
//! What is not here: SQL on the tenants' tables.

pub mod capture;
mod check;
mod connect;
mod metadata;
mod pages;
mod source;
mod stat;
mod target;
mod view;

pub use pages::{digest, normalise_page_one};
pub use source::SqliteSource;
pub use target::{
    Expect, How, Live, LiveCheck, SqliteStaging, SqliteTarget, StagedDatabase, Switched, VerifiedDatabase,
};
