//! `lifeboat prune`: what no point needs any more is condemned, and what was condemned long ago is deleted. Only shown, unless
//! `--yes` says otherwise.
//!
//!   the bucket is whole, the clocks agree ─▶ of each site: delete what is ripe ▸ condemn what nothing names
//!   every site told what it needs ─▶ of each change log the same

use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use lifeboat_control::retention::{LogDemand, LogDemands};
use lifeboat_engine::lifecycle as ends;
use lifeboat_model::{AuditAction, Fault, Faulty, SiteId, worst_exit_code};
use lifeboat_repo::{PruneBlock, SitePrune, plan_prune};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::lifecycle::{Begun, begin};
use crate::args::PruneArgs;
use crate::audit::Audited;
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Table, bytes, count, plural};
use crate::{CliError, Context, exit};

mod logs;

use logs::LogPruned;

/// Sites looked at side by side.
const SITES_MAX: usize = 4;
/// Of so many chunks more, a site takes the place of one more.
const CHUNKS_PER_PLACE: u64 = 100_000;

/// What became of one site.
struct SitePruned {
    site: SiteId,
    plan: SitePrune,
    deleted: u64,
    condemned: u64,
    gave_way: bool,
}

pub fn run(args: &PruneArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        prune(args, &open, context).await
    })
}

pub(super) async fn prune(args: &PruneArgs, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let begun = begin(open, &args.sites, context).await?;
    let mut audited = Audited::new(open, context).sites(&begun.sites);
    match args.yes {
        true => audited.begin_for_good().await?,
        false => audited.show(AuditAction::Planned).await?,
    }
    let pruned = sites(args, open, &begun, context).await;
    audited.end(AuditAction::Pruned, pruned).await
}

async fn sites(args: &PruneArgs, open: &Open, begun: &Begun, context: &Context) -> Result<Outcome, CliError> {
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    let policy = &open.config.policy;
    let demands = LogDemands::new(begun.clock.now, (policy.keep.window, policy.undelete));
    let (room, demands) = (Semaphore::new(SITES_MAX), Mutex::new(demands));
    let shared = Shared { begun, room: &room, demands: &demands };
    let pruned = begun.sites.iter().map(async |id| (id, prune_site(open, id, args.yes, &shared).await));
    let mut pruned = stream::iter(pruned).buffered(SITES_MAX);
    while let Some((id, pruned)) = pruned.next().await {
        match pruned {
            Ok(site) => all.push(site),
            Err(error) if error.fault() == Fault::Cancelled => return Err(error.into()),
            // Damage of one site is no reason to keep another's garbage; it is named, and nothing of its own is touched.
            Err(error) => failed.push(Failed::of_site(id, &error.into())),
        }
    }
    drop(pruned);
    // What the others need of what they share, a few sites cannot say.
    let logs = match args.sites.is_empty() {
        true => {
            let demands = demands.into_inner().unwrap_or_else(PoisonError::into_inner);
            let is_whole = failed.is_empty() && begun.unknown.is_empty();
            begun
                .unknown
                .iter()
                .for_each(|error| context.output.warn(&format!("a site cannot be opened: {error}"), None));
            logs::prune(open, (&demands, is_whole), (begun, args.yes), &mut failed).await?
        }
        false => Vec::new(),
    };
    Ok(tell((&all, &logs), failed, args, context))
}

/// What all sites share.
struct Shared<'b> {
    begun: &'b Begun,
    room: &'b Semaphore,
    demands: &'b Mutex<LogDemands>,
}

async fn prune_site(
    open: &Open,
    id: &SiteId,
    acts: bool,
    Shared { begun, room, demands }: &Shared<'_>,
) -> Result<SitePruned, lifeboat_engine::Error> {
    let mut site = open.engine.site(id).await?;
    let policy = open.config.policy_of(id);
    let (window, undelete, is_gone) = (policy.keep.window, policy.undelete, begun.gone.contains(id));
    let demand = LogDemand { state: site.state(), window, undelete, is_gone };
    demands.lock().unwrap_or_else(PoisonError::into_inner).add(&demand);
    // A site's index is in memory while it is looked at: of a large one there is no other beside it.
    let chunks: u64 = site.state().indexes.iter().map(|index| index.chunks).sum();
    let share = (chunks / CHUNKS_PER_PLACE).saturating_add(1).min(SITES_MAX as u64);
    let _place = room.acquire_many(u32::try_from(share).unwrap_or(1)).await;
    let rules = open.config.prune.rules;
    if !acts {
        let facts = site.prune_facts(&begun.clock).await?;
        let plan = plan_prune(&facts, &rules, &begun.clock);
        let (deleted, condemned, gave_way) = (0, 0, false);
        return Ok(SitePruned { site: id.clone(), plan, deleted, condemned, gave_way });
    }
    let pruned = ends::prune(&open.engine, &mut site, &rules, &begun.clock).await?;
    let lifeboat_repo::Pruned { plan, deleted, condemned, gave_way } = pruned;
    Ok(SitePruned { site: id.clone(), plan, deleted, condemned, gave_way })
}

