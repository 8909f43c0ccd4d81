//! `lifeboat sources inspect [SOURCE]`: what each source holds, leaves out, and may not read.
//!
//! It reads names and metadata and opens every file without reading it, as the user it runs as:
//! what the nightly backup would stumble over shows now.

mod postgres;

use lifeboat_engine::Fleet;
use lifeboat_model::{EntryKind, PartProblem, SiteId, SourceName, worst_exit_code};
use lifeboat_source::{Discovery, MissedSite, Source};
use serde_json::json;

use crate::config::{Config, SourceConfig, SourceSettings};
use crate::output::{Failed, Outcome, and_more, count};
use crate::{CliError, Context, exit, open, suggest, words};

/// Problems and left-out entries that people are shown of each kind; JSON has them all.
const SHOWN_MAX: usize = 20;

pub fn inspect(source: Option<&SourceName>, context: &Context) -> Result<Outcome, CliError> {
    let config = context.config()?;
    context.tell_notes(&config);
    if let Some(name) = source.filter(|name| config.source(name).is_none()) {
        return Err(unknown(name, &config));
    }
    if config.sources.is_empty() {
        return Err(CliError::usage(format!("no sources are configured: file=`{}`", config.path.display()))
            .with_hint("write a section [sources.NAME] with kind and path; config/example.toml shows how"));
    }
    let fleet = open::fleet(&config)?;
    context.block_on(async { tokio::task::block_in_place(|| inspect_all(&fleet, &config, source, context)) })
}

pub(super) fn unknown(name: &SourceName, config: &Config) -> CliError {
    let names = config.sources.iter().map(|source| source.name.as_str());
    let hint = suggest::either(&suggest::nearest(name.as_str(), names.clone()));
    CliError::usage(format!("no such source: source=`{name}`")).with_hint(match hint {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the sources are: {}", names.collect::<Vec<_>>().join(", ")),
    })
}

fn inspect_all(
    fleet: &Fleet,
    config: &Config,
    only: Option<&SourceName>,
    context: &Context,
) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::ok();
    for source in fleet.sources().iter().map(lifeboat_engine::AnySource::as_source) {
        if only.is_some_and(|only| only != source.name()) {
            continue;
        }
        if let Some(database) = postgres::of(fleet, source.name()) {
            let place = config.source(source.name()).map(SourceConfig::place).unwrap_or_default();
            match postgres::inspect(database, &place, context) {
                Ok(failed) => outcome.failed.extend(failed),
                Err(error) => outcome.failed.push(refusal(source.name(), &error)),
            }
            let codes = outcome.failed.iter().map(|failed| failed.exit_code);
            outcome.exit_code = worst_exit_code(codes.chain([outcome.exit_code]));
            continue;
        }
        match look(source, context) {
            Ok(found) => {
                found.tell(source, config, context);
                let failed = found.as_failed(source);
                if !failed.is_empty() {
                    outcome.exit_code = exit::OPERATOR;
                    outcome.failed.extend(failed);
                }
            }
            Err(error) if error.fault == lifeboat_model::Fault::Cancelled => return Err(error),
            Err(error) => {
                outcome.exit_code = error.exit_code();
                outcome.failed.push(refusal(source.name(), &error));
            }
        }
    }
    Ok(outcome)
}

fn refusal(source: &SourceName, error: &CliError) -> Failed {
    let message = format!("{source}: {}", error.message);
    Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() }
}

/// What was found in one source.
#[derive(Default)]
struct Found {
    sites: Vec<SiteId>,
    root: String,
    entries: u64,
    bytes: u64,
    left_out: Vec<PartProblem>,
    missed: Vec<MissedSite>,
    problems: Vec<PartProblem>,
}

fn look(source: &dyn Source, context: &Context) -> Result<Found, CliError> {
    let discovery = source.discover()?;
    let Discovery { sites, left_out, missed, root } = discovery;
    let mut found = Found { root: root.path, left_out, missed, ..Found::default() };
    for site in &sites {
        context.cancel.check()?;
        if let Err(error) = look_at_site(source, site, &mut found) {
            found.problems.push(PartProblem { entry: site.to_string(), reason: error.to_string() });
        }
    }
    found.sites = sites;
    Ok(found)
}

