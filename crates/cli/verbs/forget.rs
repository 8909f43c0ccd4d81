//! `lifeboat forget`: which points does the policy keep, and why? The others are marked, and can be brought back for a while.
//!
//!   every site's state ─▶ rules ─▶ kept, with reasons, or forgotten ─▶ the plan, approved ─▶ a commit a site
//!
//! It deletes nothing: `lifeboat prune` does, later.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt};
use jiff::tz::TimeZone;
use lifeboat_control::retention::{self, Decision, Epochs, Reason};
use lifeboat_engine::{epochs, lifecycle as ends};
use lifeboat_model::{
    AuditAction, AuditTarget, Fault, Faulty, Mark, SiteId, SiteState, SnapshotId, StateError, worst_exit_code,
};

use super::lifecycle::{Begun, begin, plan_hash};
use super::sites::PARALLEL;
use crate::args::ForgetArgs;
use crate::audit::Audited;
use crate::confirm::{self, Approvable, Decision as Approval};
use crate::open::Open;
use crate::output::{Failed, Outcome, plural};
use crate::{CliError, Context, exit};

mod tell;

/// One site of the plan.
pub(super) struct SiteForget {
    pub site: SiteId,
    pub decisions: Vec<Decision>,
    pub drop: Vec<SnapshotId>,
    /// Nothing of it is forgotten, and that is why.
    pub held: Option<String>,
    /// The newest good point is among those that go.
    takes_newest: bool,
    /// Of those that go: neither looks between two nights nor undos, which come and go by themselves.
    counted: u64,
}

pub fn run(args: &ForgetArgs, context: &Context) -> Result<Outcome, CliError> {
    if (args.everything || !args.snapshot.is_empty()) && args.sites.len() != 1 {
        return Err(CliError::usage("points are named, or all of them meant, of one site at a time")
            .with_hint("name one site, or leave out --snapshot and --everything to go by the policy"));
    }
    context.block_on(async {
        let open = context.open().await?;
        context.tell_notes(&open.config);
        forget(args, &open, context).await
    })
}

/// Plans, has it approved, and marks.
pub(super) async fn forget(args: &ForgetArgs, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let begun = begin(open, &args.sites, context).await?;
    let Planned { plan, points, mut failed } = plan_all(args, open, &begun).await?;
    let dropped: u64 = plan.iter().map(|site| site.drop.len() as u64).sum();
    let hash = plan_hash(plan.iter().flat_map(|site| site.drop.iter().map(|id| format!("{} {id}", site.site))));
    let goes = plan.iter().filter(|site| !site.drop.is_empty()).map(|site| &site.site);
    let mut audited = Audited::new(open, context).sites(goes);
    audited.about(AuditTarget::Plan(hash.clone()));
    audited.details(plural(dropped, "point"));
    if args.approval.dry_run {
        audited.show(AuditAction::Planned).await?;
    }
    tell::plan(&plan, open, (dropped, &hash), context);
    if dropped == 0 {
        return Ok(ended(Outcome { failed, ..Outcome::ok() }, 0, &plan, &hash));
    }
    if let Some(expected) = args.expect.filter(|expected| *expected != dropped) {
        return Err(CliError::operator(format!(
            "another number of points: expected=`{expected}`, would be=`{dropped}`"
        ))
        .with_hint("nothing was changed; look at the plan with --dry-run"));
    }
    let counted: u64 = plan.iter().map(|site| site.counted).sum();
    let is_beyond = counted * 100 > points * u64::from(open.config.prune.forget_limit);
    let sites: Vec<&str> = args.sites.iter().map(SiteId::as_str).collect();
    let whom = if args.all { "--all".to_owned() } else { sites.join(" ") };
    if is_beyond && args.approval.yes && args.expect.is_none() {
        return Err(CliError::operator(format!(
            "so many points at once are not forgotten with nobody looking: would be=`{counted}`, of=`{points}`, limit=`{} %` \
             (undos and looks at files are not counted)",
            open.config.prune.forget_limit
        ))
        .with_hint(format!(
            "look at it with `lifeboat forget {whom} --dry-run`, then approve it with `lifeboat forget {whom} --plan {hash}`, \
             or whatever it is by then with `--expect {dropped} --yes`"
        )));
    }
    let takes_newest = plan.iter().find(|site| site.takes_newest);
    let subject = takes_newest.map_or_else(String::new, |site| site.site.to_string());
    let approvable =
        Approvable { subject: ("the site's id", &subject), hash: &hash, has_conflicts: takes_newest.is_some() };
    match confirm::decide(&args.approval, approvable, &context.output)? {
        Approval::Run => {}
        Approval::Leave(_) => return Ok(ended(Outcome { failed, ..Outcome::ok() }, 0, &plan, &hash)),
    }
    audited.begin().await?;
    let forgotten = act(open, &plan, args, (&begun, context), &mut failed).await.map(|done| {
        context.output.say("Nothing was deleted. `lifeboat undelete SITE` brings points back; `lifeboat prune` deletes what is past that.");
        ended(Outcome { failed, ..Outcome::ok() }, done, &plan, &hash)
    });
    audited.end(AuditAction::Forgotten, forgotten).await
}

