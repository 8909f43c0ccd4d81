//! The state of a site, the events that change it, commits and runs.

use lifeboat_model::{
    CommitEvent, DrillEnd, DrillFailed, Hold, HoldReason, IndexRef, Proven, RestoreIntent, RestoreOutcome, RunOutcome,
    RunSite, RunSource, SourceName,
};

use super::variant::{Put, Variant, put_variant};
use super::wire_codes;
use crate::cbor::{self, In, Out, Wire, WireResult, wire_lists, wire_map};

wire_codes!(HoldReason, "hold reason" { 0: Shrank, 1: Vanished, 2: Asked });
wire_codes!(RestoreOutcome, "restore outcome" { 0: Completed, 1: Abandoned, 2: Partial });

wire_map!(DrillFailed { 0: at, 1: drill });
wire_map!(Proven { 0: at, 1: moment, 2: took, 3: drill });
wire_map!(Hold { 0: id, 1: reason, 2: note, 3: placed_at });
wire_map!(RestoreIntent {
    0: restore,
    1: snapshot,
    2: parts,
    3: opened_at,
    4: owner,
    5: takes_over,
    6: moment,
    7: keeps_later,
});
wire_map!(IndexRef { 0: id, 1: len, 2: chunks });
wire_map!(RunSource { 0: source, 1: sites, 2: root, 3: failure });
wire_map!(RunSite { 0: site, 1: generation, 2: snapshot, 3: seen_at, 4: outcome });
wire_lists!(Hold, IndexRef, SourceName, RunSource, RunSite);

/// An event is `[code, field, field, …]`.
impl Wire for CommitEvent {
    fn put(&self, out: &mut Out<'_>) {
        let (code, fields): (u32, &[&dyn Put]) = match self {
            Self::Published { snapshot, index } => (0, &[snapshot, index]),
            Self::StateChanged { snapshot, state, drill: None } => (1, &[snapshot, state]),
            Self::StateChanged { snapshot, state, drill: Some(drill) } => (1, &[snapshot, state, drill]),
            Self::Marked { snapshot, mark, reason } => (2, &[snapshot, mark, reason]),
            Self::HoldPlaced(hold) => (3, &[hold]),
            Self::HoldReleased { hold } => (4, &[hold]),
            Self::RestoreOpened(intent) => (5, &[intent]),
            Self::RestoreClosed { restore, outcome } => (6, &[restore, outcome]),
            Self::IndexCompacted { index } => (7, &[index]),
            Self::Forgot { snapshots, forgotten, reason } => (8, &[snapshots, forgotten, reason]),
            Self::Undeleted { snapshots } => (9, &[snapshots]),
            Self::Condemned(what) => (10, &[what.as_ref()]),
            Self::Deleted { till } => (11, &[till]),
            Self::Shredded(what) => (12, &[what.as_ref()]),
        };
        put_variant(out, code, fields);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let event = match variant.code {
            0 => Self::Published { snapshot: variant.field(input)?, index: variant.field(input)? },
            1 => Self::StateChanged {
                snapshot: variant.field(input)?,
                state: variant.field(input)?,
                drill: variant.field_if_there(input)?,
            },
            2 => Self::Marked {
                snapshot: variant.field(input)?,
                mark: variant.field(input)?,
                reason: variant.field(input)?,
            },
            3 => Self::HoldPlaced(variant.field(input)?),
            4 => Self::HoldReleased { hold: variant.field(input)? },
            5 => Self::RestoreOpened(variant.field(input)?),
            6 => Self::RestoreClosed { restore: variant.field(input)?, outcome: variant.field(input)? },
            7 => Self::IndexCompacted { index: variant.field(input)? },
            8 => Self::Forgot {
                snapshots: variant.field(input)?,
                forgotten: variant.field(input)?,
                reason: variant.field(input)?,
            },
            9 => Self::Undeleted { snapshots: variant.field(input)? },
            10 => Self::Condemned(Box::new(variant.field(input)?)),
            11 => Self::Deleted { till: variant.field(input)? },
            12 => Self::Shredded(Box::new(variant.field(input)?)),
            other => return cbor::unknown("commit event", other.into()),
        };
        variant.end(input)?;
        Ok(event)
    }
}

/// `[0, proven]` or `[1, failed]`.
impl Wire for DrillEnd {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Proven(proven) => put_variant(out, 0, &[proven]),
            Self::Failed(failed) => put_variant(out, 1, &[failed]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let end = match variant.code {
            0 => Self::Proven(variant.field(input)?),
            1 => Self::Failed(variant.field(input)?),
            other => return cbor::unknown("end of a drill", other.into()),
        };
        variant.end(input)?;
        Ok(end)
    }
}

/// `[0]` published, `[1]` unchanged, `[2, reason]` failed, `[3]` vanished.
impl Wire for RunOutcome {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Published => put_variant(out, 0, &[]),
            Self::Unchanged => put_variant(out, 1, &[]),
            Self::Failed { reason } => put_variant(out, 2, &[reason]),
            Self::Vanished => put_variant(out, 3, &[]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let outcome = match variant.code {
            0 => Self::Published,
            1 => Self::Unchanged,
            2 => Self::Failed { reason: variant.field(input)? },
            3 => Self::Vanished,
            other => return cbor::unknown("run outcome", other.into()),
        };
        variant.end(input)?;
        Ok(outcome)
    }
}