fn look_at_site(source: &dyn Source, site: &SiteId, found: &mut Found) -> Result<(), lifeboat_source::Error> {
    let Some(mut reader) = source.open(site)? else { return Ok(()) };
    let named = |problem: PartProblem| PartProblem { entry: format!("{site}/{}", problem.entry), ..problem };
    while let Some(entry) = reader.next_entry()? {
        found.entries += 1;
        found.bytes += entry.metadata.size;
        if entry.kind == EntryKind::File
            && let Err(error) = reader.open_content(&entry)
        {
            found.problems.push(PartProblem { entry: format!("{site}/{}", entry.path), reason: error.to_string() });
        }
    }
    let summary = reader.finish()?;
    found.problems.extend(summary.problems.into_iter().map(named));
    found.left_out.extend(summary.left_out.into_iter().map(named));
    Ok(())
}

impl Found {
    fn tell(&self, source: &dyn Source, config: &Config, context: &Context) {
        let output = &context.output;
        let path = config.source(source.name()).map(SourceConfig::place).unwrap_or_default();
        let problem = |problem: &PartProblem| json!({ "entry": problem.entry, "reason": problem.reason });
        output.event(
            "source",
            json!({
                "source": source.name().as_str(),
                "kind": words::kind(source.kind()),
                "path": path,
                "root": self.root,
                "sites": self.sites.len(),
                "entries": self.entries,
                "bytes": self.bytes,
                "sites_unnamed": self.missed.iter().map(|missed| {
                    json!({ "id": missed.problem.entry, "reason": missed.problem.reason })
                }).collect::<Vec<_>>(),
                "left_out": self.left_out.iter().map(problem).collect::<Vec<_>>(),
                "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
            }),
        );
        output.line(format!("{} ({})  {path}", source.name(), words::kind(source.kind())));
        output.line(format!(
            "  {} sites, {} entries, {}",
            count(self.sites.len() as u64),
            count(self.entries),
            crate::output::bytes(self.bytes)
        ));
        if let Some(SourceSettings::Files(files)) = config.source(source.name()).map(|source| &source.settings) {
            for inner in &files.databases {
                output.line(format!("  without {}: source {} has it", inner.path, inner.source));
            }
        }
        let missed: Vec<PartProblem> = self.missed.iter().map(|missed| missed.problem.clone()).collect();
        shown("site in no snapshot", &missed, context);
        shown("left out", &self.left_out, context);
        shown("problem", &self.problems, context);
    }

    fn as_failed(&self, source: &dyn Source) -> Vec<Failed> {
        let told = |what: String, problem: &PartProblem, hint: String| Failed {
            site: None,
            message: format!("{}: {what}, the first: entry=`{}`, {}", source.name(), problem.entry, problem.reason),
            hint: Some(hint),
            exit_code: exit::OPERATOR,
        };
        let missed = self.missed.first().map(|first| {
            let what = format!("{} sites in no snapshot", self.missed.len());
            told(what, &first.problem, first.remedy.clone())
        });
        let problem = self.problems.first().map(|first| {
            let hint = "a backup of these sites would be incomplete; run as a user who may read everything";
            told(format!("{} problems", self.problems.len()), first, hint.to_owned())
        });
        missed.into_iter().chain(problem).collect()
    }
}

fn shown(what: &str, problems: &[PartProblem], context: &Context) {
    let all = context.global.verbose > 0;
    let max = if all { problems.len() } else { SHOWN_MAX };
    for problem in problems.iter().take(max) {
        context.output.line(format!("  {what}: {}: {}", problem.entry, problem.reason));
    }
    if let Some(more) = and_more(problems.len(), max) {
        context.output.line(format!("  {what}: {more} (-v shows all)"));
    }
}
