//! `lifeboat sites [SITE]`: the fleet, or one site.
//!
//! A site is known when a source lists it now, the newest run names it, or the catalog does. Of each
//! the bucket is asked for its newest commit by one listing; what that commit says comes from the
//! catalog where it has just that one, else from the bucket. So an answer never depends on the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use lifeboat_control::{SiteRow, SiteSummary};
use lifeboat_model::{Fault, Faulty, Proven, RunOutcome, RunSite, SiteId, SourceName, Timestamp, worst_exit_code};
use serde_json::{Value, json};

use super::remembered::Remembered;
use crate::args::SitesArgs;
use crate::memory;
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Output, Table, ago, bytes, count, duration};
use crate::{CliError, Context, suggest, words};

/// Sites that are asked about at once.
pub(super) const PARALLEL: usize = 16;

pub fn run(args: &SitesArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let known = Known::gather(&open, context).await?;
        known.warn_of_failed(&context.output);
        match &args.site {
            Some(site) => one(site, &known, &open, context).await,
            None => all(&known, &open, context).await,
        }
    })
}

/// What is known of the fleet before the bucket is asked about each site.
pub(super) struct Known {
    /// Which sources list a site now.
    listed: BTreeMap<SiteId, Vec<SourceName>>,
    pub remembered: Remembered,
    /// A source could not be asked: that it lists a site no more cannot be told.
    pub has_failed_source: bool,
    pub looks: Vec<SourceLook>,
    /// Whether there are sources at all: on a host that only watches there are none.
    has_sources: bool,
}

/// How one source was found.
pub(super) struct SourceLook {
    pub source: SourceName,
    /// Why nothing may be published from it, and what to do.
    pub failure: Option<(String, String)>,
    /// Whether it could be asked at all.
    is_asked: bool,
    /// Customers of whom nothing is backed up, as `backup --all` tells of them.
    pub missed: Option<Failed>,
}

