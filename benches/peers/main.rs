//! The same data through Lifeboat, restic, rustic, borg and `cp -a`, in turns, in one run: first backups, a
//! backup of what has not changed, restores of what was deleted.
//!
//! ```console
//! $ benches/peers/install                                              # the other programs, into target/peers
//! $ cargo bench --bench peers                                          # repositories in a directory
//! $ cargo bench --bench peers -- --s3 --rounds 5                       # in SeaweedFS on loopback
//! $ cargo bench --bench peers -- --s3 --delay 50ms --rate 85MB         # the same far away
//! $ cargo bench --bench peers -- --only restore --quick                # does it work?
//! ```
//!
//! `LIFEBOAT_PEERS` names a directory of the other programs (default `target/peers`); `LIFEBOAT_BENCH_DIR` where
//! the data lies (default `target/bench`): 25 GB for five rounds. Every run of every program goes to
//! `benches/results/peers-<place>.json`. Without `--bench`, as `cargo test --benches` runs it, tiny sites show that
//! the bench works.
//!
//! What is not here: tenants of a PostgreSQL beside `pg_basebackup`, `pg_dump` and pgBackRest
//! (`benches/pooled_tenant`), requests one after another (`benches/many_sites`).

#![allow(clippy::print_stdout)]

mod aims;
mod contender;
mod data;
mod dialects;
mod errands;
mod floors;
mod options;
mod ours;
mod peer;
mod place;
mod ranged;
mod report;
mod rounds;
mod trees;

use std::fs;

use lifeboat_bench::{Outcome, machine};

use contender::{At, Contender, Round};
use data::Site;
use dialects::{Borg, Restic, Rustic};
use errands::Errand;
use floors::{Compression, Copy, RangedReads};
use options::{Leg, Options};
use ours::{Lifeboat, ReadBack};
use peer::{Dialect, Peer};
use place::Place;
use report::Report;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ran) = errands::run(&arguments) {
        return ran;
    }
    let mut options = Options::read(&arguments)?;
    fs::create_dir_all(&options.data)?;
    options.data = fs::canonicalize(&options.data)?;
    let mut report = Report::new(&options);
    let peers = find_peers(&options, &mut report);
    for number in 0..options.rounds {
        one_round(&options, number, &peers, &mut report)?;
        println!("round {} of {}: load average {}", number + 1, options.rounds, machine::load_average());
    }
    for done in ["round", "gone"] {
        let _ = fs::remove_dir_all(options.data.join(done));
    }
    report.print();
    report.write()
}

/// The other programs that are installed; of those that are not the report says so.
fn find_peers(options: &Options, report: &mut Report) -> Vec<Peer> {
    if !options.has_peers() {
        return Vec::new();
    }
    let dialects: [Box<dyn Dialect>; 3] = [Box::new(Restic), Box::new(Rustic), Box::new(Borg)];
    let mut peers = Vec::new();
    for dialect in dialects {
        if options.without.iter().any(|name| name == dialect.name()) {
            report.note(format!("{}: left out, as was asked", dialect.name()));
            continue;
        }
        match Peer::find(dialect) {
            Ok(peer) => {
                report.note(peer.describe());
                peers.push(peer);
            }
            Err(name) => report.note(format!("{name}: not found (`benches/peers/install` installs it)")),
        }
    }
    peers
}

fn one_round(options: &Options, number: usize, peers: &[Peer], report: &mut Report) -> Outcome<()> {
    let place = Place::start(options.is_s3, options.distance)?;
    let round = Round { data: &options.data, dir: options.data.join("round"), number };
    round.begin()?;
    let mut are_started = false;
    for leg in options.legs() {
        let at = At { round: &round, site: leg.site, place: &place };
        make(options, &at)?;
        let contenders = taking_part(peers, leg, &place, report);
        if !leg.ours_alone && !std::mem::replace(&mut are_started, true) {
            rounds::starts(&at, &contenders, report)?;
        }
        let measured = rounds::leg(&at, &contenders, leg, report);
        if measured.is_err() {
            // The live site may be gone, or be half restored.
            data::spoil(&at.live());
        }
        measured?;
    }
    Ok(())
}

fn make(options: &Options, at: &At<'_>) -> Outcome<()> {
    let (live, original) = (at.live(), at.original());
    let (site, size) = (at.site.name().as_ref(), options.size.name().as_ref());
    errands::send(Errand::Make, &[site, size, live.as_os_str(), original.as_os_str()]).map(|_| ())
}

fn taking_part<'a>(peers: &'a [Peer], leg: Leg, place: &Place, report: &mut Report) -> Vec<&'a dyn Contender> {
    let is_mix = leg.site == Site::Mix;
    let mut all: Vec<&dyn Contender> = vec![&Lifeboat];
    if !leg.ours_alone {
        all.extend(peers.iter().map(|peer| peer as &dyn Contender));
    }
    if leg.first && (is_mix || leg.site == Site::Text) {
        all.push(&Compression);
    }
    if leg.restore {
        all.extend([&Copy as &dyn Contender, &RangedReads]);
        all.extend(is_mix.then_some(&ReadBack as &dyn Contender));
    }
    all.retain(|contender| match contender.left_out(place) {
        Some(why) => {
            report.note(format!("{}: left out, {why}", contender.name()));
            false
        }
        None => true,
    });
    all
}
