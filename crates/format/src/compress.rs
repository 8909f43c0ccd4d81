//! zstd with contexts that are kept: one compressor and one decompressor a worker.

use crate::{Error, FRAME_RAW_MAX, Result};

/// Level 3: on text three quarters of level 9's gain at six times its speed.
const LEVEL: i32 = 3;
/// Less than this is never worth a try.
const RAW_LEN_MIN: usize = 48;

/// A reusable compression context.
pub struct Compressor(zstd::bulk::Compressor<'static>);

/// A reusable decompression context.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Compressor {
    pub fn new() -> Result<Self> {
        let context = zstd::bulk::Compressor::new(LEVEL).map_err(|_| Error::Crypto { operation: "zstd context" })?;
        Ok(Self(context))
    }

    /// Appends `plain` to `out`, compressed; says `false` and leaves `out` alone when that saves
    /// less than 3 %, which is not worth the reader's time.
    pub(crate) fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        if plain.len() < RAW_LEN_MIN {
            return false;
        }
        let (from, room) = (out.len(), plain.len() / 100 * 97 + plain.len() % 100 * 97 / 100);
        out.resize(from + room, 0);
        // The one expected error is that the result does not fit into `room`; after any other one
        // the plain bytes are as good an answer.
        match self.0.compress_to_buffer(plain, &mut out[from..]) {
            Ok(len) => {
                out.truncate(from + len);
                true
            }
            Err(_) => {
                out.truncate(from);
                false
            }
        }
    }
}

impl Decompressor {
    pub fn new() -> Result<Self> {
        let context = zstd::bulk::Decompressor::new().map_err(|_| Error::Crypto { operation: "zstd context" })?;
        Ok(Self(context))
    }

    /// Replaces `out` by the plain bytes, which must be exactly `raw_len`: no more than that is
    /// ever allocated or written, whatever the compressed bytes say.
    pub(crate) fn fill(&mut self, compressed: &[u8], raw_len: u32, out: &mut Vec<u8>) -> Result<()> {
        let damaged = |detail: String| Error::damaged("compressed content", detail);
        if raw_len > FRAME_RAW_MAX {
            return Err(damaged(format!("too long: raw_len=`{raw_len}`")));
        }
        out.clear();
        out.reserve_exact(raw_len as usize);
        let len = self.0.decompress_to_buffer(compressed, out).map_err(|error| {
            out.clear();
            damaged(format!("zstd: {error}"))
        })?;
        if len != raw_len as usize {
            out.clear();
            return Err(damaged(format!(
                "it has another length than its frame says: len=`{len}`, raw_len=`{raw_len}`"
            )));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor(..)")
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor(..)")
    }
}

#[cfg(test)]
mod tests;
