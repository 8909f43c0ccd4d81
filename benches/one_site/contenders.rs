//! The programs that are measured: ours, restic, and `cp` as the floor of a restore.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::Value;

use crate::data::{fill, listing};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

/// Makes this program a compressor of the tree that follows.
pub const COMPRESS: &str = "--compress";
const COMPRESS_LEVEL: i32 = 3;
/// About what content-defined chunks have.
const COMPRESS_LEN: usize = 1 << 20;

/// What [`Round::compress`] runs.
pub fn compress_tree(dir: &Path) -> Outcome<()> {
    let mut compressor = zstd::bulk::Compressor::new(COMPRESS_LEVEL)?;
    let (mut plain, mut packed) = (vec![0; COMPRESS_LEN], vec![0; 2 * COMPRESS_LEN]);
    for path in listing(dir)?.iter().filter(|path| path.is_file()) {
        let mut file = File::open(path)?;
        loop {
            let len = fill(&mut file, &mut plain)?;
            if len == 0 {
                break;
            }
            compressor.compress_to_buffer(&plain[..len], &mut packed[..])?;
        }
    }
    Ok(())
}

/// Where a repository lies.
pub enum Place<'a> {
    Directory,
    S3(&'a S3Server),
}

/// One measured process.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub cost: Cost,
    /// What the store was asked, where the program says so.
    pub requests: Option<u64>,
    pub bytes_read: Option<u64>,
}

/// A round's own empty repositories and scratch files.
pub struct Round<'a> {
    pub dir: PathBuf,
    pub srv: PathBuf,
    pub number: usize,
    pub place: &'a Place<'a>,
}

impl Round<'_> {
    /// Empties the round's directory.
    pub fn begin(&self) -> Outcome<()> {
        let _ = fs::remove_dir_all(&self.dir);
        Ok(fs::create_dir_all(&self.dir)?)
    }

    /// Puts a site out of the way, as a bad script would delete it. It is deleted only when all is
    /// measured: for minutes after, ext4 looks at each inode that was freed before it makes a new file,
    /// and would make every restore pay for those before it.
    pub fn take_away(&self, live: &Path) -> Outcome<()> {
        let gone = self.srv.with_file_name("gone");
        fs::create_dir_all(&gone)?;
        let count = fs::read_dir(&gone)?.count();
        Ok(fs::rename(live, gone.join(count.to_string()))?)
    }

    /// Compression alone, by one thread and as our chunks are compressed: the floor of a first backup.
    pub fn compress(&self, site: &str) -> Outcome<Measured> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMPRESS).arg(self.srv.join(site));
        Ok(Measured { cost: run(&mut command, &self.dir)?.0, ..Measured::default() })
    }

    /// `cp -a` of the plain tree, made durable: a restore without packs, checks and a plan.
    pub fn copy(&self, from: &Path, to: &Path) -> Outcome<Measured> {
        let mut command = Command::new("sh");
        command.args(["-c", r#"cp -a "$1" "$2" && sync -f "$2""#, "copy"]).args([from, to]);
        Ok(Measured { cost: run(&mut command, &self.dir)?.0, ..Measured::default() })
    }
}

/// Our own program with a repository of its own.
pub struct Lifeboat<'a> {
    round: &'a Round<'a>,
}

impl<'a> Lifeboat<'a> {
    pub fn init(round: &'a Round<'a>) -> Outcome<Self> {
        let repository = match round.place {
            Place::Directory => format!("file://{}", round.dir.join("lifeboat").display()),
            Place::S3(server) => {
                let bucket = format!("lifeboat-{}", round.number);
                server.create_bucket(&bucket)?;
                server.url(&bucket)
            }
        };
        let srv = round.srv.display();
        let config = format!(
            "[repository]\nurl = \"{repository}\"\nkey = \"file:lifeboat.key\"\n\n\
             [sources.files]\nkind = \"files\"\npath = \"{srv}/{{site}}\"\n"
        );
        fs::write(round.dir.join("lifeboat.toml"), config)?;
        let lifeboat = Self { round };
        lifeboat.run(&["init"])?;
        Ok(lifeboat)
    }

    pub fn backup(&self, site: &str) -> Outcome<Measured> {
        self.run(&["backup", site])
    }

    pub fn restore(&self, site: &str, options: &[&str]) -> Outcome<Measured> {
        self.run(&[&["restore", site, "--yes"], options].concat())
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Measured> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(&self.round.dir).arg("--json").args(arguments);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let (cost, said) = run(&mut command, &self.round.dir)?;
        let done: Value = serde_json::from_str(said.lines().last().unwrap_or("{}"))?;
        let number = |key: &str| done.get(key).and_then(Value::as_u64);
        Ok(Measured { cost, requests: number("requests"), bytes_read: number("bytes_read") })
    }
}

/// restic with a repository of its own for each site: it would find one site's chunks in another's.
pub struct Restic<'a> {
    program: &'a Path,
    round: &'a Round<'a>,
    site: &'a str,
}

impl<'a> Restic<'a> {
    pub fn init(program: &'a Path, round: &'a Round<'a>, site: &'a str) -> Outcome<Self> {
        if let Place::S3(server) = round.place {
            server.create_bucket(&format!("restic-{site}-{}", round.number))?;
        }
        let restic = Self { program, round, site };
        restic.run(&["init"])?;
        Ok(restic)
    }

    /// What every one of its processes takes before it works: the key from the password, above all.
    pub fn start(&self) -> Outcome<Cost> {
        Ok(self.run(&["cat", "config"])?.cost)
    }

    pub fn backup(&self) -> Outcome<Measured> {
        self.run(&["backup", &self.live()])
    }

    /// Into the place it came from, made durable as our own restore is.
    pub fn restore(&self) -> Outcome<Measured> {
        let live = self.live();
        let mut command = Command::new("sh");
        command.args(["-c", r#""$1" restore "latest:$2" --target "$2" && sync -f "$2""#, "restore"]);
        command.arg(self.program).arg(&live);
        self.measure(&mut command)
    }

    fn live(&self) -> String {
        self.round.srv.join(self.site).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Measured> {
        self.measure(Command::new(self.program).args(arguments))
    }

    fn measure(&self, command: &mut Command) -> Outcome<Measured> {
        let name = format!("restic-{}", self.site);
        let repository = match self.round.place {
            Place::Directory => self.round.dir.join(&name).display().to_string(),
            Place::S3(server) => format!("s3:{}/{name}-{}", server.endpoint(), self.round.number),
        };
        command.env("RESTIC_REPOSITORY", repository).env("RESTIC_PASSWORD", "bench");
        command.env("RESTIC_CACHE_DIR", self.round.dir.join("restic-cache"));
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Ok(Measured { cost: run(command, &self.round.dir)?.0, ..Measured::default() })
    }
}

/// `$RESTIC`, or what the path has, with its version.
pub fn find_restic() -> Option<(PathBuf, String)> {
    let program = PathBuf::from(std::env::var_os("RESTIC").unwrap_or_else(|| "restic".into()));
    let output = Command::new(&program).arg("version").output().ok().filter(|output| output.status.success())?;
    let version = String::from_utf8_lossy(&output.stdout).split(' ').take(2).collect::<Vec<_>>().join(" ");
    Some((program, version))
}
