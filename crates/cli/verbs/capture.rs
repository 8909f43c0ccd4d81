//! `lifeboat capture`: follows the changes of every source whose policy asks for it, one task a source.
//!
//! It goes on until Ctrl-C or SIGTERM, and ends with 0 then: what was taken is in the bucket, and what was
//! not is sent again. With `--until-caught-up` it ends by itself, and stopping it is 130.

mod tell;

use std::sync::Arc;

use lifeboat_control::ScanNote;
use lifeboat_control::capturing::{Capturing, Ends, PagesEnd, ScanEnd, SourceEnd};
use lifeboat_control::pages::PagesFile;
use lifeboat_engine::{CaptureIndex, CaptureRequest, PageIndex, PagesRequest, ScanRequest};
use lifeboat_model::{Fault, Faulty, SourceName, worst_exit_code};
use lifeboat_repo::Spill;
use serde_json::json;

use crate::args::CaptureArgs;
use crate::config::{Config, SourceConfig};
use crate::open::Open;
use crate::output::{Failed, Outcome, count};
use crate::routing::CaptureFile;
use crate::{CliError, Context, exit, words};

pub fn run(args: &CaptureArgs, context: &Context) -> Result<Outcome, CliError> {
    let sources = chosen(args, &context.config()?)?;
    context.block_on(async {
        let open = context.open().await?;
        context.tell_notes(&open.config);
        super::key::warn_unproven(&open.engine.repository, &context.output).await;
        let Open { config, engine, bars, memory: _memory, .. } = open;
        let capturing = capturing(&config, Arc::new(engine), (&sources, args.until_caught_up), context);
        let ends = match args.until_caught_up {
            true => capturing.catch_up().await,
            false => capturing.go_on().await,
        };
        bars.clear();
        if args.until_caught_up {
            context.cancel.check()?;
        }
        Ok(outcome(ends, context))
    })
}

/// Follows these sources until it is told to stop: a part of the daemon.
pub(super) async fn follow(sources: &[SourceName], open: Open, context: &Context) -> Outcome {
    let Open { config, engine, memory: _memory, .. } = open;
    let capturing = capturing(&config, Arc::new(engine), (sources, false), context);
    outcome(capturing.go_on().await, context)
}

/// The sources that the policy asks for.
pub(super) fn wanted(config: &Config) -> Vec<SourceName> {
    let all = config.captured().chain(config.captured_files()).chain(config.scanned());
    let mut wanted: Vec<SourceName> = all.map(|source| source.name.clone()).collect();
    wanted.sort();
    wanted.dedup();
    wanted
}

/// The sources that are named, or those that the policy asks for.
fn chosen(args: &CaptureArgs, config: &Config) -> Result<Vec<SourceName>, CliError> {
    for name in &args.sources {
        match config.source(name) {
            None => return Err(super::sources::unknown(name, config)),
            Some(source) if source.has_files() && config.capture.scan.is_none() => {
                return Err(CliError::usage(format!("files are not scanned, says the configuration: source=`{name}`"))
                    .with_hint("write scan = \"5m\" in [capture]"));
            }
            Some(source) if !source.can_be_captured() && !source.has_pages() && !source.has_files() => {
                return Err(CliError::usage(format!("changes of this source are not captured in this version: source=`{name}`"))
                    .with_hint("PostgreSQL with tenancy = \"column\" or \"schema\", SQLite and files are; back the others up as often as you can afford to lose"));
            }
            Some(_) => {}
        }
    }
    let mut chosen: Vec<SourceName> = match args.sources.is_empty() {
        true => wanted(config),
        false => args.sources.clone(),
    };
    chosen.sort();
    chosen.dedup();
    if chosen.is_empty() {
        let error = CliError::usage("there is nothing to capture: no policy asks for it, or no source can be captured");
        return Err(error.with_hint(
            "write capture = true in [policy], for a source of kind \"postgres\" with tenancy = \"column\" or \"schema\", \"sqlite\" or \"files\"; or name one: --source NAME",
        ));
    }
    Ok(chosen)
}

