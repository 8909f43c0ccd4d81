//! What was wanted of a night, beside what came out. Only what was measured is told.

use lifeboat_bench::process::Cost;
use lifeboat_bench::target::Target;

use crate::Options;
use crate::report::{Kind, Report, Task, count};

const CPU_MS_MAX: f64 = 20.0;
const REQUESTS_MAX: f64 = 4.0;
const DAEMON_MB_MAX: f64 = 200.0;
const PRUNE_MB_MAX: f64 = 256.0;
/// What many sites may cost by what few do, each.
const SLOWER_MAX: f64 = 1.2;

pub fn of(report: &Report, options: &Options) -> Vec<Target> {
    report.kinds().into_iter().flat_map(|kind| of_kind(report, options, kind)).collect()
}

fn of_kind(report: &Report, options: &Options, kind: Kind) -> Vec<Target> {
    let (task, place, sites) = kind;
    if sites == options.few() {
        return Vec::new(); // what the others are compared with
    }
    let name = task.name(options);
    let peak = || report.spread(kind, |cost| cost.peak_bytes as f64 / 1e6).max;
    match task {
        Task::Unchanged | Task::Changed => {
            let cpu = report.spread(kind, |cost| cost.cpu_seconds() * 1e3 / sites as f64).median;
            let requests = report.requests_a_site(kind).median;
            vec![
                Target::at_most(format!("{name}, {place}: CPU ms a site"), CPU_MS_MAX, cpu),
                Target::at_most(format!("{name}, {place}: requests a site"), REQUESTS_MAX, requests),
            ]
        }
        Task::Daemon => vec![Target::at_most(format!("{name}, {place}: peak MB"), DAEMON_MB_MAX, peak())],
        Task::Sites | Task::Status | Task::Points | Task::Rebuild => {
            let few = options.few();
            let of = |sites: usize| if task.is_of_each_site() { sites as f64 } else { 1.0 };
            let ratio = report.ratio(kind, (task, place, few), wall).median * of(few) / of(sites);
            let each = if task.is_of_each_site() { "time a site" } else { "time" };
            let what = format!("{name}: {each}, of {} sites / of {}", count(sites), count(few));
            vec![Target::at_most(what, SLOWER_MAX, ratio)]
        }
        Task::LargeCondemn | Task::LargeDelete => {
            vec![Target::at_most(format!("{name}: peak MB"), PRUNE_MB_MAX, peak())]
        }
        _ => Vec::new(),
    }
}

fn wall(cost: &Cost) -> f64 {
    cost.wall_seconds
}
