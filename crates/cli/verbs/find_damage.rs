//! `lifeboat find-damage [--since T] [--source S]`: what removed most, whose, and the last good moment.

use lifeboat_engine::{
    DamageReport, DamageRequest, Incident, IncidentNote, LogLooked, Restorable, RunDamage, RunDamageKind, SiteDamage,
    find_damage,
};
use lifeboat_model::{AuditAction, PointInTime, Timestamp, worst_exit_code};
use serde_json::{Value, json};

use crate::args::FindDamageArgs;
use crate::audit::Audited;
use crate::output::{Align, Failed, Outcome, Output, Table, and_more, count, duration, plural};
use crate::{CliError, Context, bad_point};

/// Incidents, sites of each, and tables of each that people are shown; JSON has all that were found.
const INCIDENTS_SHOWN_MAX: usize = 5;
const SITES_SHOWN_MAX: usize = 10;
const TABLES_SHOWN_MAX: usize = 4;
/// What people see fits on a narrow terminal.
const WIDTH: usize = 80;

pub fn run(args: &FindDamageArgs, context: &Context) -> Result<Outcome, CliError> {
    let since = since(&args.since, Timestamp::now())?;
    let request = DamageRequest { since, source: args.source.clone() };
    context.block_on(async {
        let open = context.open().await?;
        let report = find_damage(&open.engine, &request).await?;
        let sites = report.incidents.iter().flat_map(|incident| &incident.sites).map(|damage| &damage.site);
        let sites = sites.chain(report.runs.iter().map(|damage| &damage.site));
        let mut audited = Audited::new(&open, context).sites(sites);
        audited.show(AuditAction::Read).await?;
        tell_events(&report, &context.output);
        tell_people(&report, &request, (&context.output, context.global.verbose > 0));
        let failed = report.failed.iter().map(|(source, error)| {
            let error = CliError::of(error);
            let message = format!("the change log could not be read: source=`{source}`: {}", error.message);
            let hint = error.hint.clone().unwrap_or_else(|| "see what else is damaged: `lifeboat check`".into());
            Failed { site: None, message, hint: Some(hint), exit_code: error.exit_code() }
        });
        let failed: Vec<Failed> = failed.collect();
        let exit_code = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
        Ok(Outcome { exit_code, failed, ..Outcome::ok() }
            .with("since", since.to_string())
            .with("incidents", report.incidents.len())
            .with("runs", report.runs_looked)
            .with("run_findings", report.runs.len())
            .with("logs", report.logs.iter().map(log_json).collect::<Vec<_>>()))
    })
}

pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    match PointInTime::parse(text, now).map_err(|error| bad_point(&error))? {
        PointInTime::Time(time) => Ok(time),
        _ => Err(CliError::usage(format!("not a time: since=`{text}`"))
            .with_hint("use RFC 3339 with a zone (2022-04-05T07:38:00Z) or a duration ago such as `2h`")),
    }
}

/// For programs: an incident, and after it each of its sites as `restore` and `recover` take them.
fn tell_events(report: &DamageReport, output: &Output) {
    for (number, incident) in (1..).zip(&report.incidents) {
        output.event("incident", incident_json(number, incident));
        incident.sites.iter().for_each(|site| output.event("site", site_json(number, incident, site)));
    }
    report.runs.iter().for_each(|damage| output.event("site", run_json(damage)));
}

fn log_json(log: &LogLooked) -> Value {
    json!({
        "source": log.source.as_str(),
        "segments": log.segments,
        "transactions": log.transactions,
        "till": log.till.map(|till| till.to_string()),
        "gaps": log.gaps.iter().map(|(epoch, at)| json!({ "epoch": epoch.0, "till": at.to_string() })).collect::<Vec<_>>(),
    })
}

