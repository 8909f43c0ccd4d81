//! `lifeboat demo`: the whole story on a made-up fleet, with the very code the other verbs run.
//!
//!   make a fleet ▸ back it up ▸ a day's work ▸ back up again ▸ a bad script ▸ plan ▸ restore three
//!     sites in place ▸ prove them, and that nobody else was touched ▸ undo one
//!
//! It ends with an error if anything is not proven: a demo that always says "well done" proves
//! nothing.

mod fleet;
mod picture;
mod pooled;
mod stage;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_engine::{Approval, BackupRequest, SiteOutcome, backup, plan_restore, restore};
use lifeboat_engine::{RestorePoint, RestoreRequest, RestoreTarget};
use lifeboat_model::{Fault, PointInTime, Receipt, SiteId};
use rusqlite::Connection;
use serde_json::json;

use super::plan::show_plan;
use crate::args::DemoArgs;
use crate::open::Open;
use crate::output::{Outcome, bytes, count, duration, rate};
use crate::{CliError, Context};

use picture::Picture;
use stage::Stage;

/// Who the bad script hits: two sites deleted, one damaged.
const DELETED: [usize; 2] = [7, 21];
const DAMAGED: usize = 13;

const CONFIG: &str = r#"[repository]
url = "URL"
key = "file:lifeboat.key"

[sources.notes]
kind = "sqlite"
path = "sites/{site}/notes.db"

[sources.attachments]
kind = "files"
path = "sites/{site}/attachments"
"#;

pub fn run(args: &DemoArgs, context: &Context) -> Result<Outcome, CliError> {
    if let Some(url) = &args.postgres {
        return pooled::run(url, args, context);
    }
    let stage = Stage::set(args.keep.as_deref().map(|path| context.path(path)))?;
    context.block_on(async {
        let told = Story::tell(&stage, args.scale, context).await?;
        told.epilogue(&stage, context);
        Ok(told.outcome(&stage))
    })
}

/// What is measured on the way.
#[derive(Default)]
struct Story {
    fleet_bytes: u64,
    stored_bytes: u64,
    made: Duration,
    first_backup: Duration,
    second_backup: Duration,
    second_added: u64,
    restores: Vec<Receipt>,
    undo: Option<Receipt>,
    total: Duration,
}

/// The fleet of the story: where, who, and how large.
#[derive(Clone, Copy)]
struct MadeUp<'f> {
    root: &'f Path,
    sites: &'f [SiteId],
    percent: u32,
}

impl Story {
    async fn tell(stage: &Stage, percent: u32, context: &Context) -> Result<Self, CliError> {
        let (mut story, started, root) = (Self::default(), Instant::now(), stage.root());
        let fleet = MadeUp { root, sites: &fleet::site_ids(), percent };
        story.make_fleet(&fleet, context)?;
        let open = stage.open(CONFIG, context).await?;
        story.back_up_twice(&open, &fleet, context).await?;
        let sites = fleet.sites;

        let hit: Vec<&SiteId> = DELETED.iter().chain([&DAMAGED]).map(|&number| &sites[number]).collect();
        let before = pictures(root, hit.iter().copied(), false)?;
        let bystanders = || sites.iter().filter(|site| !hit.contains(site));
        let untouched = pictures(root, bystanders(), true)?;
        let application = bad_script(root, &hit, context)?;
        let damaged = pictures(root, [hit[2]], false)?;

        say(context, "4. Put the three back, in place, while everybody else keeps working");
        for site in &hit {
            context.cancel.check()?;
            let receipt =
                put_back(&open, site, RestorePoint::At(PointInTime::Latest), *site == hit[2], context).await?;
            story.restores.push(receipt);
        }
        prove("the three sites are as they were", &pictures(root, hit.iter().copied(), false)?, &before, context)?;
        prove("the other 47 were not touched", &pictures(root, bystanders(), true)?, &untouched, context)?;
        check_application(&application, hit[2], context)?;

        say(context, &format!("5. Wrong point for {}? Undo it", hit[2]));
        let undone = RestorePoint::Undo(story.restores[2].restore);
        story.undo = Some(put_back(&open, hit[2], undone, false, context).await?);
        prove("the damage is back, as it was found", &pictures(root, [hit[2]], false)?, &damaged, context)?;
        let again = story.undo.as_ref().map(|receipt| RestorePoint::Undo(receipt.restore));
        if let Some(again) = again {
            put_back(&open, hit[2], again, false, context).await?;
        }
        prove("and an undo can be undone", &pictures(root, [hit[2]], false)?, &only(&before, hit[2]), context)?;
        story.total = started.elapsed();
        Ok(story)
    }

