//! `lifeboat backup SITE… | --all`: snapshots; what failed is data, and the exit code says so.

use lifeboat_engine::{BackupReport, BackupRequest, SiteBackup, SiteOutcome, SourceHealth, backup};
use lifeboat_model::{AuditAction, Mark, PartStatus, SnapshotRecord, worst_exit_code};
use serde_json::{Value, json};

use crate::args::BackupArgs;
use crate::audit::Audited;
use crate::output::{Align, Failed, Outcome, Table, bytes, count};
use crate::{CliError, Context, exit, words};

/// Sites that people are shown one by one; of more, only those that are not simply unchanged.
const SHOWN_MAX: usize = 40;

pub fn run(args: &BackupArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        context.tell_notes(&open.config);
        if open.config.sources.is_empty() {
            return Err(CliError::usage("no sources are configured")
                .with_hint("write a section [sources.NAME] with kind and path; config/example.toml shows how"));
        }
        super::key::warn_unproven(&open.engine.repository, &context.output).await;
        let request =
            BackupRequest { sites: args.sites.clone(), accept_loss: args.accept_loss, ..BackupRequest::default() };
        let before = (open.engine.usage)().requests;
        // A run is its own record. That a loss was taken for meant is somebody's word, and has theirs.
        let mut audited = Audited::new(&open, context).sites(&args.sites);
        if args.accept_loss {
            audited.begin().await?;
        }
        let report = backup(&open.engine, &request).await;
        open.bars.clear();
        if let Ok(report) = &report {
            let gone = report.sites.iter().filter(is_accepted).map(|site| &site.site);
            audited = audited.sites(args.sites.iter().chain(gone));
        }
        let requests = (open.engine.usage)().requests.saturating_sub(before);
        let told = report.map_err(CliError::from).map(|report| tell(&report, args, context).with("requests", requests));
        audited.end(AuditAction::LossAccepted, told).await
    })
}

fn tell(report: &BackupReport, args: &BackupArgs, context: &Context) -> Outcome {
    let output = &context.output;
    let mut failed = Vec::new();
    for source in &report.sources {
        if let Some((reason, _)) = &source.failure {
            output.event("source", json!({ "source": source.source.as_str(), "failure": reason }));
        }
        failed.extend(failed_source(source));
        if args.all {
            failed.extend(missed(source));
        }
    }
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("OUTCOME", Align::Left),
        ("MARK", Align::Left),
        ("ENTRIES", Align::Right),
        ("SIZE", Align::Right),
        ("NEW", Align::Right),
        ("SNAPSHOT", Align::Left),
    ]);
    let few = report.sites.len() <= SHOWN_MAX;
    let has_failed_source = report.sources.iter().any(|source| source.failure.is_some());
    for site in &report.sites {
        output.event("site", site_json(site));
        failed.extend(failure(site, has_failed_source));
        let is_news = !matches!(site.outcome, SiteOutcome::Unchanged(_) | SiteOutcome::Vanished { is_accepted: true });
        if few || context.global.verbose > 0 || is_news {
            table.row(row(site));
        }
    }
    if !table.is_empty() {
        table.lines().iter().for_each(|line| output.line(line));
    }
    let of = |wanted: &str| report.sites.iter().filter(|site| name(site) == wanted).count() as u64;
    let added: u64 = report.sites.iter().filter_map(published).map(|record| record.added_bytes).sum();
    let accepted = report.sites.iter().filter(is_accepted).count() as u64;
    let meant = if accepted > 0 { format!(" ({} accepted)", count(accepted)) } else { String::new() };
    output.line(format!(
        "Run {}: {} published, {} unchanged, {} vanished{meant}, {} failed; {} new in the repository.",
        report.run,
        count(of("published")),
        count(of("unchanged")),
        count(of("vanished")),
        count(of("failed")),
        bytes(added)
    ));
    let worst = failed.iter().map(|failed| failed.exit_code).chain((!failed.is_empty()).then_some(exit::PARTLY));
    Outcome { exit_code: worst_exit_code(worst), failed, ..Outcome::ok() }
        .with("run", report.run.0)
        .with("published", of("published"))
        .with("unchanged", of("unchanged"))
        .with("vanished", of("vanished"))
        .with("accepted", accepted)
        .with("added_bytes", added)
}

/// Of a site that is gone, and is meant to be.
fn is_accepted(site: &&SiteBackup) -> bool {
    matches!(site.outcome, SiteOutcome::Vanished { is_accepted: true })
}