/// What becomes of every site's points.
struct Planned {
    plan: Vec<SiteForget>,
    /// Points that a limit counts.
    points: u64,
    failed: Vec<Failed>,
}

async fn plan_all(args: &ForgetArgs, open: &Open, begun: &Begun) -> Result<Planned, CliError> {
    let epochs = epochs_of(open).await?;
    let (mut plan, mut failed, mut points) = (Vec::new(), Vec::new(), 0);
    let asked = begun.sites.iter().map(async |id| (id, plan_site(open, id, args, &epochs, begun).await));
    let mut asked = stream::iter(asked).buffered(PARALLEL);
    while let Some((id, planned)) = asked.next().await {
        match planned {
            Ok((site, of_site)) => {
                points += of_site;
                plan.push(site);
            }
            Err(error) if error.fault == Fault::Damage => failed.push(Failed::of_site(id, &error)),
            Err(error) => return Err(error),
        }
    }
    drop(asked);
    Ok(Planned { plan, points, failed })
}

/// The epochs of every source that is captured, asked once for all sites.
async fn epochs_of(open: &Open) -> Result<Epochs, CliError> {
    let mut all = Epochs::new();
    for source in open.engine.repository.captured_sources().await? {
        all.insert(source.clone(), epochs(&open.engine, &source).await?);
    }
    Ok(all)
}

/// What becomes of one site's points, and how many there are that a limit counts.
async fn plan_site(
    open: &Open,
    id: &SiteId,
    args: &ForgetArgs,
    epochs: &Epochs,
    begun: &Begun,
) -> Result<(SiteForget, u64), CliError> {
    let site = open.engine.site(id).await?;
    let state = site.state();
    let policy = open.config.policy_of(id);
    let zone = TimeZone::get(&policy.timezone).map_err(|_| {
        CliError::usage(format!("there is no such time zone: site=`{id}`, timezone=`{}`", policy.timezone))
            .with_hint("name one of the IANA database in the policy, such as Europe/Berlin")
    })?;
    let (points, facts) = retention::facts(state, epochs);
    let decisions = retention::decide(&points, facts, (&policy.keep, &zone), begun.clock.now);
    let held = state.holds.first().map(|hold| format!("held: {}", hold.note));
    let drop: Vec<SnapshotId> = if held.is_some() {
        Vec::new()
    } else if args.everything {
        state.snapshots.iter().map(|record| record.id).collect()
    } else if !args.snapshot.is_empty() {
        named(state, &args.snapshot)?
    } else {
        decisions.iter().filter(|decision| !decision.is_kept()).map(|decision| decision.id).collect()
    };
    if let Some(held) = held.as_ref().filter(|_| args.everything || !args.snapshot.is_empty()) {
        return Err(CliError::operator(format!("the site is {held}"))
            .with_hint(format!("`lifeboat hold {id} --release` ends that")));
    }
    let is_restored =
        |decision: &&Decision| decision.reasons.contains(&Reason::OpenRestore) && drop.contains(&decision.id);
    if let Some((open, _)) = state.intent.as_ref().zip(decisions.iter().find(is_restored)) {
        return Err(CliError::operator(format!(
            "an open restore needs what is to be forgotten: site=`{id}`, restore=`{}`",
            open.restore
        ))
        .with_hint("run the same restore again, to its end"));
    }
    let takes_newest = state.latest().is_some_and(|newest| drop.contains(&newest.id));
    let nights = || state.snapshots.iter().filter(|record| !record.is_scan && record.mark != Mark::Undo);
    let counted = nights().filter(|record| drop.contains(&record.id)).count() as u64;
    let of_site = nights().count() as u64;
    Ok((SiteForget { site: id.clone(), decisions, drop, held, takes_newest, counted }, of_site))
}

