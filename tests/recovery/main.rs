//! Recoveries of many sites: what any engine must do (`conformance`), and what the one there is does with real sites.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod conformance;
mod fake;
mod ledger;
