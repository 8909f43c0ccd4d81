//! `lifeboat status`: may I sleep? Exit 4 when something is not as promised.
//!
//!   captured sources ─▶ how far is the log, what does the server keep for it, did anything drift?
//!   sites            ─▶ how new is the newest moment that every part can be put back to, against the RPO
//!   sites with points that no source lists ─▶ gone, unless somebody said that the loss is meant
//!   customers who cannot be sites          ─▶ in no snapshot
//!
//! It looks, and changes nothing.

mod scans;
mod sources;

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use lifeboat_control::SiteSummary;
use lifeboat_engine::{has_base, is_loss_accepted};
use lifeboat_model::{DrillFailed, Fault, RunOutcome, SourceName, Timestamp, worst_exit_code};
use serde_json::json;

use super::sites::{Known, Line, line_of};
use crate::args::StatusArgs;
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Output, Table, ago, count, duration};
use crate::{CliError, Context, exit};
pub(super) use sources::SourceStatus;
pub(super) use sources::all as captured;

/// Sites that are asked about at once.
const PARALLEL: usize = 16;
/// A cut takes no longer: a point so much newer than an epoch is a base of it.
const CUT_MAX: Duration = Duration::from_secs(3_600);

pub fn run(args: &StatusArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = match context.open().await {
            Ok(open) => open,
            Err(error) => {
                crate::only_here::warn_of_files(&context.config()?, &context.output);
                return Err(error);
            }
        };
        context.tell_notes(&open.config);
        super::key::warn_unproven(&open.engine.repository, &context.output).await;
        let now = Timestamp::now();
        let sources = sources::all(&open, now).await?;
        let scans = scans::all(&open, now);
        let known = Known::gather(&open, context).await?;
        for missed in &known.missed {
            context.output.warn(&missed.message, missed.hint.as_deref());
        }
        let asked = known.sites().into_iter().map(async |site| {
            let line = line_of(site, &known, &open).await?;
            SiteStatus::of(line, (&sources, &known), &open).await
        });
        let asked: Vec<_> = stream::iter(asked).buffered(PARALLEL).collect().await;
        let (mut sites, mut failed) = (Vec::new(), Vec::new());
        for (site, asked) in known.sites().into_iter().zip(asked) {
            match asked {
                Ok(status) => sites.push(status),
                // The damage of one site must not hide the others.
                Err(error) if error.fault == Fault::Damage => failed.push(Failed::of_site(site, &error)),
                Err(error) => return Err(error),
            }
        }
        sources::tell(&sources, now, &context.output);
        scans::tell(&scans, now, &context.output);
        tell_sites(&sites, args.all, now, &context.output);
        let unscanned = scans.iter().filter(|scan| scan.problem.is_some()).count();
        let has_trouble = known.has_failed_source || !known.missed.is_empty() || unscanned > 0;
        Ok(outcome(&sources, &sites, has_trouble, failed).with("unscanned", unscanned))
    })
}

/// A site, and the newest moment that all of its parts can be put back to.
struct SiteStatus {
    line: Line,
    restorable_till: Option<Timestamp>,
    /// The source whose part is the oldest there.
    oldest: Option<SourceName>,
    /// Captured sources in which it has no base: what is captured of it leads nowhere.
    without_base: Vec<SourceName>,
    gone: Option<Gone>,
}

/// A site that has points, and that no source lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// A source could not be asked.
    Perhaps,
    Accepted,
    Alarm,
}

/// Whether the site is gone: at once, not only when a run has found it so. A host without sources believes the
/// newest run.
async fn gone(line: &Line, known: &Known, open: &Open) -> Result<Option<Gone>, CliError> {
    let has_points = |summary: &SiteSummary| summary.good + summary.incomplete + summary.suspect > 0;
    if !line.sources.is_empty() || !line.summary.as_ref().is_some_and(has_points) {
        return Ok(None);
    }
    if line.has_failed_source {
        return Ok(Some(Gone::Perhaps));
    }
    let outcome = known.remembered.seen.get(&line.site).map(|seen| &seen.outcome);
    if !line.is_unlisted() && outcome != Some(&RunOutcome::Vanished) {
        return Ok(None);
    }
    // Without a hold it is accepted at best; the holds themselves are asked for only where it may be.
    let may_be = is_loss_accepted(outcome, &[]);
    let is_accepted = may_be && is_loss_accepted(outcome, &open.engine.site(&line.site).await?.state().holds);
    Ok(Some(if is_accepted { Gone::Accepted } else { Gone::Alarm }))
}

/// How far a site reaches.
pub(super) struct Reach {
    pub line: Line,
    /// The newest moment that all of its parts can be put back to.
    pub till: Option<Timestamp>,
    /// No source lists it: there is nothing newer to be had.
    pub is_gone: bool,
}

/// The same as is compared with the RPO here.
pub(super) async fn reach(line: Line, of: (&[SourceStatus], &Known), open: &Open) -> Result<Reach, CliError> {
    let status = SiteStatus::of(line, of, open).await?;
    let is_gone = status.gone.is_some() || status.line.is_unlisted();
    Ok(Reach { till: status.restorable_till, is_gone, line: status.line })
}

