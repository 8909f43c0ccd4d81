//! The example configuration and the page that explains it name the same keys.
//!
//! In the example a setting that is off is commented out with a `#` and no space; prose has a
//! space after it. In the page each key opens a table row as `` `section.key` ``.

use crate::tree::Tree;

const EXAMPLE: &str = "config/example.toml";
const PAGE: &str = "docs/configuration.md";

/// Every key of the example, with source and policy names folded to `NAME`.
fn example_keys(text: &str) -> Vec<String> {
    let mut table = String::new();
    let mut keys = Vec::new();
    let mut depth = 0i32;
    for line in text.lines() {
        let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
        let opened = depth;
        depth += line.chars().map(|c| i32::from(c == '[') - i32::from(c == ']')).sum::<i32>();
        if opened > 0 || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            table = folded(header.split(']').next().unwrap_or_default());
        } else if let Some((key, _)) = line.split_once('=').filter(|(key, _)| is_key(key.trim())) {
            keys.push(format!("{table}.{}", key.trim()));
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// `sources.notes` stands for every source, `policies.gold` for every policy, `recovery.checks.page` for every check.
fn folded(header: &str) -> String {
    if header.starts_with("recovery.checks.") {
        return "recovery.checks.NAME".to_owned();
    }
    match header.split_once('.') {
        Some((kind, rest)) => match rest.split_once('.') {
            Some((_, deeper)) => format!("{kind}.NAME.{}", deeper.split('.').next().unwrap_or_default()),
            None => format!("{kind}.NAME"),
        },
        None => header.to_owned(),
    }
}

/// The keys the page explains: first cells of its tables that are one code span.
fn documented_keys(page: &str) -> Vec<String> {
    let first = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(key, _)| key);
    let mut keys: Vec<String> = first.filter(|key| key.contains('.')).map(str::to_owned).collect();
    keys.sort();
    keys.dedup();
    keys
}

pub fn keys(tree: &Tree) -> Vec<String> {
    let (example, documented) = (example_keys(tree.text(EXAMPLE)), documented_keys(tree.text(PAGE)));
    let unexplained = example.iter().filter(|key| !documented.contains(key));
    let unshown = documented.iter().filter(|key| !example.contains(key));
    unexplained
        .map(|key| format!("{PAGE}: `{key}` is in {EXAMPLE} and not explained: add a row to its table"))
        .chain(unshown.map(|key| {
            format!("{EXAMPLE}: `{key}` is explained in {PAGE} and not shown: add it, commented out where it is rare")
        }))
        .collect()
}

#[test]
fn a_key_in_one_place_only_is_named() {
    let example = "# prose = no key\n[repository]\nurl = \"x\"\n#key = \"y\"\n[sources.notes]\npath = [\n  \"a = b\",\n]\n#[policies.gold]\n#sites = [\"a\"]\n";
    let page = "| key | |\n| `repository.url` | x |\n| `repository.key` | x |\n| `sources.NAME.path` | x |\n| `policies.NAME.sites` | x |\n";
    let count = |example: &str, page: &str| keys(&Tree::of(&[(EXAMPLE, example), (PAGE, page)])).len();
    assert_eq!(count(example, page), 0);
    assert_eq!(count(&example.replace("#key", "#kee"), page), 2);
    assert_eq!(count(example, &page.replace("policies.NAME.sites", "policies.NAME.site")), 2);
}
