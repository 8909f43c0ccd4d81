//! The file a plan is written into, for whoever approves it: it names sites, and is for its owner alone.
//!
//! It is taken before anything is planned, so that two plans never share a name, and goes again where none was made.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lifeboat_engine::Journal;

use super::tell;
use crate::{CliError, Context};

pub(super) struct PlanFile {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl PlanFile {
    /// `None`: nobody asked for one.
    ///
    /// # Errors
    /// When anything is there already: a plan is never overwritten.
    pub fn claim(file: Option<&Path>, context: &Context) -> Result<Option<Self>, CliError> {
        let Some(path) = file.map(|file| context.path(file)) else { return Ok(None) };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Some(Self { path, file, is_written: false })),
            Err(io) if io.kind() == io::ErrorKind::AlreadyExists => {
                Err(CliError::usage(format!("the file is there already: path=`{}`", path.display()))
                    .with_hint("name a new file with -o: a plan is never overwritten"))
            }
            Err(io) => Err(cannot_write(&path, &io).with_hint("name a file that you may write with -o")),
        }
    }

    pub fn write(mut self, journal: &Journal) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(&tell::plan_json(journal)).unwrap_or_default();
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(|io| {
            let (id, hash) = (journal.plan().id, journal.hash());
            cannot_write(&self.path, &io)
                .with_hint(format!("the plan itself is stored: `lifeboat recover run {id} --plan {hash}`"))
        })?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for PlanFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn cannot_write(path: &Path, io: &io::Error) -> CliError {
    CliError::operator(format!("cannot write the plan: path=`{}`, reason=`{io}`", path.display()))
}
