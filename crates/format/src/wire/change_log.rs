//! What epochs, segments and log commits say of themselves.

use lifeboat_model::{
    BlockRef, CondemnedSegments, EpochId, EpochReason, LogBegin, LogCondemnation, LogEvent, LogMark, LogNote, LogState,
    LongSegment, ObjectPlace, SegmentSpan, SharedFacts, SharedKinds, SiteCount, SiteId, SourceName, SpanBounds,
    StructureChange, TransactionFacts, Truncation, UnroutedChange, UnroutedChanges, UnroutedRef,
};

use super::variant::{Variant, put_variant};
use super::wire_codes;
use crate::cbor::{self, In, Out, Wire, WireResult, wire_array, wire_lists, wire_map, wire_newtypes};
use crate::change_log::StandsFor;

wire_codes!(EpochReason, "reason of an epoch" { 0: First, 1: SlotLost, 2: Failover, 3: TableRewritten, 4: Asked });

wire_map!(SegmentSpan { 0: from, 1: complete_till, 2: bounds, 3: highest });
wire_array!(SpanBounds { first_commit, last_commit, earliest, latest, lowest, highest });
wire_array!(ObjectPlace { id, offset, len });
wire_array!(StandsFor { first, last_id });
wire_array!(UnroutedRef { place, changes });
wire_array!(BlockRef { site, place, counts, first, last });

wire_newtypes!(SharedKinds);
wire_map!(SharedFacts { 0: sites, 1: tables, 2: transactions, 3: truncations, 4: structure, 5: notes });
wire_array!(TransactionFacts { head, counts, unrouted });
wire_array!(SiteCount { site, table, counts });
wire_array!(Truncation { place, tables, cascades, restarts_sequences });
wire_array!(StructureChange { place, before, after });
wire_array!(LogNote { place, prefix, content });

wire_map!(UnroutedChanges { 0: tables, 1: changes });
wire_array!(UnroutedChange { place, table, kind, key, change });

wire_array!(LongSegment { id, len, first, last });
wire_array!(LogBegin { first, bases_since });
wire_array!(LogMark { begins, at });
wire_map!(LogCondemnation { 0: begins, 1: leftovers, 2: at, 3: run });
wire_map!(CondemnedSegments { 0: commit, 1: at, 2: run, 3: from, 4: till, 5: longs });

/// The state as it is stored.
struct StoredLog {
    source: SourceName,
    epoch: EpochId,
    long_segments: Vec<LongSegment>,
    begins: Option<LogBegin>,
    condemned: Option<Vec<CondemnedSegments>>,
    marks: Option<Vec<LogMark>>,
}

wire_map!(StoredLog { 0: source, 1: epoch, 2: long_segments, 3: begins, 4: condemned, 5: marks });

impl Wire for LogState {
    fn put(&self, out: &mut Out<'_>) {
        let Self { source, epoch, long_segments, begins, marks, condemned } = self.clone();
        let condemned = (!condemned.is_empty()).then_some(condemned);
        let marks = (!marks.is_empty()).then_some(marks);
        StoredLog { source, epoch, long_segments, begins, condemned, marks }.put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let StoredLog { source, epoch, long_segments, begins, condemned, marks } = Wire::take(input)?;
        let (marks, condemned) = (marks.unwrap_or_default(), condemned.unwrap_or_default());
        Ok(Self { source, epoch, long_segments, begins, marks, condemned })
    }
}

wire_lists!(
    BlockRef,
    CondemnedSegments,
    LogMark,
    LogNote,
    LongSegment,
    SiteCount,
    SiteId,
    String,
    StructureChange,
    TransactionFacts,
    Truncation,
    UnroutedChange,
    u32,
);

/// An event is `[code, field, …]`.
impl Wire for LogEvent {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Compacted(segment) => put_variant(out, 0, &[segment]),
            Self::Condemned(what) => put_variant(out, 1, &[what]),
            Self::Deleted { till } => put_variant(out, 2, &[till]),
            Self::Marked(mark) => put_variant(out, 3, &[mark]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let event = match variant.code {
            0 => Self::Compacted(variant.field(input)?),
            1 => Self::Condemned(variant.field(input)?),
            2 => Self::Deleted { till: variant.field(input)? },
            3 => Self::Marked(variant.field(input)?),
            other => return cbor::unknown("log event", other.into()),
        };
        variant.end(input)?;
        Ok(event)
    }
}
