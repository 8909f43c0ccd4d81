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

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_model::{
    CasePlan, Check, CommitEvent, DrillEnd, DrillFailed, Fault, Faulty, ObjectId, PointState, Proven, Receipt,
    RecoveryId, RecoveryRules, SiteId, SourceName, Timestamp,
};
use lifeboat_repo::Site;
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::target::{DatabasePlace, DrillDatabase};
use lifeboat_source::{SCRATCH_PREFIX, ScratchDirectory};
use sha2::{Digest, Sha256};

use super::case::request;
use crate::restore::LOOK_AT_IT;
use crate::{
    AnySource, Approval, Engine, Error, Fleet, RestorePlan, RestoreRequest, RestoreTarget, plan_restore, restore,
    this_process,
};

/// Where drills rebuild sites: this process has it to itself.
#[derive(Debug)]
pub struct Scratch {
    directory: ScratchDirectory,
    /// Rows are loaded into these; none: they are written as files.
    databases: Vec<DrillDatabase>,
    /// What the names of all that it makes begin with.
    prefix: String,
}

impl Scratch {
    /// Takes the directory and the databases, and takes away what a drill that was killed has left there.
    ///
    /// `databases`: where each PostgreSQL of `fleet` is, in order, when those were made for drills, else none; `live`: the
    /// servers that live ones are on.
    pub fn claim(
        (directory, repository): (&Path, ObjectId),
        fleet: &Fleet,
        databases: &[DatabasePlace],
        live: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let directory = ScratchDirectory::claim(directory)?;
        directory.sweep()?;
        // Drills of another repository, or through another database of the same server, give other names.
        let mut digest = Sha256::new_with_prefix(b"lifeboat drill 1\0");
        digest.update(repository.0);
        for place in databases {
            digest.update(format!("{}/{}\n", place.system_identifier, place.database));
        }
        let prefix = format!("{SCRATCH_PREFIX}{}_", hex(&digest.finalize()[..4]));
        let sources = fleet.sources().iter().filter_map(|source| match source {
            AnySource::Postgres(source) => Some(source.as_ref()),
            _ => None,
        });
        let claim = |(source, place): (&PostgresSource, &DatabasePlace)| {
            DrillDatabase::claim(source, &prefix, !live.contains(&place.system_identifier))
        };
        let databases = sources.zip(databases).map(claim).collect::<Result<_, _>>()?;
        Ok(Self { directory, databases, prefix })
    }

    /// What a site is called there; the same in every drill, so that a plan's hash is.
    fn name_of(&self, site: &SiteId) -> String {
        format!("{}{}", self.prefix, hex(&Sha256::digest(site.as_str())[..8]))
    }

