//! What is told of real directories, and what is not.

use std::path::Path;

use lifeboat_model::SourceName;

use super::*;
use crate::PathTemplate;
use crate::files::Exclusion;

struct Sites {
    dir: tempfile::TempDir,
    source: FilesSource,
    watch: Watch,
}

fn id(site: &str) -> SiteId {
    SiteId::new(site).unwrap()
}

impl Sites {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for site in ["acme", "beta"] {
            std::fs::create_dir_all(dir.path().join(site).join("deep/er")).unwrap();
        }
        let template = |text: &str| PathTemplate::parse(&format!("{}/{text}", dir.path().display())).unwrap();
        let exclusions = vec![Exclusion::Database(template("{site}/notes.db"))];
        let source = FilesSource::new(SourceName::new("files").unwrap(), template("{site}"), exclusions);
        let watch = Watch::new().unwrap();
        let mut sites = Self { dir, source, watch };
        assert_eq!(sites.told(), ["acme", "beta"], "both are new");
        assert_eq!(sites.told(), [""; 0]);
        sites
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str) {
        std::fs::write(self.path(path), "x").unwrap();
    }

    fn told(&mut self) -> Vec<String> {
        self.watch.cover(&self.source, &[id("acme"), id("beta")]).unwrap();
        self.watch.listen(&self.source).unwrap();
        match self.watch.take() {
            Hint::Changed(sites) => sites.iter().map(ToString::to_string).collect(),
            Hint::Lost => vec!["lost".into()],
        }
    }
}

#[test]
fn what_is_written_anywhere_in_a_site_is_told_of_that_site_alone() {
    let mut sites = Sites::new();
    let mut check = |what: &str, change: &dyn Fn(&Sites)| {
        change(&sites);
        assert_eq!(sites.told(), ["acme"], "{what}");
    };
    check("a file", &|sites| sites.write("acme/a"));
    check("a file, again", &|sites| sites.write("acme/a"));
    check("a deep file", &|sites| sites.write("acme/deep/er/b"));
    check("a new name", &|sites| std::fs::rename(sites.path("acme/a"), sites.path("acme/c")).unwrap());
    check("no name", &|sites| std::fs::remove_file(sites.path("acme/c")).unwrap());
    check("a mode", &|sites| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(sites.path("acme/deep/er/b"), mode).unwrap();
    });
    check("a directory", &|sites| std::fs::create_dir_all(sites.path("acme/new/er")).unwrap());
    check("a file in it", &|sites| sites.write("acme/new/er/d"));
    check("a directory that moved", &|sites| std::fs::rename(sites.path("acme/new"), sites.path("acme/old")).unwrap());
    check("a file in that", &|sites| sites.write("acme/old/er/e"));
    check("another root", &|sites| {
        std::fs::rename(sites.path("acme"), sites.path("gone")).unwrap();
        std::fs::create_dir(sites.path("acme")).unwrap();
    });
    check("a file there", &|sites| sites.write("acme/f"));
}

#[test]
fn reading_other_sources_and_what_lies_beyond_a_link_are_no_change() {
    let mut sites = Sites::new();
    sites.write("acme/a");
    std::fs::create_dir(sites.path("outside")).unwrap();
    std::os::unix::fs::symlink(sites.path("outside"), sites.path("acme/link")).unwrap();
    assert_eq!(sites.told(), ["acme"]);
    let mut check = |what: &str, change: &dyn Fn(&Path)| {
        change(sites.dir.path());
        assert_eq!(sites.told(), [""; 0], "{what}");
    };
    check("reading", &|path| drop(std::fs::read(path.join("acme/a")).unwrap()));
    check("listing", &|path| assert_eq!(std::fs::read_dir(path.join("acme/deep")).unwrap().count(), 1));
    check("a database", &|path| std::fs::write(path.join("acme/notes.db-wal"), "x").unwrap());
    check("staging", &|path| std::fs::create_dir(path.join("acme/.lifeboat-stage-0123456789abcdef")).unwrap());
    check("beyond a link", &|path| std::fs::write(path.join("outside/a"), "x").unwrap());
    check("beside the sites", &|path| std::fs::write(path.join("file"), "x").unwrap());
}

#[test]
fn a_queue_that_overflows_says_that_something_was_lost() {
    let mut sites = Sites::new();
    let max: usize = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Two events each; equal ones in a row count once, so that the names alternate.
    for number in 0..=max {
        let path = sites.path(if number % 2 == 0 { "acme/a" } else { "beta/b" });
        std::fs::write(path, "x").unwrap();
    }
    assert_eq!(sites.told(), ["lost"]);
    sites.write("beta/c");
    assert_eq!(sites.told(), ["beta"], "it goes on");
}
