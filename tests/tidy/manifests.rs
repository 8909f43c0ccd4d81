//! Who may use whom: the crates' manifests against the map.

use crate::tree::Tree;

/// The map: a crate, the crates it may use, and the outside crates it must never know.
///
/// `docs/architecture.md` says why, and shows the same table.
pub const MAP: [(&str, &[&str], &[&str]); 10] = [
    ("model", &[], &["tokio", "async-trait", "futures-util", "bytes", "rusqlite", "serde", "minicbor", "aws-sdk-s3"]),
    ("format", &["model"], &["tokio", "async-trait", "futures-util", "aws-sdk-s3", "aws-config", "rusqlite", "jiff"]),
    ("store", &["model"], &["rusqlite", "zstd", "minicbor", "aws-lc-rs", "jiff"]),
    ("repo", &["model", "format", "store"], &["rusqlite", "aws-sdk-s3", "aws-config", "clap"]),
    ("source", &["model", "store"], &["aws-lc-rs", "zstd", "minicbor", "clap"]),
    ("engine", &["model", "repo", "source"], &["rusqlite", "aws-sdk-s3", "minicbor", "aws-lc-rs", "clap"]),
    ("control", &["model", "engine"], &["zstd", "minicbor", "aws-lc-rs", "aws-sdk-s3", "clap"]),
    ("bench", &["model", "store"], &["aws-sdk-s3", "zstd", "minicbor", "clap"]),
    (
        "cli",
        &["model", "format", "store", "repo", "source", "engine", "control", "bench"],
        &["aws-sdk-s3", "zstd", "minicbor"],
    ),
    ("testkit", &["model", "format", "store", "repo", "source", "engine"], &["clap"]),
];

/// One line of a dependency table.
#[derive(Debug, PartialEq, Eq)]
struct Dependency<'a> {
    name: &'a str,
    value: &'a str,
    line: usize,
    only_for_tests: bool,
}

/// The dependencies a manifest names, in every spelling that Cargo reads.
fn declared(manifest: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut table = "";
    for (at, text) in manifest.lines().enumerate() {
        let text = text.trim();
        let line = at + 1;
        if let Some(header) = text.strip_prefix('[') {
            table = header.trim_end_matches(']');
            if let Some((kind, name)) = table.rsplit_once('.').filter(|(kind, _)| kind.ends_with("dependencies")) {
                found.push(Dependency { name, value: "", line, only_for_tests: kind.ends_with("dev-dependencies") });
            }
        } else if table.ends_with("dependencies") && !text.starts_with('#') {
            let Some((key, value)) = text.split_once('=') else { continue };
            let key = key.trim();
            let (name, value) = key.split_once('.').map_or((key, value.trim()), |(name, rest)| (name, rest));
            let only_for_tests = table.ends_with("dev-dependencies");
            found.push(Dependency { name, value, line, only_for_tests });
        }
    }
    found
}

pub fn dependencies(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        let Some((_, allowed, never)) = MAP.iter().find(|(known, ..)| *known == name) else {
            faults.push(format!("{path}: a crate the map does not know: give it a row in tests/tidy/manifests.rs and in docs/architecture.md, or make it a module"));
            continue;
        };
        for dependency in declared(tree.text(&path)).iter().filter(|d| !d.only_for_tests) {
            let (used, line) = (dependency.name, dependency.line);
            let own = used.strip_prefix("lifeboat-");
            if own.is_some_and(|own| own != "testkit" && !allowed.contains(&own)) {
                faults.push(format!("{path}:{line}: `{name}` may not use `{used}`: pass what it needs as a plain value or a trait of its own, and wire the two in crates/cli"));
            }
            if never.contains(&used) {
                faults.push(format!("{path}:{line}: `{name}` must not know `{used}`: do that work in the crate whose duty it is (docs/architecture.md)"));
            }
        }
    }
    let missing = MAP.iter().filter(|(name, ..)| !tree.crates().contains(name));
    faults.extend(
        missing.map(|(name, ..)| format!("crates/{name}: on the map and not in the tree: take it off the map")),
    );
    faults
}

pub fn testkit_users(tree: &Tree) -> Vec<String> {
    let manifests = tree.files.iter().filter(|file| file.name() == "Cargo.toml");
    let users =
        manifests.flat_map(|file| declared(file.text().unwrap_or_default()).into_iter().map(move |d| (file, d)));
    users
        .filter(|(_, d)| d.name == "lifeboat-testkit" && !d.only_for_tests && d.value.contains("workspace"))
        .map(|(file, d)| format!("{}:{}: the testkit is for tests: move it to [dev-dependencies]", file.path, d.line))
        .collect()
}

pub fn inheritance(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        let text = tree.text(&path);
        for d in declared(text).iter().filter(|d| !d.value.contains("workspace")) {
            faults.push(format!(
                "{path}:{}: name `{}` once in the root's [workspace.dependencies] and write `{}.workspace = true` here",
                d.line, d.name, d.name
            ));
        }
        if !text.contains("[lints]\nworkspace = true") {
            faults
                .push(format!("{path}: add `[lints]` with `workspace = true`, so that the same lints hold everywhere"));
        }
    }
    faults
}

#[test]
fn a_crate_that_reaches_beyond_the_map_is_named() {
    let faults = |manifest: &str| -> Vec<String> {
        let tree = Tree::of(&[("crates/engine/Cargo.toml", manifest)]);
        dependencies(&tree).into_iter().filter(|fault| fault.contains("engine")).collect()
    };
    assert_eq!(faults("[dependencies]\nlifeboat-repo.workspace = true\n"), Vec::<String>::new());
    assert!(
        faults("[dependencies]\nlifeboat-control.workspace = true\n")[0].starts_with("crates/engine/Cargo.toml:2:")
    );
    assert_eq!(faults("[dependencies.lifeboat-cli]\nworkspace = true\n").len(), 1);
    assert_eq!(faults("[target.'cfg(unix)'.dependencies]\nlifeboat-format = { workspace = true }\n").len(), 1);
    assert_eq!(faults("[dependencies]\nrusqlite.workspace = true\n").len(), 1);
    assert_eq!(faults("[dev-dependencies]\nlifeboat-control.workspace = true\n").len(), 0);
}

#[test]
fn a_testkit_in_the_product_is_named() {
    let users = |text: &str| testkit_users(&Tree::of(&[("Cargo.toml", text)])).len();
    assert_eq!(users("[dependencies]\nlifeboat-testkit.workspace = true\n"), 1);
    assert_eq!(users("[dev-dependencies]\nlifeboat-testkit.workspace = true\n"), 0);
    assert_eq!(users("[workspace.dependencies]\nlifeboat-testkit = { path = \"crates/testkit\" }\n"), 0);
}

#[test]
fn a_version_of_its_own_is_named() {
    let faults = inheritance(&Tree::of(&[("crates/repo/Cargo.toml", "[dependencies]\nbytes = \"1\"\n")]));
    assert_eq!(faults.len(), 2, "{faults:?}");
}
