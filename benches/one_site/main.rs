//! One site of about 1 GB: first backup, unchanged backup, restore of the deleted site in place;
//! ours, restic's and `cp -a`, in turns in one run, each process measured as a whole.
//!
//! ```console
//! $ cargo bench --bench one_site                        # a repository in a directory
//! $ cargo bench --bench one_site -- --s3 --rounds 5     # in SeaweedFS on loopback
//! ```
//!
//! `RESTIC` names the restic to compare with; `LIFEBOAT_BENCH_DIR` where the data lies (default
//! `target/bench`): 6 GB, and 4 GB more for each round. Without `--bench`, as `cargo test --benches` runs it, a tiny site shows
//! that the bench works.

#![allow(clippy::print_stdout)]

mod contenders;
mod data;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_testkit::s3_server::S3Server;

use contenders::{Lifeboat, Place, Restic, Round, find_restic};
use data::Shape;
use lifeboat_bench::Outcome;
use report::{Report, Task};

struct Options {
    shape: Shape,
    rounds: usize,
    s3: bool,
    dir: PathBuf,
    restic: Option<(PathBuf, String)>,
}

fn main() -> Outcome<()> {
    if let [_, compress, dir] = &std::env::args().collect::<Vec<_>>()[..]
        && compress == contenders::COMPRESS
    {
        return contenders::compress_tree(Path::new(dir));
    }
    let options = options()?;
    let srv = options.dir.join("srv");
    let plain = options.dir.join("plain");
    data::make(&srv, &plain, options.shape)?;

    let place = if options.s3 { "s3" } else { "directory" };
    let mut report = Report::new(&options.dir, place, options.restic.as_ref().map(|(_, version)| version.as_str()))?;
    for site in ["mix", "text"] {
        report.sized(site, data::bytes_of(&srv.join(site))?);
    }
    for number in 0..options.rounds {
        // A server of its own for each round: SeaweedFS gives each bucket volumes, until none are left.
        let server = if options.s3 { Some(S3Server::start()?) } else { None };
        let place = server.as_ref().map_or(Place::Directory, Place::S3);
        let round = Round { dir: options.dir.join("round"), srv: srv.clone(), number, place: &place };
        round.begin()?;
        let measured = one_round(&round, &plain, options.restic.as_ref().map(|(path, _)| path.as_path()), &mut report);
        if measured.is_err() {
            // The live site may be gone, or be half restored: the next run makes it again.
            let _ = fs::remove_file(srv.with_extension("done"));
        }
        measured?;
        println!(
            "round {} of {}: load average {}",
            number + 1,
            options.rounds,
            lifeboat_bench::machine::load_average()
        );
    }
    for done in ["round", "gone"] {
        let _ = fs::remove_dir_all(options.dir.join(done));
    }
    report.print();
    report.write()
}

fn options() -> Outcome<Options> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let is_bench = has("--bench");
    let rounds = match arguments.iter().position(|argument| argument == "--rounds") {
        Some(at) => arguments.get(at + 1).ok_or("--rounds wants a number")?.parse()?,
        None => 5,
    };
    let dir = match std::env::var_os("LIFEBOAT_BENCH_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench"),
    };
    let dir = if is_bench { dir } else { dir.join("tiny") };
    fs::create_dir_all(&dir)?;
    Ok(Options {
        shape: if is_bench { Shape::FULL } else { Shape::TINY },
        rounds: if is_bench { rounds } else { 1 },
        s3: has("--s3"),
        dir: fs::canonicalize(dir)?,
        restic: find_restic().filter(|_| is_bench),
    })
}

/// Every contender once, and a check of everything that was restored.
fn one_round(round: &Round<'_>, plain: &Path, restic: Option<&Path>, report: &mut Report) -> Outcome<()> {
    let (live, original) = (round.srv.join("mix"), plain.join("mix"));

    round.take_away(&live)?;
    report.add(Task::Restore, "cp -a", round.copy(&original, &live)?);

    report.add(Task::FirstBackupText, "zstd -3 alone", round.compress("text")?);
    report.add(Task::FirstBackup, "zstd -3 alone", round.compress("mix")?);

    let lifeboat = Lifeboat::init(round)?;
    report.add(Task::FirstBackupText, "lifeboat", lifeboat.backup("text")?);
    report.add(Task::FirstBackup, "lifeboat", lifeboat.backup("mix")?);
    report.add(Task::UnchangedBackup, "lifeboat", lifeboat.backup("mix")?);
    for (name, options) in [("lifeboat", &[][..]), ("lifeboat --verify read", &["--verify", "read"])] {
        round.take_away(&live)?;
        report.add(Task::Restore, name, lifeboat.restore("mix", options)?);
        data::expect_same(&original, &live)?;
    }

    let Some(program) = restic else { return Ok(()) };
    let text = Restic::init(program, round, "text")?;
    report.start(text.start()?);
    report.add(Task::FirstBackupText, "restic", text.backup()?);
    let mix = Restic::init(program, round, "mix")?;
    report.start(mix.start()?);
    report.add(Task::FirstBackup, "restic", mix.backup()?);
    report.add(Task::UnchangedBackup, "restic", mix.backup()?);
    round.take_away(&live)?;
    report.add(Task::Restore, "restic", mix.restore()?);
    data::settle_root(&original, &live)?;
    data::expect_same(&original, &live)
}
