//! `lifeboat points SITE`: every point the site can be put back to, oldest first.

use lifeboat_engine::points;
use lifeboat_model::{Mark, RunOutcome, Timestamp};

use crate::args::PointsArgs;
use crate::output::{Align, Outcome, Table, ago, bytes};
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
        let mut table = Table::new(&[
            ("SNAPSHOT", Align::Left),
            ("TIME", Align::Left),
            ("AGE", Align::Left),
            ("MARK", Align::Left),
            ("STATE", Align::Left),
            ("SIZE", Align::Right),
            ("NOTE", Align::Left),
        ]);
        for point in &found {
            let record = &point.snapshot;
            let mut object = words::snapshot(record);
            object["unchanged_till"] = point.unchanged_till.map(|till| till.to_string()).into();
            output.event("point", object);
            let note = match (record.mark, record.restore, point.unchanged_till) {
                (Mark::Undo, Some(restore), _) => format!("undoes restore {restore}"),
                (Mark::Good, _, Some(till)) => format!("unchanged till {till}"),
                _ => record.mark_reason.clone().unwrap_or_default(),
            };
            table.row([
                record.id.to_string(),
                record.cut_till.to_string(),
                ago(record.cut_till, now),
                words::mark(record.mark).to_owned(),
                words::state(record.state).to_owned(),
                bytes(record.logical_bytes),
                note,
            ]);
        }
        if found.is_empty() {
            output.say(format!("{} has no point yet.", args.site));
        } else {
            table.lines().iter().for_each(|line| output.line(line));
        }
        for hold in &site.state().holds {
            output.line(format!("held since {}: {}: {}", hold.placed_at, words::hold(hold.reason), hold.note));
        }
        let good = found.iter().filter(|point| point.snapshot.mark == Mark::Good);
        let oldest = good.clone().map(|point| point.snapshot.cut_till).min();
        let newest = good.map(|point| point.unchanged_till.unwrap_or(point.snapshot.cut_till)).max();
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Ok(Outcome::ok()
            .with("site", args.site.as_str())
            .with("points", found.len())
            .with("oldest", text(oldest))
            .with("newest", text(newest)))
    })
}