    pub(super) fn target(&self, site: &SiteId) -> Result<RestoreTarget, Error> {
        let name = self.name_of(site);
        if self.databases.is_empty() {
            return Ok(RestoreTarget::Export(self.directory.path().join(name)));
        }
        let name = SiteId::new(name).map_err(|error| Error::Bug(format!("a drill's name: {error}")))?;
        Ok(RestoreTarget::Beside(name))
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
    fn clear(&self, site: &SiteId) -> Result<(), Error> {
        let name = self.name_of(site);
        self.databases.iter().try_for_each(|database| database.drop_copy(&name))?;
        Ok(self.directory.remove(&name)?)
    }

    /// Takes away whatever is left there of any site, such as of a case that broke off.
    pub fn sweep(&self) -> Result<(), Error> {
        self.databases.iter().try_for_each(DrillDatabase::sweep)?;
        Ok(self.directory.sweep()?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file system needs a tenth more than what is written into it.
const MORE: u64 = 10;

/// Rebuilds one site, proves it, and takes it away. Its receipt's duration is that of plan, restore and checks.
pub(super) async fn rehearse(
    engine: &Engine,
    case: &CasePlan,
    rules: RecoveryRules,
    drill: RecoveryId,
) -> Result<Receipt, Error> {
    let scratch = engine.scratch()?;
    let clear = || tokio::task::block_in_place(|| scratch.clear(&case.site));
    clear()?; // what is there would be taken for rebuilt
    scratch.check_room(case)?;
    let request = request(engine, &case.site, &case.aim, rules)?;
    let rebuilt = rebuild(engine, case, &request).await;
    // Customers' data does not stay where a drill has failed, either.
    let ended = match (rebuilt, clear()) {
        (Ok(receipt), Ok(())) => Ok(receipt),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(failed), Err(left)) => Err(both(&case.site, &failed, &left)),
    };
    match &ended {
        Ok(receipt) if receipt.all_passed() => note_proven(engine, case, receipt.duration, drill).await?,
        Ok(_) => note_drill_failed(engine, &case.site, drill).await?,
        Err(error) if tells_of_the_site(error) => {
            let noted = note_drill_failed(engine, &case.site, drill).await;
            // What has failed is told; that this could not be written down is the lesser news.
            noted.unwrap_or_else(|error| tracing::warn!(%error, site = %case.site, "a failed drill was not recorded"));
        }
        Err(_) => {}
    }
    ended
}

/// Whether a failure says something of the site, and not of a store that is busy or a person who stopped it.
pub fn tells_of_the_site(error: &Error) -> bool {
    matches!(error.fault(), Fault::Damage | Fault::Operator | Fault::Bug)
}

fn both(site: &SiteId, failed: &Error, left: &Error) -> Error {
    let detail = format!("{failed}; and what was rebuilt of it is left: {left}");
    match failed.fault() {
        Fault::Damage => Error::Damaged { site: site.clone(), detail },
        _ => Error::Conflict { detail, hint: left.hint().unwrap_or_default() },
    }
}

async fn rebuild(engine: &Engine, case: &CasePlan, request: &RestoreRequest) -> Result<Receipt, Error> {
    let began = Instant::now();
    let planned = plan_restore(engine, request).await?;
    let lacking = lacking(&planned.plan);
    let mut receipt = restore(engine, request, planned, &Approval::Hash(case.hash.clone())).await?;
    // What a copy tells whoever is to look at it is of no use: it is gone.
    receipt.checks.retain(|check| !check.name.ends_with(LOOK_AT_IT));
    receipt.checks.extend(lacking);
    Ok(Receipt { duration: began.elapsed(), ..receipt })
}

/// What the site is not, however well it was rebuilt: a restore would ask a person about it.
fn lacking(plan: &RestorePlan) -> Vec<Check> {
    let lacks = |source: &SourceName, what: &str, detail: String| Check {
        name: format!("{source}: {what}"),
        passed: false,
        detail,
    };
    let left_out = plan.left_out.iter().map(|(source, why)| lacks(source, "part left out", why.clone()));
    let conflicts = plan.conflicts.iter().map(|conflict| lacks(&conflict.source, "conflict", conflict.to_string()));
    left_out.chain(conflicts).collect()
}

/// A snapshot that was rebuilt is proven itself; with changes on it, the site is.
async fn note_proven(engine: &Engine, case: &CasePlan, took: Duration, drill: RecoveryId) -> Result<(), Error> {
    let mut site = engine.site(&case.site).await?;
    let is_itself = site.state().snapshot(case.snapshot).is_some_and(|record| record.cut_till == case.at);
    let event = CommitEvent::StateChanged {
        snapshot: case.snapshot,
        state: if is_itself { PointState::Proven } else { PointState::Written },
        drill: Some(DrillEnd::Proven(Proven { at: Timestamp::now(), moment: case.at, took, drill })),
    };
    commit(engine, &mut site, event).await
}

/// Remembers in the site's sequence that it did not come back, until a drill proves it. Of a site without any point nothing
/// can be said.
pub async fn note_drill_failed(engine: &Engine, site: &SiteId, drill: RecoveryId) -> Result<(), Error> {
    let mut site = engine.site(site).await?;
    let Some(newest) = site.state().snapshots.last().map(|record| record.id) else { return Ok(()) };
    let failed = DrillEnd::Failed(DrillFailed { at: Timestamp::now(), drill });
    let event = CommitEvent::StateChanged { snapshot: newest, state: PointState::Written, drill: Some(failed) };
    commit(engine, &mut site, event).await
}

async fn commit(engine: &Engine, site: &mut Site, event: CommitEvent) -> Result<(), Error> {
    site.commit(&this_process(), |_, _| Ok(event.clone())).await?;
    engine.memory.note_site(site);
    Ok(())
}
