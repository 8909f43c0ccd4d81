//! `lifeboat check [SITE] [--read-data [PERCENT]] [--against-source]`: is what is stored whole?

use lifeboat_control::{CheckNote, CheckReach, CheckScope};
use lifeboat_engine::{
    CheckRequest, LogCheck, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget, SiteCheck, check, check_logs,
};
use lifeboat_engine::{Engine, Error, plan_restore, prove_log};
use lifeboat_format::names;
use lifeboat_model::{AuditAction, Fault, Faulty, PointInTime, SiteId, SourceName, Timestamp, worst_exit_code};
use lifeboat_repo::{CheckDepth, CheckReport, Finding, LogCheckReport, LogFinding};
use serde_json::json;

use crate::args::CheckArgs;
use crate::audit::Audited;
use crate::memory::CatalogMemory;
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Output, Table, bytes, count};
use crate::{CliError, Context, exit};

/// Findings that people are shown of one site; JSON has them all.
const SHOWN_MAX: usize = 20;

pub fn run(args: &CheckArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        if let Some(site) = &args.site {
            super::known_site(&open, site).await?;
        }
        let depth = match args.read_data.or(args.set_aside.then_some(100)) {
            Some(percent) => CheckDepth::ReadData { percent, turn: turn(Timestamp::now()) },
            None => CheckDepth::Structure,
        };
        let request = CheckRequest { sites: args.site.iter().cloned().collect(), depth };
        let checks = check(&open.engine, &request).await;
        open.bars.clear();
        let checks = checks?;
        let logs = check_logs(&open.engine, &request).await?;
        remember(&checks, &logs, &request, &open.memory);
        let mut outcome = tell(&checks, &logs, context);
        if args.set_aside {
            let mut audited = Audited::new(&open, context).sites(args.site.iter());
            audited.begin().await?;
            let aside = set_aside(&open, &checks, outcome, context).await;
            outcome = audited.end(AuditAction::Ended, aside).await?;
        }
        if args.against_source {
            let failed = prove(&open, checks.iter().map(|check| &check.site), context).await?;
            outcome.failed.extend(failed);
            outcome.exit_code = worst_exit_code(outcome.failed.iter().map(|failed| failed.exit_code));
            compare(&open.engine, checks.iter().map(|check| &check.site), context).await?;
        }
        Ok(outcome)
    })
}

/// Lets nothing use what is lost; the damage is told all the same.
async fn set_aside(
    open: &Open,
    checks: &[SiteCheck],
    outcome: Outcome,
    context: &Context,
) -> Result<Outcome, CliError> {
    let (mut snapshots, mut objects) = (Vec::new(), 0);
    for check in checks {
        let Ok(report) = &check.outcome else { continue };
        let done = lifeboat_engine::set_aside(&open.engine, &check.site, report).await?;
        objects += done.objects;
        for id in &done.snapshots {
            context.output.line(format!("{}: {id} is incomplete now", check.site));
        }
        snapshots.extend(done.snapshots.iter().map(ToString::to_string));
        if objects > 0 {
            context
                .output
                .say(format!("Back it up now, so that its newest point is whole: `lifeboat backup {}`.", check.site));
        }
    }
    Ok(outcome.with("set_aside", objects).with("incomplete", snapshots))
}

/// Which share of the packs is due: the next one every day.
fn turn(now: Timestamp) -> u64 {
    u64::try_from(now.0 / 86_400_000_000).unwrap_or(0)
}

/// What was found is told by `status` until a check finds it gone.
pub(super) fn remember(checks: &[SiteCheck], logs: &[LogCheck], request: &CheckRequest, memory: &CatalogMemory) {
    let at = Timestamp::now();
    let reach = match request.depth {
        CheckDepth::Structure => CheckReach::Structure,
        CheckDepth::ReadData { percent: 100.., .. } => CheckReach::All,
        CheckDepth::ReadData { percent, turn } => CheckReach::Share { percent, turn },
    };
    let note = |scope: CheckScope<'_>, found: Vec<String>| {
        let findings = found.len() as u64;
        let first = found.into_iter().next().unwrap_or_default();
        memory.note_check(scope, &CheckNote { at, reach, findings, first });
    };
    for SiteCheck { site, outcome } in checks {
        let found = match outcome {
            Ok(report) => report.findings.iter().map(|finding| damage(site, finding).message).collect(),
            Err(error) if error.fault() == Fault::Damage => vec![CliError::of(error).message],
            // It says nothing of the site.
            Err(_) => continue,
        };
        note(CheckScope::Site(site), found);
    }
    for LogCheck { source, outcome } in logs {
        let found: Vec<String> = match outcome {
            Ok(report) => report.findings.iter().map(|finding| log_damage(finding).message).collect(),
            Err(error) if error.fault() == Fault::Damage => vec![CliError::of(error).message],
            Err(_) => continue,
        };
        // Where the blocks of some sites alone were looked at, nothing is proven of the others'.
        if request.sites.is_empty() || !found.is_empty() {
            note(CheckScope::Log(source), found);
        }
    }
}

