//! `lifeboat shred SITE`: a site is erased for good, by destroying its keys.
//!
//!   no hold, no open restore, in no source ─▶ what goes, and what cannot be reached from here ─▶ the site's id, typed ─▶ gone

use std::collections::BTreeMap;

use lifeboat_engine::lifecycle as ends;
use lifeboat_model::{AuditAction, AuditTarget, SourceName};
use lifeboat_repo::Site;

use super::lifecycle::{begin, check_words, plan_hash};
use crate::args::ShredArgs;
use crate::audit::Audited;
use crate::confirm::{self, Approvable, Decision};
use crate::open::Open;
use crate::output::{Outcome, bytes, count};
use crate::{CliError, Context};

/// What no key of this repository protects, or what lies elsewhere.
const OUT_OF_REACH: [&str; 6] = [
    "versions and locks that the bucket keeps of objects below keys/ and sites/, and copies of the bucket: delete them there",
    "the site in its sources, their own backups, and what was exported or restored beside",
    "its name, in runs, recoveries, receipts, change logs and the audit log, which are sealed by the repository's own key",
    "rows that capture could not tell whose they are, and those that are only on a capturing host (`lifeboat status`)",
    "the catalog and the routing index on this and other hosts, which know its name, sizes and hashes: delete them, they come again",
    "logs, metrics and notifications that name it",
];

pub fn run(args: &ShredArgs, context: &Context) -> Result<Outcome, CliError> {
    if args.reason.trim().is_empty() {
        return Err(CliError::usage("erasing a site needs a reason")
            .with_hint("write behind --reason who asked for it, and a ticket's number if there is one"));
    }
    check_words("the reason", &args.reason)?;
    context.block_on(async {
        let open = context.open().await?;
        let begun = begin(&open, std::slice::from_ref(&args.site), context).await?;
        let mut site = open.engine.site(&args.site).await?;
        refuse(&open, &site, args)?;
        let plan = site.erase_plan().await?;
        let output = &context.output;
        output.line(format!(
            "{}: {} points, {} objects of {} and {} keys go, for good and for everybody.",
            args.site,
            count((site.state().snapshots.len() + site.state().forgotten.len()) as u64),
            count(plan.objects.len() as u64),
            bytes(plan.bytes),
            plan.keys.len()
        ));
        output.line("What this cannot reach:");
        OUT_OF_REACH.iter().for_each(|one| output.line(format!("  - {one}")));
        let hash = plan_hash([format!("shred {} {}", args.site, site.head().generation)]);
        output.line(format!("Plan {hash}."));
        // Nobody approves this beforehand.
        let subject = args.site.to_string();
        let approvable = Approvable { subject: ("the site's id", &subject), hash: &hash, has_conflicts: true };
        let mut audited = Audited::new(&open, context).sites([&args.site]);
        audited.about(AuditTarget::Plan(hash.clone()));
        if args.approval.dry_run {
            audited.show(AuditAction::Planned).await?;
        }
        if let Decision::Leave(_) = confirm::decide(&args.approval, approvable, output)? {
            return Ok(Outcome::ok().with("site", args.site.as_str()).with("shredded", false).with("plan", &hash));
        }
        audited.begin_for_good().await?;
        let erased = ends::erase(&open.engine, &mut site, &args.reason, &begun.clock).await;
        let logged = erased.as_ref().map(|_| Outcome::ok()).map_err(CliError::of);
        audited.end(AuditAction::Shredded, logged).await?;
        let erased = erased?;
        output.line(format!(
            "{} is erased: {} keys destroyed, commit {}. {} are deleted by later prunes; nobody can open them.",
            args.site,
            erased.destroyed.len(),
            site.head().generation,
            bytes(erased.bytes)
        ));
        Ok(Outcome::ok()
            .with("site", args.site.as_str())
            .with("shredded", true)
            .with("at", site.state().shredded.map(|shredded| shredded.at.to_string()))
            .with("commit", site.head().generation.0)
            .with("keys_destroyed", &erased.destroyed)
            .with("objects", erased.objects)
            .with("bytes", erased.bytes)
            .with("reason", &args.reason)
            .with("out_of_reach", OUT_OF_REACH)
            .with("plan", &hash))
    })
}

/// What must not be erased, in words.
fn refuse(open: &Open, site: &Site, args: &ShredArgs) -> Result<(), CliError> {
    let id = &args.site;
    if let Some(hold) = site.state().holds.first() {
        return Err(CliError::operator(format!(
            "the site is held: site=`{id}`, since=`{}`, note=`{}`",
            hold.placed_at, hold.note
        ))
        .with_hint(format!("whoever placed it wants its points kept; `lifeboat hold {id} --release` ends that")));
    }
    if let Some(restore) = &site.state().intent {
        return Err(CliError::operator(format!(
            "a restore of the site is open: site=`{id}`, restore=`{}`",
            restore.restore
        ))
        .with_hint("finish it first: run the same restore again"));
    }
    if args.although_listed {
        return Ok(());
    }
    let health = tokio::task::block_in_place(|| open.engine.fleet.look(&BTreeMap::new(), true));
    if let Some(failed) = health.iter().find(|source| source.failure.is_some()) {
        return Err(CliError::operator(format!(
            "a source could not be asked whether the site is in it: source=`{}`",
            failed.source
        ))
        .with_hint("mend the source, or say that it may be there with --although-listed"));
    }
    let lists: Vec<&SourceName> =
        health.iter().filter(|source| source.sites.contains(id)).map(|source| &source.source).collect();
    match lists.first() {
        None => Ok(()),
        Some(source) => Err(CliError::operator(format!("the site is still in a source: site=`{id}`, source=`{source}`"))
            .with_hint(
                "delete it there first: its next backup would begin anew; where that is meant, say so with --although-listed, and restart captures that run",
            )),
    }
}
