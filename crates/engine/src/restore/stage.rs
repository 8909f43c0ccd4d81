//! Staging: every chunk that is needed, read once, verified, written beside the live data.

use std::sync::Mutex;

use lifeboat_model::{Entry, ProgressEvent, SiteId};
use lifeboat_repo::{ChunkDamage, Wanted};
use lifeboat_source::sqlite::Live;

use super::RestoreRequest;
use super::facts::{Facts, LivePart, PartFacts};
use super::part::{Destination, PartWork};
use crate::{Engine, Error};

/// How many damaged entries a message names.
const NAMED_MAX: usize = 5;

/// Stages all parts. What is damaged in the repository ends the restore with all of it named, or is
/// left out where the person asked for that; it is never written as zeros.
pub(super) fn stage(
    engine: &Engine,
    facts: &Facts,
    parts: &mut [PartWork],
    request: &RestoreRequest,
) -> Result<(), Error> {
    loop {
        let damaged = stage_once(engine, facts, parts)?;
        if damaged.is_empty() {
            return Ok(());
        }
        if !request.skip_damaged {
            return Err(Error::Damaged { site: facts.site.id().clone(), detail: describe(&damaged, parts) });
        }
        for Damaged { part, destination, damage } in damaged {
            let detail = format!("object=`{}`, offset=`{}`, {}", damage.object, damage.offset, damage.detail);
            parts[part].leave_out(destination, &detail);
        }
    }
}

/// What is wanted where all of a site is missing: its first chunks can be on their way before anything is staged. Nothing
/// where some of it is there, or was staged by a killed restore, as what that spares is not known yet.
pub(super) fn wanted_early(facts: &Facts) -> Vec<Wanted> {
    let is_missing = |part: &PartFacts| match &part.live {
        LivePart::Files(live) => live.is_none() && !part.keeps_later,
        LivePart::Database { live, .. } => matches!(live, Live::Absent { .. }),
        LivePart::Rows(_) | LivePart::Copy { .. } => false,
    };
    if facts.site.state().intent.is_some() || !facts.parts.iter().all(is_missing) {
        return Vec::new();
    }
    let chunks = facts.parts.iter().flat_map(|part| part.wanted.iter().flat_map(Entry::chunks));
    chunks.map(|chunk| Wanted { chunk: *chunk, tag: 0 }).collect()
}

struct Damaged {
    part: usize,
    destination: Destination,
    damage: ChunkDamage,
}

fn stage_once(engine: &Engine, facts: &Facts, parts: &mut [PartWork]) -> Result<Vec<Damaged>, Error> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut places: Vec<(usize, Destination)> = Vec::new();
    for (number, part) in parts.iter_mut().enumerate() {
        part.begin()?;
        for (want, destination) in part.wanted()? {
            wanted.push(Wanted { tag: places.len() as u64, ..want });
            places.push((number, destination));
        }
    }
    let bytes = wanted.iter().map(|want| u64::from(want.chunk.raw_len)).sum();
    let site = facts.site.id();
    engine.progress.report(ProgressEvent::SiteSized { site: site.clone(), bytes, entries: 0 });
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let damaged: Mutex<Vec<Damaged>> = Mutex::new(Vec::new());
    let parts = &*parts;
    let fetched = facts.manifest.fetch(&facts.site, wanted, engine.fetch_control(), |tag, delivery| {
        let (part, destination) = places[tag as usize];
        match delivery {
            Ok(bytes) => {
                parts[part].deliver(destination, bytes)?;
                progress(engine, site, bytes.len());
            }
            Err(damage) => {
                let mut damaged = damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                damaged.push(Damaged { part, destination, damage });
            }
        }
        Ok::<(), Error>(())
    });
    fetched??;
    Ok(damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn progress(engine: &Engine, site: &SiteId, bytes: usize) {
    engine.progress.report(ProgressEvent::BytesDone { site: site.clone(), bytes: bytes as u64 });
}

/// Object, offset and entry of each, in path order.
fn describe(damaged: &[Damaged], parts: &[PartWork]) -> String {
    let mut lines: Vec<String> = damaged
        .iter()
        .map(|Damaged { part, destination, damage }| {
            let entry = parts[*part].entry_of(*destination);
            format!("entry=`{entry}`, object=`{}`, offset=`{}`: {}", damage.object, damage.offset, damage.detail)
        })
        .collect();
    lines.sort();
    let more = lines.len().saturating_sub(NAMED_MAX);
    lines.truncate(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{} damaged chunks: {}{more}", damaged.len(), lines.join("; "))
}
