//! `lifeboat status`: may I sleep? Exit 4 when something is not as promised.
//!
//! ```text
//! assess ─▶ facts ─▶ alarms, worst first ─┬─▶ tables and events, exit 4 where a promise is broken
//!                                         ├─▶ --notify: whoever is to be told is told, once
//!                                         └─▶ --metrics FILE: what a scrape would have been given
//! ```
//!
//! It looks, and changes nothing; with `--notify` it remembers who was told what.

mod alarms;
mod files;
mod sites;
mod sources;

use std::sync::Mutex;
use std::time::Instant;

use lifeboat_control::Catalog;
use lifeboat_control::alarms::{AlarmKind, Facts};
use lifeboat_control::metrics::{Metrics, MetricsOptions};
use lifeboat_control::watch::{self, Cycle};
use lifeboat_model::{Timestamp, worst_exit_code};
use serde_json::json;

use super::assess::{Ask, Assessment, Gone, HostAlone, assess, without_store};
use crate::args::StatusArgs;
use crate::config::Config;
use crate::open::Open;
use crate::output::Outcome;
use crate::{CliError, Context, exit, signals};

pub fn run(args: &StatusArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let config = context.config()?;
        context.tell_notes(&config);
        let found = match context.open().await {
            Ok(open) => look(args, open, context).await,
            Err(error) => {
                crate::only_here::warn_of_files(&config, &context.output);
                Err(error)
            }
        };
        match found {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                say_without_store(args, &config, &error, context).await?;
                Err(error)
            }
        }
    })
}

async fn look(args: &StatusArgs, open: Open, context: &Context) -> Result<Outcome, CliError> {
    let began = Instant::now();
    let found = assess(&open, Ask::Each, context).await?;
    let (now, output) = (found.facts.at, &context.output);
    found.known.warn_of_failed(output);
    for missed in found.known.looks.iter().filter_map(|look| look.missed.as_ref()) {
        output.warn(&missed.message, missed.hint.as_deref());
    }
    let repository = open.engine.repository.config().repository.to_string();
    let cycle = signal(args, &open.config, (&found.facts, Some(repository)), open.memory.shared(), context).await?;
    write_metrics(args, (&found.facts, &cycle, &open.config), began, context)?;
    sources::tell(&found.sources, &cycle.alarms, now, output);
    sources::tell_scans(&found.scans, &cycle.alarms, now, output);
    sites::tell(&found, &cycle.alarms, (args.all, &open.config), output);
    alarms::tell(&cycle.alarms, now, output);
    sites::tell_sum(&found.sites, &cycle.alarms, output);
    if args.notify {
        alarms::tell_deliveries(&cycle, output);
    }
    Ok(outcome(&found, &cycle))
}

/// What fires; with `--notify` told to whoever is to be told.
async fn signal(
    args: &StatusArgs,
    config: &Config,
    (facts, repository): (&Facts, Option<String>),
    memory: &Mutex<Catalog>,
    context: &Context,
) -> Result<Cycle, CliError> {
    let limits = &config.alarms.limits;
    match args.notify {
        true => {
            let ways = signals::ways(config, context);
            Ok(watch::cycle(facts, limits, (&ways, &signals::sender(repository)), memory).await)
        }
        false => Ok(Cycle {
            alarms: watch::look(facts, limits, memory),
            notifiers: facts.notifiers.clone(),
            ..Cycle::default()
        }),
    }
}

/// The store did not answer: what is known all the same is said, and told.
async fn say_without_store(
    args: &StatusArgs,
    config: &Config,
    error: &CliError,
    context: &Context,
) -> Result<(), CliError> {
    let began = Instant::now();
    let HostAlone { facts, repository, memory } = without_store(config, error)?;
    let cycle = signal(args, config, (&facts, repository), &memory, context).await?;
    write_metrics(args, (&facts, &cycle, config), began, context)?;
    alarms::tell(&cycle.alarms, Timestamp::now(), &context.output);
    if args.notify {
        alarms::tell_deliveries(&cycle, &context.output);
    }
    Ok(())
}

fn write_metrics(
    args: &StatusArgs,
    (facts, cycle, config): (&Facts, &Cycle, &Config),
    began: Instant,
    context: &Context,
) -> Result<(), CliError> {
    let Some(path) = &args.metrics else { return Ok(()) };
    let options = MetricsOptions { site_series_max: config.metrics.site_series_max };
    let metrics = Metrics::of(facts, &cycle.alarms, &cycle.notifiers, (options, began.elapsed()));
    files::write(&context.path(path), &metrics)
}

fn outcome(found: &Assessment, cycle: &Cycle) -> Outcome {
    let now = found.facts.at;
    let count = |kind: AlarmKind| cycle.alarms.iter().filter(|alarm| alarm.kind == kind).count();
    let late = found.sites.iter().filter(|site| site.is_expected() && site.is_late(now)).count();
    let gone = found.sites.iter().filter(|site| site.gone == Some(Gone::Alarm)).count();
    let without_base = found.sites.iter().filter(|site| !site.without_base.is_empty()).count();
    let troubled = found.sources.iter().filter(|status| !sources::troubles(status, &cycle.alarms).is_empty()).count();
    let codes = found.failed.iter().map(|failed| failed.exit_code);
    let codes = codes.chain((!cycle.is_healthy()).then_some(exit::BREACHED));
    Outcome { exit_code: worst_exit_code(codes), failed: found.failed.clone(), ..Outcome::ok() }
        .with("sites", found.sites.len())
        .with("beyond_rpo", late)
        .with("gone", gone)
        .with("without_base", without_base)
        .with("captured", json!({ "sources": found.sources.len(), "troubled": troubled }))
        .with("unscanned", count(AlarmKind::ScansBehind))
        .with("alarms", alarms::counts(&cycle.alarms))
}
