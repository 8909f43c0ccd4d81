//! Directory trees: one directory per site, read whole and written back behind a fence.
//!
//!   read    [`FilesSource`] ──▶ walk (path order, a directory's names at a time) ──▶ content, holes kept
//!   write   [`FilesTarget`] ──▶ stage (nothing visible) ──▶ switch ──▶ remove extras ──▶ directory times
//!
//! Everything below a part's root is reached by directory descriptors with no symbolic link
//! followed and no mount point crossed, so that neither a planted link nor a race leads out of the
//! part (see `beneath`).
//!
//! Invariant (only-this-part): a target changes nothing but what lies in its part, its own staging
//! directory, and the missing directories above the part.
//! Invariant (whole-or-named): whatever a walk cannot read, and whatever a write cannot set, is
//! named in its result.
//! What is not here: chunks, plans of a whole site, SQLite databases (left out by [`Exclusion`]).

mod action;
mod apply;
mod build;
mod closed;
mod content;
mod exclude;
mod install;
mod metadata;
mod plan;
mod reader;
mod resume;
mod staged;
mod staging;
mod switch;
mod target;
mod walk;
mod watch;
mod wipe;
mod xattr;

pub use action::{Action, Over, Removal, Seen};
pub use apply::has_other_rights;
pub use exclude::Exclusion;
pub use plan::{MergePlan, Scope, plan_merge};
pub use reader::FilesSource;
pub use staged::{LiveFile, StagedFile};
pub use target::FilesTarget;
pub use watch::{Hint, Watch};
pub(crate) use wipe::remove_tree;
