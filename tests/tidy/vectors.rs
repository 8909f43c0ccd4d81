//! Golden vectors: bytes that every later version must still read.
//!
//! `vectors.sha256` beside them lists each with its hash, as `sha256sum` writes it. A vector that
//! changed means that old repositories became unreadable, however good the reason.

use crate::sha256;
use crate::tree::{File, Tree};

const ROOT: &str = "tests/format/vectors/";
const LIST: &str = "vectors.sha256";

pub fn unchanged(tree: &Tree) -> Vec<String> {
    let versions: Vec<&str> = tree
        .files
        .iter()
        .filter_map(|file| Some(file.path.strip_prefix(ROOT)?.split_once('/')?.0))
        .fold(Vec::new(), |mut seen, version| {
            if !seen.contains(&version) {
                seen.push(version);
            }
            seen
        });
    if !versions.contains(&"v1") {
        return vec![format!("{ROOT}v1: no golden vectors: write one for every object kind, and list them in {LIST}")];
    }
    versions.into_iter().flat_map(|version| one_version(tree, &format!("{ROOT}{version}/"))).collect()
}

fn one_version(tree: &Tree, folder: &str) -> Vec<String> {
    let list = tree.text(&format!("{folder}{LIST}"));
    let mut faults = Vec::new();
    let mut listed = Vec::new();
    for (at, line) in list.lines().enumerate() {
        let Some((hash, name)) = line.split_once("  ") else {
            faults.push(format!("{folder}{LIST}:{}: not a line of `sha256sum`: <hash, two spaces, name>", at + 1));
            continue;
        };
        let name = name.trim_start_matches("./");
        listed.push(name);
        match tree.get(&format!("{folder}{name}")) {
            None => faults.push(format!(
                "{folder}{name}: a golden vector is gone: bring it back, old repositories hold such bytes"
            )),
            Some(file) if sha256::hex(&file.bytes) != hash => {
                faults.push(format!("{folder}{name}: the format changed: raise the version, keep this vector"))
            }
            Some(_) => {}
        }
    }
    let is_vector =
        |file: &&File| file.path.starts_with(folder) && file.name() != LIST && !file.name().ends_with(".md");
    for file in tree.files.iter().filter(is_vector) {
        let name = &file.path[folder.len()..];
        if !listed.contains(&name) {
            faults
                .push(format!("{}: not in {LIST}: add its line (`sha256sum {name} >> {LIST}` in {folder})", file.path));
        }
    }
    faults
}

#[test]
fn a_changed_missing_or_unlisted_vector_is_named() {
    let count = |files: &[(&str, &str)]| unchanged(&Tree::of(files)).len();
    let list = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  pack.bin\n";
    let (list_path, vector) = ("tests/format/vectors/v1/vectors.sha256", "tests/format/vectors/v1/pack.bin");
    assert_eq!(count(&[(list_path, list), (vector, "abc")]), 0);
    assert_eq!(count(&[(list_path, list), (vector, "abd")]), 1);
    assert_eq!(count(&[(list_path, list)]), 1);
    assert_eq!(count(&[(list_path, list), (vector, "abc"), ("tests/format/vectors/v1/new.bin", "x")]), 1);
    assert_eq!(count(&[(list_path, "nonsense\n"), (vector, "abc")]), 2);
    assert_eq!(count(&[]), 1);
}
