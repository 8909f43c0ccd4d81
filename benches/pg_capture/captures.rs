//! The backlog, followed from its beginning to its end by us and by `pg_recvlogical`, in turns.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lifeboat_testkit::postgres::query_text;

use crate::Options;
use crate::fleet::Database;
use crate::ours::{Lifeboat, SOURCE};
use crate::report::{Report, Task};
use crate::work::CHANGES;
use lifeboat_bench::process::{Cost, run};
use lifeboat_bench::{Outcome, machine};

const KEPT_SLOT: &str = "bench_kept";
const THEIR_SLOT: &str = "bench_recvlogical";

/// Where everything was before the backlog.
pub struct Kept<'c> {
    pub database: &'c Database<'c>,
    pub lifeboat: &'c Lifeboat,
    slot: String,
    copy: PathBuf,
}

impl<'c> Kept<'c> {
    pub fn keep(database: &'c Database<'c>, lifeboat: &'c Lifeboat) -> Outcome<Self> {
        let rows = query_text(&database.url(), "SELECT slot_name FROM pg_replication_slots")?;
        let slot = rows.into_iter().flatten().flatten().next().ok_or("the capture has made no slot")?;
        let copy = lifeboat.dir.with_extension("kept");
        let kept = Self { database, lifeboat, slot, copy };
        kept.copy_slot(&kept.slot, KEPT_SLOT)?;
        command("cp", &["-a"], &[&lifeboat.dir, &kept.copy])?;
        Ok(kept)
    }

    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Makes it as if nothing had been captured of the backlog.
    pub fn put_back(&self) -> Outcome<()> {
        self.drop_slot(&self.slot)?;
        self.copy_slot(KEPT_SLOT, &self.slot)?;
        fs::remove_dir_all(&self.lifeboat.dir)?;
        command("cp", &["-a"], &[&self.copy, &self.lifeboat.dir])
    }

    fn copy_slot(&self, from: &str, to: &str) -> Outcome<()> {
        self.database.sql(&format!("SELECT pg_copy_logical_replication_slot('{from}', '{to}')"))
    }

    /// The server may take a moment to see that whoever followed it is gone.
    fn drop_slot(&self, slot: &str) -> Outcome<()> {
        let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
        for _ in 0..100 {
            if self.database.sql(&drop).is_ok() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        self.database.sql(&drop)
    }

    /// By us; all changes have come, and each is somebody's.
    fn follow(&self, changes: u64) -> Outcome<Cost> {
        self.put_back()?;
        let (cost, said) = self.lifeboat.capture()?;
        if said["changes"] != changes || said["unrouted"] != 0 || !said["epoch_begun"].is_null() {
            return Err(format!("captured otherwise than {changes} changes: {said}").into());
        }
        Ok(cost)
    }

    /// By PostgreSQL's own client, to nowhere: the same plugin, publications and options.
    fn receive(&self, end: &str, options: &Options) -> Outcome<Cost> {
        self.copy_slot(KEPT_SLOT, THEIR_SLOT)?;
        let cluster = self.database.cluster;
        let mut receive = cluster.command("pg_recvlogical");
        receive.args(["-d", &cluster.socket_url(self.database.name), "-S", THEIR_SLOT, "--start", "--no-loop"]);
        receive.args(["-f", "/dev/null", "-F", "0", "--endpos", end, "-o", "proto_version=1", "-o", "messages=true"]);
        receive.args(["-o", &format!("publication_names={0},{0}_inserts", self.slot)]);
        let cost = run(&mut receive, &options.dir)?.0;
        self.drop_slot(THEIR_SLOT)?;
        Ok(cost)
    }
}

pub fn measure(kept: &Kept<'_>, options: &Options, report: &mut Report) -> Outcome<()> {
    let url = kept.database.url();
    let text = |sql: &str| -> Outcome<String> {
        Ok(query_text(&url, sql)?.into_iter().flatten().flatten().next().ok_or("no answer")?)
    };
    let end = text("SELECT pg_current_wal_insert_lsn()")?;
    // It stops at the first message that is not before the end.
    text(&format!("SELECT pg_logical_emit_message(true, '{SOURCE}', 'end')"))?;
    for number in 0..options.rounds {
        report.add(Task::Capture, "lifeboat", kept.follow(options.transactions * CHANGES)?);
        report.add(Task::Capture, "pg_recvlogical", kept.receive(&end, options)?);
        println!("round {} of {}: load average {}", number + 1, options.rounds, machine::load_average());
    }
    Ok(())
}

fn command(program: &str, arguments: &[&str], paths: &[&PathBuf]) -> Outcome<()> {
    let status = Command::new(program).args(arguments).args(paths).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
}
