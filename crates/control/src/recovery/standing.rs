//! Where a recovery stands: one answer, for every page, table and program.
//!
//! What is not here: how it is said (`lifeboat-cli`).

use lifeboat_engine::is_gone;
use lifeboat_model::RecoveryState;

/// Where a recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    NotApproved,
    Running,
    Paused,
    /// Too many have failed.
    Halted,
    /// Sites wait, and nobody is at it.
    Stopped,
    Done,
}

/// Who does the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    Nobody,
    AtWork,
    /// Its process ended without a word.
    Gone,
}

impl Runner {
    /// As it is seen from this host. Of a process on another one nothing can be said: it counts as at work.
    pub fn of(state: &RecoveryState) -> Self {
        match &state.run {
            Some(run) if run.ended_at.is_none() && is_gone(&run.owner) => Self::Gone,
            Some(run) if run.ended_at.is_none() => Self::AtWork,
            _ => Self::Nobody,
        }
    }
}

impl Standing {
    pub fn of(state: &RecoveryState, runner: Runner) -> Self {
        match () {
            () if state.halted.is_some() => Self::Halted,
            () if state.approved.is_none() => Self::NotApproved,
            () if state.is_done() => Self::Done,
            () if state.is_paused => Self::Paused,
            () if runner == Runner::AtWork => Self::Running,
            () => Self::Stopped,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::NotApproved => "not approved",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}
