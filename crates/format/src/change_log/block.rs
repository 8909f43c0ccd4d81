//! Writing a block: changes of one site become frames of about 1 MiB, each readable by itself.
//!
//! ```text
//! frame         [[* table], [* transaction]]
//! transaction   [head, [* [sequence, place of the table, change]]]
//! ```
//!
//! A transaction that does not fit goes on in the next frame, or in the next segment, under the same
//! head. The first sequence of a transaction in a frame is given whole, the others by how much they
//! are above the one before. The keys are needed only when the block is sealed.
//!
//! Invariant (changes-in-order): within a block changes ascend by place, and each has the columns of
//! its table; what no reader would accept is refused by the writer.

use std::sync::Arc;

use lifeboat_model::{ChangeCounts, ChangePlace, ChangedTable, ObjectId, RowChange, TransactionHead};
use minicbor::Encoder;

use crate::cbor::{Wire, emit};
use crate::wire::{check_change, check_table};
use crate::{Compressor, Error, FRAME_RAW_MAX, FrameKind, ObjectKind, ObjectWriter, Result, SiteKeys};

/// A frame is closed before it would hold more plain bytes: large enough to compress well, small
/// enough that a reader's memory is a few of them.
const FRAME_BYTES: usize = 1 << 20;
/// What a frame holds beside tables and changes, at most: the heads of three arrays, a transaction's
/// head and the head of its changes.
const FRAME_HEADS: usize = 80;

/// A block being collected, in plain bytes.
#[derive(Debug, Default)]
pub struct BlockWriter {
    frames: Vec<Vec<u8>>,
    open: OpenFrame,
    /// Bytes of the frames that are closed.
    closed_len: usize,
    counts: ChangeCounts,
    /// Place of the first change, and head and sequence of the last.
    first: Option<ChangePlace>,
    last: Option<(TransactionHead, u64)>,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct OpenFrame {
    tables: Vec<Arc<ChangedTable>>,
    table_bytes: Vec<u8>,
    transactions: u64,
    transaction_bytes: Vec<u8>,
    /// The transaction that is open in this frame: its head, and the sequence of its last change.
    head: Option<(TransactionHead, u64)>,
    changes: u64,
    change_bytes: Vec<u8>,
}

/// A block, sealed and not yet in its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlock {
    pub id: ObjectId,
    pub bytes: Vec<u8>,
    pub counts: ChangeCounts,
    pub first: ChangePlace,
    pub last: ChangePlace,
}

impl BlockWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Plain bytes so far: about what the block keeps in memory.
    pub fn len(&self) -> usize {
        self.closed_len + self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn counts(&self) -> ChangeCounts {
        self.counts
    }

    /// Appends a change; places ascend.
    pub fn push(
        &mut self,
        head: &TransactionHead,
        sequence: u64,
        table: &Arc<ChangedTable>,
        change: &RowChange,
    ) -> Result<()> {
        self.check_order(head, sequence)?;
        check_change(table, change).map_err(Error::misuse)?;
        self.scratch.clear();
        change.put(&mut Encoder::new(&mut self.scratch));
        let known = self.open.place_of(table);
        let mut table_bytes = Vec::new();
        if known.is_none() {
            check_table(table).map_err(Error::misuse)?;
            table.put(&mut Encoder::new(&mut table_bytes));
        }
        let needed = self.scratch.len() + table_bytes.len() + FRAME_HEADS;
        if needed > FRAME_RAW_MAX as usize {
            let (len, max) = (self.scratch.len() as u64, u64::from(FRAME_RAW_MAX) - FRAME_HEADS as u64);
            return Err(Error::TooLarge { what: "change of a row", len, max });
        }
        if self.open.len() > 0 && self.open.len() + needed > FRAME_BYTES {
            self.close_frame();
        }
        // In a new frame every table is a new one.
        let place = match self.open.place_of(table) {
            Some(place) => place,
            None => self.open.add_table(table),
        };
        self.open.add_change(head, sequence, place, &self.scratch);
        self.counts.count(change.kind());
        self.first.get_or_insert(ChangePlace { commit: head.commit, sequence });
        self.last = Some((*head, sequence));
        Ok(())
    }

    /// Seals the block; `None` when nothing was pushed.
    pub fn seal(mut self, keys: &SiteKeys, id: ObjectId, compressor: &mut Compressor) -> Result<Option<SealedBlock>> {
        self.close_frame();
        let (Some(first), Some((head, sequence))) = (self.first, self.last) else { return Ok(None) };
        let mut object = ObjectWriter::new(keys, ObjectKind::Block, id)?;
        for frame in self.frames {
            object.push_frame(FrameKind::Changes, &frame, Some(compressor))?;
        }
        let (bytes, _) = object.finish()?;
        let last = ChangePlace { commit: head.commit, sequence };
        Ok(Some(SealedBlock { id, bytes, counts: self.counts, first, last }))
    }

    fn check_order(&self, head: &TransactionHead, sequence: u64) -> Result<()> {
        let Some((before, last)) = self.last else { return Ok(()) };
        let goes_on = before == *head && sequence > last;
        if goes_on || head.commit > before.commit {
            return Ok(());
        }
        let (now, then) = (head.commit, before.commit);
        Err(Error::misuse(format!(
            "changes do not ascend: commit=`{now}`, sequence=`{sequence}`, before=`{then}`, its_sequence=`{last}`"
        )))
    }

    fn close_frame(&mut self) {
        if self.open.len() > 0 {
            let frame = std::mem::take(&mut self.open).finish();
            self.closed_len += frame.len();
            self.frames.push(frame);
        }
    }
}

