//! Lifeboat with a repository in a directory, all that it knows beside it, so that both can be kept and put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::fleet::{self, Database};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

pub const SOURCE: &str = "app";

pub struct Lifeboat {
    /// Everything of it.
    pub dir: PathBuf,
    /// What commands say.
    scratch: PathBuf,
    url: String,
}

impl Lifeboat {
    /// A new empty repository.
    pub fn init(database: &Database<'_>, dir: &Path) -> Outcome<Self> {
        let scratch = dir.join("said");
        let lifeboat = Self { dir: dir.join("lifeboat"), scratch, url: database.url() };
        fs::create_dir_all(&lifeboat.dir)?;
        fs::create_dir_all(&lifeboat.scratch)?;
        lifeboat.configure("5s", "8MiB")?;
        lifeboat.run(&["init"])?;
        Ok(lifeboat)
    }

    /// When segments are sealed.
    pub fn configure(&self, flush: &str, flush_bytes: &str) -> Outcome<()> {
        let config = format!(
            "[repository]\nurl = \"file://{}\"\nkey = \"file:lifeboat.key\"\n\n\
             [capture]\nflush = \"{flush}\"\nflush_bytes = \"{flush_bytes}\"\n\n\
             {}\
             [policy]\ncapture = true\n",
            self.repository().display(),
            fleet::SOURCE
        );
        Ok(fs::write(self.dir.join("lifeboat.toml"), config)?)
    }

    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// What this host remembers of the bucket; the routing index too.
    pub fn catalog(&self) -> PathBuf {
        self.dir.join("lifeboat.catalog")
    }

    /// Until caught up; gives what it says of the source.
    pub fn capture(&self) -> Outcome<(Cost, Value)> {
        let (cost, said) = self.run(&["capture", "--until-caught-up"])?;
        Ok((cost, said["sources"][0].clone()))
    }

    /// One that goes on.
    pub fn capturing(&self) -> Outcome<Child> {
        let mut command = self.command(&["capture"]);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    pub fn restore(&self, site: &str, at: &str) -> Outcome<Cost> {
        Ok(self.run(&["restore", site, "--at", at, "--yes"])?.0)
    }

    /// Runs a command to its end, and gives the last thing it says.
    pub fn run(&self, arguments: &[&str]) -> Outcome<(Cost, Value)> {
        let (cost, said) = run(&mut self.command(arguments), &self.scratch)?;
        Ok((cost, serde_json::from_str(said.lines().last().unwrap_or("null"))?))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(&self.dir).arg("--json").args(arguments).env("BENCH_URL", &self.url);
        command
    }
}
