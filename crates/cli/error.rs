//! The one error the command line tells, whatever crate it comes from.

use lifeboat_model::{Fault, Faulty, PointParseError};

/// What went wrong, what to do, and the exit code that says so.
///
/// It is not an [`std::error::Error`] itself, so that any error of any crate turns into one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// Lower case, no full stop, facts last as name=`value`.
    pub message: String,
    /// One sentence that names the way out.
    pub hint: Option<String>,
    pub fault: Fault,
}

impl CliError {
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, fault }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Fault::Usage, message)
    }

    pub fn operator(message: impl Into<String>) -> Self {
        Self::new(Fault::Operator, message)
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Fault::Bug, message)
            .with_hint("run it again with RUST_BACKTRACE=1 and report what it prints; nothing half-done is visible")
    }

    pub fn cancelled() -> Self {
        Self::new(Fault::Cancelled, "stopped as asked")
            .with_hint("run the same command again to go on; what was restorable still is")
    }

    /// Something of the contract that a later version brings.
    pub fn not_in_this_version(what: &str, name: &str) -> Self {
        Self::usage(format!("not in this version: {what}=`{name}`"))
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn exit_code(&self) -> u8 {
        self.fault.exit_code()
    }
}

impl CliError {
    /// What the command line tells of an error of any crate.
    pub fn of(error: &impl Faulty) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self { message, hint: error.hint(), fault: error.fault() }
    }
}

impl<E: Faulty> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// Tells a wrong `--at`.
pub fn bad_point(error: &PointParseError) -> CliError {
    let hint = match error {
        PointParseError::NoZone { whole, .. } => {
            format!("say which zone is meant: `{whole}Z` for UTC, or an offset such as `{whole}+02:00`")
        }
        PointParseError::Future { .. } => "leave --at out for the newest good point".into(),
        PointParseError::NotASnapshot(_) => "copy the id from `lifeboat points SITE`".into(),
        PointParseError::NotAPosition(_) => "positions are written as the server does: lsn:1/6B374D48".into(),
        PointParseError::NotATransaction(_) => "transactions have numbers, as `lifeboat find-damage` lists them".into(),
        _ => "use RFC 3339 with a zone (2022-04-05T07:38:00Z), a duration ago such as `2h`, `latest`, `snapshot:ID`, \
              `lsn:X`, `before-xid:N` or `before:NOTE`"
            .into(),
    };
    CliError::usage(error.to_string()).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{PointInTime, Timestamp};

    use super::*;

    #[test]
    fn what_a_hint_shows_for_a_time_without_a_zone_can_be_typed() {
        let now = Timestamp::parse("2030-01-01T00:00:00Z").unwrap();
        for text in ["2026-11-27", "2026-11-27T05:50", "2026-11-27 05:50:43", "2026-11-27T05:50:43.25", "20261127"] {
            let hint = bad_point(&PointInTime::parse(text, now).unwrap_err()).hint.unwrap();
            let shown: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
            assert_eq!(shown.len(), 2, "{text}: {hint}");
            for shown in shown {
                assert!(matches!(PointInTime::parse(shown, now), Ok(PointInTime::Time(_))), "{text}: {shown}");
            }
        }
    }
}
