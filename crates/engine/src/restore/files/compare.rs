//! What is on the target already, by content: files are read side by side and compared by chunk id.

use std::collections::HashMap;

use lifeboat_model::{Entry, EntryKind, EntryPath, Extent};
use lifeboat_repo::SiteKeys;
use lifeboat_source::Read;
use lifeboat_source::files::{FilesTarget, MergePlan};

use super::super::facts::{Facts, PartFacts};
use super::super::plan::{looks_untouched, merge_of};
use crate::parallel::in_parallel;
use crate::{Engine, Error};

/// The merge of a part, with files compared by content where their metadata leaves it open.
pub(in crate::restore) fn merge_by_content(
    engine: &Engine,
    facts: &Facts,
    part: &PartFacts,
    (target, live): (&FilesTarget, &[Entry]),
) -> Result<MergePlan, Error> {
    // What is kept whatever it holds is not read.
    let wanted = if part.keeps_later { &[] } else { &part.wanted[..] };
    by_content(engine, facts, (target, live, wanted), |same| merge_of(part, live, same))
}

/// A merge that asks for files' content where their metadata leaves it open.
pub(in crate::restore) fn by_content(
    engine: &Engine,
    facts: &Facts,
    (target, live, wanted): (&FilesTarget, &[Entry], &[Entry]),
    merge: impl FnOnce(&mut dyn FnMut(&Entry, &Entry) -> bool) -> MergePlan,
) -> Result<MergePlan, Error> {
    let keys = facts.site.keys();
    let compared = compare(engine, keys, target, &open_pairs(live, wanted))?;
    let mut failure = None;
    let plan = merge(&mut |live, wanted| {
        looks_untouched(live, wanted)
            || compared.get(&wanted.path).copied().unwrap_or_else(|| {
                // Only further names of a file, whose size is not in their own entry.
                engine.check_cancelled().map_err(|error| failure = Some(error)).is_ok()
                    && has_content(target, keys, live, wanted).unwrap_or(false)
            })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(plan),
    }
}

/// Files of equal size whose metadata leaves open whether they are the same. Both lists are in path order.
fn open_pairs<'a>(live: &'a [Entry], wanted: &'a [Entry]) -> Vec<(&'a Entry, &'a Entry)> {
    let is_file = |entry: &&Entry| entry.kind == EntryKind::File;
    let pair = |wanted: &'a Entry| {
        let at = live.binary_search_by(|live| live.path.cmp(&wanted.path)).ok()?;
        Some((&live[at], wanted)).filter(|(live, _)| is_file(live))
    };
    wanted
        .iter()
        .filter(is_file)
        .filter_map(pair)
        .filter(|(live, wanted)| live.metadata.size == wanted.metadata.size && !looks_untouched(live, wanted))
        .collect()
}

fn compare<'a>(
    engine: &Engine,
    keys: &SiteKeys,
    target: &FilesTarget,
    pairs: &[(&'a Entry, &'a Entry)],
) -> Result<HashMap<&'a EntryPath, bool>, Error> {
    let same = in_parallel(engine.fetch.workers, pairs.len(), |number| {
        engine.check_cancelled()?;
        let (live, wanted) = pairs[number];
        // What cannot be read is replaced.
        Ok::<_, Error>((&wanted.path, has_content(target, keys, live, wanted).unwrap_or(false)))
    })?;
    Ok(same.into_iter().collect())
}

/// Whether a live file holds exactly the content a snapshot names.
fn has_content(target: &FilesTarget, keys: &SiteKeys, live: &Entry, wanted: &Entry) -> Result<bool, Error> {
    equals(target.content(live)?, keys, wanted)
}

/// Reads content to its end and compares it with an entry's extents, by chunk id.
pub(in crate::restore) fn equals(
    mut content: Box<dyn lifeboat_source::Content>,
    keys: &SiteKeys,
    wanted: &Entry,
) -> Result<bool, Error> {
    let mut extents = wanted.extents.iter();
    let mut chunk: Vec<u8> = Vec::new();
    let mut hole = 0u64;
    for extent in extents.by_ref() {
        chunk.clear();
        let mut need = extent.len();
        let mut zeros = true;
        while need > 0 {
            if hole > 0 {
                let len = hole.min(need);
                if matches!(extent, Extent::Chunk(_)) {
                    chunk.resize(chunk.len() + len as usize, 0);
                }
                (hole, need) = (hole - len, need - len);
                continue;
            }
            let from = chunk.len();
            chunk.resize(from + need.min(1 << 20) as usize, 0);
            match content.read(&mut chunk[from..])? {
                Read::Data(len) => {
                    chunk.truncate(from + len);
                    zeros &= chunk[from..].iter().all(|byte| *byte == 0);
                    if matches!(extent, Extent::Hole { .. }) {
                        chunk.clear();
                    }
                    need -= len as u64;
                }
                Read::Hole(len) => {
                    chunk.truncate(from);
                    hole = len;
                }
                Read::End => return Ok(false),
            }
        }
        let same = match extent {
            Extent::Chunk(place) => keys.chunk_id(&chunk) == place.id,
            Extent::Hole { .. } => zeros,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(hole == 0 && matches!(content.read(&mut [0; 1])?, Read::End))
}
