//! Metrics and alarms are named in one place, and everywhere else as there: in pages, alert rules and the dashboard.

use std::collections::BTreeSet;

use crate::tree::Tree;

const FAMILIES: &str = "crates/control/src/metrics/families.rs";
const METRICS_PAGE: &str = "docs/operations/metrics.md";
const RULES: &str = "config/prometheus/alerts.yml";
const DASHBOARD: &str = "config/grafana/lifeboat.json";
const KINDS: &str = "crates/control/src/alarms.rs";
const ALARMS_PAGE: &str = "docs/operations/alarms.md";

/// The families that the code has: its texts that are names of some.
fn families(source: &str) -> BTreeSet<&str> {
    source.split('"').filter(|text| text.starts_with("lifeboat_") && names(text).next() == Some(*text)).collect()
}

/// What a text says of metrics: words that begin with our prefix, and are not only it.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|char: char| !char.is_ascii_lowercase() && char != '_' && !char.is_ascii_digit());
    words.filter(|word| word.strip_prefix("lifeboat_").is_some_and(|rest| !rest.is_empty() && !rest.ends_with('_')))
}

pub fn metrics(tree: &Tree) -> Vec<String> {
    let families = families(tree.text(FAMILIES));
    let mut faults = Vec::new();
    for file in [RULES, DASHBOARD, METRICS_PAGE] {
        let text = tree.text(file);
        if names(text).next().is_none() {
            faults.push(format!("{file}: it names no metric: bring it back"));
        }
        let unknown: BTreeSet<&str> = names(text).filter(|name| !families.contains(name)).collect();
        faults.extend(
            unknown.iter().map(|name| format!("{file}: no metric is called `{name}`: mend it, {FAMILIES} has all")),
        );
    }
    let explained = first_cells(tree.text(METRICS_PAGE));
    let missing = families.iter().filter(|name| !explained.contains(*name));
    faults.extend(missing.map(|name| format!("{METRICS_PAGE}: `{name}` is not explained: add a row to its table")));
    faults
}

/// First cells of a page's tables that are one code span.
fn first_cells(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(cell, _)| cell).collect()
}

/// The kinds that the code has: the first text of each line of their list.
fn kinds(source: &str) -> BTreeSet<&str> {
    let list = source.split("\nkinds! {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
    list.lines().filter_map(|line| line.split('"').nth(1)).collect()
}

pub fn alarms(tree: &Tree) -> Vec<String> {
    let kinds = kinds(tree.text(KINDS));
    let explained = first_cells(tree.text(ALARMS_PAGE));
    let mut faults = Vec::new();
    if kinds.is_empty() {
        faults.push(format!("{KINDS}: no kinds of alarms were found: mend this rule with them"));
    }
    let missing = kinds.difference(&explained);
    faults.extend(missing.map(|kind| {
        format!("{ALARMS_PAGE}: the alarm `{kind}` is not explained: add a row that says what to do first")
    }));
    let unknown = explained.difference(&kinds);
    faults.extend(unknown.map(|kind| format!("{ALARMS_PAGE}: there is no alarm `{kind}`: take its row out")));
    for file in [RULES, DASHBOARD] {
        // `kind="…"`, `kind!="…"`; quoted once more in JSON.
        let text = tree.text(file).replace("\\\"", "\"");
        for (_, rest) in text.match_indices("kind").map(|(at, word)| text.split_at(at + word.len())) {
            let named = rest.trim_start_matches('!').strip_prefix("=\"").and_then(|rest| rest.split('"').next());
            if let Some(kind) = named.filter(|kind| !kinds.contains(kind)) {
                faults.push(format!("{file}: there is no alarm `{kind}`: mend the label"));
            }
        }
    }
    faults
}

#[test]
fn a_name_that_nobody_else_has_is_named() {
    let code = "BUILD Gauge \"lifeboat_build_info\" \"A text of lifeboat.\",\nUP Gauge \"lifeboat_store_up\" \"Up.\",";
    let page = "| `lifeboat_build_info` | gauge |\n| `lifeboat_store_up` | gauge |\n`lifeboat_site_…`";
    let rules = "expr: lifeboat_store_up == 0";
    let board = "{\"expr\":\"min(lifeboat_store_up{a=\\\"b\\\"})\"}";
    let count = |page: &str, rules: &str, board: &str| {
        let files = [(FAMILIES, code), (METRICS_PAGE, page), (RULES, rules), (DASHBOARD, board)];
        metrics(&Tree::of(&files)).len()
    };
    assert_eq!(count(page, rules, board), 0);
    assert_eq!(count(page, "expr: lifeboat_store_down == 0", board), 1);
    assert_eq!(count(page, rules, "{}"), 1);
    assert_eq!(count("| `lifeboat_store_up` | gauge |", rules, board), 1);
    let code = "x\nkinds! {\n    A \"disk_low\" \"little room\",\n    B \"slot_lost\" \"a gap\",\n}\n";
    let page = "| `disk_low` | x |\n| `slot_lost` | x |\n";
    let count = |page: &str, rules: &str| {
        alarms(&Tree::of(&[(KINDS, code), (ALARMS_PAGE, page), (RULES, rules), (DASHBOARD, "")])).len()
    };
    assert_eq!(count(page, "x{kind!=\"disk_low\"}"), 0);
    assert_eq!(count(page, "x{kind=\"disk_high\"}"), 1);
    assert_eq!(count("| `disk_low` | x |\n", ""), 1);
    assert_eq!(count(&format!("{page}| `other` | x |\n"), ""), 1);
}
