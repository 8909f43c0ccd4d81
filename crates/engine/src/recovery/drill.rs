//! Drills: a case that is rehearsed.
//!
//!   room? ▸ plan, as it was approved ▸ restore elsewhere, verified ▸ taken away ▸ the site's sequence says: proven
//!
//! Planning, reading, writing and verifying are those of any restore; only the place is another one. What is measured is
//! from the begin of the plan to the last check.
//!
//! Invariant (drill-touches-nobody): a drill writes below its own directory and into databases that were made for drills.
//! On the site itself no restore is opened, and no command of the operator's runs.
//!
//! What is not here: which sites are rehearsed when, and what their owners were promised (`cli`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lifeboat_model::{
    CasePlan, CommitEvent, PointState, Proven, Receipt, RecoveryId, RecoveryRules, SiteId, Timestamp,
};
use lifeboat_source::postgres::target::drop_scratch_copies;
use lifeboat_source::{SCRATCH_PREFIX, ScratchDirectory};
use sha2::{Digest, Sha256};

use super::case::request;
use crate::{
    AnySource, Approval, Engine, Error, Fleet, RestoreRequest, RestoreTarget, plan_restore, restore, this_process,
};

/// Where drills rebuild sites.
#[derive(Debug)]
pub struct Scratch {
    directory: ScratchDirectory,
    /// Rows are loaded into databases; else they are written as files.
    has_databases: bool,
}

impl Scratch {
    /// Takes the directory, and takes away what a drill that was killed has left there, and in the databases of `fleet`.
    ///
    /// `has_databases`: each PostgreSQL of `fleet` is one that was made for drills.
    pub fn claim(directory: &std::path::Path, fleet: &Fleet, has_databases: bool) -> Result<Self, Error> {
        let scratch = Self { directory: ScratchDirectory::claim(directory)?, has_databases };
        scratch.directory.sweep()?;
        if has_databases {
            drop_copies(fleet, None)?;
        }
        Ok(scratch)
    }

    /// What a site is called there; the same in every drill, so that a plan's hash is.
    fn name_of(site: &SiteId) -> String {
        let mut digest = Sha256::new_with_prefix(b"lifeboat drill 1\0");
        digest.update(site.as_str());
        let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{SCRATCH_PREFIX}{hex}")
    }

    pub(super) fn target(&self, site: &SiteId) -> Result<RestoreTarget, Error> {
        let name = Self::name_of(site);
        if !self.has_databases {
            return Ok(RestoreTarget::Export(self.place(&name)));
        }
        let name = SiteId::new(name).map_err(|error| Error::Bug(format!("a drill's name: {error}")))?;
        Ok(RestoreTarget::Beside(name))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn check_room(&self, case: &CasePlan) -> Result<(), Error> {
        let (room, needed) = (self.directory.room()?, case.work.write_bytes + case.work.write_bytes / MORE);
        if needed < room {
            return Ok(());
        }
        Err(Error::Conflict {
            detail: format!(
                "there is not room enough to rebuild the site: directory=`{}`, needed=`{needed}`, free=`{room}`",
                self.directory.path().display()
            ),
            hint: "name a `directory` in [drill] on a larger file system, or rehearse fewer sites at once (--parallel)"
                .into(),
        })
    }

    /// Takes away everything that was rebuilt of the site.
    fn clear(&self, site: &SiteId, fleet: &Fleet) -> Result<(), Error> {
        let name = Self::name_of(site);
        if self.has_databases {
            drop_copies(fleet, Some(&name))?;
        }
        Ok(self.directory.remove(&name)?)
    }
}

/// A file system needs a tenth more than what is written into it.
const MORE: u64 = 10;
/// Of a copy that is gone there is nothing left to look at.
const NOTE: &str = ": note";

fn drop_copies(fleet: &Fleet, name: Option<&str>) -> Result<(), Error> {
    for source in fleet.sources() {
        if let AnySource::Postgres(source) = source {
            drop_scratch_copies(source.server(), name)?;
        }
    }
    Ok(())
}

/// Rebuilds one site, proves it, and takes it away. Its receipt's duration is that of plan, restore and checks.
pub(super) async fn rehearse(
    engine: &Engine,
    case: &CasePlan,
    rules: RecoveryRules,
    drill: RecoveryId,
) -> Result<Receipt, Error> {
    let scratch = engine.scratch()?;
    scratch.check_room(case)?;
    let request = request(engine, &case.site, &case.aim, rules)?;
    let rebuilt = rebuild(engine, case, &request).await;
    // Customers' data does not stay where a drill has failed, either.
    let cleared = tokio::task::block_in_place(|| scratch.clear(&case.site, &engine.fleet));
    let mut receipt = rebuilt?;
    cleared?;
    receipt.checks.retain(|check| !check.name.ends_with(NOTE));
    if receipt.all_passed() {
        note_proven(engine, case, receipt.duration, drill).await?;
    }
    Ok(receipt)
}

async fn rebuild(engine: &Engine, case: &CasePlan, request: &RestoreRequest) -> Result<Receipt, Error> {
    let began = Instant::now();
    let planned = plan_restore(engine, request).await?;
    let receipt = restore(engine, request, planned, &Approval::Hash(case.hash.clone())).await?;
    Ok(Receipt { duration: began.elapsed(), ..receipt })
}

/// A snapshot that was rebuilt is proven itself; with changes on it, the site is.
async fn note_proven(engine: &Engine, case: &CasePlan, took: Duration, drill: RecoveryId) -> Result<(), Error> {
    let mut site = engine.site(&case.site).await?;
    let is_itself = site.state().snapshot(case.snapshot).is_some_and(|record| record.cut_till == case.at);
    let event = CommitEvent::StateChanged {
        snapshot: case.snapshot,
        state: if is_itself { PointState::Proven } else { PointState::Written },
        proven: Some(Proven { at: Timestamp::now(), moment: case.at, took, drill }),
    };
    site.commit(&this_process(), |_, _| Ok(event.clone())).await?;
    engine.memory.note_site(&site);
    Ok(())
}
