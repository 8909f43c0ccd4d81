//! `lifeboat points SITE`: every point the site can be put back to, oldest first, and from when to when its captured
//! parts can be put back to any moment.

use lifeboat_engine::{CapturedPart, Certainty, Point, Window, points, windows};
use lifeboat_model::{Mark, RunOutcome, SiteState, SourceName, Timestamp};
use serde_json::json;

use crate::args::PointsArgs;
use crate::only_here::OnlyHere;
use crate::open::Open;
use crate::output::{Align, Outcome, Output, Table, ago, bytes};
use crate::{CliError, Context, words};

pub fn run(args: &PointsArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let site = super::known_site(&open, &args.site).await?;
        // The newest run names every site, so that it alone tells how long the newest point held.
        let run = open.engine.repository.newest_runs(1).await?.pop();
        let seen = run.into_iter().flat_map(|run| run.sites).filter(|seen| {
            seen.site == args.site && matches!(seen.outcome, RunOutcome::Published | RunOutcome::Unchanged)
        });
        let seen: Vec<_> = seen.filter_map(|seen| Some((seen.snapshot?, seen.seen_at))).collect();
        let found = points(site.state(), &seen);

        let (now, output) = (Timestamp::now(), &context.output);
        tell_points(&found, args, context);
        let names: Vec<SourceName> = open.config.sources.iter().map(|source| source.name.clone()).collect();
        let parts = windows(&open.engine, &site, &names, Certainty::Whole).await?;
        for part in &parts {
            tell_windows(part, now, output);
            tell_only_here(part, &open, output);
        }
        let restorable = parts.iter().flat_map(|part| &part.windows).map(|window| window.till).max();
        tell_ends(site.state(), output);
        for left in site.keys_left().await? {
            let hint = format!("run `lifeboat shred {}` again, with a credential that may delete it", args.site);
            output
                .warn(&format!("the site is NOT erased yet, a key of it is still there: object=`{left}`"), Some(&hint));
        }
        let scans = found.iter().filter(|point| point.snapshot.is_scan).count();
        let good = found.iter().filter(|point| point.snapshot.mark == Mark::Good);
        let oldest = good.clone().map(|point| point.snapshot.cut_till).min();
        let newest = good.map(|point| point.unchanged_till.unwrap_or(point.snapshot.cut_till)).max();
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Ok(Outcome::ok()
            .with("site", args.site.as_str())
            .with("points", found.len() - scans)
            .with("scans", scans)
            .with("forgotten", site.state().forgotten.len())
            .with("oldest", text(oldest))
            .with("newest", text(newest))
            .with("captured_till", text(restorable)))
    })
}

