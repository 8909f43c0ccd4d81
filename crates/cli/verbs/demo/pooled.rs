//! `lifeboat demo --postgres URL`: the story of one tenant of a pooled PostgreSQL, told in a database of
//! the demo's own.
//!
//!   make a database and a fleet ▸ back it up ▸ an application goes on writing to four sites ▸ a bad
//!     script deletes a fifth, rows and files ▸ plan ▸ restore in place ▸ prove it, and that nobody else
//!     was touched ▸ undo ▸ drop the database
//!
//! Nothing but that database is ever written to; it is dropped on any way out, unless it is to be kept.

mod application;
mod fleet;
mod server;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lifeboat_engine::RestorePoint;
use lifeboat_model::{PointInTime, Receipt, SiteId};
use serde_json::json;

use super::picture::Picture;
use super::stage::Stage;
use super::{back_up, compare, only, put_back, say, told};
use crate::args::DemoArgs;
use crate::open::Open;
use crate::output::{Outcome, bytes, count, duration, rate};
use crate::{CliError, Context};

use application::{Application, Written};
use fleet::Fleet;
use server::Pool;

/// Whom the bad script deletes.
const DELETED: usize = 4;
/// Whose application goes on writing all the time.
const BUSY: [usize; 4] = [1, 6, 9, 14];

const CONFIG: &str = r#"[repository]
url = "URL"
key = "file:lifeboat.key"

[sources.app]
kind = "postgres"
url = "file:database.url"
tenancy = "column"
tenant_column = "site_id"
root = "sites"
shared = ["plans"]

[sources.attachments]
kind = "files"
path = "attachments/{site}"
"#;

pub(super) fn run(url: &str, args: &DemoArgs, context: &Context) -> Result<Outcome, CliError> {
    let server = server::find(url, context)?;
    context.block_on(async {
        let stage = Stage::set(args.keep.as_deref().map(|path| context.path(path)))?;
        let mut pool = tokio::task::block_in_place(|| Pool::make(&server, stage.kept().is_some(), context))?;
        pool.note_url(stage.root())?;
        let fleet = Fleet { pool: &pool, root: stage.root(), sites: fleet::site_ids(), percent: args.scale };
        let told = Story::tell(&stage, &fleet, context).await.map_err(|error| pool.with_name(error))?;
        if stage.kept().is_none() {
            pool.drop_now()?;
        }
        told.epilogue(&stage, &pool, context);
        Ok(told.outcome(&stage, &pool))
    })
}

/// What is measured on the way.
#[derive(Default)]
struct Story {
    rows: u64,
    file_bytes: u64,
    made: Duration,
    logical_bytes: u64,
    stored_bytes: u64,
    backup: Duration,
    restore: Option<Receipt>,
    undo: Option<Receipt>,
    written: Written,
    total: Duration,
}

impl Story {
    async fn tell(stage: &Stage, fleet: &Fleet<'_>, context: &Context) -> Result<Self, CliError> {
        let (mut story, started) = (Self::default(), Instant::now());
        story.make_fleet(fleet, context)?;
        let open = stage.open(CONFIG, context).await?;
        story.back_up(&open, context).await?;

        let deleted = &fleet.sites[DELETED];
        let (before, quiet) = (fleet.pictures([deleted], false)?, fleet.pictures(quiet(fleet), true)?);
        let application = Application::start(fleet, BUSY.map(|number| fleet.sites[number].clone()));
        bad_script(fleet, deleted, context)?;
        let gone = fleet.pictures([deleted], false)?;

        say(context, "4. Put it back, in place, under the same ids, while the others keep working");
        let receipt = step(&open, deleted, RestorePoint::At(PointInTime::Latest), true, context).await?;
        let undo = RestorePoint::Undo(receipt.restore);
        story.restore = Some(receipt);
        prove(&format!("{deleted} is as it was"), &fleet.pictures([deleted], false)?, &before, context)?;
        agree(fleet, deleted, context)?;

        say(context, "5. Wrong site? Undo it, and undo the undo");
        let undone = step(&open, deleted, undo, false, context).await?;
        let again = RestorePoint::Undo(undone.restore);
        story.undo = Some(undone);
        prove(&format!("{deleted} is gone, as it was found"), &fleet.pictures([deleted], false)?, &gone, context)?;
        step(&open, deleted, again, false, context).await?;
        prove(&format!("{deleted} is back"), &fleet.pictures([deleted], false)?, &only(&before, deleted), context)?;

        say(context, "6. And everybody else?");
        story.written = application.stop();
        let claim =
            format!("no row or file of the {} other sites that were quiet was so much as rewritten", quiet.len());
        prove(&claim, &fleet.pictures(quiet.keys(), true)?, &quiet, context)?;
        story.written.prove(fleet, context)?;
        story.total = started.elapsed();
        Ok(story)
    }

    fn make_fleet(&mut self, fleet: &Fleet<'_>, context: &Context) -> Result<(), CliError> {
        let (sites, pool) = (fleet.sites.len(), fleet.pool);
        say(
            context,
            &format!("1. {sites} sites in one database, {} on PostgreSQL {}", pool.database(), pool.version()),
        );
        let started = Instant::now();
        let made = tokio::task::block_in_place(|| fleet.make())?;
        (self.rows, self.file_bytes, self.made) = (made.rows, made.file_bytes, started.elapsed());
        told(
            context,
            &format!(
                "{} rows in {} tables that all sites share, {} attachments ({}) on disk, each with a row that names it",
                count(made.rows),
                fleet::TABLES.len(),
                count(made.files),
                bytes(made.file_bytes)
            ),
        );
        Ok(())
    }