    fn make_fleet(&mut self, fleet: &MadeUp<'_>, context: &Context) -> Result<(), CliError> {
        let MadeUp { root, sites, percent } = *fleet;
        say(context, &format!("1. A fleet of {} sites in {}", sites.len(), root.join("sites").display()));
        let started = Instant::now();
        fleet::make(root, sites, percent).map_err(|io| stage::failed("cannot make the fleet", root, &io))?;
        self.made = started.elapsed();
        Ok(())
    }

    async fn back_up_twice(&mut self, open: &Open, fleet: &MadeUp<'_>, context: &Context) -> Result<(), CliError> {
        let MadeUp { root, sites, percent } = *fleet;
        say(context, "2. Back it up, then again after a day's work at five sites");
        let started = Instant::now();
        let (logical, added) = back_up(open).await?;
        (self.fleet_bytes, self.stored_bytes, self.first_backup) = (logical, added, started.elapsed());
        let took = duration(self.first_backup);
        let speed = rate(logical, self.first_backup);
        told(context, &format!("{} in {took} ({speed}), stored as {}", bytes(logical), bytes(added)));
        for site in sites.iter().step_by(10) {
            fleet::work(root, site, percent).map_err(|io| stage::failed("cannot change the fleet", root, &io))?;
        }
        let started = Instant::now();
        let (_, added) = back_up(open).await?;
        (self.second_added, self.second_backup) = (added, started.elapsed());
        told(context, &format!("the second night: {} new, {}", bytes(added), duration(self.second_backup)));
        Ok(())
    }

    fn epilogue(&self, stage: &Stage, context: &Context) {
        let output = &context.output;
        output.line("");
        let saved = self.stored_bytes as f64 / self.fleet_bytes.max(1) as f64;
        output.line(format!(
            "fleet          {} sites, {}, made in {}",
            fleet::SITES,
            bytes(self.fleet_bytes),
            duration(self.made)
        ));
        output.line(format!(
            "first backup   {} ({}), {:.0} % of its size stored",
            duration(self.first_backup),
            rate(self.fleet_bytes, self.first_backup),
            saved * 100.0
        ));
        output.line(format!("second backup  {}, {} new", duration(self.second_backup), bytes(self.second_added)));
        let undo = self.undo.iter().map(|receipt| ("undo   ", receipt));
        for (what, receipt) in self.restores.iter().map(|receipt| ("restore", receipt)).chain(undo) {
            let written: u64 = receipt.parts.iter().map(|part| part.bytes).sum();
            output.line(format!(
                "{what}        {:<13} {} in {} ({}), {} requests, {} of {} checks passed",
                receipt.site,
                bytes(written),
                duration(receipt.duration),
                rate(written, receipt.duration),
                count(receipt.requests),
                receipt.checks.iter().filter(|check| check.passed).count(),
                receipt.checks.len()
            ));
        }
        output.line(format!("everything     {}", duration(self.total)));
        output.line("");
        if let Some(kept) = stage.kept() {
            output.line(format!("Everything is still in {}. Look around there:", kept.display()));
            output.line(format!("  cd {}", kept.display()));
            output.line("  lifeboat sites");
            output.line("  lifeboat points acme-01");
            output.line("  rm -r sites/acme-01 && lifeboat restore acme-01");
        } else {
            output.line("Nothing is left behind (--keep DIR leaves it to look around). On your own data:");
            output.line("  lifeboat init --repo file:///var/backups/lifeboat");
            output.line("  lifeboat sources inspect        # after naming your sources in lifeboat.toml");
            output.line("  lifeboat backup --all");
            output.line("  lifeboat restore SITE --dry-run");
        }
    }

