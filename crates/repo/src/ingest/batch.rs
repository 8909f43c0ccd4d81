//! Chunks on their way to a worker: a large one alone, small ones many at a time.
//!
//! A site of small files has a chunk a file; handing each over by itself would cost more than to
//! compress it. What is not here: the queue, and whose a used batch is (`ingest`, `shared`).

/// A batch is sent when it has grown to this: the shortest chunk that is cut by content.
const BATCH_BYTES: usize = 256 << 10;

/// Chunks that were submitted one after the other.
#[derive(Default)]
pub(super) struct Batch {
    /// The number of the first one.
    first: u64,
    bytes: Vec<u8>,
    /// Where each chunk ends.
    ends: Vec<usize>,
}

impl Batch {
    /// Begins anew, in the memory there is.
    pub(super) fn restart(&mut self, first: u64) {
        self.first = first;
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends a chunk and gives its number.
    pub(super) fn push(&mut self, chunk: &[u8]) -> u64 {
        let number = self.next();
        self.bytes.extend_from_slice(chunk);
        self.ends.push(self.bytes.len());
        number
    }

    /// The number of the chunk that would be pushed next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// The chunks with their numbers, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]);
        (self.first..).zip(ranges)
    }
}
