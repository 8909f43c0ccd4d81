//! `lifeboat recover report`: what happened, site by site, with receipts whose signatures can be checked.
//!
//!   journal ─▶ [`Report`], pure (`lifeboat-control`) ─▶ json, csv, page ─▶ folder, atomically     (live: every few seconds)
//!
//! What is not here: what is counted and how, which `lifeboat-control` says.

mod csv;
mod folder;
mod html;
mod json;
mod live;
mod page;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashSet;

use data_encoding::HEXLOWER;
use lifeboat_control::recovery::{RecoveryEngine, Report};
use lifeboat_model::{SignedReceipt, SiteId, Timestamp};

use self::folder::Folder;
pub(super) use self::live::LivePage;
use super::{bystanders, on_thread, tell};
use crate::args::RecoverReportArgs;
use crate::output::Outcome;
use crate::{CliError, Context};

/// Who reads a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Operators,
    /// Anybody: numbers alone, no site and nothing that somebody wrote.
    Public,
}

impl Audience {
    fn of(is_public: bool) -> Self {
        if is_public { Self::Public } else { Self::Operators }
    }
}

/// Whose receipts have the repository's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Signed {
    NotChecked,
    Checked(HashSet<SiteId>),
}

impl Signed {
    fn word(&self, site: &SiteId) -> &'static str {
        match self {
            Self::NotChecked => "no",
            Self::Checked(good) if good.contains(site) => "good",
            Self::Checked(_) => "bad",
        }
    }
}

pub fn run(args: &RecoverReportArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let journal = on_thread(|ledger| ledger.status(args.recovery), &open.engine)?;
        // Refused before anything is said.
        let directory = args.out.as_ref().map(|directory| context.path(directory));
        let folder = directory.map(|path| Folder::claim(path, args.recovery, Audience::of(args.public))).transpose()?;
        // It was written down: how sites ended is what it says. That others were touched is damage wherever it is seen.
        let mut outcome = Outcome { exit_code: bystanders::exit_code(&journal), ..tell::outcome(&journal) };
        tell::summary(&journal, &context.output);
        if folder.is_none() || context.output.is_json() {
            tell::sites(&journal, &context.output, |_| true);
        }
        let signed = match args.verify {
            false => Signed::NotChecked,
            true => {
                let good = verify::signatures(&journal, &context.output).await?;
                outcome = verify::told(&journal, good.len(), outcome);
                Signed::Checked(good)
            }
        };
        if let Some(file) = &args.from {
            outcome = verify::exported(&context.path(file), &journal, &context.output, outcome)?;
        }
        if let Some(folder) = folder {
            folder.write(&Report::of_journal(&journal, Timestamp::now()), &signed, false)?;
            context.output.say(format!("The report is in {}", folder.path().display()));
            outcome = outcome.with("report", folder.path());
        }
        Ok(outcome)
    })
}

fn signature(signed: &SignedReceipt) -> String {
    HEXLOWER.encode(&signed.signature)
}