    fn outcome(&self, stage: &Stage) -> Outcome {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let restores: Vec<_> = self
            .restores
            .iter()
            .map(|receipt| {
                json!({
                    "site": receipt.site.as_str(),
                    "bytes": receipt.parts.iter().map(|part| part.bytes).sum::<u64>(),
                    "requests": receipt.requests,
                    "duration_ms": millis(receipt.duration),
                })
            })
            .collect();
        Outcome::ok()
            .with("sites", fleet::SITES)
            .with("fleet_bytes", self.fleet_bytes)
            .with("stored_bytes", self.stored_bytes)
            .with("first_backup_ms", millis(self.first_backup))
            .with("second_backup_ms", millis(self.second_backup))
            .with("second_added_bytes", self.second_added)
            .with("restores", restores)
            .with("duration_ms", millis(self.total))
            .with("kept", stage.kept().map(|path| path.display().to_string()))
    }
}

fn say(context: &Context, text: &str) {
    context.output.line("");
    context.output.line(text);
    context.output.event("step", json!({ "text": text }));
}

fn told(context: &Context, text: &str) {
    context.output.line(format!("   {text}"));
    context.output.event("told", json!({ "text": text }));
}

/// Backs up every site; plain bytes of the fleet, and bytes that were added.
async fn back_up(open: &Open) -> Result<(u64, u64), CliError> {
    let report = backup(&open.engine, &BackupRequest::default()).await;
    open.bars.clear();
    let (mut logical, mut added) = (0, 0);
    for site in report?.sites {
        match site.outcome {
            SiteOutcome::Published(record) => {
                logical += record.logical_bytes;
                added += record.added_bytes;
            }
            SiteOutcome::Unchanged(record) => logical += record.logical_bytes,
            SiteOutcome::Failed(error) => return Err(error.into()),
            SiteOutcome::Vanished { .. } => {
                return Err(CliError::bug(format!("a site vanished: site=`{}`", site.site)));
            }
        }
    }
    Ok((logical, added))
}

/// Deletes two sites and damages a third, which an application has open. Returns its connection.
fn bad_script(root: &Path, hit: &[&SiteId], context: &Context) -> Result<Connection, CliError> {
    say(context, "3. A script with the wrong list of ids runs");
    let failed = |io: std::io::Error| stage::failed("the bad script failed", root, &io);
    let of_sqlite = |error: rusqlite::Error| failed(std::io::Error::other(error));
    for site in &hit[..DELETED.len()] {
        std::fs::remove_dir_all(fleet::site_directory(root, site)).map_err(failed)?;
        told(context, &format!("{site}: deleted"));
    }
    let damaged = hit[DELETED.len()];
    let application = Connection::open(fleet::database(root, damaged)).map_err(of_sqlite)?;
    let rows = application.execute("DELETE FROM note WHERE id % 3 = 0", []).map_err(of_sqlite)?;
    let attachments = fleet::attachments(root, damaged);
    std::fs::write(attachments.join("logo.png"), b"YOUR FILES ARE ENCRYPTED").map_err(failed)?;
    std::fs::remove_dir_all(attachments.join("2021")).map_err(failed)?;
    std::fs::write(attachments.join("README_TO_DECRYPT.txt"), b"pay").map_err(failed)?;
    told(
        context,
        &format!(
            "{damaged}: {} rows deleted, files removed and overwritten; its application stays open",
            count(rows as u64)
        ),
    );
    Ok(application)
}

