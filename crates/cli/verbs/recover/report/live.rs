//! The page of a recovery that runs, written anew every few seconds.
//!
//! A page is for those who look on: that it cannot be written is told once, and once more at the end, and ends no recovery.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_control::recovery::Report;
use lifeboat_engine::Journal;
use lifeboat_model::{RecoveryId, Timestamp};

use super::folder::Folder;
use super::{Audience, Signed};
use crate::args::RecoverPageArgs;
use crate::output::Output;
use crate::{CliError, Context};

/// How often at most.
const EVERY: Duration = Duration::from_secs(3);
/// So many times what writing takes lies between: of many sites a page is large, and who writes it has other work.
const IDLE_TIMES: u32 = 30;

pub(in crate::verbs::recover) struct LivePage {
    folder: Folder,
    output: Output,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Pace {
    /// `None`: at once.
    due: Option<Instant>,
    has_failed: bool,
}

impl LivePage {
    /// `None`: nobody asked for one.
    pub fn asked(args: &RecoverPageArgs, recovery: RecoveryId, context: &Context) -> Result<Option<Self>, CliError> {
        let Some(directory) = &args.report else { return Ok(None) };
        let folder = Folder::claim(context.path(directory), recovery, Audience::of(args.public))?;
        Ok(Some(Self { folder, output: context.output.clone(), pace: Mutex::default() }))
    }

    /// Writes it, if the last one is old enough.
    pub fn show(&self, journal: &Journal) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        if pace.due.is_some_and(|due| began < due) {
            return;
        }
        self.write(journal, true, &mut pace);
        pace.due = Some(began + EVERY.max(began.elapsed() * IDLE_TIMES));
    }

    /// Writes it as it stays: whoever reads it need not ask again.
    pub fn finish(&self, journal: &Journal) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.has_failed = false;
        self.write(journal, false, &mut pace);
    }

    fn write(&self, journal: &Journal, is_renewed: bool, pace: &mut Pace) {
        let report = Report::of_journal(journal, Timestamp::now());
        let written = self.folder.write(&report, &Signed::NotChecked, is_renewed && report.is_live);
        if let Err(error) = &written
            && !pace.has_failed
        {
            self.output.warn(&error.message, error.hint.as_deref());
        }
        pace.has_failed = written.is_err();
    }
}