fn tell(checks: &[SiteCheck], logs: &[LogCheck], context: &Context) -> Outcome {
    let output = &context.output;
    let mut failed = Vec::new();
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("COMMITS", Align::Right),
        ("SNAPSHOTS", Align::Right),
        ("OBJECTS", Align::Right),
        ("READ", Align::Right),
        ("FOUND", Align::Left),
    ]);
    let (mut objects, mut read) = (0, 0);
    for check in checks {
        match &check.outcome {
            Ok(report) => {
                objects += report.objects;
                read += report.bytes_read;
                output.event("site", site_json(&check.site, report));
                table.row(row(&check.site, report));
                failed.extend(report.findings.iter().map(|finding| damage(&check.site, finding)));
            }
            Err(error) => {
                let error = CliError::of(error);
                output.event("site", json!({ "site": check.site.as_str(), "message": error.message }));
                table.row([
                    check.site.to_string(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    error.message.clone(),
                ]);
                failed.push(Failed::of_site(&check.site, &error));
            }
        }
    }
    table.lines().iter().for_each(|line| output.line(line));
    let (log_objects, log_read) = tell_logs(logs, output, &mut failed);
    (objects, read) = (objects + log_objects, read + log_read);
    output.line(format!(
        "{} sites, {} objects, {} read: {}",
        count(checks.len() as u64),
        count(objects),
        bytes(read),
        if failed.is_empty() { "all whole.".to_owned() } else { format!("{} findings.", failed.len()) }
    ));
    let exit_code = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
    let total = failed.len();
    if !output.is_json() && context.global.verbose == 0 && total > SHOWN_MAX {
        output.say(format!("The first {SHOWN_MAX} of {total} findings (-v shows all):"));
        failed.truncate(SHOWN_MAX);
    }
    Outcome { exit_code, failed, ..Outcome::ok() }
        .with("sites", checks.len())
        .with("logs", logs.len())
        .with("objects", objects)
        .with("bytes_read", read)
        .with("findings", total)
}

/// A line a log, and what is damaged in it. Gives objects and bytes read.
fn tell_logs(logs: &[LogCheck], output: &Output, failed: &mut Vec<Failed>) -> (u64, u64) {
    let (mut objects, mut read) = (0, 0);
    for LogCheck { source, outcome } in logs {
        match outcome {
            Ok(report) => {
                (objects, read) = (objects + report.objects, read + report.bytes_read);
                output.event("log", log_json(source, report));
                output.line(format!(
                    "change log of {source}: {} epochs, {} segments, {} blocks read: {}",
                    count(report.epochs),
                    count(report.segments),
                    count(report.blocks_read),
                    if report.findings.is_empty() { "whole".to_owned() } else { "DAMAGE".to_owned() }
                ));
                failed.extend(report.findings.iter().map(log_damage));
            }
            Err(error) => {
                let error = CliError::of(error);
                output.event("log", json!({ "source": source.as_str(), "message": error.message }));
                let message = format!("the change log cannot be checked: source=`{source}`: {}", error.message);
                failed.push(Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() });
            }
        }
    }
    (objects, read)
}

pub(super) fn log_damage(finding: &LogFinding) -> Failed {
    let offset = finding.offset.map(|offset| format!(", offset=`{offset}`")).unwrap_or_default();
    let is_commit = matches!(names::parse_object_name(&finding.object), Some(names::ParsedName::LogCommit(..)));
    Failed {
        site: finding.site.as_ref().map(ToString::to_string),
        message: format!("{}: object=`{}`{offset}", finding.detail, finding.object),
        hint: Some(
            match is_commit {
                true => {
                    "bring the object back from the store's own versions or copies: it spoils no moment, but till then \
                         nothing of this part of the log is written again as one or pruned"
                }
                false => {
                    "bring the object back from the store's own versions or copies; moments before it, and from the \
                          next `lifeboat backup --all` on, are not touched by it"
                }
            }
            .to_owned(),
        ),
        exit_code: exit::DAMAGE,
    }
}

