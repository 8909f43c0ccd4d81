//! What befalls which request: a pure function of a seed and the request's number.

use std::time::Duration;

/// What can befall a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blow {
    /// 503, as a store answers that wants to be asked less.
    SlowDown,
    /// 500.
    InternalError,
    /// The connection is reset, and the server has seen nothing of the request.
    ResetBefore,
    /// The server has done it; the connection is reset in place of its answer.
    AnswerLost,
    /// The server has done it; its answer breaks off in the middle.
    AnswerCut,
    /// Some seconds pass before the server sees it.
    Delay,
}

impl Blow {
    pub const ALL: [Self; 6] =
        [Self::SlowDown, Self::InternalError, Self::ResetBefore, Self::AnswerLost, Self::AnswerCut, Self::Delay];
}

/// A steady share of all requests is struck, each kind of blow as often as the others.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    pub seed: u64,
    pub per_mille: u64,
    /// The longest delay; the shortest is a quarter of it.
    pub delay_max: Duration,
}

impl Storm {
    /// What befalls the request of this number, and how long it waits if it is delayed.
    pub fn strikes(&self, number: u64) -> Option<(Blow, Duration)> {
        let chance = mixed(self.seed ^ mixed(number));
        if chance % 1000 >= self.per_mille {
            return None;
        }
        let kind = (chance / 1000) as usize % Blow::ALL.len();
        let part = ((chance >> 32) % 1000) as u32;
        let shortest = self.delay_max / 4;
        Some((Blow::ALL[kind], shortest + (self.delay_max - shortest) * part / 1000))
    }
}

/// The finisher of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
