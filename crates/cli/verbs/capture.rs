//! `lifeboat capture`: follows the changes of every source whose policy asks for it, one task a source.
//!
//! It goes on until Ctrl-C or SIGTERM, and ends with 0 then: what was taken is in the bucket, and what was
//! not is sent again. With `--until-caught-up` it ends by itself, and stopping it is 130.

mod tell;

use std::sync::Arc;

use lifeboat_control::capturing::{BasesTaken, Capturing, SourceEnd};
use lifeboat_engine::{CaptureIndex, CaptureRequest};
use lifeboat_model::{SourceName, worst_exit_code};
use serde_json::json;

use crate::args::CaptureArgs;
use crate::config::Config;
use crate::open::Open;
use crate::output::{Failed, Outcome, count};
use crate::routing::CaptureFile;
use crate::{CliError, Context, words};

const PARTLY: u8 = 3;

pub fn run(args: &CaptureArgs, context: &Context) -> Result<Outcome, CliError> {
    let sources = chosen(args, &context.config()?)?;
    context.block_on(async {
        let open = context.open().await?;
        context.tell_notes(&open.config);
        super::key::warn_unproven(&open.engine.repository, &context.output).await;
        let Open { config, engine, bars, memory: _memory } = open;
        let capturing = capturing(&config, Arc::new(engine), &sources, context);
        let (ends, taken) = match args.until_caught_up {
            true => capturing.catch_up().await,
            false => (capturing.go_on().await, None),
        };
        bars.clear();
        if args.until_caught_up {
            context.cancel.check()?;
        }
        Ok(outcome(ends, taken.as_ref(), context))
    })
}

/// The sources that are named, or those that the policy asks for.
fn chosen(args: &CaptureArgs, config: &Config) -> Result<Vec<SourceName>, CliError> {
    for name in &args.sources {
        match config.source(name) {
            None => return Err(super::sources::unknown(name, config)),
            Some(source) if !source.can_be_captured() => {
                return Err(CliError::usage(format!("changes of this source are not captured in this version: source=`{name}`"))
                    .with_hint("only PostgreSQL with tenancy = \"column\" is; back the others up as often as you can afford to lose"));
            }
            Some(_) => {}
        }
    }
    let mut chosen: Vec<SourceName> = match args.sources.is_empty() {
        true => config.captured().map(|source| source.name.clone()).collect(),
        false => args.sources.clone(),
    };
    chosen.sort();
    chosen.dedup();
    if chosen.is_empty() {
        let error = CliError::usage("there is nothing to capture: no policy asks for it, or no source can be captured");
        return Err(error.with_hint(
            "write capture = true in [policy], for a source of kind \"postgres\" with tenancy = \"column\"; or name one: --source NAME",
        ));
    }
    Ok(chosen)
}

fn capturing(
    config: &Config,
    engine: Arc<lifeboat_engine::Engine>,
    sources: &[SourceName],
    context: &Context,
) -> Capturing {
    let settings = config.capture;
    let request = |source: &SourceName| CaptureRequest {
        flush_every: settings.flush,
        flush_bytes: usize::try_from(settings.flush_bytes).unwrap_or(usize::MAX),
        ..CaptureRequest::of(source.clone())
    };
    let (catalog, repository) = (config.repository.catalog.clone(), engine.repository.clone());
    let open_index = move |source: &SourceName| {
        let file = CaptureFile::open(&catalog, &repository, source)?;
        Ok(Box::new(file) as Box<dyn CaptureIndex>)
    };
    Capturing {
        engine,
        requests: sources.iter().map(request).collect(),
        slot_limit_bytes: settings.slot_limit_bytes,
        open_index: Box::new(open_index),
        tell: tell::to(context.output.clone(), context.global.verbose > 0, settings.slot_limit_bytes),
    }
}

fn outcome(ends: Vec<SourceEnd>, taken: Option<&BasesTaken>, context: &Context) -> Outcome {
    let (mut failed, mut sources) = (Vec::new(), Vec::new());
    for SourceEnd { source, report, error } in ends {
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
    if let Some(taken) = taken {
        failed.extend(taken.failed.iter().map(|(site, reason)| Failed {
            site: Some(site.to_string()),
            message: format!("it has no base, so that its changes lead nowhere yet: {reason}"),
            hint: Some("run the same command again".into()),
            exit_code: PARTLY,
        }));
        failed.extend(taken.error.iter().map(|error| Failed {
            site: None,
            message: format!("bases could not be taken: {error}"),
            hint: Some("run the same command again".into()),
            exit_code: PARTLY,
        }));
    }
    let worst = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
    let bases = taken.map_or(0, |taken| taken.good);
    Outcome { exit_code: worst, failed, ..Outcome::ok() }.with("sources", sources).with("bases", bases)
}