fn log_json(source: &SourceName, report: &LogCheckReport) -> serde_json::Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "object": finding.object,
            "offset": finding.offset,
            "site": finding.site.as_ref().map(SiteId::as_str),
            "detail": finding.detail,
        })
    });
    json!({
        "source": source.as_str(),
        "epochs": report.epochs,
        "segments": report.segments,
        "objects": report.objects,
        "blocks_read": report.blocks_read,
        "bytes_read": report.bytes_read,
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn row(site: &SiteId, report: &CheckReport) -> [String; 6] {
    let found = match report.findings.len() {
        0 => "whole".to_owned(),
        damaged => format!("DAMAGE: {damaged} findings"),
    };
    [
        site.to_string(),
        count(report.commits),
        count(report.snapshots),
        count(report.objects),
        bytes(report.bytes_read),
        found,
    ]
}

pub(super) fn damage(site: &SiteId, finding: &Finding) -> Failed {
    let offset = finding.offset.map(|offset| format!(", offset=`{offset}`")).unwrap_or_default();
    let entries = match finding.entries.as_slice() {
        [] => String::new(),
        entries => format!(", entries=`{}`", entries.join("`, `")),
    };
    Failed {
        site: Some(site.to_string()),
        message: format!("{}: object=`{}`{offset}{entries}", finding.detail, finding.object),
        hint: Some(format!(
            "bring the object back from the store's own versions or copies; where there are none, `lifeboat check {site} \
             --set-aside` and a backup make the next point whole. `lifeboat points {site}` lists older points, and \
             --skip-damaged restores what is whole"
        )),
        exit_code: exit::DAMAGE,
    }
}

fn site_json(site: &SiteId, report: &CheckReport) -> serde_json::Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "object": finding.object,
            "offset": finding.offset,
            "detail": finding.detail,
            "entries": finding.entries,
            "snapshots": finding.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    json!({
        "site": site.as_str(),
        "commits": report.commits,
        "snapshots": report.snapshots,
        "objects": report.objects,
        "bytes_read": report.bytes_read,
        "findings": findings.collect::<Vec<_>>(),
        "unnamed_objects": report.unnamed_objects,
        "read_back": report.read_back.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Live rows of what is captured, beside base and log at the same moment.
async fn prove(open: &Open, sites: impl Iterator<Item = &SiteId>, context: &Context) -> Result<Vec<Failed>, CliError> {
    let sources: Vec<&SourceName> = open.config.captured().map(|source| &source.name).collect();
    let mut failed = Vec::new();
    for site in sites {
        for source in &sources {
            context.cancel.check()?;
            let proof = match prove_log(&open.engine, site, source).await {
                Ok(Some(proof)) => proof,
                Ok(None) => continue,
                Err(error) => {
                    failed.push(Failed::of_site(site, &CliError::of(&error)));
                    continue;
                }
            };
            context.output.event(
                "log_proof",
                json!({
                    "site": site.as_str(),
                    "source": source.as_str(),
                    "tables": proof.tables,
                    "rows": proof.rows,
                    "changes": proof.changes,
                    "differing": proof.differing,
                    "unproven": proof.unproven,
                }),
            );
            let (rows, changes) = (count(proof.rows), count(proof.changes));
            if !proof.unproven.is_empty() {
                let tables = proof.unproven.join("`, `");
                context
                    .output
                    .line(format!("{site}/{source}: not all changes are in the log, nothing is said of `{tables}`"));
            }
            if proof.differing.is_empty() {
                context.output.line(format!(
                    "{site}/{source}: base and {changes} changes are the {rows} live rows of that moment"
                ));
                continue;
            }
            failed.push(Failed {
                site: Some(site.to_string()),
                message: format!(
                    "base and change log are not the live rows of the same moment: source=`{source}`, tables=`{}`",
                    proof.differing.join("`, `")
                ),
                hint: Some(format!(
                    "moments since the newest snapshot are not to be relied on: `lifeboat backup {site}` makes a point that is"
                )),
                exit_code: exit::DAMAGE,
            });
        }
    }
    Ok(failed)
}

/// What each site's newest good point would change in the live data. Live sites change: a difference
/// is not damage, and a site without a good point has nothing to compare with.
async fn compare(engine: &Engine, sites: impl Iterator<Item = &SiteId>, context: &Context) -> Result<(), CliError> {
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("POINT", Align::Left),
        ("EQUAL", Align::Right),
        ("DIFFERENT", Align::Right),
        ("MISSING", Align::Right),
        ("NEWER", Align::Right),
    ]);
    for site in sites {
        context.cancel.check()?;
        let plan = match plan_restore(engine, &against(site)).await {
            Ok(planned) => planned.plan,
            Err(Error::NoPoint { .. }) => continue,
            Err(error) => {
                context.output.warn(&format!("cannot compare with the source: site=`{site}`, {error}"), None);
                continue;
            }
        };
        let sum = |of: fn(&lifeboat_engine::PartPlan) -> u64| plan.parts.iter().map(of).sum::<u64>();
        let (equal, missing, newer) = (sum(|part| part.keep), sum(|part| part.add), sum(|part| part.remove));
        let different = sum(|part| part.replace + part.metadata);
        context.output.event("comparison", comparison(&plan, [equal, different, missing, newer]));
        table.row([
            site.to_string(),
            plan.at.to_string(),
            count(equal),
            count(different),
            count(missing),
            count(newer),
        ]);
    }
    table.lines().iter().for_each(|line| context.output.line(line));
    Ok(())
}

fn comparison(plan: &RestorePlan, [equal, different, missing, newer]: [u64; 4]) -> serde_json::Value {
    json!({
        "site": plan.site.as_str(),
        "snapshot_id": plan.snapshot.to_string(),
        "at": plan.at.to_string(),
        "equal": equal,
        "different": different,
        "missing": missing,
        "newer": newer,
    })
}

fn against(site: &SiteId) -> RestoreRequest {
    RestoreRequest {
        site: site.clone(),
        point: RestorePoint::At(PointInTime::Latest),
        only: None,
        target: RestoreTarget::InPlace,
        restore: None,
        take_over: false,
        skip_damaged: false,
        verify_read: false,
        exact: true,
        keep_later: false,
    }
}
