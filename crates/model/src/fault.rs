//! What the caller of a failed operation must do, and the exit code that says so.

/// The one answer every error in Lifeboat gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request itself is wrong, or names something that does not exist.
    Usage,
    /// Something passing is in the way: the same call may work later.
    Retry,
    /// A person must act first (a gap, a wrong key, a conflict, a missing privilege, a full disk).
    Operator,
    /// Another owner holds the site or the sequence.
    Fenced,
    /// Stored bytes are not what was written.
    Damage,
    /// The person asked to stop.
    Cancelled,
    /// Lifeboat itself is wrong.
    Bug,
}

impl Fault {
    /// The process exit code, part of the command-line contract (`docs/cli.md`).
    pub const fn exit_code(self) -> u8 {
        match self {
            Fault::Bug => 1,
            Fault::Usage => 2,
            Fault::Operator => 10,
            Fault::Retry => 11,
            Fault::Fenced => 12,
            Fault::Damage => 20,
            Fault::Cancelled => 130,
        }
    }
}

/// Every error of every crate answers what to do, and may name the command that helps.
pub trait Faulty: std::error::Error {
    fn fault(&self) -> Fault;

    /// One sentence that names the way out, where there is one.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The exit code of a verb over many sites: the worst of 20, 10, 12, 11, 3 wins.
pub fn worst_exit_code(codes: impl IntoIterator<Item = u8>) -> u8 {
    const ORDER: [u8; 9] = [130, 1, 20, 10, 12, 11, 3, 2, 4];
    let codes: Vec<u8> = codes.into_iter().collect();
    ORDER.into_iter().find(|code| codes.contains(code)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_wins() {
        let check = |codes: &[u8], want: u8| assert_eq!(worst_exit_code(codes.iter().copied()), want, "{codes:?}");
        check(&[], 0);
        check(&[0, 3], 3);
        check(&[3, 11, 12, 10, 20], 20);
        check(&[3, 11, 12, 10], 10);
        check(&[3, 11, 12], 12);
        check(&[3, 11], 11);
        check(&[20, 130], 130);
    }
}
