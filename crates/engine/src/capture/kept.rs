//! What was kept on this host while the store did not answer, as it goes into the log.
//!
//!   slot as the log left it ─▶ nothing is missing        slot further, and what was kept reaches it ─▶ first that, then the slot
//!   slot gone ─▶ what was kept, to its end ─▶ the next epoch
//!
//! What is not here: keeping it (`spill`), its file (`lifeboat-repo`).

use std::time::Duration;

use lifeboat_model::{Fault, Lsn, SourceName};
use lifeboat_repo::{Appender, Spill, SpillSeen};
use lifeboat_source::postgres::capture::{CaptureStream, Captured, Spilled};

use super::writer::Writer;
use super::{CaptureIndex, CaptureNews, CaptureRequest, TellNews, after};
use crate::{Engine, Error};

const WAIT: Duration = Duration::from_millis(1);

/// A spill that goes on from where the log, or the index, ends.
pub(super) struct Kept {
    spill: Spill,
    seen: SpillSeen,
}

impl Kept {
    /// What the log lacks and this host has. The inner error: what is there, and is of no use, and why.
    pub fn find(
        request: &CaptureRequest,
        appender: &Appender,
        index: &mut dyn CaptureIndex,
    ) -> Result<Result<Option<Self>, String>, Error> {
        let Some(spill) = &request.spill else { return Ok(Ok(None)) };
        let seen = match spill.look() {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(place) = index.place()? else { return Ok(Ok(None)) };
        let (facts, epoch) = (&seen.facts, appender.epoch());
        let is_same = (&facts.source, facts.epoch, facts.timeline) == (&request.source, epoch.id, epoch.facts.timeline)
            && facts.system_identifier == epoch.facts.system_identifier
            && facts.slot == epoch.facts.slot
            && place.epoch == epoch.id;
        if !is_same {
            return Ok(Err("what is on this host is of another epoch or server".into()));
        }
        let from = after(place.position.min(appender.complete_till()));
        if seen.mark.till <= from {
            spill.remove()?; // killed before that
            return Ok(Ok(None));
        }
        if facts.begins > from {
            return Ok(Err(format!("what is on this host begins later: begins=`{}`", facts.begins)));
        }
        Ok(Ok(Some(Self { spill: spill.clone(), seen })))
    }

    /// Everything that committed before it is in it.
    pub fn till(&self) -> Lsn {
        self.seen.mark.till
    }

    /// All of it, as the stream takes it.
    pub fn spilled(&self, source: &SourceName) -> Result<Spilled, Error> {
        let mut reader = self.spill.read()?.ok_or_else(|| Error::Bug("what was kept is gone".into()))?;
        let source_name = source.to_string();
        let next = move || {
            reader.next_item().map_err(|error| lifeboat_source::Error::Database {
                source_name: source_name.clone(),
                action: "what was kept on this host cannot be read".into(),
                detail: error.to_string(),
                hint: "the next `lifeboat capture` begins a new epoch, after a gap".into(),
                fault: Fault::Operator,
            })
        };
        Ok(Spilled { begins: self.seen.facts.begins, till: self.till(), next: Box::new(next) })
    }

    /// All of it is in the log and in the index: it is gone from here.
    pub fn is_done(&self, tell: &TellNews) -> Result<(), Error> {
        self.spill.remove()?;
        tell(CaptureNews::OnlyHereNoMore { bytes: self.seen.bytes });
        Ok(())
    }

    /// Takes all of it into the log, when there is no slot to go on with.
    pub async fn drain(
        &self,
        engine: &Engine,
        request: &CaptureRequest,
        (stream, writer): (&mut CaptureStream, &mut Writer<'_>),
    ) -> Result<(), Error> {
        while after(writer.taken_till()) < self.till() {
            engine.check_cancelled()?;
            let taken = tokio::task::block_in_place(|| take_some(request, stream, writer));
            match taken {
                Ok(()) => writer.seal().await?,
                Err(error) => {
                    writer.seal().await?; // what came before it is whole
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Until a segment is full, or there is no more.
fn take_some(request: &CaptureRequest, stream: &mut CaptureStream, writer: &mut Writer<'_>) -> Result<(), Error> {
    while writer.len() < request.flush_bytes {
        let captured = stream.next(WAIT)?;
        let is_over = matches!(captured, Captured::Idle { .. });
        writer.take(captured)?;
        if is_over {
            break;
        }
    }
    Ok(())
}
