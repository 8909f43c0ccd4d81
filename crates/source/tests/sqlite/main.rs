//! The SQLite source against real databases, real writers and real kills.

mod child;
mod crash;
mod damage;
mod property;
mod reading;
mod restoring;
mod support;