fn capturing(
    config: &Config,
    engine: Arc<lifeboat_engine::Engine>,
    (sources, until_caught_up): (&[SourceName], bool),
    context: &Context,
) -> Capturing {
    let settings = config.capture;
    let spill = |source: &SourceName| {
        Spill::new(&engine.repository, &config.repository.catalog, source, settings.spill_limit_bytes)
    };
    let request = |source: &SourceName| CaptureRequest {
        spill: Some(spill(source)),
        flush_every: settings.flush,
        flush_bytes: usize::try_from(settings.flush_bytes).unwrap_or(usize::MAX),
        ..CaptureRequest::of(source.clone())
    };
    let pages = |source: &SourceName| PagesRequest {
        source: source.clone(),
        until_caught_up,
        poll_every: PagesRequest::POLL_EVERY,
        flush_every: settings.flush,
        flush_bytes: usize::try_from(settings.flush_bytes).unwrap_or(usize::MAX),
    };
    let scan = |source: &SourceName| ScanRequest {
        source: source.clone(),
        every: settings.scan.unwrap_or(ScanRequest::EVERY),
        walk_all_every: ScanRequest::WALK_ALL_EVERY,
        // What ends after one round needs no hints.
        watches: settings.watch && !until_caught_up,
    };
    let of = |is_of: fn(&SourceConfig) -> bool| {
        sources.iter().filter(move |source| config.source(source).is_some_and(is_of))
    };
    let of_rows = of(SourceConfig::can_be_captured);
    let (of_files, of_scans) = (of(SourceConfig::has_pages), of(SourceConfig::has_files));
    let (catalog, id) = (config.repository.catalog.clone(), engine.repository.config().repository.0);
    let open_pages = move |source: &SourceName| {
        let opened = PagesFile::open(&catalog, source, id).map_err(|error| no_hashes(source, &error))?;
        Ok(Box::new(opened) as Box<dyn PageIndex>)
    };
    let noted = config.repository.catalog.clone();
    let note_scan = move |source: &SourceName, note: &ScanNote| {
        if let Err(error) = note.write(&noted, source, id) {
            tracing::warn!(%error, %source, "`lifeboat status` will not know of this scan");
        }
    };
    let (catalog, repository) = (config.repository.catalog.clone(), engine.repository.clone());
    let open_index = move |source: &SourceName| {
        let file = CaptureFile::open(&catalog, &repository, source)?;
        Ok(Box::new(file) as Box<dyn CaptureIndex>)
    };
    let requests = of_rows.map(request).collect();
    Capturing {
        engine,
        requests,
        files: of_files.map(pages).collect(),
        scans: of_scans.map(scan).collect(),
        slot_limit_bytes: settings.slot_limit_bytes,
        open_index: Box::new(open_index),
        open_pages: Box::new(open_pages),
        note_scan: Box::new(note_scan),
        tell: tell::to(context.output.clone(), context.global.verbose > 0, settings.slot_limit_bytes),
    }
}

/// Why the hashes of pages cannot be had.
fn no_hashes(source: &SourceName, error: &lifeboat_control::Error) -> lifeboat_engine::Error {
    match error.fault() {
        Fault::Fenced => {
            lifeboat_engine::Error::CapturedElsewhere { source_name: source.clone(), detail: error.to_string() }
        }
        _ => lifeboat_engine::Error::Conflict {
            detail: format!("the hashes of pages cannot be used: {error}"),
            hint: error.hint().unwrap_or_default(),
        },
    }
}

