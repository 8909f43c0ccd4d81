//! restic, rustic and borg, each with its defaults and with encryption.

use std::ffi::OsString;

use lifeboat_bench::Outcome;
use lifeboat_testkit::s3_server::{ACCESS_KEY, SECRET_KEY};

use crate::contender::At;
use crate::peer::{Dialect, Verb};
use crate::place::{self, BUCKET, Place, REGION};

const PASSWORD: &str = "bench";

pub struct Restic;

impl Dialect for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn note(&self) -> &'static str {
        "defaults"
    }

    fn arguments(&self, verb: Verb, at: &At<'_>) -> Vec<OsString> {
        let live = at.live().into_os_string();
        match verb {
            Verb::Init => words(&["init"]),
            Verb::Start => words(&["cat", "config"]),
            Verb::Backup | Verb::BackupAgain => [words(&["backup"]), vec![live]].concat(),
            Verb::Restore => {
                [words(&["restore"]), vec![joined("latest:", &live)], words(&["--target"]), vec![live]].concat()
            }
        }
    }

    fn environment(&self, at: &At<'_>) -> Outcome<Vec<(&'static str, OsString)>> {
        let dir = at.dir(self.name())?;
        let repository = match at.place {
            Place::Directory => dir.join("repository").into_os_string(),
            Place::S3(server) => format!("s3:{}/{BUCKET}/{}", server.endpoint(), at.prefix(self.name())).into(),
        };
        let mut environment = vec![
            ("RESTIC_REPOSITORY", repository),
            ("RESTIC_PASSWORD", PASSWORD.into()),
            ("RESTIC_CACHE_DIR", dir.join("cache").into_os_string()),
        ];
        environment.extend(place::credentials().map(|(name, value)| (name, value.into())));
        Ok(environment)
    }
}

pub struct Rustic;

impl Dialect for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn note(&self) -> &'static str {
        "defaults; S3 by opendal"
    }

    fn arguments(&self, verb: Verb, at: &At<'_>) -> Vec<OsString> {
        let live = at.live().into_os_string();
        match verb {
            Verb::Init => words(&["init"]),
            Verb::Start => words(&["cat", "config"]),
            Verb::Backup | Verb::BackupAgain => [words(&["backup"]), vec![live]].concat(),
            Verb::Restore => [words(&["restore"]), vec![joined("latest:", &live), live]].concat(),
        }
    }

    fn environment(&self, at: &At<'_>) -> Outcome<Vec<(&'static str, OsString)>> {
        let dir = at.dir(self.name())?;
        let mut environment = vec![
            ("RUSTIC_PASSWORD", PASSWORD.into()),
            ("RUSTIC_CACHE_DIR", dir.join("cache").into_os_string()),
            ("RUSTIC_NO_PROGRESS", "true".into()),
        ];
        match at.place {
            Place::Directory => environment.push(("RUSTIC_REPOSITORY", dir.join("repository").into_os_string())),
            Place::S3(server) => environment.extend([
                ("RUSTIC_REPOSITORY", "opendal:s3".into()),
                ("OPENDAL_BUCKET", BUCKET.into()),
                ("OPENDAL_ENDPOINT", server.endpoint().into()),
                ("OPENDAL_REGION", REGION.into()),
                ("OPENDAL_ROOT", format!("/{}", at.prefix(self.name())).into()),
                ("OPENDAL_ACCESS_KEY_ID", ACCESS_KEY.into()),
                ("OPENDAL_SECRET_ACCESS_KEY", SECRET_KEY.into()),
            ]),
        }
        Ok(environment)
    }
}

pub struct Borg;

impl Dialect for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn left_out(&self, place: &Place) -> Option<&'static str> {
        matches!(place, Place::S3(_)).then_some("it has no S3")
    }

    /// Its own default, lz4, would be another trade of size for time than that of the others.
    fn note(&self) -> &'static str {
        "repokey-blake2, zstd,3"
    }

    fn arguments(&self, verb: Verb, _at: &At<'_>) -> Vec<OsString> {
        match verb {
            Verb::Init => words(&["init", "--encryption", "repokey-blake2"]),
            Verb::Start => words(&["list", "--last", "1"]),
            Verb::Backup => words(&["create", "--compression", "zstd,3", "::first", "."]),
            Verb::BackupAgain => words(&["create", "--compression", "zstd,3", "::again", "."]),
            Verb::Restore => words(&["extract", "::first"]),
        }
    }

    fn environment(&self, at: &At<'_>) -> Outcome<Vec<(&'static str, OsString)>> {
        let dir = at.dir(self.name())?;
        Ok(vec![
            ("BORG_REPO", dir.join("repository").into_os_string()),
            ("BORG_PASSPHRASE", PASSWORD.into()),
            ("BORG_BASE_DIR", dir.into_os_string()),
        ])
    }

    fn is_inside(&self) -> bool {
        true
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn joined(prefix: &str, rest: &OsString) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(rest);
    joined
}
