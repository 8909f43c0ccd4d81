//! Following a recovery from another terminal, as long as somebody is at it.
//!
//! People see a bar, or a line now and then where there is no terminal; programs an event for each change.

use std::time::Duration;

use lifeboat_control::recovery::{Runner, Standing};
use lifeboat_engine::Journal;
use lifeboat_model::{CaseState, HandOver};

use super::report::LivePage;
use super::tell::{self, Stand};
use crate::output::Output;
use crate::progress::Steps;
use crate::{CliError, Context};

/// How often a journal that is followed is read.
const POLL: Duration = Duration::from_secs(1);
/// Sites at work that one line names.
const NAMED_MAX: usize = 3;

/// Shows how it goes until nobody runs it any more: it is done, it was stopped, or its process is gone.
pub(super) async fn follow(journal: &mut Journal, page: Option<&LivePage>, context: &Context) -> Result<(), CliError> {
    let bar = Steps::telling("restored", journal.plan().cases.len() as u64, &context.output);
    let mut changes = Changes::new(&context.output);
    loop {
        journal.refresh().await?;
        let stand = Stand::of(journal);
        bar.at(journal.state().counts().restored as u64);
        let at_work = tell::running(journal);
        let names: Vec<&str> = at_work.iter().take(NAMED_MAX).map(|site| site.as_str()).collect();
        bar.doing(&format!("{} | {}", stand.progress(), names.join(" ")));
        changes.tell(journal, &stand);
        if let Some(page) = page {
            page.show(journal);
        }
        let is_over = stand.standing == Standing::Done || stand.runner != Runner::AtWork;
        let stopped = context.cancel.check();
        if is_over || stopped.is_err() {
            bar.end();
            return stopped;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What of a case a program is told anew when it changes.
type Seen = (&'static str, u32, u32, Option<HandOver>);

/// Tells programs what has changed since they were told last; first where it stands, without the cases.
struct Changes<'a> {
    output: &'a Output,
    standing: Option<(Standing, Runner)>,
    cases: Vec<Seen>,
}

impl<'a> Changes<'a> {
    fn new(output: &'a Output) -> Self {
        Self { output, standing: None, cases: Vec::new() }
    }

    fn tell(&mut self, journal: &Journal, stand: &Stand<'_>) {
        let cases = &journal.state().cases;
        let now: Vec<Seen> = cases.iter().map(seen).collect();
        let changed = cases.iter().zip(now.iter().zip(&self.cases)).filter(|(_, (now, before))| now != before);
        changed.for_each(|(case, _)| self.output.event("case", tell::case_json(case)));
        self.cases = now;
        if self.standing.replace((stand.standing, stand.runner)) != Some((stand.standing, stand.runner)) {
            self.output.event("recovery", tell::recovery_json(journal, stand));
        }
    }
}

fn seen(case: &CaseState) -> Seen {
    (case.stage.name(), case.attempts, case.priority, case.hand_over)
}