    async fn back_up(&mut self, open: &Open, context: &Context) -> Result<(), CliError> {
        say(context, "2. Back all of it up: each site on its own");
        context.cancel.check()?;
        let started = Instant::now();
        (self.logical_bytes, self.stored_bytes) = back_up(open).await?;
        self.backup = started.elapsed();
        let speed = rate(self.logical_bytes, self.backup);
        let (took, stored) = (duration(self.backup), bytes(self.stored_bytes));
        told(context, &format!("{} in {took} ({speed}), stored as {stored}", bytes(self.logical_bytes)));
        Ok(())
    }

    fn epilogue(&self, stage: &Stage, pool: &Pool, context: &Context) {
        let output = &context.output;
        output.line("");
        let made = duration(self.made);
        output.line(format!(
            "fleet       {} rows, {} of files, made in {made}",
            count(self.rows),
            bytes(self.file_bytes)
        ));
        output.line(format!("backup      {} of all sites", duration(self.backup)));
        for (what, receipt) in [("restore", &self.restore), ("undo   ", &self.undo)] {
            let Some(receipt) = receipt else { continue };
            let (rows, files) = totals(receipt);
            output.line(format!(
                "{what}     {}: {} rows and {} files in {}, {} of {} checks passed",
                receipt.site,
                count(rows),
                count(files),
                duration(receipt.duration),
                receipt.checks.iter().filter(|check| check.passed).count(),
                receipt.checks.len()
            ));
        }
        output.line(format!(
            "the others  {} transactions meanwhile, 0 errors, the slowest {}",
            count(self.written.transactions()),
            duration(self.written.slowest)
        ));
        output.line(format!("everything  {}", duration(self.total)));
        output.line("");
        match stage.kept() {
            Some(kept) => {
                output.line(format!(
                    "Everything is still in {} and in {}. Look around:",
                    kept.display(),
                    pool.database()
                ));
                output.line(format!("  cd {}", kept.display()));
                output.line("  lifeboat sources inspect");
                output.line(format!("  lifeboat points {}", fleet::site_ids()[DELETED]));
                output.line("When you have seen enough:");
                output.line(format!("  {}", pool.how_to_drop()));
                output.line(format!("  rm -r {}", kept.display()));
            }
            None => {
                output.line(format!("Nothing is left behind: {} is dropped (--keep DIR leaves it).", pool.database()));
                output.line("On your own database: docs/operations/restore-one-tenant.md, and first");
                output.line("  lifeboat sources inspect        # after naming it in lifeboat.toml");
            }
        }
    }

    fn outcome(&self, stage: &Stage, pool: &Pool) -> Outcome {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let told = |receipt: &Receipt| {
            let (rows, files) = totals(receipt);
            json!({
                "site": receipt.site.as_str(),
                "rows": rows,
                "files": files,
                "bytes": receipt.parts.iter().map(|part| part.bytes).sum::<u64>(),
                "requests": receipt.requests,
                "duration_ms": millis(receipt.duration),
            })
        };
        Outcome::ok()
            .with("sites", fleet::SITES)
            .with("rows", self.rows)
            .with("fleet_bytes", self.logical_bytes)
            .with("stored_bytes", self.stored_bytes)
            .with("first_backup_ms", millis(self.backup))
            .with("restores", self.restore.iter().map(told).collect::<Vec<_>>())
            .with("undo", self.undo.as_ref().map(told))
            .with(
                "application",
                json!({
                    "transactions": self.written.transactions(),
                    "errors": 0,
                    "slowest_ms": millis(self.written.slowest),
                }),
            )
            .with("duration_ms", millis(self.total))
            .with("database", pool.database())
            .with("kept", stage.kept().map(|path| path.display().to_string()))
    }
}

/// Rows and files written.
fn totals(receipt: &Receipt) -> (u64, u64) {
    receipt.parts.iter().fold((0, 0), |(rows, files), part| (rows + part.rows, files + part.files))
}

/// Those whom neither the script nor the application touches.
fn quiet<'f>(fleet: &'f Fleet<'_>) -> impl Iterator<Item = &'f SiteId> {
    let is_quiet = |number: &usize| *number != DELETED && !BUSY.contains(number);
    fleet.sites.iter().enumerate().filter(move |(number, _)| is_quiet(number)).map(|(_, site)| site)
}

fn bad_script(fleet: &Fleet<'_>, site: &SiteId, context: &Context) -> Result<(), CliError> {
    say(context, "3. A script with the wrong id runs; four other sites are being written to all the time");
    context.cancel.check()?;
    let (rows, files) = tokio::task::block_in_place(|| fleet.destroy(site))?;
    told(context, &format!("{site}: {} rows deleted by one DELETE that cascades, and {files} files", count(rows)));
    Ok(())
}

async fn step(
    open: &Open,
    site: &SiteId,
    point: RestorePoint,
    shows_plan: bool,
    context: &Context,
) -> Result<Receipt, CliError> {
    context.cancel.check()?;
    put_back(open, site, point, shows_plan, context).await
}

/// Each attachment's row has its file, and each file its row.
fn agree(fleet: &Fleet<'_>, site: &SiteId, context: &Context) -> Result<(), CliError> {
    let pairs = tokio::task::block_in_place(|| fleet.pairs(site))?;
    told(context, &format!("proven: its {pairs} attachments are there, by name, size and SHA-256 of their rows"));
    Ok(())
}

fn prove(
    claim: &str,
    now: &BTreeMap<SiteId, Picture>,
    then: &BTreeMap<SiteId, Picture>,
    context: &Context,
) -> Result<(), CliError> {
    let compared = compare(claim, now, then)?;
    told(context, &format!("proven: {claim} ({} tables and files compared)", count(compared)));
    Ok(())
}
