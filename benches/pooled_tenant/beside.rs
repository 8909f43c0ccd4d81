//! What people do today: the whole cluster is restored beside the live one, and the site's rows are
//! copied out of it and in again.
//!
//! Made beforehand and not measured: the base backup. Measured: copying it back (`cp -a`, or
//! pgBackRest with two processes), starting it, `COPY` out, `COPY` in with triggers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use lifeboat_testkit::postgres::{Postgres, site_name};

use crate::fleet::{Database, MEASURED, TABLES};
use crate::load::script;
use crate::report::{Report, Task};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

pub struct Beside<'c> {
    cluster: &'c Postgres,
    /// Of the server's user.
    base: PathBuf,
    beside: PathBuf,
    pgbackrest: Option<PathBuf>,
    scratch: PathBuf,
}

impl<'c> Beside<'c> {
    /// Takes the base backups.
    pub fn back_up(cluster: &'c Postgres, scratch: &Path) -> Outcome<Self> {
        let dir = cluster.dir();
        let mut beside = Self {
            cluster,
            base: dir.join("base"),
            beside: dir.join("beside"),
            pgbackrest: None,
            scratch: scratch.to_owned(),
        };
        let mut command = cluster.command("pg_basebackup");
        command.args(["-c", "fast", "-X", "stream", "-d", &cluster.socket_url("postgres"), "-D"]).arg(&beside.base);
        beside.run(&mut command)?;
        if Command::new("pgbackrest").arg("version").output().is_ok_and(|output| output.status.success()) {
            beside.pgbackrest = Some(beside.back_up_with_pgbackrest()?);
        }
        Ok(beside)
    }

    /// Of a copy that was started and stopped, so that it needs no archive.
    fn back_up_with_pgbackrest(&self) -> Outcome<PathBuf> {
        let repository = self.cluster.dir().join("pgbackrest");
        self.run(self.cluster.command("cp").arg("-a").args([&self.base, &self.beside]))?;
        self.start()?;
        self.stop()?;
        self.run(&mut self.pgbackrest(&repository, &["--no-online", "stanza-create"]))?;
        let backup = ["--no-online", "--type=full", "--compress-type=zst", "--process-max=2", "backup"];
        self.run(&mut self.pgbackrest(&repository, &backup))?;
        self.clear()?;
        Ok(repository)
    }

    fn pgbackrest(&self, repository: &Path, arguments: &[&str]) -> Command {
        let mut command = self.cluster.command("pgbackrest");
        command.arg("--stanza=bench").arg(format!("--repo1-path={}", repository.display()));
        command.arg(format!("--pg1-path={}", self.beside.display()));
        command.arg(format!("--lock-path={}", self.cluster.dir().display()));
        command.args(["--log-level-file=off", "--log-level-console=warn"]).args(arguments);
        command
    }

    /// Each way once.
    pub fn measure(&self, database: &Database<'_>, report: &mut Report) -> Outcome<()> {
        let whole = database.picture(MEASURED)?;
        let mut copy = self.cluster.command("cp");
        copy.arg("-a").args([&self.base, &self.beside]);
        let mut ways = vec![("pg_basebackup copied back", copy)];
        if let Some(repository) = &self.pgbackrest {
            ways.push((
                "pgbackrest restore",
                self.pgbackrest(repository, &["--type=none", "--process-max=2", "restore"]),
            ));
        }
        for (name, mut command) in ways {
            database.delete(MEASURED)?;
            if name.starts_with("pgbackrest") {
                self.run(self.cluster.command("mkdir").args(["-m", "700"]).arg(&self.beside))?;
            }
            rustix::fs::sync();
            let began = Instant::now();
            let restored = run(&mut command, &self.scratch)?.0;
            let files = began.elapsed().as_secs_f64();
            self.start()?;
            let started = began.elapsed().as_secs_f64();
            self.copy_rows(database)?;
            let wall_seconds = began.elapsed().as_secs_f64();
            println!(
                "{name}: files {files:.2} s, start {:.2} s, rows {:.2} s",
                started - files,
                wall_seconds - started
            );
            report.add(Task::Restore, name, Cost { wall_seconds, ..restored });
            self.stop()?;
            self.clear()?;
            database.expect_same(MEASURED, &whole)?;
        }
        Ok(())
    }

    /// Out of the cluster beside and into the live one.
    fn copy_rows(&self, database: &Database<'_>) -> Outcome<()> {
        let dir = self.cluster.dir();
        let site = format!("'{}'", site_name(MEASURED));
        let (mut out, mut files) = (String::new(), Vec::new());
        for (number, (table, condition)) in TABLES.iter().enumerate() {
            let file = dir.join(format!("beside-{number}"));
            let condition = condition.replace('$', &site);
            out.push_str(&format!("COPY (SELECT * FROM {table} WHERE {condition}) TO '{}';\n", file.display()));
            files.push(file);
        }
        let sql = dir.join("beside.sql");
        fs::write(&sql, out)?;
        let url = format!("host={} port=1 user=postgres dbname={}", dir.display(), database.name);
        self.run(self.cluster.command("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f"]).arg(&sql))?;
        fs::write(&sql, script(&files, "replica"))?;
        self.run(database.psql().arg("-f").arg(&sql))
    }

    /// On a socket alone, by a port that nobody else has there.
    fn start(&self) -> Outcome<()> {
        let mut start = self.cluster.command("pg_ctl");
        let options = "-c listen_addresses= -c port=1";
        start.args(["start", "-s", "-w", "-t", "600", "-o", options, "-D"]).arg(&self.beside);
        self.run(start.arg("-l").arg(self.cluster.dir().join("beside.log")))
    }

    fn stop(&self) -> Outcome<()> {
        self.run(self.cluster.command("pg_ctl").args(["stop", "-s", "-w", "-m", "fast", "-D"]).arg(&self.beside))
    }

    fn clear(&self) -> Outcome<()> {
        Ok(fs::remove_dir_all(&self.beside)?)
    }

    /// Removes everything; the space is wanted.
    pub fn remove(self) -> Outcome<()> {
        fs::remove_dir_all(&self.base)?;
        self.pgbackrest.map_or(Ok(()), |repository| Ok(fs::remove_dir_all(repository)?))
    }

    fn run(&self, command: &mut Command) -> Outcome<()> {
        run(command, &self.scratch).map(|_| ())
    }
}
