//! What is wrong with a configuration, and where.

use std::path::Path;

use lifeboat_model::{Fault, Faulty};

/// One complaint about the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}: file=`{file}`{}", at(*.line))]
pub struct ConfigError {
    /// Lower case; names the key.
    pub detail: String,
    pub file: String,
    /// Counted from 1.
    pub line: Option<usize>,
    pub hint: String,
    /// Usage for what is written wrong, Operator for what cannot be read.
    pub fault: Fault,
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(", line=`{line}`")).unwrap_or_default()
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, io: &std::io::Error) -> Self {
        let file = path.display().to_string();
        let (detail, hint, fault) = match io.kind() {
            std::io::ErrorKind::NotFound => (
                "no configuration".to_owned(),
                "make one with `lifeboat init`, or name it with --config FILE or LIFEBOAT_CONFIG".to_owned(),
                Fault::Usage,
            ),
            std::io::ErrorKind::InvalidData => (
                "the configuration is not UTF-8 text".to_owned(),
                "is it really a lifeboat.toml? see config/example.toml".to_owned(),
                Fault::Usage,
            ),
            _ => (
                format!("cannot read the configuration: reason=`{io}`"),
                "run as a user who may read it, or name another one with --config FILE".to_owned(),
                Fault::Operator,
            ),
        };
        Self { detail, file, line: None, hint, fault }
    }
}

impl Faulty for ConfigError {
    fn fault(&self) -> Fault {
        self.fault
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}
