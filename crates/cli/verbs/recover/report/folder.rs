//! The directory a report is written into: a new one, an empty one, or that of an earlier report of the same recovery.
//!
//! Each file is written beside its place and renamed, so that a reader sees the one before or this one. A report names
//! sites, and is for its owner alone (0600); a public one is as the umask has it. Whoever changes a file's mode keeps it.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lifeboat_control::recovery::Report;
use lifeboat_model::RecoveryId;

use super::{Audience, Signed, csv, json, page};
use crate::CliError;

const JSON: &str = "report.json";
const CSV: &str = "report.csv";
const HTML: &str = "report.html";
/// What a file is called while it is written: `.report.json.4711.part`.
const PART: (&str, &str) = (".report.", ".part");

pub(super) struct Folder {
    path: PathBuf,
    audience: Audience,
}

impl Folder {
    /// # Errors
    /// When anything else lies there.
    pub fn claim(path: PathBuf, recovery: RecoveryId, audience: Audience) -> Result<Self, CliError> {
        let failed = |io: &io::Error| {
            CliError::operator(format!("cannot use the directory: path=`{}`, reason=`{io}`", path.display()))
                .with_hint("name a directory that you may write to with --out or --report")
        };
        let mode = if audience == Audience::Public { 0o777 } else { 0o700 };
        match DirBuilder::new().mode(mode).create(&path) {
            Err(io) if io.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&io)),
            _ => {}
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(|io| failed(&io))? {
            names.push(entry.map_err(|io| failed(&io))?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| !(name.starts_with(PART.0) && name.ends_with(PART.1)));
        if let Some(first) = names.iter().min() {
            let kind = |is_public| if is_public { "a public report" } else { "a full report" };
            let asked = audience == Audience::Public;
            let found = match earlier(&path.join(JSON)) {
                Some((found, is_public)) if found == recovery.to_string() && is_public == asked => None,
                Some((found, is_public)) if found == recovery.to_string() => Some(kind(is_public).to_owned()),
                Some((found, _)) => Some(format!("the report of recovery {found}")),
                None => Some(first.clone()),
            };
            if let Some(found) = found {
                return Err(CliError::usage(format!(
                    "the directory is not for this report: path=`{}`, found=`{found}`, wanted=`{}`",
                    path.display(),
                    kind(asked)
                ))
                .with_hint("name a new directory, an empty one, or that of an earlier report of the same recovery"));
            }
        }
        Ok(Self { path, audience })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first file tells whose directory it is. `is_renewed`: another one follows in a few seconds.
    pub fn write(&self, report: &Report<'_>, signed: &Signed, is_renewed: bool) -> Result<(), CliError> {
        let json = serde_json::to_string_pretty(&json::json(report, self.audience, signed)).unwrap_or_default() + "\n";
        self.replace(JSON, json.as_bytes())?;
        if self.audience == Audience::Operators {
            self.replace(CSV, csv::csv(report, signed).as_bytes())?;
        }
        self.replace(HTML, page::page(report, self.audience, signed, is_renewed).as_bytes())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        let place = self.path.join(name);
        let part = self.path.join(format!(".{name}.{}{}", std::process::id(), PART.1));
        let written = self.write_beside(&part, &place, bytes).and_then(|()| std::fs::rename(&part, &place));
        written.map_err(|io| {
            let _ = std::fs::remove_file(&part);
            CliError::operator(format!("cannot write the report: path=`{}`, reason=`{io}`", place.display()))
                .with_hint("make room, or name another directory; `lifeboat recover report` writes it at any time")
        })
    }

    fn write_beside(&self, part: &Path, place: &Path, bytes: &[u8]) -> io::Result<()> {
        // A process of this number may have died here.
        match std::fs::remove_file(part) {
            Err(io) if io.kind() != io::ErrorKind::NotFound => return Err(io),
            _ => {}
        }
        let mode = if self.audience == Audience::Public { 0o666 } else { 0o600 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(part)?;
        let before = std::fs::symlink_metadata(place).ok().filter(std::fs::Metadata::is_file);
        if let Some(before) = before {
            file.set_permissions(Permissions::from_mode(before.permissions().mode() & 0o777))?;
        }
        file.write_all(bytes)
    }
}

/// Of which recovery a report is, and whether it is public; `None`: it is no report.
fn earlier(file: &Path) -> Option<(String, bool)> {
    std::fs::symlink_metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (json.get("report")?.as_str()? == "recovery").then_some(())?;
    Some((json.get("recovery_id")?.as_str()?.to_owned(), json.get("public")?.as_bool()?))
}
