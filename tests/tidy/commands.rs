//! Commands that people are told to type exist: in pages, and in the hints of messages.

use crate::rust::{code_only, without_tests};
use crate::tree::{File, Tree};

/// What this version does.
const VERBS: [&str; 29] = [
    "audit",
    "backup",
    "bench",
    "capture",
    "cat",
    "catalog",
    "check",
    "completions",
    "demo",
    "diff",
    "drill",
    "find-damage",
    "forget",
    "hold",
    "init",
    "key",
    "ls",
    "points",
    "prune",
    "recover",
    "restore",
    "run",
    "shred",
    "sites",
    "sources",
    "status",
    "undelete",
    "undo",
    "help",
];

/// The verbs behind each `marker` on a line; options and their values before the verb are skipped.
fn verbs<'a>(line: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(marker).skip(1).filter_map(|rest| {
        // A code span ends at its backtick: what follows is prose.
        let mut words = rest.split('`').next()?.split_whitespace();
        let mut word = words.next()?;
        while word.starts_with("--") {
            let takes_value = word == "--config";
            word = words.nth(usize::from(takes_value))?;
        }
        let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(word.len());
        Some(&word[..end]).filter(|verb| !verb.is_empty())
    })
}

pub fn exist(tree: &Tree) -> Vec<String> {
    tree.files.iter().flat_map(|file| in_page(file).into_iter().chain(in_hints(file))).collect()
}

fn in_page(file: &File) -> Vec<String> {
    let text = file.text().filter(|_| file.path.ends_with(".md")).unwrap_or_default();
    let unknown = |verb: &&str| !VERBS.contains(verb);
    let named = |line| verbs(line, "`lifeboat ").chain(verbs(line, "$ lifeboat ")).find(unknown);
    let found = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, named(line)?)));
    found.map(|(line, verb)| format!("{}:{line}: there is no `lifeboat {verb}`: mend the page", file.path)).collect()
}

fn in_hints(file: &File) -> Vec<String> {
    let is_product = file.is_rust() && !file.is_test();
    let text = file.text().filter(|text| is_product && text.contains("`lifeboat ")).unwrap_or_default();
    let code = code_only(text);
    // Lines of tests are those that lose something when the tests are taken out.
    let product = without_tests(&code);
    let mut faults = Vec::new();
    for (at, ((line, code), product)) in text.lines().zip(code.lines()).zip(product.lines()).enumerate() {
        let is_comment = line.trim_start().starts_with("//");
        let unknown = verbs(line, "`lifeboat ").find(|verb| !VERBS.contains(verb));
        if let Some(verb) = unknown.filter(|_| !is_comment && code == product) {
            faults.push(format!("{}:{}: the hint names `lifeboat {verb}`, which this version does not have: name a command that helps today", file.path, at + 1));
        }
    }
    faults
}

pub fn documented(tree: &Tree) -> Vec<String> {
    let page = tree.text("docs/cli.md");
    let missing = VERBS.iter().filter(|verb| **verb != "help" && !page.contains(&format!("lifeboat {verb}")));
    missing
        .map(|verb| format!("docs/cli.md: `lifeboat {verb}` is not on it: make the page anew from the real --help"))
        .collect()
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let check =
        |path: &str, text: &str, want: usize| assert_eq!(exist(&Tree::of(&[(path, text)])).len(), want, "{text}");
    check("docs/a.md", "see `lifeboat points acme`, `lifeboat --config x --json backup --all` and `lifeboat run`", 0);
    check("docs/a.md", "$ lifeboat restroe acme", 1);
    check("docs/a.md", "the `lifeboat` program, `lifeboat.toml`, `lifeboat SITE`, `lifeboat --help` or so", 0);
    check("crates/cli/a.rs", "fn f() { g(\"see `lifeboat points {site}`\") }", 0);
    check("crates/cli/a.rs", "fn f() { g(\"see `lifeboat daemon`\") }", 1);
    check("crates/cli/a.rs", "/// `lifeboat daemon` comes later\nfn f() {}", 0);
    check("crates/cli/a.rs", "#[cfg(test)]\nmod tests {\n  const A: &str = \"`lifeboat bury`\";\n}", 0);
    assert_eq!(documented(&Tree::of(&[("docs/cli.md", "lifeboat sites")])).len(), VERBS.len() - 2);
}
