//! Rules for source text: sizes, openings, stubs, printing, and words that must not be committed.

use crate::rust::{code_only, functions, without_tests};
use crate::tree::{File, Tree};

const FILE_LINES_MAX: usize = 600;
/// Tests are tables: they may be longer than what they test.
const TEST_FILE_LINES_MAX: usize = 900;
const FUNCTION_LINES_MAX: usize = 70;
/// A test may be one long table; beyond this it is several.
const TEST_FUNCTION_LINES_MAX: usize = 120;

pub fn file_lengths(tree: &Tree) -> Vec<String> {
    let length = |(file, text): (&File, &str)| {
        let max = if file.is_test() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
        let lines = text.lines().count();
        (lines > max).then(|| {
            format!("{}: {lines} lines, at most {max}: split it where its story turns, and move tests to a sibling tests.rs", file.path)
        })
    };
    tree.rust().filter_map(length).collect()
}

pub fn function_lengths(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, text) in tree.rust() {
        let max = if file.is_test() { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        for f in functions(&code_only(text)).into_iter().filter(|f| f.lines > max) {
            faults.push(format!(
                "{}:{}: `{}` has {} lines, at most {max}: let it name its steps and move each into a function",
                file.path, f.line, f.name, f.lines
            ));
        }
    }
    faults
}

pub fn openings(tree: &Tree) -> Vec<String> {
    // A `tests.rs` is the tests of the file beside it, which says what both are about.
    let opens = |text: &str| text.strip_prefix("//! ").is_some_and(|rest| !rest.starts_with("Placeholder"));
    tree.rust()
        .filter(|(file, text)| file.name() != "tests.rs" && !opens(text))
        .map(|(file, _)| format!("{}:1: open with a `//!` sentence that says what the file is for", file.path))
        .collect()
}

/// The lines of blanked code that hold `needle` as a whole word's end.
fn lines_with<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let stands_alone = move |line: &str| {
        line.match_indices(needle).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    code.lines().enumerate().filter(move |(_, line)| stands_alone(line)).map(|(at, _)| at + 1)
}

pub fn stubs(tree: &Tree) -> Vec<String> {
    const UNFINISHED: &str = "write it, or leave the feature out and say \"not in this version\"";
    const NEVER: [(&str, &str); 4] = [
        ("todo!", UNFINISHED),
        ("unimplemented!", UNFINISHED),
        ("dbg!", "take it out; for operators use `tracing`"),
        ("#[ignore", "let the test run, scaled down without `scripts/test --full`, or delete it"),
    ];
    let mut faults = Vec::new();
    for (file, text) in tree.rust() {
        let code = code_only(text);
        for (needle, mend) in NEVER {
            faults.extend(lines_with(&code, needle).map(|line| format!("{}:{line}: `{needle}`: {mend}", file.path)));
        }
    }
    faults
}

pub fn prints(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let silent = |file: &File| !file.is_test() && !file.path.starts_with("crates/cli/");
    for (file, text) in tree.rust().filter(|(file, _)| silent(file)) {
        let code = without_tests(&code_only(text));
        for needle in ["println!", "eprintln!", "print!", "eprint!"] {
            let found = lines_with(&code, needle);
            faults.extend(found.map(|line| {
                format!(
                    "{}:{line}: `{needle}`: return the value, or use `tracing`; only crates/cli talks to people",
                    file.path
                )
            }));
        }
    }
    faults
}

pub fn scripts(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.starts_with("scripts/") || file.path.starts_with(".ci/")) {
        let text = file.text().unwrap_or_default();
        if !text.starts_with("#!") {
            continue;
        }
        if text.starts_with("#!/usr/bin/env bash") && !text.contains("\nset -euo pipefail\n") {
            faults.push(format!("{}: add `set -euo pipefail` before the first command", file.path));
        }
        if !file.executable {
            faults.push(format!("{}: make it executable (`chmod +x`)", file.path));
        }
    }
    faults
}

/// Texts that must not be in the tree; each is put together here so that this file is clean itself.
fn forbidden() -> Vec<(String, &'static str)> {
    let join = |parts: &[&str]| parts.concat();
    vec![
        (join(&["TO", "DO"]), "finish it, or open an issue and say in the docs what is missing"),
        (join(&["FIX", "ME"]), "mend it, or open an issue and say in the docs what is wrong"),
        (join(&["/wo", "rk/"]), "a path of one machine: use a path relative to the root, or a made-up one"),
        (join(&["DESIGN", ".md"]), "the project stands on its own pages: name one of docs/"),
        (join(&["DESIGN", " §"]), "the project stands on its own pages: name one of docs/"),
        (join(&["STYLE", ".md"]), "the project stands on its own pages: name CONTRIBUTING.md"),
        (join(&["PRIVATE", " KEY-----"]), "a private key: take it out of the tree and out of use"),
        (join(&["gh", "p_"]), "an access token: take it out of the tree and out of use"),
        (join(&["<<<<", "<<< "]), "an unmerged conflict: resolve it"),
    ]
}

pub fn words(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let forbidden = forbidden();
    for file in &tree.files {
        if is_key_file(file.name()) {
            faults.push(format!("{}: looks like a secret: take it out of the tree and out of use", file.path));
        }
        let Some(text) = file.text() else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = forbidden.iter().find(|(word, _)| line.contains(word.as_str()));
            let found = found.map(|(word, mend)| format!("`{word}`: {mend}"));
            let place = format!("{}:{}", file.path, at + 1);
            // Tests of what happens to a secret need one that looks real.
            let secret = || secret(line).filter(|_| !file.is_test());
            faults.extend(found.or_else(secret).map(|fault| format!("{place}: {fault}")));
        }
    }
    faults
}

fn is_key_file(name: &str) -> bool {
    name == ".env" || [".key", ".pem", ".p12", ".pfx"].iter().any(|end| name.ends_with(end))
}

/// A token on this line that has the shape of a secret.
fn secret(line: &str) -> Option<String> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/' || c == '=';
    line.split(|c: char| !is_base64(c)).find_map(|token| {
        let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        if token.len() == 20 && token.starts_with(concat!("AK", "IA")) && token.chars().all(upper) {
            return Some("an access key id: use a made-up name such as `testak`".to_owned());
        }
        // 32 bytes in base64: the very form of a master key.
        let is_key = token.len() == 44 && token.ends_with('=') && !token[..43].contains('=');
        let is_mixed =
            token.contains(|c: char| c.is_ascii_lowercase()) && token.contains(|c: char| c.is_ascii_uppercase());
        (is_key && is_mixed).then(|| "32 bytes in base64, the form of a key: make it in the test instead".to_owned())
    })
}

#[cfg(test)]
mod tests;
