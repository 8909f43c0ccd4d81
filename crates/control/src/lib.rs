//! What, when and in which order. In this version: the catalog, what is kept of databases that are captured (the routing
//! index of a server, the hashes of files' pages), when files were scanned, the captures that go on for
//! ever, recoveries of many sites, which points are kept, and when each site is due.
//!
//! What is not here: bytes, buckets, tenants' data.

pub mod capturing;
pub mod catalog;
mod error;
mod only_one;
pub mod pages;
pub mod recovery;
pub mod retention;
pub mod routing;
mod scans;
pub mod schedule;

pub use catalog::{
    AuditMark, Catalog, Content, Head, Lost, Marks, Noted, Opened, ReadBack, RunSeen, SetAside, SiteFingerprint,
    SiteHead, SiteRow, SiteRun, SiteSummary,
};
pub use error::Error;
pub use only_one::OnlyDaemon;
pub use pages::PagesFile;
pub use routing::{RoutingFile, RoutingPlace};
pub use scans::ScanNote;
