//! Measured restores of a program that is made up: an honest one is measured, any other is found out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::fleet::{Data, Shape, Skew};
use crate::session::Tell;
use crate::setting::combine;
use crate::{Place, Places, Work};

struct Deaf;

impl Tell for Deaf {
    fn begin(&self, _: u64) {}
    fn doing(&self, _: &str) {}
    fn step(&self) {}
    fn turn(&self, _: &Turn) {}
}

/// A program that backs up by saying so and restores by copying; `then` is what it does to the site `$5` in `$live` after.
fn program(dir: &Path, then: &str) -> std::path::PathBuf {
    let script = format!(
        r#"#!/bin/sh
live=$(sed -n 's/^path = "\(.*\)\/{{site}}"$/\1/p' "$2")
case $4 in
backup) for site in "$live"/*; do echo "{{\"event\":\"site\",\"site\":\"${{site##*/}}\",\"bytes\":9000,\"added_bytes\":50}}"; done ;;
restore) cp -a "$live/../plain/$5" "$live/$5"; {then} ;;
esac
echo '{{"event":"done","requests":3,"bytes_read":60}}'
"#
    );
    let path = dir.join("program");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run<T>(then: &str, bench: impl FnOnce(&Session<'_>, Source, Vec<Setting>) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path(), then);
    let work = Work::make(dir.path(), "work", (1, false)).unwrap();
    let near = Place::below(&format!("file://{}", dir.path().display()), "repository").unwrap();
    let (places, stop) = (Places { near, far: BTreeMap::new() }, AtomicBool::new(false));
    let session = Session { program: &program, work: &work, places: &places, rounds: 2, stop: &stop, tell: &Deaf };
    let shape = Shape { sites: 0, bytes: 40_000, data: Data::Text, skew: Skew::Equal, seed: 1 };
    let settings = combine(&[(Dimension::Sites, vec![4]), (Dimension::Workers, vec![1, 2])]);
    bench(&session, Source::Made(shape), settings)
}

fn restore_by(then: &str, sample: Option<usize>) -> Result<Measured, Error> {
    run(then, |session, source, settings| {
        restore(session, &RestoreRequest { source, settings, sample, has_floor: true })
    })
}

#[test]
fn settings_are_measured_in_turns_and_the_floor_once_a_round() {
    let measured = restore_by("", Some(2)).unwrap();
    let workers = |turn: &Turn| turn.setting.get(Dimension::Workers).unwrap_or(0);
    let order: Vec<(usize, u64)> = measured.turns.iter().map(|turn| (turn.round, workers(turn))).collect();
    assert_eq!(order, [(0, 1), (0, 2), (0, 0), (1, 2), (1, 1), (1, 0)], "each round begins with another setting");
    let sites = |turn: &Turn| turn.runs.iter().filter_map(|run| run.site.clone()).collect::<Vec<_>>();
    for turn in &measured.turns {
        assert_eq!(sites(turn), ["site-00000", "site-00002"], "the sample is the same for all");
    }
    let run = &measured.turns[0].runs[0];
    assert_eq!((run.requests, run.bytes_read, run.bytes_needed), (Some(3), Some(60), Some(50)));
    assert_eq!(measured.fleets[0]["stored_bytes"], 200);
}

#[test]
fn a_site_that_comes_back_otherwise_is_no_measurement() {
    let check = |then: &str| {
        let measured = restore_by(then, None);
        assert!(matches!(measured, Err(Error::Differs { .. })), "{then}: {measured:?}");
    };
    check("rm \"$live/$5/rows/rows-0.jsonl\"");
    check("echo >> \"$live/$5/rows/rows-0.jsonl\"");
    check("touch \"$live/$5/rows\"");
    check("touch \"$live/$5/more\"");
    let measured = restore_by("rm -r \"$live/$5\"", None);
    assert!(matches!(measured, Err(Error::Disk { .. })), "{measured:?}");
}

#[test]
fn what_is_lost_is_chosen_by_the_seed_and_comes_back_both_ways() {
    let request = |source, settings| RecoverRequest { source, settings, lost: 3, parallel: 2 };
    let measured = run("", |session, source, settings| recover(session, &request(source, settings))).unwrap();
    let mut lost: Vec<Vec<String>> = Vec::new();
    for turn in &measured.turns {
        let mut sites: Vec<String> = turn.runs.iter().filter_map(|run| run.site.clone()).collect();
        sites.sort();
        lost.push(sites);
    }
    assert_eq!(measured.turns.len(), 8, "two rounds of two settings, one after another and at once");
    assert!(lost.iter().all(|sites| sites.len() == 3 && *sites == lost[0]), "{lost:?}");
    let failed =
        run("touch \"$live/$5/more\"", |session, source, settings| recover(session, &request(source, settings)));
    assert!(matches!(failed, Err(Error::Differs { .. })), "{failed:?}");
}
