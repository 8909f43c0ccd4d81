//! `lifeboat catalog rebuild`: read everything anew from the bucket.
//!
//! A mark that the bucket no longer reaches is damage of the bucket, and the catalog is the witness:
//! then nothing is replaced.

use lifeboat_control::{Content, Lost};
use lifeboat_model::Fault;

use crate::output::{Outcome, count};
use crate::{CliError, Context, memory};

/// Runs that are remembered: the newest names every site, the others are for a listing.
const RUNS: usize = 1;

pub fn rebuild(context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let repository = &open.engine.repository;
        let marks = open.memory.lock().marks()?;
        let sites = repository.sites().await?;
        let runs = repository.newest_runs(RUNS).await?;
        let audit = repository.audit_head().await?;
        let content = Content {
            sites: sites.iter().map(memory::site_head).collect(),
            runs: runs.iter().rev().map(|run| memory::run_seen(run, repository)).collect(),
            audit: audit.map(memory::audit_mark),
        };
        if let Some(lost) = marks.lost(&content).first() {
            return Err(told(lost));
        }
        open.memory.lock().replace(&content)?;
        open.memory.lock().note_whole()?;
        context.output.line(format!("The catalog knows {} sites again.", count(content.sites.len() as u64)));
        Ok(Outcome::ok()
            .with("sites", content.sites.len())
            .with("catalog", open.config.repository.catalog.display().to_string()))
    })
}

fn told(lost: &Lost) -> CliError {
    let message = match lost {
        Lost::Site { row, found } => format!(
            "the store has lost commits of a site: site=`{}`, seen before=`{}`, newest there=`{}`",
            row.site,
            row.head.generation,
            found.map_or_else(|| "none".to_owned(), |head| head.generation.to_string())
        ),
        Lost::Audit { known, found } => format!(
            "the store has lost the newest entries of the audit log: seen before=`{known}`, newest there=`{}`",
            found.map_or_else(|| "none".to_owned(), |entry| entry.to_string())
        ),
        Lost::Run { known, found } => format!(
            "the store has lost its newest run: seen before=`{known}`, newest there=`{}`",
            found.map_or_else(|| "none".to_owned(), |run| run.to_string())
        ),
    };
    CliError::new(Fault::Damage, message).with_hint(
        "bring the missing objects back from the store's own versions or copies; to forget what was seen, delete the catalog's directory",
    )
}