/// A source from which nothing is published.
pub(super) fn failed_source(source: &SourceHealth) -> Option<Failed> {
    let (reason, hint) = source.failure.as_ref()?;
    let message = format!("nothing is published from a source: source=`{}`, {reason}", source.source);
    Some(Failed { site: None, message, hint: Some(hint.clone()), exit_code: exit::OPERATOR })
}

/// Customers of whom nothing can be backed up: they have no point, and nobody may believe that they do.
pub(super) fn missed(source: &SourceHealth) -> Option<Failed> {
    let first = source.missed.first()?;
    let message = format!(
        "{} in no snapshot: source=`{}`, the first: name=`{}`, {}",
        match source.missed.len() {
            1 => "1 site is".to_owned(),
            more => format!("{} sites are", count(more as u64)),
        },
        source.source,
        first.problem.entry,
        first.problem.reason
    );
    let hint = format!("{}; `lifeboat sources inspect {}` lists all of them", first.remedy, source.source);
    Some(Failed { site: None, message, hint: Some(hint), exit_code: exit::PARTLY })
}

pub(super) fn name(site: &SiteBackup) -> &'static str {
    match site.outcome {
        SiteOutcome::Published(_) => "published",
        SiteOutcome::Unchanged(_) => "unchanged",
        SiteOutcome::Vanished { .. } => "vanished",
        SiteOutcome::Failed(_) => "failed",
    }
}

fn record(site: &SiteBackup) -> Option<&SnapshotRecord> {
    match &site.outcome {
        SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) => Some(record),
        SiteOutcome::Vanished { .. } | SiteOutcome::Failed(_) => None,
    }
}

pub(super) fn published(site: &SiteBackup) -> Option<&SnapshotRecord> {
    record(site).filter(|_| name(site) == "published")
}

fn row(site: &SiteBackup) -> Vec<String> {
    let mut cells = vec![site.site.to_string(), name(site).to_owned()];
    if let Some(record) = record(site) {
        cells.push(words::mark(record.mark).to_owned());
        cells.push(count(record.entries));
        cells.push(bytes(record.logical_bytes));
        cells.push(published(site).map(|record| bytes(record.added_bytes)).unwrap_or_default());
        cells.push(record.id.to_string());
    }
    cells
}

fn site_json(site: &SiteBackup) -> Value {
    let mut object = record(site).map_or_else(|| json!({}), words::snapshot);
    object["site"] = site.site.as_str().into();
    object["outcome"] = name(site).into();
    match &site.outcome {
        SiteOutcome::Failed(error) => object["message"] = error.to_string().into(),
        SiteOutcome::Vanished { is_accepted } => object["accepted"] = (*is_accepted).into(),
        SiteOutcome::Published(_) | SiteOutcome::Unchanged(_) => {}
    }
    object
}

fn has_failed_part(record: &SnapshotRecord) -> bool {
    record.parts.iter().any(|part| matches!(part.status, PartStatus::Failed { .. }))
}

/// What is to be told of a site that has no good point of this run.
pub(super) fn failure(site: &SiteBackup, has_failed_source: bool) -> Option<Failed> {
    let told = |message: String, hint: String, exit_code: u8| {
        Some(Failed { site: Some(site.site.to_string()), message, hint: Some(hint), exit_code })
    };
    match &site.outcome {
        SiteOutcome::Failed(error) => {
            let error = CliError::of(error);
            Some(Failed::of_site(&site.site, &error))
        }
        // No failure where somebody says that it is meant.
        SiteOutcome::Vanished { is_accepted: true } => None,
        SiteOutcome::Vanished { is_accepted: false } => told(
            "no source lists the site any more; its points are held".into(),
            format!(
                "deleted by mistake: `lifeboat restore {0}`; on purpose: `lifeboat backup {0} --accept-loss`, once",
                site.site
            ),
            exit::PARTLY,
        ),
        SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) => {
            let reason = record.mark_reason.as_deref().unwrap_or("no reason was recorded");
            match record.mark {
                Mark::Good => None,
                Mark::Suspect => told(
                    format!("the snapshot is suspect, and the points before it are held: {reason}"),
                    "if the loss is meant, back it up once more with --accept-loss".into(),
                    exit::PARTLY,
                ),
                Mark::Incomplete if has_failed_source && has_failed_part(record) => told(
                    format!("the snapshot is incomplete: {reason}"),
                    format!("mend the source that has failed, then `lifeboat backup {}`", site.site),
                    exit::PARTLY,
                ),
                Mark::Incomplete | Mark::Undo => told(
                    format!("the snapshot is incomplete: {reason}"),
                    "run an unfinished restore again to its end, or mend what could not be read (`lifeboat sources inspect` lists it); then back it up again".into(),
                    exit::PARTLY,
                ),
            }
        }
    }
}