fn incident_json(number: usize, incident: &Incident) -> Value {
    let notes = incident
        .notes
        .iter()
        .map(|note| json!({ "at": note.at.to_string(), "prefix": note.prefix, "text": note.text, "own": note.is_own }));
    json!({
        "incident": number,
        "source": incident.source.as_str(),
        "epoch": incident.epoch.0,
        "at": incident.last_good().at(),
        "last_good": incident.last_good().time().to_string(),
        "transaction": incident.first.id.0,
        "transactions": incident.transactions,
        "first_commit": incident.first.committed_at.to_string(),
        "last_commit": incident.last.committed_at.to_string(),
        "sites": incident.sites.len(),
        "deleted": incident.counts.deletes,
        "updated": incident.counts.updates,
        "unrouted": incident.unrouted,
        "truncated": incident.emptied,
        "dropped": incident.dropped,
        "altered": incident.altered,
        "other_sites": incident.others,
        "notes": notes.collect::<Vec<_>>(),
    })
}

fn site_json(number: usize, incident: &Incident, site: &SiteDamage) -> Value {
    let tables = site
        .tables
        .iter()
        .map(|table| json!({ "table": table.table, "deleted": table.counts.deletes, "updated": table.counts.updates }));
    json!({
        "site": site.site.as_str(),
        "at": at(site),
        "exact": matches!(site.restorable, Restorable::Exact | Restorable::Unknown),
        "before": site.last_good.at(),
        "dropped": site.gone,
        "source": incident.source.as_str(),
        "incident": number,
        "transaction": site.last_good.before.id.0,
        "transactions": site.transactions,
        "deleted": site.counts.deletes,
        "updated": site.counts.updates,
        "tables": tables.collect::<Vec<_>>(),
        "first_commit": site.last_good.before.committed_at.to_string(),
        "last_good": site.last_good.time().to_string(),
        "found": "log",
    })
}

/// The last good moment of a site as a restore takes it, or the nearest before it that can be had.
fn at(site: &SiteDamage) -> Option<String> {
    match &site.restorable {
        Restorable::Unknown | Restorable::Exact => Some(site.last_good.at()),
        Restorable::Earlier { at, .. } => Some(at.clone()),
        Restorable::Never => None,
    }
}

fn run_json(damage: &RunDamage) -> Value {
    json!({
        "site": damage.site.as_str(),
        "at": damage.last_good.map(|(snapshot, _)| format!("snapshot:{snapshot}")),
        "last_good": damage.last_good.map(|(_, at)| at.to_string()),
        "found": "run",
        "kind": kind(damage.kind),
        "found_at": damage.found_at.to_string(),
        "reason": damage.reason,
    })
}

fn kind(kind: RunDamageKind) -> &'static str {
    match kind {
        RunDamageKind::Vanished => "vanished",
        RunDamageKind::NotSeen => "not seen",
        RunDamageKind::Shrank => "shrank",
    }
}

fn tell_people(report: &DamageReport, request: &DamageRequest, (output, shows_all): (&Output, bool)) {
    for log in &report.logs {
        let till = log.till.map_or_else(|| "nothing yet".to_owned(), |till| format!("till {}", seconds(till)));
        output.say(format!("log of {}: {} transactions, {till}", log.source, count(log.transactions)));
        for (epoch, at) in &log.gaps {
            output.say(format!("log of {}: a gap till {} (epoch {epoch} begins)", log.source, seconds(*at)));
        }
    }
    for source in &report.of_files {
        output.say(format!(
            "{source}: what was removed inside its files no log tells; runs tell what vanished or shrank."
        ));
    }
    if report.logs.is_empty() && report.of_files.is_empty() && report.failed.is_empty() {
        let what = request.source.as_ref().map_or("no source is".to_owned(), |source| format!("{source} is not"));
        output.say(format!("{what} captured: there is no change log. What follows is from runs alone."));
    }
    let shown = if shows_all { usize::MAX } else { INCIDENTS_SHOWN_MAX };
    for (number, incident) in (1..).zip(report.incidents.iter().take(shown)) {
        tell_incident(number, incident, (output, shows_all));
    }
    if report.incidents.len() > shown {
        output.line(format!("And {} lesser ones: -v shows all.\n", report.incidents.len() - shown));
    }
    tell_runs(report, (output, shows_all));
    if report.incidents.is_empty() && report.runs.is_empty() {
        nothing_found(report, request).iter().for_each(|line| output.line(line));
    }
}

