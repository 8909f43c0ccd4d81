//! What one of the benches in `benches/` is asked for, and where it works.

use std::path::{Path, PathBuf};

use super::Outcome;

/// The words behind a bench's name.
#[derive(Debug, Clone)]
pub struct Arguments(Vec<String>);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What `cargo bench` runs, and what is worth keeping.
    Full,
    /// With `--quick`: does it work, and where does time go?
    Quick,
    /// What `cargo test --benches` runs.
    Tiny,
}

impl Arguments {
    pub fn of_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    /// What stands behind an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    /// # Errors
    /// When the option is there, and no number behind it.
    pub fn number(&self, name: &str, otherwise: u32) -> Outcome<u32> {
        match self.has(name) {
            true => Ok(self.text(name).ok_or(format!("{name} wants a number"))?.parse()?),
            false => Ok(otherwise),
        }
    }

    pub fn size(&self) -> Size {
        match (self.has("--bench"), self.has("--quick")) {
            (true, false) => Size::Full,
            (true, true) => Size::Quick,
            (false, _) => Size::Tiny,
        }
    }
}

/// Where benches work: `LIFEBOAT_BENCH_DIR`, else below the workspace's own `target`.
pub fn directory() -> PathBuf {
    let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    std::env::var_os("LIFEBOAT_BENCH_DIR").map_or_else(|| workspace().join("target/bench"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_name_and_what_stands_behind_it() {
        let of = |words: &[&str]| Arguments(words.iter().map(|word| (*word).to_owned()).collect());
        let asked = of(&["--bench", "--rounds", "5", "--only", "lag", "--sites"]);
        assert_eq!((asked.size(), asked.text("--only")), (Size::Full, Some("lag")));
        assert_eq!((asked.number("--rounds", 3).unwrap(), asked.number("--rows", 7).unwrap()), (5, 7));
        assert!(asked.number("--sites", 1).is_err() && asked.number("--only", 1).is_err());
        assert!(directory().is_absolute() || std::env::var_os("LIFEBOAT_BENCH_DIR").is_some());
        assert!(directory().components().all(|step| step != std::path::Component::ParentDir), "no source may climb");
        assert_eq!((of(&["--bench", "--quick"]).size(), of(&["--quick"]).size()), (Size::Quick, Size::Tiny));
    }
}
