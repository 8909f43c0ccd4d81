//! Named invariants: each is stated once where it is kept, and explained by exactly one test.
//!
//! Stated in a doc comment (`Invariant`, the name in brackets, a colon); explained by a comment
//! line (`Explains`, the word invariant, a colon, the name) directly above the test.

use crate::tree::{File, Tree};

const EXPLAINS: &str = "// Explains invariant: ";

/// A name and where it stands.
struct Place<'a> {
    name: &'a str,
    path: &'a str,
    line: usize,
}

/// What a doc comment states on this line.
fn stated(line: &str) -> Option<&str> {
    let doc = line.trim_start().strip_prefix("//!").or_else(|| line.trim_start().strip_prefix("///"))?;
    let (name, _) = doc.trim_start().strip_prefix("Invariant (")?.split_once("):")?;
    Some(name)
}

/// What the comment on this line says the next test explains.
fn explains(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix(EXPLAINS).map(|name| name.trim_end().trim_end_matches('.'))
}

/// Whether a test begins after line `at`, behind nothing but comments and attributes.
fn is_above_a_test(lines: &[&str], at: usize) -> bool {
    let above = lines[at + 1..].iter().take_while(|line| !line.contains("fn "));
    let mut is_test = false;
    for line in above.map(|line| line.trim()) {
        if !line.starts_with("//") && !line.starts_with("#[") && !line.ends_with(")]") {
            return false;
        }
        is_test |= line.starts_with("#[") && line.contains("test");
    }
    is_test
}

fn places<'a>(tree: &'a Tree, of: impl Fn(&'a str) -> Option<&'a str>) -> Vec<Place<'a>> {
    let ours = |file: &&'a File| file.is_rust() && !file.path.starts_with("tests/tidy/");
    let mut found = Vec::new();
    for file in tree.files.iter().filter(ours) {
        for (at, line) in file.text().unwrap_or_default().lines().enumerate() {
            found.extend(of(line).map(|name| Place { name, path: &file.path, line: at + 1 }));
        }
    }
    found
}

pub fn explained(tree: &Tree) -> Vec<String> {
    let (invariants, tests) = (places(tree, stated), places(tree, explains));
    let mut faults = Vec::new();
    for (at, Place { name, path, line }) in invariants.iter().enumerate() {
        if let Some(first) = invariants[..at].iter().find(|other| other.name == *name) {
            faults.push(format!("{path}:{line}: invariant `{name}` is stated already at {}:{}: state it where it is kept, and refer to it by name elsewhere", first.path, first.line));
        } else if tests.iter().filter(|test| test.name == *name).count() != 1 {
            let count = tests.iter().filter(|test| test.name == *name).count();
            faults.push(format!("{path}:{line}: invariant `{name}` is explained by {count} tests: put `{EXPLAINS}{name}` above exactly one"));
        }
    }
    for Place { name, path, line } in &tests {
        let lines: Vec<&str> = tree.text(path).lines().collect();
        if !is_above_a_test(&lines, line - 1) {
            faults.push(format!(
                "{path}:{line}: `{EXPLAINS}{name}` stands above no test: put it directly above the `#[test]`"
            ));
        }
        if invariants.iter().all(|invariant| invariant.name != *name) {
            faults.push(format!(
                "{path}:{line}: no module states the invariant `{name}`: state it where it is kept, or mend the name"
            ));
        }
    }
    faults
}

#[test]
fn an_invariant_without_its_one_test_is_named() {
    let count = |source: &str| explained(&Tree::of(&[("crates/repo/src/a.rs", source)])).len();
    let stated = "//! Invariant (commit-last): words.\n";
    let test = "// Explains invariant: commit-last\n#[test]\nfn a_claim() {}\n";
    assert_eq!(count(&format!("{stated}{test}")), 0);
    assert_eq!(count(stated), 1);
    assert_eq!(count(&format!("{stated}{test}{test}")), 1);
    assert_eq!(count(test), 1);
    assert_eq!(count(&format!("{stated}// Explains invariant: commit-last\nfn not_a_test() {{}}\n")), 1);
    assert_eq!(count(&format!("{stated}{stated}{test}")), 1);
}
