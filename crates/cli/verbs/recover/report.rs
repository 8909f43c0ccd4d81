//! `lifeboat recover report`: what happened, site by site, with receipts whose signatures can be checked.

use lifeboat_control::recovery::RecoveryEngine;
use lifeboat_model::CaseStage;

use super::{on_thread, tell};
use crate::args::RecoverReportArgs;
use crate::output::Outcome;
use crate::{CliError, Context};

const DAMAGE: u8 = 20;

pub fn run(args: &RecoverReportArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let journal = on_thread(|ledger| ledger.status(args.recovery), &open.engine)?;
        tell::summary(&journal, &context.output);
        tell::sites(&journal, &context.output, |_| true);
        let outcome = tell::outcome(&journal);
        if !args.verify {
            return Ok(outcome);
        }
        let key = journal.signing_key().await?;
        let receipts = journal.state().cases.iter().filter_map(|case| match &case.stage {
            CaseStage::Restored(signed) => Some(signed),
            _ => None,
        });
        let (good, bad): (Vec<_>, Vec<_>) = receipts.partition(|signed| journal.is_signed(&key, signed));
        for signed in &bad {
            context.output.line(format!("  NOT SIGNED by this repository: {}", signed.receipt.site));
        }
        context.output.line(format!("{} receipts have the repository's signature, {} do not.", good.len(), bad.len()));
        let exit_code = if bad.is_empty() { outcome.exit_code } else { DAMAGE };
        Ok(Outcome { exit_code, ..outcome }.with("signed", good.len()).with("not_signed", bad.len()))
    })
}
