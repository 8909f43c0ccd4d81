//! Beside the live site or into a directory: nothing is kept for an undo there, so nothing may be
//! replaced or removed.
//!
//! A run that was killed leaves whole parts behind, because each is switched at once. The same
//! command finds them equal to the snapshot and goes on with the others.

use std::path::Path;

use lifeboat_source::files::MergePlan;
use lifeboat_source::postgres::target::Found;
use lifeboat_source::sqlite::Live;

use super::facts::{Compared, LivePart, PartFacts};
use super::{Facts, RestoreRequest, RestoreTarget};
use crate::Error;

/// What this program's own staging is named, wherever it lies.
const OURS: &str = ".lifeboat-";

/// Whether a part has something at a place that is not its own.
pub(super) fn is_occupied(part: &PartFacts, request: &RestoreRequest) -> bool {
    request.target != RestoreTarget::InPlace
        && !matches!(
            part.live,
            LivePart::Files(None)
                | LivePart::Database { live: Live::Absent { .. }, .. }
                | LivePart::Copy { exists: false }
        )
}

/// Refuses a place that holds anything but what the restore would write there. `part` was compared.
pub(super) fn refuse_others(part: &PartFacts) -> Result<(), Error> {
    let is_same = match &part.compared {
        Some(Compared::Database { is_same }) => *is_same,
        // A kill may have left directories without their times.
        Some(Compared::Files(MergePlan { actions, removals, .. })) => actions.is_empty() && removals.is_empty(),
        Some(Compared::Copy(found)) => *found != Found::SomethingElse,
        Some(Compared::Rows(_)) | None => false,
    };
    if is_same { Ok(()) } else { Err(occupied(Path::new(&part.shown_place()))) }
}

/// Refuses to export into a directory that holds anything but parts of this restore.
pub(super) fn refuse_full_directory(facts: &Facts, request: &RestoreRequest) -> Result<(), Error> {
    let RestoreTarget::Export(directory) = &request.target else { return Ok(()) };
    let Ok(listed) = std::fs::read_dir(directory) else { return Ok(()) }; // that it is absent or none is found later
    let is_ours = |name: &str| name.starts_with(OURS) || facts.parts.iter().any(|part| part.source.as_str() == name);
    match listed.flatten().all(|found| found.file_name().to_str().is_some_and(is_ours)) {
        true => Ok(()),
        false => Err(occupied(directory)),
    }
}

fn occupied(path: &Path) -> Error {
    Error::Conflict {
        detail: format!("there is something else already: path=`{}`", path.display()),
        hint: "nothing was changed; --beside and --export only write where nothing is: name a new place, or leave the \
               flag out to restore the site itself, with an undo"
            .into(),
    }
}