fn tell_points(found: &[Point], args: &PointsArgs, context: &Context) {
    let (now, output) = (Timestamp::now(), &context.output);
    let mut table = Table::new(&[
        ("SNAPSHOT", Align::Left),
        ("TIME", Align::Left),
        ("AGE", Align::Left),
        ("MARK", Align::Left),
        ("STATE", Align::Left),
        ("SIZE", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for point in found {
        let mut object = words::snapshot(&point.snapshot);
        object["unchanged_till"] = point.unchanged_till.map(|till| till.to_string()).into();
        output.event("point", object);
    }
    let tells_all = context.global.verbose > 0;
    for run in found.chunk_by(|a, b| !tells_all && a.snapshot.is_scan && b.snapshot.is_scan) {
        let Some(point) = run.last() else { continue };
        let record = &point.snapshot;
        table.row([
            record.id.to_string(),
            record.cut_till.to_string(),
            ago(record.cut_till, now),
            if record.is_scan { "scan".into() } else { words::mark(record.mark).to_owned() },
            words::state(record.state).to_owned(),
            bytes(record.logical_bytes),
            note(point, run),
        ]);
    }
    if found.is_empty() {
        output.say(format!("{} has no point yet.", args.site));
    } else {
        table.lines().iter().for_each(|line| output.line(line));
    }
}

/// What is forgotten, held or erased of the site.
fn tell_ends(state: &SiteState, output: &Output) {
    for record in &state.forgotten {
        output.event("forgotten", words::snapshot(record));
        let till = record.forgotten.map_or_else(String::new, |mark| format!(", can be undeleted till {}", mark.till));
        output.line(format!("forgotten: {} of {}{till}", record.id, record.cut_till));
    }
    for hold in &state.holds {
        output.line(format!(
            "held since {}: {}: {} (hold {})",
            hold.placed_at,
            words::hold(hold.reason),
            hold.note,
            hold.id
        ));
    }
    if let Some(shredded) = state.shredded {
        output.line(format!("erased at {}: what was before has no point any more", shredded.at));
    }
}

/// What else there is to say of a point; a run of scans is told by its last one.
fn note(point: &Point, run: &[Point]) -> String {
    let record = &point.snapshot;
    match (record.mark, record.restore, point.unchanged_till) {
        _ if record.is_scan => {
            let sources: Vec<&str> = record.parts.iter().map(|part| part.source.as_str()).collect();
            let first = run.first().map(|first| first.snapshot.cut_till).filter(|_| run.len() > 1);
            let more =
                first.map_or_else(String::new, |first| format!(", the last of {} since {first} (-v)", run.len()));
            format!("files of {} alone{more}", sources.join(", "))
        }
        (Mark::Undo, Some(restore), _) => format!("undoes restore {restore}"),
        (Mark::Good, _, Some(till)) => format!("unchanged till {till}"),
        _ => record.mark_reason.clone().unwrap_or_default(),
    }
}

/// What is in no bucket yet.
fn tell_only_here(part: &CapturedPart, open: &Open, output: &Output) {
    let source = &part.source;
    match part.epochs.last().and_then(|seen| OnlyHere::of(open, source, seen)) {
        Some(Ok(only_here)) => {
            let mut object = only_here.to_json();
            object["source"] = source.as_str().into();
            output.event("only_here", object);
            output.line(format!("{source}: {}", only_here.text()));
        }
        Some(Err(reason)) => output.warn(&format!("{source}: {reason}"), None),
        None => {}
    }
}

/// From when to when a captured part can be put back to any moment, and why not in between.
fn tell_windows(part: &CapturedPart, now: Timestamp, output: &Output) {
    let source = &part.source;
    let mut till = None::<Timestamp>;
    for window in &part.windows {
        if let Some(gap_from) = till {
            let epoch = part.epochs.iter().find(|seen| seen.epoch.id == window.epoch);
            let is_within = part.windows.iter().any(|other| other.epoch == window.epoch && other.from < window.from);
            let (why, note) = match epoch {
                _ if is_within => ("unseen", "rows came or went without a change of their own, until the next base"),
                Some(seen) => (words::epoch_reason(seen.epoch.facts.why), seen.epoch.facts.note.as_str()),
                None => ("unknown", ""),
            };
            output.event(
                "gap",
                json!({
                    "source": source.as_str(), "from": gap_from.to_string(), "till": window.from.to_string(),
                    "reason": why, "note": note,
                }),
            );
            output.line(format!("{source}: a gap from {gap_from} to {}: {why}, {note}", window.from));
        }
        let Window { epoch, from, till: end, base } = window;
        output.event(
            "window",
            json!({
                "source": source.as_str(), "epoch": epoch.0, "from": from.to_string(), "till": end.to_string(),
                "base": base.to_string(),
            }),
        );
        output.line(format!("{source}: every moment from {from} to {end} (epoch {epoch})"));
        till = Some(*end);
    }
    let Some(newest) = part.epochs.last() else { return };
    if part.windows.last().is_none_or(|window| window.epoch != newest.epoch.id) {
        let (epoch, begun) = (newest.epoch.id, newest.epoch.facts.begun_at);
        output.line(format!(
            "{source}: no moment since {begun}: no base in epoch {epoch} yet, `lifeboat capture` takes one"
        ));
    } else if let Some((end, till)) = till.zip(newest.till).filter(|(end, till)| end < till) {
        output.line(format!(
            "{source}: no moment after {end}, though the log was complete {}: rows came or went unseen, \
             `lifeboat capture` takes a base",
            ago(till, now)
        ));
    } else if let Some(till) = newest.till {
        output.line(format!("{source}: the log was complete {}", ago(till, now)));
    }
}
