//! Many sites put back by one approved plan: the plan of each, one case at a time, what the operator wants around it, and
//! the journal of it all.
//!
//! What is not here: which case is done when, and by whom (`lifeboat-control`).

mod around;
mod bystanders;
mod case;
mod drill;
mod journal;
mod left;
mod load;

pub use around::{Around, Ask, OwnCheck};
pub use bystanders::{
    BystanderRequest, ProofRequest, RestoreWrote, databases, look_again, look_at_bystanders, prove_bystanders,
};
pub use case::{CaseAsked, CaseAttempt, plan_case, run_case};
pub use drill::{Scratch, note_drill_failed, tells_of_the_site};
pub use journal::{Journal, Recoveries};
pub use lifeboat_repo::SigningKey;
pub use load::{ServerLoad, server_loads};