/// The connection that was open all the time sees what was restored.
fn check_application(application: &Connection, site: &SiteId, context: &Context) -> Result<(), CliError> {
    let rows = application.query_row("SELECT count(*) FROM note WHERE id % 3 = 0", [], |row| row.get::<_, i64>(0));
    match rows {
        Ok(rows) if rows > 0 => {
            told(context, &format!("proven: the application that kept {site} open sees its {rows} rows again"));
            Ok(())
        }
        other => Err(unproven(&format!("the open application of {site} does not see the rows: {other:?}"))),
    }
}

async fn put_back(
    open: &Open,
    site: &SiteId,
    point: RestorePoint,
    shows_plan: bool,
    context: &Context,
) -> Result<Receipt, CliError> {
    let request = RestoreRequest {
        site: site.clone(),
        point,
        only: None,
        target: RestoreTarget::InPlace,
        restore: None,
        take_over: false,
        skip_damaged: false,
        verify_read: false,
        exact: false,
        keep_later: false,
    };
    let planned = plan_restore(&open.engine, &request).await?;
    open.bars.clear();
    if shows_plan {
        told(context, "the plan, as `lifeboat restore --dry-run` shows it:");
        context.output.line("");
        show_plan(&planned.plan, &request, context);
        context.output.line("");
    }
    // An undo has conflicts by its nature here: the site "changed" when the restore put it back.
    let approval = Approval::Hash(planned.plan.hash.clone());
    let receipt = restore(&open.engine, &request, planned, &approval).await;
    open.bars.clear();
    let receipt = receipt?;
    let written: u64 = receipt.parts.iter().map(|part| part.bytes).sum();
    told(context, &format!("{site}: {} written in {}, verified", bytes(written), duration(receipt.duration)));
    Ok(receipt)
}

/// Pictures of sites: exact ones, or of what the applications see.
fn pictures<'s>(
    root: &Path,
    sites: impl IntoIterator<Item = &'s SiteId>,
    exact: bool,
) -> Result<BTreeMap<SiteId, Picture>, CliError> {
    let take = |site: &'s SiteId| {
        let picture = match exact {
            true => picture::exact(&fleet::site_directory(root, site)),
            false => picture::logical(&fleet::attachments(root, site), &fleet::database(root, site)),
        };
        picture.map(|picture| (site.clone(), picture)).map_err(|io| stage::failed("cannot look at a site", root, &io))
    };
    sites.into_iter().map(take).collect()
}

fn only(pictures: &BTreeMap<SiteId, Picture>, site: &SiteId) -> BTreeMap<SiteId, Picture> {
    pictures.iter().filter(|(id, _)| *id == site).map(|(id, picture)| (id.clone(), picture.clone())).collect()
}

fn prove(
    claim: &str,
    now: &BTreeMap<SiteId, Picture>,
    then: &BTreeMap<SiteId, Picture>,
    context: &Context,
) -> Result<(), CliError> {
    let entries = count(compare(claim, now, then)?);
    told(context, &format!("proven: {claim} ({entries} entries compared by content, mode, owner and time)"));
    Ok(())
}

/// How many entries were compared and found equal.
fn compare(claim: &str, now: &BTreeMap<SiteId, Picture>, then: &BTreeMap<SiteId, Picture>) -> Result<u64, CliError> {
    for (site, picture) in then {
        let other = now.get(site);
        let differs = picture.iter().find(|(path, seen)| other.and_then(|other| other.get(*path)) != Some(seen));
        let extra = other.and_then(|other| other.keys().find(|path| !picture.contains_key(*path)));
        if let Some(path) = differs.map(|(path, _)| path).or(extra) {
            return Err(unproven(&format!("not proven: {claim}: site=`{site}`, path=`{path}`")));
        }
    }
    Ok(then.values().map(|picture| picture.len() as u64).sum())
}

fn unproven(message: &str) -> CliError {
    CliError::new(Fault::Damage, message).with_hint("run it again with --keep DIR, and report it with what is there")
}
