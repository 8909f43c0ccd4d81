//! A check by a statement: what its one answer must be, and that it comes in time whatever the server does.
//!
//! What is not here: how the statement is sent (`lifeboat-source`).

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use lifeboat_model::{SiteId, SourceName};
use lifeboat_source::postgres::{Answer, Question};

use super::{NotPassed, Verdict};
use crate::command::{Stop, one_line};
use crate::{AnySource, Engine};

const POLL: Duration = Duration::from_millis(50);
/// The server itself ends a statement in time, and says so better than we can.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Sql<'a> {
    pub sql: &'a str,
    pub expect: Option<i64>,
    pub timeout: Duration,
}

/// Asks from a thread of its own: a server that accepts and never answers is left alone with it.
pub(super) fn ask(engine: &Engine, site: &SiteId, source: &SourceName, sql: &Sql<'_>, stop: Stop<'_>) -> Verdict {
    let Some(AnySource::Postgres(source)) = engine.fleet.source(source) else {
        return Err(NotPassed::Because(format!("no PostgreSQL source of this name: source=`{source}`")));
    };
    let (source, about) = (source.another(), site.clone());
    let question = Question { sql: sql.sql.to_owned(), timeout: sql.timeout };
    let (tell, answered) = channel();
    std::thread::spawn(move || {
        let _ = tell.send(source.ask(&about, &question));
    });
    let deadline = Instant::now() + sql.timeout + GRACE;
    loop {
        match answered.recv_timeout(POLL) {
            Ok(Ok(answer)) => return judge(&answer, sql.expect).map_err(NotPassed::Because),
            Ok(Err(error)) => return Err(NotPassed::Because(one_line(&error.to_string()))),
            Err(RecvTimeoutError::Timeout) if stop() => return Err(NotPassed::Stopped),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(NotPassed::Because(format!("no answer within {} s", sql.timeout.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(NotPassed::Because("asking has panicked".into())),
        }
    }
}

/// Whether the answer is the wanted one.
fn judge(answer: &Answer, expect: Option<i64>) -> Result<String, String> {
    match (answer, expect) {
        (Answer::Flag(true), None) => Ok("true".into()),
        (Answer::Number(number), Some(expect)) if *number == expect => Ok(format!("{number}, as expected")),
        (Answer::Number(number), Some(expect)) => Err(format!("expected=`{expect}`, answer=`{number}`")),
        (Answer::Flag(flag), Some(expect)) => Err(format!("expected=`{expect}`, answer=`{flag}`")),
        (Answer::Flag(false), None) => Err("answer=`false`".into()),
        (Answer::Number(number), None) => {
            Err(format!("a number, and no `expect` says which is right: answer=`{number}`"))
        }
        (Answer::Null, _) => Err("answer=`NULL`".into()),
        (Answer::Other(what), _) => Err(format!("one boolean or one whole number is asked for, and there came {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_or_the_expected_number_passes() {
        for (answer, expect, want) in [
            (Answer::Flag(true), None, true),
            (Answer::Flag(true), Some(1), false),
            (Answer::Flag(false), None, false),
            (Answer::Number(3), Some(3), true),
            (Answer::Number(0), Some(0), true),
            (Answer::Number(4), Some(3), false),
            (Answer::Number(1), None, false),
            (Answer::Null, None, false),
            (Answer::Null, Some(0), false),
            (Answer::Other("no row".into()), Some(0), false),
        ] {
            assert_eq!(judge(&answer, expect).is_ok(), want, "{answer:?} {expect:?}");
        }
    }
}
