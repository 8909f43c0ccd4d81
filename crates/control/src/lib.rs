//! What, when and in which order. In this version: the catalog.
//!
//! What is not here: bytes, buckets, tenants' data.

pub mod catalog;
mod error;

pub use catalog::{
    Catalog, Content, Head, Lost, Marks, Noted, Opened, RunSeen, SetAside, SiteFingerprint, SiteHead, SiteRow, SiteRun,
    SiteSummary,
};
pub use error::Error;
