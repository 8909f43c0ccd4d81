//! Large objects: which of them a site's rows refer to, what is remembered of each, and its bytes.
//!
//! ```text
//! rows ─ columns of type oid ─▶ oids that exist ─▶ owner, grants, comment, may we read it? ─▶ bytes, in pieces
//! ```
//!
//! A reference is a value: nothing in the database ties a row to its object, so an object that two sites
//! refer to is in the snapshots of both, and a value that names none is left alone.
//!
//! What is not here: writing them (`target/large_objects`); references out of arrays, text or JSON.

mod content;
mod definition;
mod find;

pub(super) use content::{LargeObjectContent, digest};
pub use definition::{LargeObjectDefinition, WantedLargeObject, large_object_of_path, large_object_path};
pub(super) use find::{FoundLargeObject, all, are_any, details, may_read, of_each, of_rows};
