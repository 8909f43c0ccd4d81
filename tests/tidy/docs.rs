//! Rules for the pages: the map is complete, the glossary has every word, every link leads somewhere.

use crate::manifests::MAP;
use crate::tree::Tree;

const MAP_PAGE: &str = "docs/architecture.md";
const GLOSSARY: &str = "docs/glossary.md";

/// What a person is told to read somewhere.
const PAGES: [&str; 20] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "config/example.toml",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/cli.md",
    "docs/configuration.md",
    "docs/decisions/README.md",
    "docs/format.md",
    "docs/glossary.md",
    "docs/operations/alarms.md",
    "docs/operations/keys.md",
    "docs/operations/metrics.md",
    "docs/operations/nightly.md",
    "docs/operations/restore-one-site.md",
];

/// The words of the trade and ours; one word a thing, one thing a word.
const WORDS: [&str; 62] = [
    "site",
    "fleet",
    "source",
    "part",
    "entry",
    "position",
    "point in time",
    "chunk",
    "pack",
    "index",
    "snapshot",
    "manifest",
    "commit",
    "segment",
    "change log",
    "restore plan",
    "restore target",
    "in place",
    "beside",
    "export",
    "fence",
    "receipt",
    "recovery",
    "case",
    "wave",
    "drill",
    "run",
    "policy",
    "objective",
    "RPO",
    "RTO",
    "back up",
    "capture",
    "seal",
    "publish",
    "forget",
    "condemn",
    "prune",
    "check",
    "plan",
    "freeze",
    "stage",
    "replay",
    "verify",
    "open",
    "thaw",
    "undo",
    "frame",
    "extent",
    "hole",
    "site handle",
    "intent",
    "hold",
    "mark",
    "generation",
    "catalog",
    "repository",
    "store",
    "master key",
    "recovery key",
    "site key",
    "damage",
];

/// The cells of a Markdown table row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

pub fn map(tree: &Tree) -> Vec<String> {
    let page = tree.text(MAP_PAGE);
    let mut faults = Vec::new();
    for (name, allowed, _) in MAP {
        let row = page.lines().filter_map(cells).find(|row| row[0] == format!("`{name}`"));
        let shown = row.and_then(|row| row.get(2).copied().map(str::to_owned));
        let want = if allowed.is_empty() { "-".to_owned() } else { allowed.join(", ") };
        match shown {
            None => faults.push(format!("{MAP_PAGE}: no row for the crate `{name}`: add it to the table of crates")),
            Some(shown) if shown != want => faults.push(format!(
                "{MAP_PAGE}: the row of `{name}` says it may use \"{shown}\", tests/tidy/manifests.rs says \"{want}\": make them one"
            )),
            Some(_) => {}
        }
    }
    let missing = tree.folders().into_iter().filter(|folder| !page.contains(&format!("`{folder}/`")));
    faults.extend(missing.map(|folder| {
        format!("{MAP_PAGE}: the folder `{folder}/` is not on the map: say there what it is for, or move what is in it")
    }));
    faults
}

pub fn glossary(tree: &Tree) -> Vec<String> {
    let page = tree.text(GLOSSARY).to_lowercase();
    let missing = WORDS.iter().filter(|word| !page.contains(&format!("**{}**", word.to_lowercase())));
    missing.map(|word| format!("{GLOSSARY}: **{word}** is not defined: add it, one word a thing")).collect()
}

pub fn pages(tree: &Tree) -> Vec<String> {
    let missing = PAGES.iter().filter(|page| tree.text(page).trim().is_empty());
    missing.map(|page| format!("{page}: missing or empty: write it, people are sent there")).collect()
}

/// The Markdown outside fenced blocks and code spans, line by line.
fn prose(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        let spans = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        lines.push(if fenced || is_fence { String::new() } else { spans });
    }
    lines
}

/// The targets of `[text](target)` on a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim())
}

/// The anchors that a page's headings get where it is rendered.
fn anchors(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase().replace(' ', "-");
        found.push(kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect());
    }
    found
}

/// `target` as a path from the root, seen from the page at `path`; `None` when it climbs out.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

pub fn links(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, line) in prose(file.text().unwrap_or_default()).iter().enumerate() {
            for target in targets(line).filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
                let (place, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if place.is_empty() { Some(file.path.clone()) } else { resolve(&file.path, place) };
                let Some(path) = path.filter(|path| tree.has(path)) else {
                    faults.push(format!(
                        "{}:{}: `{target}` leads nowhere: mend the path, or take the link out",
                        file.path,
                        at + 1
                    ));
                    continue;
                };
                if !anchor.is_empty() && !anchors(tree.text(&path)).iter().any(|known| known == anchor) {
                    faults.push(format!(
                        "{}:{}: {path} has no heading `#{anchor}`: mend the anchor",
                        file.path,
                        at + 1
                    ));
                }
            }
        }
    }
    faults
}

#[test]
fn a_link_that_leads_nowhere_is_named() {
    let check = |text: &str, want: usize| {
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", "# One two: (three)\n"), ("README.md", "x")]);
        assert_eq!(links(&tree).len(), want, "{text}: {:?}", links(&tree));
    };
    check("[b](b.md), [root](../README.md) and [web](https://example.org/x)", 0);
    check("[b](b.md#one-two-three) [here](#top)\n# Top", 0);
    check("[b](c.md)", 1);
    check("[b](../../b.md)", 1);
    check("[b](b.md#four)", 1);
    check("`[b](c.md)`\n```\n[b](c.md)\n```", 0);
}

#[test]
fn a_crate_or_folder_off_the_map_is_named() {
    let row = |name: &str, uses: &str| format!("| `{name}` | duty | {uses} | never |\n");
    let mut page: String = MAP.iter().map(|(name, uses, _)| row(name, &uses.join(", "))).collect();
    page = page.replace("|  |", "| - |") + "`docs/` `crates/`";
    let check = |page: &str, want: usize| {
        let tree = Tree::of(&[(MAP_PAGE, page), ("crates/repo/Cargo.toml", "")]);
        assert_eq!(map(&tree).len(), want, "{:?}", map(&tree));
    };
    check(&page, 0);
    check(&page.replace("`crates/`", ""), 1);
    check(&page.replace("| `repo` |", "| `rope` |"), 1);
    check(&page.replace("model, engine", "model, engine, cli"), 1);
}

#[test]
fn a_missing_word_or_page_is_named() {
    assert_eq!(glossary(&Tree::of(&[(GLOSSARY, "**Site** one tenant\n")])).len(), WORDS.len() - 1);
    assert_eq!(pages(&Tree::of(&[("README.md", "x"), ("LICENSE", " \n")])).len(), PAGES.len() - 1);
}
