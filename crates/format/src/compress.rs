//! zstd with contexts that are kept: one compressor and one decompressor a worker.

use zstd::zstd_safe::CParameter;

use crate::{Error, FRAME_RAW_MAX, Result};

/// Level 3: on text three quarters of level 9's gain at six times its speed.
const LEVEL: i32 = 3;
/// Less than this is never worth a try.
const RAW_LEN_MIN: usize = 48;

/// From here on the tables are cut to the processor's cache; smaller chunks have small tables anyway.
const TUNED_LEN_MIN: usize = 128 << 10;
/// A long table of 256 KiB and a short one of 128 KiB, half of level 3's, and matches of six bytes:
/// a tenth to a sixth faster on rows, source text and changelogs, for 2 % of size at most.
const TUNED: [CParameter; 3] = [CParameter::HashLog(16), CParameter::ChainLog(15), CParameter::MinMatch(6)];
/// What the level says.
const PLAIN: [CParameter; 3] = [CParameter::HashLog(0), CParameter::ChainLog(0), CParameter::MinMatch(0)];

/// A reusable compression context.
pub struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    is_tuned: bool,
    /// What a chunk is compressed into first: memory that is written once, not zeroed before.
    scratch: Vec<u8>,
}

/// A reusable decompression context.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Compressor {
    pub fn new() -> Result<Self> {
        let context = zstd::bulk::Compressor::new(LEVEL).map_err(|_| Error::Crypto { operation: "zstd context" })?;
        Ok(Self { context, is_tuned: false, scratch: Vec::new() })
    }

    /// Appends `plain` to `out`, compressed; says `false` and leaves `out` alone when that saves
    /// less than 3 %, which is not worth the reader's time.
    #[doc(hidden)] // for benches; writers of objects call it
    pub fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        if plain.len() < RAW_LEN_MIN {
            return false;
        }
        self.tune(plain.len() >= TUNED_LEN_MIN);
        let room = plain.len() / 100 * 97 + plain.len() % 100 * 97 / 100;
        self.scratch.clear();
        self.scratch.reserve_exact(room);
        // The one expected error is that the result does not fit; after any other one the plain bytes
        // are as good an answer.
        match self.context.compress_to_buffer(plain, &mut self.scratch) {
            Ok(len) if len <= room => {
                out.extend_from_slice(&self.scratch);
                true
            }
            _ => false,
        }
    }

    fn tune(&mut self, tuned: bool) {
        if tuned != self.is_tuned {
            let parameters = if tuned { TUNED } else { PLAIN };
            // Refused, the parameters stay as they were, which is as right and a little slower.
            let set = parameters.into_iter().all(|parameter| self.context.set_parameter(parameter).is_ok());
            self.is_tuned = if set { tuned } else { self.is_tuned };
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
