//! What this program does as a child of itself.
//!
//! The one that measures must stay small: the kernel cannot tell a child's peak memory apart from what
//! its parent holds when it starts it. And what is a contender must be a process, to be measured as one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lifeboat_bench::Outcome;
use lifeboat_bench::{Link, LinkOptions, tree};

use crate::data::{self, Site, Size};
use crate::{ranged, trees};

/// Tells an errand from options.
const ERRAND: &str = "--errand";
const COMPRESS_LEVEL: i32 = 3;
/// About what content-defined chunks have.
const COMPRESS_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// SITE SIZE LIVE PLAIN: makes the data.
    Make,
    /// DIR: reads all of it, and says how many bytes that were.
    Warm,
    /// DIR: empties large files.
    Shed,
    /// ORIGINAL RESTORED: fails unless they are equal.
    Compare,
    /// DIR: compression alone, by one thread and as our chunks are compressed.
    Compress,
    /// DIR SITE LIST: which reads a restore of the site makes, by the configuration in DIR.
    PlanReads,
    /// URL LIST: makes these reads and throws away what comes.
    Read,
    /// SERVER MILLISECONDS RATE: a link, until stdin ends; says its address.
    Link,
}

impl Errand {
    const ALL: [(Errand, &str); 8] = [
        (Errand::Make, "make"),
        (Errand::Warm, "warm"),
        (Errand::Shed, "shed"),
        (Errand::Compare, "compare"),
        (Errand::Compress, "compress"),
        (Errand::PlanReads, "plan-reads"),
        (Errand::Read, "read"),
        (Errand::Link, "link"),
    ];
}

/// This program on an errand.
pub fn command(errand: Errand, arguments: &[&(impl AsRef<OsStr> + ?Sized)]) -> Outcome<Command> {
    let (_, name) = Errand::ALL.iter().find(|(known, _)| *known == errand).ok_or("no such errand")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ERRAND, name]).args(arguments);
    Ok(command)
}

/// Sends it and waits: what it said.
pub fn send(errand: Errand, arguments: &[&(impl AsRef<OsStr> + ?Sized)]) -> Outcome<String> {
    let output = command(errand, arguments)?.output()?;
    if !output.status.success() {
        return Err(format!("{errand:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs the errand that the arguments name; `None`: they name none.
pub fn run(arguments: &[String]) -> Option<Outcome<()>> {
    let [first, name, arguments @ ..] = arguments else { return None };
    let (errand, _) = Errand::ALL.iter().find(|(_, known)| first == ERRAND && known == name)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Some(act(*errand, &arguments))
}

fn act(errand: Errand, arguments: &[&str]) -> Outcome<()> {
    match (errand, arguments) {
        (Errand::Make, [site, size, live, plain]) => {
            let site = Site::ALL.into_iter().find(|known| known.name() == *site).ok_or("no such site")?;
            let sizes = [Size::Test, Size::Quick, Size::Normal, Size::Full];
            let size = sizes.into_iter().find(|known| known.name() == *size).ok_or("no such size")?;
            data::make(site, size, (Path::new(live), Path::new(plain)))
        }
        (Errand::Warm, [dir]) => {
            println!("{}", trees::warm(Path::new(dir))?);
            Ok(())
        }
        (Errand::Shed, [dir]) => trees::shed(Path::new(dir)),
        (Errand::Compare, [original, restored]) => trees::expect_same(Path::new(original), Path::new(restored)),
        (Errand::Compress, [dir]) => compress(Path::new(dir)),
        (Errand::PlanReads, [dir, site, list]) => ranged::plan(Path::new(dir), site, Path::new(list)),
        (Errand::Read, [url, list]) => ranged::read(url, Path::new(list)),
        (Errand::Link, [server, milliseconds, rate]) => link(server.parse()?, milliseconds.parse()?, rate.parse()?),
        (errand, arguments) => Err(format!("{errand:?} takes other arguments: {arguments:?}").into()),
    }
}

fn compress(dir: &Path) -> Outcome<()> {
    let mut compressor = zstd::bulk::Compressor::new(COMPRESS_LEVEL)?;
    let (mut plain, mut packed) = (Vec::with_capacity(COMPRESS_BYTES), vec![0; 2 * COMPRESS_BYTES]);
    for path in tree::listing(dir)?.iter().filter(|path| path.is_file()) {
        let mut file = File::open(path)?;
        loop {
            plain.clear();
            if (&mut file).take(COMPRESS_BYTES as u64).read_to_end(&mut plain)? == 0 {
                break;
            }
            compressor.compress_to_buffer(&plain, &mut packed[..])?;
        }
    }
    Ok(())
}

fn link(server: SocketAddr, milliseconds: u64, rate: u64) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let round_trip = Duration::from_millis(milliseconds);
        let link = Link::to(server, LinkOptions { round_trip, bytes_per_second: (rate > 0).then_some(rate) }).await?;
        println!("{}", link.address());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}
