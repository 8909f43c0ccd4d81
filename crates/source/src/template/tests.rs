//! Claims about path templates.

use super::*;
use std::os::unix::fs::symlink;

fn site(text: &str) -> SiteId {
    SiteId::new(text).unwrap()
}

fn source() -> SourceName {
    SourceName::new("attachments").unwrap()
}

#[test]
fn a_template_is_read_or_refused_with_the_reason() {
    let check = |text: &str, want: Result<&str, &str>| match (PathTemplate::parse(text), want) {
        (Ok(template), Ok(root)) => assert_eq!(template.root(), Path::new(root), "{text}"),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
        (got, want) => panic!("{text}: {got:?}, wanted {want:?}"),
    };
    check("/srv/sites/{site}/attachments", Ok("/srv/sites"));
    check("/srv/{site}.db", Ok("/srv"));
    check("/{site}", Ok("/"));
    check("/srv/{site}/{site}-files/", Ok("/srv"));
    check("srv/{site}", Err("absolute"));
    check("", Err("absolute"));
    check("/srv/sites", Err("must hold {site}"));
    check("/", Err("must hold {site}"));
    check("/srv/{tenant}", Err("only {site}"));
    check("/srv/{site", Err("only {site}"));
    check("/srv/../{site}", Err("`..`"));
    check("/srv//{site}", Err("as a segment"));
    check("/srv/{site}{site}", Ok("/srv"));
    check("/srv/.lifeboat-{site}", Err(".lifeboat-"));
}

#[test]
fn a_site_id_that_could_climb_never_becomes_a_path() {
    let template = PathTemplate::parse("/srv/{site}/x-{site}").unwrap();
    assert_eq!(template.path_for(&site("acme")).unwrap(), Path::new("/srv/acme/x-acme"));
    for bad in ["..", ".", "a/b", ".lifeboat-x", &"n".repeat(254)] {
        assert!(matches!(template.path_for(&site(bad)), Err(Error::UnsafeSiteId { .. })), "{bad}");
    }
    let hidden = PathTemplate::parse("/srv/.{site}").unwrap();
    assert!(hidden.path_for(&site("lifeboat-x")).is_err());
    assert!(hidden.path_for(&site(".")).is_err());
}

#[test]
fn a_name_matches_when_every_site_in_it_is_the_same() {
    let check = |segment: &str, name: &str, want: Option<&str>| {
        let pieces: Vec<String> = segment.split(SITE).map(str::to_owned).collect();
        assert_eq!(matched(&pieces, name.as_bytes()), want.map(str::as_bytes), "{segment} {name}");
    };
    check("{site}", "acme", Some("acme"));
    check("{site}.db", "acme.db", Some("acme"));
    check("{site}.db", "acme.db-wal", None);
    check("{site}.db", ".db", None);
    check("s-{site}-{site}", "s-ab-ab", Some("ab"));
    check("s-{site}-{site}", "s-ab-cd", None);
    check("s-{site}-{site}", "s-ab-abc", None);
}

#[test]
fn discovery_finds_directories_and_says_what_it_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let sites = dir.path().join("sites");
    for path in ["acme/files", "zeta/files", "empty", ".lifeboat-01-02/files", "lost+found/files"] {
        std::fs::create_dir_all(sites.join(path)).unwrap();
    }
    std::fs::create_dir_all(sites.join(OsStr::from_bytes(b"caf\xe9/files"))).unwrap();
    std::fs::create_dir_all(sites.join("filed")).unwrap();
    std::fs::write(sites.join("filed/files"), "").unwrap();
    symlink("acme", sites.join("twin")).unwrap();
    std::fs::create_dir_all(sites.join("linked")).unwrap();
    symlink("../acme/files", sites.join("linked/files")).unwrap();
    symlink("../nowhere", sites.join("dangling")).unwrap();
    symlink("empty", sites.join("idle")).unwrap();
    std::fs::create_dir_all(sites.join("new\nline/files")).unwrap();
    std::fs::create_dir_all(sites.join("stray\nline")).unwrap();
    std::fs::write(sites.join("README"), "").unwrap();

    let template = PathTemplate::parse(&format!("{}/{{site}}/files", sites.display())).unwrap();
    let found = template.discover(&source(), Expected::Directory).unwrap();
    assert_eq!(found.sites, [site("acme"), site("zeta")]);
    let told = |problem: &PartProblem| {
        (problem.entry.rsplit('/').next().unwrap().to_owned(), problem.reason.split(':').next().unwrap().to_owned())
    };
    let check = |got: Vec<(String, String)>, want: &[(&str, &str)]| {
        let want: Vec<_> = want.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect();
        assert_eq!(got, want);
    };
    let (link, control) = ("a symbolic link stands on the way to it", "an id must not hold control characters");
    check(
        found.left_out.iter().map(told).collect(),
        &[
            ("dangling", link),
            ("filed", "not a directory"),
            ("idle", link),
            ("lost+found", "made by the file system"),
            ("stray\\nline", control),
        ],
    );
    check(
        found.missed.iter().map(|missed| told(&missed.problem)).collect(),
        &[("caf\\xe9", "the name is not UTF-8"), ("linked", link), ("new\\nline", control), ("twin", link)],
    );
    let known: Vec<_> = found.missed.iter().filter_map(|missed| missed.site.clone()).collect();
    assert_eq!(known, [site("linked"), site("twin")]);
    assert_eq!(found.root, identity_of(&sites).unwrap());
}

#[test]
fn a_missing_root_is_a_failed_source_and_no_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (root, part) in [("none", "mount or create"), ("file", "not a directory")] {
        let template = PathTemplate::parse(&format!("{}/{root}/{{site}}", dir.path().display())).unwrap();
        let error = template.discover(&source(), Expected::Directory).unwrap_err();
        assert!(matches!(&error, Error::SourceFailed { hint, .. } if hint.contains(part)), "{error:?}");
    }
}
