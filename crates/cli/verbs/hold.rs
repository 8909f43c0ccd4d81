//! `lifeboat hold SITE…`: keeps all points of sites, whatever rules say, until somebody releases it.

use std::collections::BTreeSet;

use lifeboat_engine::lifecycle as ends;
use lifeboat_model::{AuditAction, Hold, HoldId, SiteId, worst_exit_code};
use serde_json::json;

use super::lifecycle::check_words;
use crate::args::HoldArgs;
use crate::audit::Audited;
use crate::open::Open;
use crate::output::{Failed, Outcome};
use crate::{CliError, Context, exit, words};

pub fn run(args: &HoldArgs, context: &Context) -> Result<Outcome, CliError> {
    if args.note.as_ref().is_some_and(|note| note.trim().is_empty()) {
        return Err(CliError::usage("a hold says why it is there")
            .with_hint("write it behind --note: whoever finds the hold in a year reads nothing else"));
    }
    check_words("the note of a hold", args.note.as_deref().unwrap_or_default())?;
    context.block_on(async {
        let open = context.open().await?;
        let mut audited = Audited::new(&open, context).sites(&args.sites);
        audited.begin().await?;
        let held = all(args, &open, context).await;
        let done = if args.note.is_some() { AuditAction::HoldPlaced } else { AuditAction::HoldReleased };
        audited.end(done, held).await
    })
}

async fn all(args: &HoldArgs, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let (mut failed, mut changed) = (Vec::new(), 0);
    let sites: BTreeSet<&SiteId> = args.sites.iter().collect();
    for id in sites.iter().copied() {
        let done = match (&args.note, args.release) {
            (Some(note), _) => place(open, id, note, context).await,
            (None, which) => release(open, id, which.flatten(), context).await,
        };
        match done {
            Ok(count) => changed += count,
            Err(error) if sites.len() == 1 => return Err(error),
            Err(error) => failed.push(Failed::of_site(id, &error)),
        }
    }
    let codes = failed.iter().map(|failed: &Failed| failed.exit_code);
    let codes = codes.chain((!failed.is_empty()).then_some(exit::PARTLY));
    let field = if args.note.is_some() { "placed" } else { "released" };
    Ok(Outcome { exit_code: worst_exit_code(codes), failed, ..Outcome::ok() }.with(field, changed))
}

async fn place(open: &Open, id: &SiteId, note: &str, context: &Context) -> Result<u64, CliError> {
    let mut site = super::known_site(open, id).await?;
    let hold = ends::hold(&open.engine, &mut site, note).await?;
    tell("placed", id, &hold, context);
    Ok(1)
}

async fn release(open: &Open, id: &SiteId, which: Option<HoldId>, context: &Context) -> Result<u64, CliError> {
    let mut site = super::known_site(open, id).await?;
    let all = site.state().holds.clone();
    let asked: Vec<&Hold> = all.iter().filter(|hold| which.is_none_or(|id| id == hold.id)).collect();
    if let Some(hold) = which.filter(|_| asked.is_empty()) {
        return Err(CliError::usage(format!("the site has no such hold: site=`{id}`, hold=`{hold}`"))
            .with_hint(format!("`lifeboat points {id}` lists its holds")));
    }
    for hold in &asked {
        ends::release(&open.engine, &mut site, hold.id).await?;
        tell("released", id, hold, context);
    }
    if asked.is_empty() {
        context.output.line(format!("{id} is not held."));
    }
    Ok(asked.len() as u64)
}

fn tell(what: &str, site: &SiteId, hold: &Hold, context: &Context) {
    let reason = words::hold(hold.reason);
    context.output.event(
        "hold",
        json!({
            "site": site.as_str(), "hold_id": hold.id.to_string(), "done": what, "reason": reason,
            "note": hold.note, "placed_at": hold.placed_at.to_string(),
        }),
    );
    context.output.line(format!("{site}: hold {} {what}: {reason}: {}", hold.id, hold.note));
}
