//! Lifeboat with a repository of its own for each database.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_testkit::postgres::site_name;

use crate::fleet::{Database, SOURCE};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

pub struct Lifeboat {
    dir: PathBuf,
    url: String,
}

impl Lifeboat {
    /// A new empty repository.
    pub fn init(database: &Database<'_>, dir: &Path) -> Outcome<Self> {
        let dir = dir.join(format!("lifeboat-{}", database.name));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let repository = dir.join("repository");
        let config = format!(
            "[repository]\nurl = \"file://{}\"\nkey = \"file:lifeboat.key\"\n\n\
             {SOURCE}",
            repository.display()
        );
        fs::write(dir.join("lifeboat.toml"), config)?;
        let lifeboat = Self { dir, url: database.url() };
        lifeboat.run(&["init"])?;
        Ok(lifeboat)
    }

    pub fn back_up_site(&self, site: u32) -> Outcome<Cost> {
        self.run(&["backup", &site_name(site)])
    }

    pub fn back_up_all(&self) -> Outcome<Cost> {
        self.run(&["backup", "--all"])
    }

    pub fn restore(&self, site: u32) -> Outcome<Cost> {
        self.run(&["restore", &site_name(site), "--yes"])
    }

    /// Bytes of the repository.
    pub fn stored_bytes(&self) -> Outcome<u64> {
        let mut sum = 0;
        let mut directories = vec![self.dir.join("repository")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                } else {
                    sum += entry.metadata()?.len();
                }
            }
        }
        Ok(sum)
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Cost> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(&self.dir).arg("--json").args(arguments).env("BENCH_URL", &self.url);
        Ok(run(&mut command, &self.dir)?.0)
    }
}