fn tell(
    (all, logs): (&[SitePruned], &[LogPruned]),
    failed: Vec<Failed>,
    args: &PruneArgs,
    context: &Context,
) -> Outcome {
    let output = &context.output;
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("DELETE", Align::Right),
        ("SIZE", Align::Right),
        ("CONDEMN", Align::Right),
        ("SIZE", Align::Right),
        ("WAITING", Align::Right),
        ("POINTS THAT END", Align::Right),
        ("", Align::Left),
    ]);
    for one in all {
        let SitePruned { site, plan, .. } = one;
        let note = note(one);
        output.event("site", to_json(one, &note));
        if plan.is_nothing() && plan.waiting == 0 && note.is_empty() && context.global.verbose == 0 {
            continue;
        }
        table.row([
            site.to_string(),
            count(plan.delete.iter().map(|condemned| condemned.objects.len() as u64).sum()),
            bytes(plan.delete_bytes),
            count(plan.condemn.len() as u64),
            bytes(plan.condemn_bytes),
            count(plan.waiting),
            count(plan.expired.len() as u64),
            note,
        ]);
    }
    if !output.is_log() && !table.is_empty() {
        table.lines().iter().for_each(|line| output.line(line));
    }
    logs::tell(logs, context);
    let of_logs = logs::sum(logs);
    let sum = |of: fn(&SitePruned) -> u64| all.iter().map(of).sum::<u64>();
    let deleted = sum(|one| one.deleted) + of_logs.deleted;
    let condemned = sum(|one| one.condemned) + of_logs.condemned;
    let sites = plural(all.len() as u64, "site");
    let whom: String = args.sites.iter().map(|site| format!("{site} ")).collect();
    output.line(match args.yes {
        true => format!("{sites}: {} deleted, {} condemned.", plural(deleted, "object"), count(condemned)),
        false => format!(
            "{sites}: {} would be deleted, {} condemned. Nothing was changed: `lifeboat prune {whom}--yes` does it.",
            bytes(sum(|one| one.plan.delete_bytes) + of_logs.deletes.bytes),
            bytes(sum(|one| one.plan.condemn_bytes) + of_logs.condemns.bytes),
        ),
    });
    let codes = failed.iter().map(|failed| failed.exit_code).chain((!failed.is_empty()).then_some(exit::PARTLY));
    Outcome { exit_code: worst_exit_code(codes), failed, ..Outcome::ok() }
        .with("sites", all.len())
        .with("deleted", deleted)
        .with("condemned", condemned)
        .with("dry_run", !args.yes)
}

/// Why a site was left alone, in whole or in part.
fn note(one: &SitePruned) -> String {
    match (&one.plan.block, one.gave_way, one.plan.foreign.first()) {
        (Some(PruneBlock::Held(hold)), ..) => format!("held: {}", hold.note),
        (Some(PruneBlock::RestoreOpen(open)), ..) => format!("restore {} is open", open.restore),
        (None, true, _) => "others commit all the time: next time".to_owned(),
        (None, false, Some(first)) => format!("not of a repository, and not touched: {first}"),
        (None, false, None) => String::new(),
    }
}

fn to_json(one: &SitePruned, note: &str) -> Value {
    let plan = &one.plan;
    json!({
        "site": one.site.as_str(),
        "to_delete": plan.delete.iter().map(|condemned| condemned.objects.len()).sum::<usize>(),
        "to_delete_bytes": plan.delete_bytes,
        "to_condemn": plan.condemn.len(),
        "to_condemn_bytes": plan.condemn_bytes,
        "waiting": plan.waiting,
        "waiting_bytes": plan.waiting_bytes,
        "points_that_end": plan.expired.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "deleted": one.deleted,
        "condemned": one.condemned,
        "left_alone": note,
        "foreign": plan.foreign,
    })
}
