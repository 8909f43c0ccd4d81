//! When sites are backed up and read back: pure functions of the clock, of what is known, and of the policies.
//!
//! ```text
//! policy ─▶ [`Schedule`]: cron in a zone ─▶ [`Firings`] around now ─▶ each site's own moment within the spread
//! facts  ─▶ [`due`] ─▶ which sites to back up now, the most overdue first, and when to look again
//! facts  ─▶ [`to_read`] ─▶ which sites to read back now, so that every byte is read within so many days
//! ```
//!
//! Nothing is remembered here and nothing is kept on a host: what was done is in the bucket's runs and in the catalog that
//! is made from it. So a daemon that starts anew, or on another host, decides the same.
//!
//! What is not here: asking the clock, the bucket and the sources, and doing what is due (the daemon of `lifeboat-cli`).

mod due;
mod firing;
mod reading;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod year;

pub use due::{Batch, Decision, DuePolicy, DueSite, Room, due};
pub use firing::{Firings, Schedule, ScheduleError, Turn, zone_names};
pub use reading::{ReadSite, Reading, to_read};
