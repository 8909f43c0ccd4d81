//! Recoveries: many sites at once, by one approved plan.
//!
//! ```text
//! plan ─ approved ─▶ canary ─ few failures ─▶ all others, so many at once; each case on its own
//!                       └─ many ─▶ halt, until a person says go on
//! journal (in the bucket) ◀─▶ commander ─▶ workers ─▶ steps of a case ─▶ receipts
//!        ▲ pause, skip, retry … from any terminal
//! ```
//!
//! Who does the cases is behind a seam ([`RecoveryEngine`]), and so is what a case does ([`CaseSteps`]): the one engine
//! there is ([`Ledger`]) runs them on threads of this process, with the journal as its ledger. Killed anywhere, whoever has
//! the bucket and the key goes on.
//!
//! Before the first case and after the last one, sites beside it are looked at ([`look_before`], [`prove_after`]).
//!
//! Invariant (cases-are-alone): how one case ends, even by a panic, changes no other case.
//!
//! What is not here: how a site is restored (`lifeboat-engine`), and how any of it looks (`lifeboat-cli`).

mod bystanders;
mod commander;
mod estimate;
mod governor;
mod ledger;
mod report;
mod seam;
mod standing;
mod steps;

pub use bystanders::{look_before, prove_after};
pub use estimate::{Estimate, estimate};
pub use governor::DatabaseLoad;
pub use ledger::Ledger;
pub use report::{CurvePoint, Report, SiteReport, SiteSums, Totals, sites_per_hour};
pub use seam::{CaseSteps, Control, Governor, RecoveryEngine, RunEnd, RunOptions, Step, StepHooks, StepOut, Watch};
pub use standing::{Runner, Standing};
pub use steps::EngineSteps;
