//! What, when and in which order. In this version: the catalog, what is kept of databases that are captured (the routing
//! index of a server, the hashes of files' pages), when files were scanned, the captures that go on for
//! ever, recoveries of many sites, which points are kept, when each site is due, and what is not as promised: alarms, who is
//! told of them, metrics.
//!
//! What is not here: bytes, buckets, tenants' data.

pub mod alarms;
pub mod capturing;
pub mod catalog;
mod error;
pub mod metrics;
pub mod notify;
mod only_one;
pub mod pages;
pub mod recovery;
pub mod retention;
pub mod routing;
mod scans;
pub mod schedule;
pub mod serve;
pub mod watch;

pub use catalog::{
    AuditMark, Catalog, CheckNote, CheckReach, CheckScope, CheckSeen, ChecksSeen, Content, Head, Lost, Marks,
    NewestSnapshot, Noted, Opened, ReadBack, RunSeen, SetAside, SignalNote, SiteFingerprint, SiteHead, SiteRow,
    SiteRun, SiteSummary, Standing,
};
pub use error::Error;
pub use only_one::OnlyDaemon;
pub use pages::PagesFile;
pub use routing::{RoutingFile, RoutingPlace};
pub use scans::ScanNote;