/// A catalog that was begun anew knows some sites at the most: the bucket knows every one that was ever
/// backed up.
pub(super) async fn remember_all(open: &Open, context: &Context) -> Result<(), CliError> {
    match open.engine.repository.sites().await {
        Ok(sites) => {
            sites.iter().for_each(|site| open.engine.memory.note_site(site));
            open.memory.note_whole();
        }
        Err(error) if error.fault() == Fault::Damage => {
            let hint = "sites may be missing here; run `lifeboat check`, which names what is damaged";
            context.output.warn(&format!("the bucket cannot be listed whole: {error}"), Some(hint));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl Known {
    pub async fn gather(open: &Open, context: &Context) -> Result<Self, CliError> {
        Self::gather_of(open, context, 1).await
    }

    /// The same, with so many runs looked at for backups that fail again and again.
    pub async fn gather_of(open: &Open, context: &Context, runs: usize) -> Result<Self, CliError> {
        let mut listed: BTreeMap<SiteId, Vec<SourceName>> = BTreeMap::new();
        if !open.memory.is_whole() {
            remember_all(open, context).await?;
        }
        let remembered = Remembered::gather_of(open, runs).await?;
        let mut looks = Vec::new();
        for source in tokio::task::block_in_place(|| open.engine.fleet.look(&remembered.sources, false)) {
            looks.push(SourceLook {
                source: source.source.clone(),
                missed: super::backup::missed(&source),
                is_asked: source.root.is_some(),
                failure: source.failure,
            });
            for site in source.sites {
                listed.entry(site).or_default().push(source.source.clone());
            }
        }
        let has_failed_source = looks.iter().any(|look| !look.is_asked);
        let has_sources = !open.engine.fleet.sources().is_empty();
        Ok(Self { listed, remembered, has_failed_source, looks, has_sources })
    }

    /// Of sources that could not be asked.
    pub fn warn_of_failed(&self, output: &Output) {
        for look in self.looks.iter().filter(|look| !look.is_asked) {
            if let Some((reason, hint)) = &look.failure {
                output.warn(&format!("a source has failed: {reason}"), Some(hint));
            }
        }
    }

    pub fn sites(&self) -> BTreeSet<&SiteId> {
        self.listed.keys().chain(self.remembered.sites()).collect()
    }
}

/// One line of the list.
pub(super) struct Line {
    pub site: SiteId,
    pub sources: Vec<SourceName>,
    /// `None`: never backed up.
    pub summary: Option<SiteSummary>,
    /// Till when the newest good point is known to be the site.
    pub good_till: Option<Timestamp>,
    pub rpo: Duration,
    pub rto: Duration,
    pub has_failed_source: bool,
    has_sources: bool,
}

impl Line {
    fn is_late(&self, now: Timestamp) -> bool {
        self.good_till.is_none_or(|till| now.since(till) > self.rpo)
    }

    /// Whether there are sources, and none of them lists the site.
    pub fn is_unlisted(&self) -> bool {
        self.has_sources && self.sources.is_empty()
    }

    pub fn state(&self, now: Timestamp) -> String {
        match &self.summary {
            Some(summary) if summary.has_intent => "restore open".into(),
            None => "never backed up".into(),
            Some(_) if self.is_unlisted() && self.has_failed_source => "unknown (source failed)".into(),
            Some(_) if self.is_unlisted() => "gone from its sources".into(),
            Some(summary) if summary.latest.is_none() => "no good point".into(),
            Some(_) if self.is_late(now) => format!("older than {}", duration(self.rpo)),
            Some(summary) if summary.holds > 0 => "ok, held".into(),
            Some(_) => "ok".into(),
        }
    }

    pub fn to_json(&self, now: Timestamp) -> Value {
        let summary = self.summary.clone().unwrap_or_default();
        json!({
            "site": self.site.as_str(),
            "sources": self.sources.iter().map(SourceName::as_str).collect::<Vec<_>>(),
            "snapshot_id": summary.latest.map(|id| id.to_string()),
            "at": summary.latest_at.map(|at| at.to_string()),
            "good_till": self.good_till.map(|at| at.to_string()),
            "within_rpo": !self.is_late(now),
            "rpo_seconds": self.rpo.as_secs(),
            "rto_seconds": self.rto.as_secs(),
            "entries": summary.entries,
            "bytes": summary.logical_bytes,
            "points": { "good": summary.good, "incomplete": summary.incomplete, "suspect": summary.suspect, "undo": summary.undo },
            "holds": summary.holds,
            "restore_open": summary.has_intent,
            "proven_at": summary.proven.map(|proven| proven.at.to_string()),
            "proven_moment": summary.proven.map(|proven| proven.moment.to_string()),
            "proven_took_ms": summary.proven.map(|proven| proven.took.as_millis() as u64),
            "proven_by": summary.proven.map(|proven| proven.drill.to_string()),
            "drill_failed_at": summary.drill_failed.map(|failed| failed.at.to_string()),
            "drill_failed_in": summary.drill_failed.map(|failed| failed.drill.to_string()),
        })
    }
}

/// When the newest good point was last known to be the site: a run that found it unchanged counts.
fn good_till(summary: &SiteSummary, seen: Option<&RunSite>) -> Option<Timestamp> {
    let found = seen.filter(|seen| {
        seen.snapshot.is_some()
            && seen.snapshot == summary.latest
            && matches!(seen.outcome, RunOutcome::Published | RunOutcome::Unchanged)
    });
    summary.latest_at.max(found.map(|seen| seen.seen_at).filter(|_| summary.latest_at.is_some()))
}

pub(super) async fn line_of(site: &SiteId, known: &Known, open: &Open) -> Result<Line, CliError> {
    let generation = open.engine.repository.newest_generation(site).await?;
    let is_newest = |row: &&SiteRow| row.head.generation == generation;
    summed_up(site, is_newest, known, open).await
}

/// The same, as the catalog has it, unless the newest run saw a newer commit.
pub(super) async fn believed_line_of(site: &SiteId, known: &Known, open: &Open) -> Result<Line, CliError> {
    let seen = known.remembered.seen.get(site).map(|seen| seen.generation);
    summed_up(site, |row| Some(row.head.generation) >= seen, known, open).await
}

async fn summed_up(
    site: &SiteId,
    is_newest: impl Fn(&&SiteRow) -> bool,
    known: &Known,
    open: &Open,
) -> Result<Line, CliError> {
    let row = known.remembered.rows.get(site).filter(|row| row.summary.standing.is_some());
    let summary = match row.filter(is_newest) {
        Some(row) => Some(row.summary.clone()),
        // The engine compares with what is remembered, and notices a bucket that lost commits.
        None => match open.engine.site(site).await {
            Ok(found) => Some(memory::summary(found.state())),
            Err(lifeboat_engine::Error::NoSuchSite { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Line {
        site: site.clone(),
        sources: known.listed.get(site).cloned().unwrap_or_default(),
        good_till: summary.as_ref().and_then(|summary| good_till(summary, known.remembered.seen.get(site))),
        summary,
        rpo: open.config.policy_of(site).rpo,
        rto: open.config.policy_of(site).rto,
        has_failed_source: known.has_failed_source,
        has_sources: known.has_sources,
    })
}

async fn all(known: &Known, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let lines = stream::iter(known.sites().into_iter().map(async |site| (site, line_of(site, known, open).await)));
    let asked: Vec<_> = lines.buffered(PARALLEL).collect().await;
    // The damage of one site must not hide the others from whoever looks for them.
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for (site, line) in asked {
        match line {
            Ok(line) => lines.push(line),
            Err(error) if error.fault == Fault::Damage => failed.push(Failed::of_site(site, &error)),
            Err(error) => return Err(error),
        }
    }
    let now = Timestamp::now();
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("LAST GOOD POINT", Align::Left),
        ("ENTRIES", Align::Right),
        ("SIZE", Align::Right),
        ("POINTS", Align::Right),
        ("PROVEN", Align::Left),
        ("STATE", Align::Left),
    ]);
    for line in &lines {
        context.output.event("site", line.to_json(now));
        let summary = line.summary.clone().unwrap_or_default();
        let at = line.good_till.map_or_else(|| "-".to_owned(), |at| ago(at, now));
        let points = summary.good + summary.incomplete + summary.suspect;
        table.row([
            line.site.to_string(),
            at,
            count(summary.entries),
            bytes(summary.logical_bytes),
            count(points),
            match summary.drill_failed {
                Some(failed) => format!("FAILED {}", ago(failed.at, now)),
                None => summary.proven.map_or_else(|| "never".to_owned(), |proven| ago(proven.at, now)),
            },
            line.state(now),
        ]);
    }
    if lines.is_empty() {
        context.output.say("There are no sites: no source lists one, and none was ever backed up.");
    } else {
        table.lines().iter().for_each(|line| context.output.line(line));
    }
    let late = lines.iter().filter(|line| line.is_late(now)).count();
    let exit_code = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
    Ok(Outcome { exit_code, failed, ..Outcome::ok() }.with("sites", lines.len()).with("beyond_rpo", late))
}

async fn one(site: &SiteId, known: &Known, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let line = line_of(site, known, open).await?;
    if line.summary.is_none() && line.sources.is_empty() {
        return Err(suggest::unknown_site(site, known.sites()));
    }
    let (now, output) = (Timestamp::now(), &context.output);
    let sources = line.sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
    output.line(format!("site         {site}"));
    output.line(format!("state        {}", line.state(now)));
    output.line(format!("sources now  {}", if sources.is_empty() { "none" } else { &sources }));
    let mut object = line.to_json(now);
    if line.summary.is_some() {
        let found = open.engine.site(site).await?;
        let state = found.state();
        output.line(match state.proven {
            Some(Proven { at, took, drill, .. }) => {
                format!("proven       {} by drill {drill}, rebuilt in {}", ago(at, now), duration(took))
            }
            None => format!("proven       never: lifeboat drill {site}"),
        });
        if let Some(failed) = state.drill_failed {
            let (drill, at) = (failed.drill, ago(failed.at, now));
            output.line(format!("drill failed {at}: lifeboat recover report {drill}"));
        }
        if let Some(till) = line.good_till {
            output.line(format!("good till    {till} ({})", ago(till, now)));
        }
        object["holds"] = state.holds.iter().map(|hold| {
            output.line(format!("hold         {} since {}: {}", words::hold(hold.reason), hold.placed_at, hold.note));
            json!({ "hold_id": hold.id.to_string(), "reason": words::hold(hold.reason), "note": hold.note, "placed_at": hold.placed_at.to_string() })
        }).collect();
        if let Some(intent) = &state.intent {
            output.line(format!(
                "restore open {} since {} by {} pid {}",
                intent.restore, intent.opened_at, intent.owner.host, intent.owner.pid
            ));
            object["restore_open"] =
                json!({ "restore_id": intent.restore.to_string(), "opened_at": intent.opened_at.to_string() });
        }
        if let Some(latest) = state.latest() {
            object["latest"] = words::snapshot(latest);
            output.line(format!("snapshot     {} at {}", latest.id, latest.cut_till));
            output.line("");
            let mut table = Table::new(&[
                ("PART", Align::Left),
                ("KIND", Align::Left),
                ("ENTRIES", Align::Right),
                ("SIZE", Align::Right),
                ("STATUS", Align::Left),
            ]);
            for part in &latest.parts {
                table.row([
                    part.source.to_string(),
                    words::kind(part.kind).to_owned(),
                    count(part.entries),
                    bytes(part.logical_bytes),
                    words::part_status(&part.status),
                ]);
            }
            table.lines().iter().for_each(|line| output.line(line));
        }
    }
    output.event("site", object);
    Ok(Outcome::ok().with("site", site.as_str()))
}
