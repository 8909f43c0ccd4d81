//! The exit codes that a verb gives of itself: each has its name here alone. What an error ends with is its fault's.

use lifeboat_model::Fault;

/// Some of what was asked for was done.
pub const PARTLY: u8 = 3;
/// An objective is breached, as `status` finds.
pub const BREACHED: u8 = 4;
/// A person must act first.
pub const OPERATOR: u8 = Fault::Operator.exit_code();
/// Stored data are not what was written, or data of somebody may be damaged.
pub const DAMAGE: u8 = Fault::Damage.exit_code();
/// Asked to stop, or a person said no.
pub const CANCELLED: u8 = Fault::Cancelled.exit_code();