/// What it means that nothing was found: a log knows every change, runs compare whole sites.
fn nothing_found(report: &DamageReport, request: &DamageRequest) -> Vec<String> {
    let since = seconds(request.since);
    let runs = plural(report.runs_looked, "run");
    match (report.logs.is_empty(), report.runs_looked) {
        (true, 0) => vec![format!("Nobody has looked since {since}: no run and no server's log.")],
        (true, _) => vec![
            format!("No site vanished or shrank beyond its limit since {since}."),
            format!("{runs} compared: what was removed in a site only a server's log can tell."),
        ],
        (false, 0) => vec![format!("Nothing that is captured was removed or rewritten since {since}.")],
        (false, _) => vec![
            format!("Nothing that is captured was removed or rewritten since {since}."),
            format!("No site vanished or shrank beyond its limit in {runs}."),
        ],
    }
}

fn tell_incident(number: usize, incident: &Incident, (output, shows_all): (&Output, bool)) {
    output.line(clip(format!("{number}. {}: {}", incident.source, headline(incident))));
    let took = incident.last.committed_at.since(incident.first.committed_at);
    let over = if incident.transactions > 1 { format!(" in {}", duration(took)) } else { String::new() };
    let transactions = plural(incident.transactions, "transaction");
    output.line(format!("   when       {}, {transactions}{over}", seconds(incident.first.committed_at)));
    output.line(format!("   last good  --at {}", incident.last_good().at()));
    output.line(format!("              --at {}", incident.last_good().time()));
    let lists = [("emptied", &incident.emptied), ("dropped", &incident.dropped), ("altered", &incident.altered)];
    for (word, tables) in lists.into_iter().filter(|(_, tables)| !tables.is_empty()) {
        output.line(clip(format!("   {word:<9}  {}", tables.join(", "))));
    }
    for IncidentNote { at, prefix, text, is_own } in &incident.notes {
        let when = if *is_own { String::new() } else { format!(" ({})", seconds(*at)) };
        output.line(clip(format!("   note       {prefix}{when}: {text}")));
    }
    if incident.unrouted > 0 {
        output.line(format!("   unknown    {} changes of sites that nobody could tell", count(incident.unrouted)));
    }
    if !incident.sites.is_empty() {
        output.line("");
        tell_sites(&incident.sites, (output, shows_all));
    }
    if incident.others > 0 {
        let others = plural(incident.others, "other site");
        output.line(format!("   {others} lost fewer rows meanwhile: ordinary work, or part of it."));
    }
    output.line("");
}

fn tell_sites(sites: &[SiteDamage], (output, shows_all): (&Output, bool)) {
    let mut table = Table::new(&[
        ("   SITE", Align::Left),
        ("DELETED", Align::Right),
        ("UPDATED", Align::Right),
        ("LAST GOOD", Align::Left),
        ("TABLES", Align::Left),
    ]);
    let shown = if shows_all { usize::MAX } else { SITES_SHOWN_MAX };
    for site in sites.iter().take(shown) {
        let all = site.gone.iter().chain(site.tables.iter().map(|table| &table.table));
        let names: Vec<&str> = all.clone().take(TABLES_SHOWN_MAX).map(String::as_str).collect();
        let more = if all.count() > names.len() { ", …" } else { "" };
        table.row([
            format!("   {}", site.site),
            count(site.counts.deletes),
            count(site.counts.updates),
            at(site).unwrap_or_else(|| "none".to_owned()),
            format!("{}{more}", names.join(", ")),
        ]);
    }
    table.lines().into_iter().for_each(|line| output.line(clip(line)));
    tell_earlier(sites, output);
    if let Some(more) = and_more(sites.len(), shown) {
        output.line(format!("   {more} sites: -v shows all, --json too."));
    }
}

