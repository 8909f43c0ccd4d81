//! The end of points: over the whole fleet, of which most sites have but one; and of one site of very many chunks, of
//! which a tenth is needed no more.
//!
//! ```text
//! backed up ▸ changed ▸ backed up ─▶ `forget` ▸ `prune` condemns ▸ another run ▸ `prune` deletes
//! ```
//!
//! Waiting times are a second each, so that all of it happens in one sitting.

use std::thread::sleep;
use std::time::Duration;

use lifeboat_bench::Outcome;
use lifeboat_format::SecretKey;
use lifeboat_model::SiteId;
use lifeboat_repo::Repository;
use lifeboat_store::OpenOptions;

use crate::Options;
use crate::fleet::{Fleet, LargeSite};
use crate::ours::{Lifeboat, Place, Said};
use crate::report::{Report, Task};

const POLICY: &str = "\n[policy]\nwindow = \"1s\"\nundo = \"1s\"\nundelete = \"1s\"\nkeep = { last = 1 }\n\
                      [prune]\ngrace = \"1s\"\nunnamed = \"1d\"\n";
const WAIT: Duration = Duration::from_millis(1_500);

pub fn measure_fleet(fleet: &mut Fleet, options: &Options, report: &mut Report) -> Outcome<()> {
    let lifeboat = Lifeboat::init((&Place::Directory, &options.dir), "prune-fleet", &(fleet.source() + POLICY))?;
    lifeboat.night(fleet.sites, fleet.sites)?;
    let changed = fleet.change(options.changed)?;
    lifeboat.night(fleet.sites, changed)?;
    let [forgot, condemned, deleted] = end_points(&lifeboat, changed)?;
    for (task, said) in [(Task::Forget, forgot), (Task::Condemn, condemned), (Task::Delete, deleted)] {
        report.add(task, Place::Directory.name(), fleet.sites, (said.cost, None));
    }
    lifeboat.expect_all(fleet.sites).map(|_| ())
}

pub fn measure_large(site: &LargeSite, options: &Options, report: &mut Report) -> Outcome<()> {
    let lifeboat = Lifeboat::init((&Place::Directory, &options.dir), "prune-large", &(site.source() + POLICY))?;
    let first = lifeboat.night(1, 1)?;
    let changed = site.change_tenth()?;
    let second = lifeboat.night(1, 1)?;
    let chunks = indexed_chunks(&lifeboat, site)?;
    if chunks != (site.chunks + changed) as u64 {
        return Err(
            format!("the site has another number of chunks: indexed=`{chunks}`, files=`{}`", site.chunks).into()
        );
    }
    let [_, condemned, deleted] = end_points(&lifeboat, 1)?;
    let tasks = [
        (Task::Large, first),
        (Task::LargeChanged, second),
        (Task::LargeCondemn, condemned),
        (Task::LargeDelete, deleted),
    ];
    for (task, said) in tasks {
        report.add(task, Place::Directory.name(), 1, (said.cost, None));
    }
    lifeboat.run(&["check"])?;
    lifeboat.expect_all(1).map(|_| ())
}

/// Forgets so many points, condemns what they alone needed, deletes it: what each took.
fn end_points(lifeboat: &Lifeboat, points: usize) -> Outcome<[Said; 3]> {
    sleep(WAIT);
    let forgot = lifeboat.run(&["forget", "--all", "--yes", "--expect", &points.to_string()])?;
    forgot.expect("forget", "forgotten", points)?;
    sleep(WAIT);
    let condemned = lifeboat.run(&["prune", "--yes"])?;
    let objects = condemned.number("condemned")?;
    println!("forgotten: {points} points; condemned: {objects} objects that they alone needed");
    if objects < points {
        return Err(format!("too little is condemned: objects=`{objects}`, points=`{points}`").into());
    }
    sleep(WAIT);
    lifeboat.run(&["backup", "--all"])?; // nothing is deleted before another run
    let deleted = lifeboat.run(&["prune", "--yes"])?;
    deleted.expect("prune", "deleted", objects)?;
    Ok([forgot, condemned, deleted])
}

/// Chunks that the site's index names.
fn indexed_chunks(lifeboat: &Lifeboat, site: &LargeSite) -> Outcome<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let key = SecretKey::parse_base64(std::fs::read_to_string(lifeboat.dir().join("lifeboat.key"))?.trim())?;
        let url = format!("file://{}", lifeboat.dir().join("repository").display());
        let repository =
            Repository::open(lifeboat_store::open(&url, &OpenOptions::default()).await?.store, &key).await?;
        let found = repository.site(&SiteId::new(site.id())?, None).await?.ok_or("the site has no commit")?;
        Ok(found.state().indexes.iter().map(|index| index.chunks).sum())
    })
}
