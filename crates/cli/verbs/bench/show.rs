//! The result: a table, the JSON, the plot.

use std::fs;
use std::path::Path;

use lifeboat_bench::setting::Dimension;
use lifeboat_bench::statistics::Spread;
use lifeboat_bench::{Report, Summary};

use super::Begun;
use crate::output::{Align, Outcome, Table};
use crate::{CliError, Context};

/// A column: its head, and its cell for one line.
type Column = (&'static str, fn(&Summary) -> String);

const RATE: Column = ("MB/S", |one| spread(one.megabytes_per_second, 0));
const CORE_RATE: Column = ("MB/S A CORE", |one| median(one.megabytes_per_core_second, 0));
const CPU: Column = ("CPU-S/GB", |one| median(one.cpu_seconds_per_gigabyte, 2));
const PEAK: Column = ("PEAK MB", |one| format!("{:.0}", one.peak_bytes as f64 / 1e6));
const REQUESTS: Column = ("REQUESTS", |one| median(one.requests, 0));
const READ: Column = ("READ/NEEDED", |one| median(one.read_share, 2));
const SECONDS: Column = ("SECONDS", |one| spread(one.wall_seconds, 2));
const P50: Column = ("P50 S", |one| number(one.seconds_p50, 2));
const P95: Column = ("P95 S", |one| number(one.seconds_p95, 2));
const STORED: Column = ("STORED MB", |one| of(one, "stored_bytes", 1e6, 1));
const SITES: Column = ("SITES/HOUR", |one| median(one.sites_per_hour, 0));
const SINGLES: Column = ("WALL/SUM", |one| of(one, "wall_per_sum_of_singles", 1.0, 2));
const CORE: Column = ("% OF A CORE", |one| of(one, "core_percent", 1.0, 1));
const LAG: Column = ("LAG S", |one| of(one, "lag_seconds", 1.0, 1));
const WRITTEN: Column = ("WRITES/S", |one| of(one, "transactions_per_second", 1.0, 0));
const OBJECTS: Column = ("OBJECTS", |one| of(one, "objects", 1.0, 0));

fn columns(bench: &str) -> &'static [Column] {
    match bench {
        "restore" => &[RATE, CPU, PEAK, REQUESTS, READ, P50, P95],
        "backup" => &[RATE, CORE_RATE, PEAK, REQUESTS, STORED, SECONDS],
        "recover" => &[SITES, SECONDS, SINGLES, CPU, PEAK, P50, P95],
        _ => &[CORE, LAG, WRITTEN, OBJECTS, PEAK],
    }
}

/// Shows the report and writes its files.
pub fn write(report: &Report, begun: &Begun, context: &Context) -> Result<Outcome, CliError> {
    let whole = report.json();
    table(report).lines().iter().for_each(|line| context.output.line(line));
    let name = format!("{}-{}", report.about.bench, begun.name);
    fs::create_dir_all(&begun.out).map_err(|io| unwritten(&begun.out, &io))?;
    let (json, svg) = (begun.out.join(format!("{name}.json")), begun.out.join(format!("{name}.svg")));
    fs::write(&json, format!("{whole}\n")).map_err(|io| unwritten(&json, &io))?;
    fs::write(&svg, report.svg()).map_err(|io| unwritten(&svg, &io))?;
    context.output.line("");
    context.output.line(format!("Every run   {}", json.display()));
    context.output.line(format!("The plot    {}", svg.display()));
    context.output.event("bench", &whole);
    Ok(Outcome::ok()
        .with("bench", report.about.bench)
        .with("json", json.display().to_string())
        .with("svg", svg.display().to_string()))
}

fn unwritten(path: &Path, io: &std::io::Error) -> CliError {
    CliError::operator(format!("cannot write the result: path=`{}`, reason=`{io}`", path.display()))
        .with_hint("name a directory that can be written with --out")
}

/// A line for each task and setting; medians, with smallest and largest where there is room.
fn table(report: &Report) -> Table {
    let columns = columns(report.about.bench);
    let head: Vec<(&'static str, Align)> =
        std::iter::once(("TASK", Align::Left)).chain(columns.iter().map(|(name, _)| (*name, Align::Right))).collect();
    let swept: Vec<Dimension> = report.swept().into_iter().map(|(dimension, _)| dimension).collect();
    let cell_of = |(name, cell): &Column, summary: &Summary| match *name == PEAK.0 {
        // What this process held itself hides what is less.
        true if summary.peak_bytes <= report.runner_peak_bytes => format!("<{}", cell(summary)),
        _ => cell(summary),
    };
    let mut table = Table::new(&head);
    for summary in &report.summaries {
        let name = report.name(summary, &swept);
        table.row(std::iter::once(name).chain(columns.iter().map(|column| cell_of(column, summary))));
    }
    table
}

/// What was not measured is a dash.
fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "-".to_owned() }
}

fn median(spread: Spread, decimals: usize) -> String {
    number(spread.median, decimals)
}

fn spread(spread: Spread, decimals: usize) -> String {
    if spread.median.is_finite() { spread.show(decimals) } else { "-".to_owned() }
}

fn of(summary: &Summary, key: &str, unit: f64, decimals: usize) -> String {
    summary.numbers.get(key).map_or_else(|| "-".to_owned(), |spread| number(spread.median / unit, decimals))
}
