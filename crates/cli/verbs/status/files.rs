//! Metrics in a file, for the node exporter's textfile collector: it never reads half of one.

use std::io::Write;
use std::path::Path;

use lifeboat_control::metrics::{Exposition, Metrics};

use crate::CliError;

pub fn write(path: &Path, metrics: &Metrics) -> Result<(), CliError> {
    let mut new = path.as_os_str().to_owned();
    // The collector reads what ends in `.prom`.
    new.push(format!(".{}.new", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(metrics.text(Exposition::Prometheus).as_bytes())?;
        std::fs::rename(&new, path)
    };
    write().map_err(|io| {
        let _ = std::fs::remove_file(&new);
        CliError::operator(format!("the metrics were not written: file=`{}`, reason=`{io}`", path.display()))
            .with_hint("make its directory, writable for this user")
    })
}