/// The points that were named, each of which must be there.
fn named(state: &SiteState, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, CliError> {
    let ids: BTreeSet<SnapshotId> = ids.iter().copied().collect();
    match ids.iter().find(|id| state.snapshot(**id).is_none()) {
        None => Ok(ids.into_iter().collect()),
        Some(id) => {
            let what = if state.snapshot_or_forgotten(*id).is_some() { "is forgotten already" } else { "is not there" };
            Err(CliError::usage(format!("the point {what}: site=`{}`, snapshot=`{id}`", state.site))
                .with_hint(format!("`lifeboat points {}` lists those that are there", state.site)))
        }
    }
}

/// One commit a site; a site that was held meanwhile keeps its points.
async fn act(
    open: &Open,
    plan: &[SiteForget],
    args: &ForgetArgs,
    (begun, context): (&Begun, &Context),
    failed: &mut Vec<Failed>,
) -> Result<u64, CliError> {
    let reason = match (args.everything, args.snapshot.is_empty()) {
        (true, _) => "the site is gone for good, as somebody said",
        (false, false) => "somebody named it",
        (false, true) => "no rule keeps it",
    };
    let forgets = plan.iter().filter(|site| !site.drop.is_empty()).map(async |one| {
        let undelete = open.config.policy_of(&one.site).undelete;
        let forgotten = async {
            let mut site = open.engine.site(&one.site).await?;
            ends::forget(&open.engine, &mut site, one.drop.clone(), (reason, undelete), &begun.clock).await
        };
        (one, forgotten.await)
    });
    let mut forgets = stream::iter(forgets).buffered(PARALLEL);
    let mut done = 0;
    while let Some((one, forgotten)) = forgets.next().await {
        match forgotten {
            Ok(_) => done += one.drop.len() as u64,
            Err(error) if error.fault() == Fault::Cancelled => return Err(error.into()),
            // Since it was planned, somebody restores it or holds it: it keeps its points.
            Err(lifeboat_engine::Error::Repo(lifeboat_repo::Error::State(
                StateError::RestoreOpen(_) | StateError::Held(_),
            ))) => context.output.say(format!("{} keeps its points: it is held, or being restored", one.site)),
            Err(error) => failed.push(Failed::of_site(&one.site, &error.into())),
        }
    }
    Ok(done)
}

fn ended(outcome: Outcome, forgotten: u64, plan: &[SiteForget], hash: &str) -> Outcome {
    let codes = outcome.failed.iter().map(|failed| failed.exit_code);
    let codes = codes.chain((!outcome.failed.is_empty()).then_some(exit::PARTLY));
    let kept: usize = plan.iter().map(|site| site.decisions.len() - site.drop.len()).sum();
    let would: usize = plan.iter().map(|site| site.drop.len()).sum();
    Outcome { exit_code: worst_exit_code(codes), ..outcome }
        .with("sites", plan.len())
        .with("kept", kept)
        .with("to_forget", would)
        .with("forgotten", forgotten)
        .with("plan", hash)
}