/// Why a site is to be put back to an earlier moment than the last good one.
fn tell_earlier(sites: &[SiteDamage], output: &Output) {
    let earlier = |site: &&SiteDamage| matches!(site.restorable, Restorable::Earlier { .. } | Restorable::Never);
    let Some(first) = sites.iter().find(earlier) else { return };
    let (number, site) = (sites.iter().filter(earlier).count() as u64, &first.site);
    let what = plural(number, "site");
    output.line(format!("   Of {what} the log does not give the last good moment itself, for want of a base or in"));
    output.line("   a gap: above is the nearest moment before it that can be restored.");
    output.line(format!("   All of them: `lifeboat points {site}`"));
}

fn headline(incident: &Incident) -> String {
    let (deleted, updated) = (incident.counts.deletes, incident.counts.updates);
    let counted = incident.sites.iter().filter(|site| site.counts != lifeboat_model::ChangeCounts::default());
    let sites = plural(counted.count() as u64, "site");
    let rows = match (deleted, updated) {
        (0, 0) => None,
        (0, updated) => Some(format!("{} of {sites} rewritten", plural(updated, "row"))),
        (deleted, _) => Some(format!("{sites} lost {}", plural(deleted, "row"))),
    };
    let emptied = Some(incident.emptied.len() as u64).filter(|tables| *tables > 0);
    let dropped = Some(incident.dropped.len() as u64).filter(|dropped| *dropped > 0);
    let own = incident.sites.iter().filter(|site| !site.gone.is_empty());
    let (losers, gone) = own.fold((0, 0), |(losers, gone), site| (losers + 1, gone + site.gone.len() as u64));
    let own = (gone > 0).then(|| {
        format!(
            "{} lost {} of {}",
            plural(losers, "site"),
            plural(gone, "table or column"),
            if losers == 1 { "its own" } else { "their own" }
        )
    });
    let all = [
        emptied.map(|tables| format!("{} emptied for every site", plural(tables, "table"))),
        dropped.map(|dropped| format!("{} dropped for every site", plural(dropped, "table or column"))),
        own,
        rows,
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    match all.is_empty() {
        true => format!("{} of sites that nobody could tell", plural(incident.unrouted, "change")),
        false => all.join(", "),
    }
}

fn tell_runs(report: &DamageReport, (output, shows_all): (&Output, bool)) {
    if report.runs.is_empty() {
        return;
    }
    let mut table =
        Table::new(&[("SITE", Align::Left), ("WHAT", Align::Left), ("LAST GOOD", Align::Left), ("FOUND", Align::Left)]);
    let shown = if shows_all { usize::MAX } else { 2 * SITES_SHOWN_MAX };
    for damage in report.runs.iter().take(shown) {
        table.row([
            damage.site.to_string(),
            kind(damage.kind).to_owned(),
            damage.last_good.map_or_else(|| "none".to_owned(), |(snapshot, _)| format!("snapshot:{snapshot}")),
            seconds(damage.found_at),
        ]);
    }
    output.line(format!("In {} runs:", count(report.runs_looked)));
    table.lines().into_iter().for_each(|line| output.line(clip(line)));
    if let Some(more) = and_more(report.runs.len(), shown) {
        output.line(format!("{more} sites: -v shows all, --json too."));
    }
}

/// A time without its fraction.
fn seconds(time: Timestamp) -> String {
    Timestamp(time.0 - time.0.rem_euclid(1_000_000)).to_string()
}

/// No longer than a line.
fn clip(line: String) -> String {
    match line.char_indices().nth(WIDTH) {
        None => line,
        Some(_) => format!("{}…", line.chars().take(WIDTH - 1).collect::<String>()),
    }
}

#[cfg(test)]
mod tests;
