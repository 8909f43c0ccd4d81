//! The operator's systems: read one site's part, and write it back behind a fence.
//!
//! A source lists sites and reads parts; a target writes one part of one site and can reach
//! nothing else. Everything here blocks: the engine calls it from its own threads.
//!
//! What is not here: chunks, packs, repositories, plans.

mod beneath;
mod error;
pub mod files;
pub mod identity;
mod part;
mod place;
pub mod postgres;
mod scratch;
pub mod sqlite;
mod template;
mod unnamed;

pub use error::Error;
pub use part::{Content, ContentCheck, Cutting, Discovery, MissedSite, PartReader, PartSummary, Read, Source};
pub use place::Place;
pub use scratch::{SCRATCH_PREFIX, ScratchDirectory};
pub use template::{Expected, PathTemplate, TemplateError};
pub use unnamed::unnamed_file;