impl SiteStatus {
    async fn of(line: Line, (sources, known): (&[SourceStatus], &Known), open: &Open) -> Result<Self, CliError> {
        let gone = gone(&line, known, open).await?;
        let (mut without_base, mut oldest) = (Vec::new(), None::<(Option<Timestamp>, SourceName)>);
        for source in &line.sources {
            let mut till = line.good_till;
            if let Some(seen) =
                sources.iter().find(|status| status.source == *source).and_then(|status| status.epoch.as_ref())
            {
                let latest = line.summary.as_ref().and_then(|summary| summary.latest_at);
                let begun_at = seen.epoch.facts.begun_at;
                // Long after the epoch began there is no doubt; around its begin the snapshot itself is asked.
                let is_sure = latest.is_some_and(|latest| latest.since(begun_at) > CUT_MAX);
                if is_sure || has_base(&open.engine, &line.site, source, &seen.epoch).await? {
                    till = till.max(seen.till);
                } else {
                    without_base.push(source.clone());
                }
            }
            if oldest.as_ref().is_none_or(|(oldest, _)| till < *oldest) {
                oldest = Some((till, source.clone()));
            }
        }
        let (till, oldest) = oldest.map_or((line.good_till, None), |(till, source)| (till, Some(source)));
        Ok(Self { restorable_till: till, oldest, without_base, gone, line })
    }

    fn is_late(&self, now: Timestamp) -> bool {
        self.restorable_till.is_none_or(|till| now.since(till) > self.line.rpo)
    }

    fn is_breached(&self, now: Timestamp) -> bool {
        self.gone == Some(Gone::Alarm)
            || self.is_beyond_rpo(now)
            || !self.without_base.is_empty()
            || self.drill_failed().is_some()
    }

    /// It could not be rebuilt when that was tried last.
    fn drill_failed(&self) -> Option<DrillFailed> {
        self.line.summary.as_ref().and_then(|summary| summary.drill_failed)
    }

    /// Of a site that no source lists there is nothing newer to be had.
    fn is_beyond_rpo(&self, now: Timestamp) -> bool {
        self.gone.is_none() && !self.line.is_unlisted() && self.is_late(now)
    }

    fn state(&self, now: Timestamp) -> String {
        let has_intent = self.line.summary.as_ref().is_some_and(|summary| summary.has_intent);
        match self.gone {
            Some(Gone::Alarm) if !has_intent => return "gone from its sources".into(),
            Some(Gone::Accepted) if !has_intent => return "gone, as accepted".into(),
            _ => {}
        }
        let Some(summary) = self.line.summary.as_ref().filter(|summary| summary.latest.is_some()) else {
            return self.line.state(now);
        };
        if summary.has_intent || self.line.is_unlisted() {
            return self.line.state(now);
        }
        if let Some(failed) = self.drill_failed() {
            return format!("its drill failed {}", ago(failed.at, now));
        }
        if self.is_late(now) {
            let source = self.oldest.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
            return format!("older than {}{source}", duration(self.line.rpo));
        }
        if let Some(source) = self.without_base.first() {
            return format!("no base since the epoch of {source} began");
        }
        if summary.holds > 0 { "ok, held".into() } else { "ok".into() }
    }
}

fn tell_sites(sites: &[SiteStatus], tells_all: bool, now: Timestamp, output: &Output) {
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("LAST GOOD POINT", Align::Left),
        ("RESTORABLE TILL", Align::Left),
        ("RPO", Align::Left),
        ("STATE", Align::Left),
    ]);
    for site in sites {
        let mut object = site.line.to_json(now);
        object["restorable_till"] = site.restorable_till.map(|till| till.to_string()).into();
        object["within_rpo"] = (!site.is_late(now)).into();
        object["without_base"] = site.without_base.iter().map(SourceName::as_str).collect::<Vec<_>>().into();
        object["gone"] = matches!(site.gone, Some(Gone::Alarm | Gone::Accepted)).into();
        object["loss_accepted"] = (site.gone == Some(Gone::Accepted)).into();
        object["state"] = site.state(now).into();
        output.event("site", object);
        let holds = site.line.summary.as_ref().is_some_and(|summary| summary.holds > 0 || summary.has_intent);
        if tells_all || holds || site.is_breached(now) {
            let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| ago(time, now));
            table.row([
                site.line.site.to_string(),
                time(site.line.good_till),
                time(site.restorable_till),
                duration(site.line.rpo),
                site.state(now),
            ]);
        }
    }
    if !table.is_empty() {
        output.line("");
        table.lines().iter().for_each(|line| output.line(line));
    }
    if let Some(gone) = sites.iter().find(|site| site.gone == Some(Gone::Alarm)) {
        let site = &gone.line.site;
        output.say(format!(
            "Gone by mistake: `lifeboat restore {site}`. On purpose: `lifeboat backup --all --accept-loss`, once."
        ));
    }
    let breached = sites.iter().filter(|site| site.is_breached(now)).count() as u64;
    output.line(match breached {
        0 => format!("{} sites, all within their RPO.", count(sites.len() as u64)),
        breached => format!("{} sites, {} not as promised.", count(sites.len() as u64), count(breached)),
    });
}

fn outcome(sources: &[SourceStatus], sites: &[SiteStatus], has_trouble: bool, failed: Vec<Failed>) -> Outcome {
    let now = Timestamp::now();
    let late = sites.iter().filter(|site| site.is_beyond_rpo(now)).count();
    let gone = sites.iter().filter(|site| site.gone == Some(Gone::Alarm)).count();
    let without_base = sites.iter().filter(|site| !site.without_base.is_empty()).count();
    let troubled = sources.iter().filter(|source| !source.problems.is_empty()).count();
    let is_breached = has_trouble || troubled > 0 || sites.iter().any(|site| site.is_breached(now));
    let codes = failed.iter().map(|failed| failed.exit_code).chain(is_breached.then_some(exit::BREACHED));
    Outcome { exit_code: worst_exit_code(codes), failed, ..Outcome::ok() }
        .with("sites", sites.len())
        .with("beyond_rpo", late)
        .with("gone", gone)
        .with("without_base", without_base)
        .with("captured", json!({ "sources": sources.len(), "troubled": troubled }))
}
