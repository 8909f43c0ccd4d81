//! Which reads to make for the chunks that are wanted: a pure decision.

use std::ops::Range;

use lifeboat_model::ObjectId;

use super::Wanted;

/// A request costs about as much as reading 1 MiB, so small holes are cheaper to read than to skip.
const GAP_BYTES_MAX: u64 = 1 << 20;

/// One ranged read, and which of the sorted wanted chunks lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub pack: ObjectId,
    pub bytes: Range<u64>,
    pub wanted: Range<usize>,
}

/// Joins chunks of one pack that lie close together, up to `bytes_max` at once. `wanted` is sorted by pack and offset.
pub fn plan_fetches(wanted: &[Wanted], bytes_max: u64) -> Vec<Fetch> {
    let mut fetches: Vec<Fetch> = Vec::new();
    for (number, Wanted { chunk, .. }) in wanted.iter().enumerate() {
        let end = chunk.offset.saturating_add(u64::from(chunk.stored_len));
        if let Some(last) = fetches.last_mut() {
            let joined_end = last.bytes.end.max(end);
            let near = chunk.offset <= last.bytes.end.saturating_add(GAP_BYTES_MAX);
            let short = joined_end - last.bytes.start <= bytes_max;
            if last.pack == chunk.pack && near && short {
                last.bytes.end = joined_end;
                last.wanted.end = number + 1;
                continue;
            }
        }
        fetches.push(Fetch { pack: chunk.pack, bytes: chunk.offset..end, wanted: number..number + 1 });
    }
    fetches
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{ChunkId, ChunkRef};

    use super::*;

    #[test]
    fn near_chunks_of_one_pack_are_read_together() {
        let check = |chunks: &[(u8, u64, u32)], want: &[(u64, u64, usize)]| {
            let wanted: Vec<Wanted> = chunks
                .iter()
                .map(|&(pack, offset, stored_len)| Wanted {
                    chunk: ChunkRef {
                        id: ChunkId([0; 32]),
                        pack: ObjectId([pack; 16]),
                        offset,
                        stored_len,
                        raw_len: 1,
                    },
                    tag: 0,
                })
                .collect();
            let got: Vec<_> =
                plan_fetches(&wanted, 8 << 20).iter().map(|f| (f.bytes.start, f.bytes.end, f.wanted.len())).collect();
            assert_eq!(got, want, "{chunks:?}");
        };
        const MIB: u64 = 1 << 20;
        check(&[], &[]);
        check(&[(1, 100, 50)], &[(100, 150, 1)]);
        check(&[(1, 100, 50), (1, 150, 50), (1, 150, 50)], &[(100, 200, 3)]);
        check(&[(1, 0, 10), (1, 10 + MIB, 10)], &[(0, 20 + MIB, 2)]);
        check(&[(1, 0, 10), (1, 11 + MIB, 10)], &[(0, 10, 1), (11 + MIB, 21 + MIB, 1)]);
        check(&[(1, 0, 10), (2, 10, 10)], &[(0, 10, 1), (10, 20, 1)]);
        check(&[(1, 0, 6 << 20), (1, 6 * MIB, 3 << 20)], &[(0, 6 * MIB, 1), (6 * MIB, 9 * MIB, 1)]);
        check(&[(1, u64::MAX, 10)], &[(u64::MAX, u64::MAX, 1)]);
    }
}
