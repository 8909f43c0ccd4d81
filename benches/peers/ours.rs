//! Our own program.

use std::fs;
use std::path::Path;
use std::process::Command;

use lifeboat_bench::Outcome;
use lifeboat_bench::process::run;
use serde_json::Value;

use crate::contender::{At, Contender, Measured};
use crate::place::{self, Place};

pub const LIFEBOAT: &str = "Lifeboat";

/// With a repository of its own for each site, as the others have.
pub struct Lifeboat;

impl Contender for Lifeboat {
    fn name(&self) -> &'static str {
        LIFEBOAT
    }

    fn prepare(&self, at: &At<'_>) -> Outcome<()> {
        let dir = at.dir(LIFEBOAT)?;
        let url = match at.place {
            Place::Directory => format!("file://{}", dir.join("repository").display()),
            Place::S3(server) => server.url(&at.prefix("lifeboat")),
        };
        let srv = at.live().with_file_name("{site}");
        let config = format!(
            "[repository]\nurl = \"{url}\"\nkey = \"file:lifeboat.key\"\n\n\
             [sources.files]\nkind = \"files\"\npath = \"{}\"\n",
            srv.display()
        );
        fs::write(dir.join("lifeboat.toml"), config)?;
        fs::write(dir.join("url"), url)?;
        ours(&dir, &["init"]).map(|_| ())
    }

    fn backup(&self, at: &At<'_>) -> Outcome<Option<Measured>> {
        ours(&at.dir(LIFEBOAT)?, &["backup", at.site.name()]).map(Some)
    }

    fn restore(&self, at: &At<'_>) -> Outcome<Measured> {
        ours(&at.dir(LIFEBOAT)?, &["restore", at.site.name(), "--yes"])
    }
}

/// The same repository, restored with every file read back from the disk.
pub struct ReadBack;

impl Contender for ReadBack {
    fn name(&self) -> &'static str {
        "Lifeboat --verify read"
    }

    fn restore(&self, at: &At<'_>) -> Outcome<Measured> {
        ours(&at.dir(LIFEBOAT)?, &["restore", at.site.name(), "--yes", "--verify", "read"])
    }
}

fn ours(dir: &Path, arguments: &[&str]) -> Outcome<Measured> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    command.current_dir(dir).arg("--json").args(arguments).envs(place::credentials());
    let (cost, said) = run(&mut command, dir)?;
    Measured { cost, ..Measured::default() }.with_said(&said)
}

impl Measured {
    /// Takes over what a process said of its requests, as JSON in its last line.
    pub fn with_said(self, said: &str) -> Outcome<Self> {
        let done: Value = serde_json::from_str(said.lines().last().unwrap_or("{}"))?;
        let number = |key: &str| done.get(key).and_then(Value::as_u64);
        Ok(Self { requests: number("requests"), bytes_read: number("bytes_read"), ..self })
    }
}