fn outcome(ends: Ends, context: &Context) -> Outcome {
    let (mut failed, mut sources) = (Vec::new(), Vec::new());
    for SourceEnd { source, report, error } in ends.rows {
        if let Some(error) = error {
            let error = CliError::of(&error);
            let message = format!("{source}: {}", error.message);
            failed.push(Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() });
        }
        let Some(report) = report else { continue };
        context.output.line(format!(
            "{source}: {} changes in {} transactions, {} segments; complete up to {} of epoch {}{}",
            count(report.changes),
            count(report.transactions),
            count(report.segments),
            report.complete_till,
            report.epoch,
            match report.unrouted {
                0 => String::new(),
                unrouted => format!("; {} changes whose site nobody could tell", count(unrouted)),
            }
        ));
        sources.push(json!({
            "source": source.as_str(),
            "epoch": report.epoch.0,
            "epoch_begun": report.begun.as_ref().map(|(why, _)| words::epoch_reason(*why)),
            "changes": report.changes,
            "transactions": report.transactions,
            "segments": report.segments,
            "unrouted": report.unrouted,
            "complete_till": report.complete_till.to_string(),
        }));
    }
    for end in ends.files {
        files_outcome(end, (&mut failed, &mut sources), context);
    }
    for end in ends.scans {
        scans_outcome(end, (&mut failed, &mut sources), context);
    }
    if let Some(taken) = &ends.bases {
        failed.extend(taken.failed.iter().map(|(site, reason)| Failed {
            site: Some(site.to_string()),
            message: format!("it has no base, so that its changes lead nowhere yet: {reason}"),
            hint: Some("run the same command again".into()),
            exit_code: exit::PARTLY,
        }));
        failed.extend(taken.error.iter().map(|error| Failed {
            site: None,
            message: format!("bases could not be taken: {error}"),
            hint: Some("run the same command again".into()),
            exit_code: exit::PARTLY,
        }));
    }
    let worst = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
    let bases = ends.bases.map_or(0, |taken| taken.good);
    Outcome { exit_code: worst, failed, ..Outcome::ok() }.with("sources", sources).with("bases", bases)
}

fn files_outcome(end: PagesEnd, (failed, sources): (&mut Vec<Failed>, &mut Vec<serde_json::Value>), context: &Context) {
    let PagesEnd { source, report, error } = end;
    if let Some(error) = error {
        let error = CliError::of(&error);
        let message = format!("{source}: {}", error.message);
        failed.push(Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() });
    }
    let Some(report) = report else { return };
    context.output.line(format!(
        "{source}: {} versions of {} files, {} segments, in epoch {}",
        count(report.versions),
        count(report.files),
        count(report.segments),
        report.epoch,
    ));
    failed.extend(report.troubles.iter().map(|(site, reason)| Failed {
        site: Some(site.to_string()),
        message: format!("its database could not be read: source=`{source}`, {reason}"),
        hint: None,
        exit_code: exit::PARTLY,
    }));
    sources.push(json!({
        "source": source.as_str(),
        "epoch": report.epoch.0,
        "epoch_begun": report.begun.as_ref().map(|(why, _)| words::epoch_reason(*why)),
        "files": report.files,
        "versions": report.versions,
        "page_bytes": report.page_bytes,
        "segments": report.segments,
    }));
}

fn scans_outcome(end: ScanEnd, (failed, sources): (&mut Vec<Failed>, &mut Vec<serde_json::Value>), context: &Context) {
    let ScanEnd { source, rounds, published, failed: sites, error } = end;
    if let Some(error) = error {
        let error = CliError::of(&error);
        let message = format!("{source}: {}", error.message);
        failed.push(Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() });
    }
    if rounds == 0 {
        return;
    }
    context.output.line(format!("{source}: {} scans published", count(published)));
    failed.extend(sites.into_iter().map(|(site, reason)| Failed {
        site: Some(site.to_string()),
        message: format!("its files could not be scanned: source=`{source}`, {reason}"),
        hint: None,
        exit_code: exit::PARTLY,
    }));
    sources.push(json!({ "source": source.as_str(), "rounds": rounds, "scans": published }));
}
