//! What was wanted, beside what came out.

use lifeboat_bench::process::Cost;
use lifeboat_bench::target::Target;
use lifeboat_repo::FetchLimits;

use crate::data::Site;
use crate::floors::{Copy, RangedReads};
use crate::ours::LIFEBOAT;
use crate::report::{Report, Task};

const MIX: Task = Task::Restore(Site::Mix);

/// The aims of a place, met or not; what was not measured says so.
pub fn of(report: &Report) -> Vec<Target> {
    match report.place {
        "directory" => directory(report),
        "s3" => s3(report),
        _ => far(report),
    }
}

fn directory(report: &Report) -> Vec<Target> {
    let (first, text) = (Task::FirstBackup(Site::Mix), Task::FirstBackup(Site::Text));
    let (one, many) = ((Task::Restore(Site::One), LIFEBOAT), (Task::Restore(Site::Many), LIFEBOAT));
    let mut aims = vec![
        Target::at_most("restore of the mix: wall / cp's", 1.0, ours_by(report, MIX, Copy::NAME, wall)),
        Target::at_least("restore of the mix: restic's wall / ours", 1.5, by_ours(report, MIX, "restic", wall)),
        Target::at_least("restore of the mix: rustic's wall / ours", 1.5, by_ours(report, MIX, "rustic", wall)),
        Target::at_least("restore of the mix: borg's wall / ours", 2.0, by_ours(report, MIX, "borg", wall)),
        Target::at_most("restore of the mix: user s a logical GB", 1.5, user_a_gigabyte(report)),
        Target::at_most("restore of the mix: peak MB", 128.0, peak(report)),
        Target::at_least("first backup of the mix: MB/s a core", 300.0, a_core(report, first)),
        Target::at_least("first backup of its text: MB/s a core", 220.0, a_core(report, text)),
        Target::at_least("first backup of the mix: restic's CPU / ours", 1.5, by_ours(report, first, "restic", cpu)),
        Target::at_least("first backup of the mix: rustic's CPU / ours", 1.5, by_ours(report, first, "rustic", cpu)),
        Target::at_most("one large file: wall / that of many of 1 MB", 1.1, report.ratio(one, many, wall).median),
    ];
    aims.extend(unchanged(report));
    aims
}

fn s3(report: &Report) -> Vec<Target> {
    let mut aims = vec![
        Target::at_least("restore of the mix: restic's wall / ours", 1.5, by_ours(report, MIX, "restic", wall)),
        Target::at_least("restore of the mix: rustic's wall / ours", 1.5, by_ours(report, MIX, "rustic", wall)),
        Target::at_least("restore of the mix: wall of GETs alone / ours", 0.8, of_reads_alone(report)),
        Target::at_most("restore of the mix: user s a logical GB", 1.5, user_a_gigabyte(report)),
        Target::at_most("restore of the mix: peak MB", 128.0, peak(report)),
    ];
    aims.extend(unchanged(report));
    aims
}

fn far(report: &Report) -> Vec<Target> {
    vec![
        Target::at_least("restore of the mix: of what client and link can", 0.9, of_the_link(report)),
        Target::at_least("restore of the mix: restic's wall / ours", 1.5, by_ours(report, MIX, "restic", wall)),
        Target::at_least("restore of the mix: rustic's wall / ours", 1.5, by_ours(report, MIX, "rustic", wall)),
        Target::at_most("restore of the mix: peak MB", 128.0, peak(report)),
    ]
}

fn unchanged(report: &Report) -> [Target; 2] {
    const UNCHANGED: Task = Task::UnchangedBackup(Site::Small);
    let requests = report.requests(UNCHANGED, LIFEBOAT).map_or(f64::NAN, |requests| requests as f64);
    [
        Target::at_most("unchanged small files: wall / restic's", 1.0, ours_by(report, UNCHANGED, "restic", wall)),
        Target::at_most("unchanged small files: requests", 4.0, requests),
    ]
}

/// Our stored bytes a second, beside the smaller of what the client reads without doing anything with it and what
/// the connections that a restore may have let through.
fn of_the_link(report: &Report) -> f64 {
    let Some(bytes) = report.bytes_read(MIX, RangedReads::NAME) else { return f64::NAN };
    let rate = |contender: &str| bytes as f64 / report.spread(MIX, contender, wall).median;
    let connections = FetchLimits::default().requests_max as f64;
    let link = report.bytes_per_second.map_or(f64::INFINITY, |rate| connections * rate as f64);
    rate(LIFEBOAT) / rate(RangedReads::NAME).min(link)
}

fn of_reads_alone(report: &Report) -> f64 {
    report.ratio((MIX, RangedReads::NAME), (MIX, LIFEBOAT), wall).median
}

fn ours_by(report: &Report, task: Task, other: &str, of: fn(&Cost) -> f64) -> f64 {
    report.ratio((task, LIFEBOAT), (task, other), of).median
}

fn by_ours(report: &Report, task: Task, other: &str, of: fn(&Cost) -> f64) -> f64 {
    report.ratio((task, other), (task, LIFEBOAT), of).median
}

fn user_a_gigabyte(report: &Report) -> f64 {
    report.spread(MIX, LIFEBOAT, |cost| cost.user_seconds).median / report.gigabytes(Site::Mix)
}

fn peak(report: &Report) -> f64 {
    report.spread(MIX, LIFEBOAT, |cost| cost.peak_bytes as f64 / 1e6).median
}

fn a_core(report: &Report, task: Task) -> f64 {
    let site = if task == Task::FirstBackup(Site::Text) { Site::Text } else { Site::Mix };
    report.gigabytes(site) * 1e3 / report.spread(task, LIFEBOAT, cpu).median
}

fn wall(cost: &Cost) -> f64 {
    cost.wall_seconds
}

fn cpu(cost: &Cost) -> f64 {
    cost.cpu_seconds()
}