/// A block that seals each frame as soon as it is full: of the plain bytes one frame is in memory.
#[derive(Debug)]
pub struct SealingBlock {
    block: BlockWriter,
    object: ObjectWriter,
}

impl SealingBlock {
    pub fn new(keys: &SiteKeys, id: ObjectId) -> Result<Self> {
        Ok(Self { block: BlockWriter::new(), object: ObjectWriter::new(keys, ObjectKind::Block, id)? })
    }

    /// Appends a change; places ascend.
    pub fn push(
        &mut self,
        (head, sequence): (&TransactionHead, u64),
        table: &Arc<ChangedTable>,
        change: &RowChange,
        compressor: &mut Compressor,
    ) -> Result<()> {
        self.block.push(head, sequence, table, change)?;
        self.seal_closed(compressor)
    }

    /// Seals the rest; `None` when nothing was pushed.
    pub fn finish(mut self, compressor: &mut Compressor) -> Result<Option<SealedBlock>> {
        self.block.close_frame();
        self.seal_closed(compressor)?;
        let BlockWriter { counts, first, last, .. } = self.block;
        let (Some(first), Some((head, sequence))) = (first, last) else { return Ok(None) };
        let id = self.object.id();
        let (bytes, _) = self.object.finish()?;
        Ok(Some(SealedBlock { id, bytes, counts, first, last: ChangePlace { commit: head.commit, sequence } }))
    }

    fn seal_closed(&mut self, compressor: &mut Compressor) -> Result<()> {
        for frame in self.block.frames.drain(..) {
            self.object.push_frame(FrameKind::Changes, &frame, Some(compressor))?;
        }
        Ok(())
    }
}

impl OpenFrame {
    fn len(&self) -> usize {
        self.table_bytes.len() + self.transaction_bytes.len() + self.change_bytes.len()
    }

    fn place_of(&self, table: &Arc<ChangedTable>) -> Option<u64> {
        let same = |known: &Arc<ChangedTable>| Arc::ptr_eq(known, table) || known == table;
        self.tables.iter().position(same).map(|place| place as u64)
    }

    fn add_table(&mut self, table: &Arc<ChangedTable>) -> u64 {
        table.put(&mut Encoder::new(&mut self.table_bytes));
        self.tables.push(Arc::clone(table));
        self.tables.len() as u64 - 1
    }

    fn add_change(&mut self, head: &TransactionHead, sequence: u64, table: u64, change: &[u8]) {
        let mut told = sequence;
        match &mut self.head {
            Some((open, last)) if open == head => {
                told = sequence - *last; // `check_order` proved that it ascends
                *last = sequence;
            }
            _ => {
                self.close_transaction();
                self.head = Some((*head, sequence));
            }
        }
        let mut out = Encoder::new(&mut self.change_bytes);
        emit(emit(emit(out.array(3)).u64(told)).u64(table));
        self.change_bytes.extend_from_slice(change);
        self.changes += 1;
    }

    fn close_transaction(&mut self) {
        let Some((head, _)) = self.head.take() else { return };
        let mut out = Encoder::new(&mut self.transaction_bytes);
        emit(out.array(2));
        head.put(&mut out);
        emit(out.array(self.changes));
        self.transaction_bytes.append(&mut self.change_bytes);
        self.changes = 0;
        self.transactions += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        self.close_transaction();
        let mut frame = Vec::with_capacity(self.len() + FRAME_HEADS);
        emit(emit(Encoder::new(&mut frame).array(2)).array(self.tables.len() as u64));
        frame.extend_from_slice(&self.table_bytes);
        emit(Encoder::new(&mut frame).array(self.transactions));
        frame.extend_from_slice(&self.transaction_bytes);
        frame
    }
}
