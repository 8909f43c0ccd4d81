//! A whole fleet backed up, beside dumps of the same database on the same machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use lifeboat_testkit::postgres::site_name;

use crate::Options;
use crate::fleet::{Database, MEASURED};
use crate::ours::Lifeboat;
use crate::report::{Report, Task};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

/// At most: a whole dump takes long, and they differ little.
const ROUNDS_MAX: usize = 2;

pub fn measure(database: &Database<'_>, options: &Options, report: &mut Report) -> Outcome<()> {
    for number in 0..options.rounds.min(ROUNDS_MAX) {
        database.sql("CHECKPOINT")?;
        for (name, script) in DUMPS {
            let (cost, bytes) = dump(database, script, &options.dir)?;
            report.add(Task::FirstBackup, name, cost);
            report.stored(name, bytes);
        }
        let lifeboat = Lifeboat::init(database, &options.dir)?;
        report.add(Task::FirstBackup, "lifeboat", lifeboat.back_up_all()?);
        report.stored("lifeboat", lifeboat.stored_bytes()?);
        report.add(Task::UnchangedBackup, "lifeboat", lifeboat.back_up_all()?);
        if number == 0 {
            // One row of ten sites in a thousand.
            let sites: Vec<String> =
                (MEASURED..=database.shape.sites).step_by(100).map(|site| format!("'{}'", site_name(site))).collect();
            database.sql(&format!(
                "UPDATE issues SET title = title || '!' WHERE number = 1 AND site_id IN ({})",
                sites.join(", ")
            ))?;
            report.add(Task::NightBackup, "lifeboat", lifeboat.back_up_all()?);
        }
    }
    Ok(())
}

/// `$1` the program, `$2` the database, `$3` where to.
const DUMPS: [(&str, &str); 3] = [
    ("pg_dump -Fd -j2", r#"exec "$1" -Fd -j2 -f "$3" "$2""#),
    ("pg_dump -Fd -j2 -Z0", r#"exec "$1" -Fd -j2 -Z0 -f "$3" "$2""#),
    ("pg_dump -Fc -Z0 | zstd -3", r#""$1" -Fc -Z0 "$2" | zstd -q -3 -o "$3""#),
];

fn dump(database: &Database<'_>, script: &str, dir: &Path) -> Outcome<(Cost, u64)> {
    let to = dir.join("dump");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {script}"), "dump"]).arg(database.cluster.program("pg_dump"));
    command.arg(database.url()).arg(&to);
    let cost = run(&mut command, dir)?.0;
    if to.is_dir() {
        let bytes = fs::read_dir(&to)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<Outcome<u64>>()?;
        fs::remove_dir_all(&to)?;
        Ok((cost, bytes))
    } else {
        let bytes = fs::metadata(&to)?.len();
        fs::remove_file(&to)?;
        Ok((cost, bytes))
    }
}
