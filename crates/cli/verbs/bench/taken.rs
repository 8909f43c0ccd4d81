//! The configured fleet, as a bench's own configuration names it: its sources, and nothing else.
//!
//! No hook is run, no policy holds, and the repository is another: sources are only read.

use std::path::Path;

use toml::{Table, Value};

use crate::{CliError, Context};

/// The sections `[sources.…]` of the configuration, with whole paths.
pub fn sources(context: &Context) -> Result<String, CliError> {
    let config = context.config()?; // checked as a whole
    if config.sources.is_empty() {
        return Err(CliError::usage("no sources are configured")
            .with_hint("write a section [sources.NAME] with kind and path; config/example.toml shows how"));
    }
    let unreadable = |reason: String| {
        CliError::operator(format!(
            "cannot read the configuration again: file=`{}`, reason=`{reason}`",
            config.path.display()
        ))
    };
    let text = std::fs::read_to_string(&config.path).map_err(|io| unreadable(io.to_string()))?;
    let whole: Table = text.parse().map_err(|error: toml::de::Error| unreadable(error.message().to_owned()))?;
    Ok(own_paths(&whole, config.path.parent().unwrap_or(Path::new("/"))))
}

/// Refuses a directory for the bench that lies inside the repository of the fleet that is taken.
pub fn expect_outside(path: &Path, context: &Context) -> Result<(), CliError> {
    match &context.config()?.repository.directory {
        Some(repository) if path.starts_with(repository) => Err(CliError::usage(format!(
            "a bench writes nothing into a repository: path=`{}`, repository=`{}`",
            path.display(),
            repository.display()
        ))
        .with_hint("name a directory elsewhere with --dir or --out")),
        _ => Ok(()),
    }
}

/// Paths are relative to the configuration's directory, which is another for the bench.
fn own_paths(whole: &Table, directory: &Path) -> String {
    let mut sources = whole.get("sources").and_then(Value::as_table).cloned().unwrap_or_default();
    for source in sources.iter_mut().filter_map(|(_, source)| source.as_table_mut()) {
        if let Some(Value::String(path)) = source.get_mut("path") {
            *path = directory.join(&*path).display().to_string();
        }
        if let Some(Value::String(url)) = source.get_mut("url")
            && let Some(path) = url.strip_prefix("file:").map(|path| path.strip_prefix("//").unwrap_or(path))
        {
            *url = format!("file:{}", directory.join(path).display());
        }
    }
    Table::from_iter([("sources".to_owned(), Value::Table(sources))]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sources_are_taken_with_whole_paths() {
        let text = r#"
            [repository]
            url = "file:///live"
            key = "file:live.key"
            [hooks]
            freeze = ["/bin/stop", "{site}"]
            [sources.files]
            kind = "files"
            path = "srv/{site}"
            exclude = ["tmp"]
            [sources.app]
            kind = "postgres"
            url = "file:app.url"
            tables."a.b" = { tenant_column = "org" }
            [sources.notes]
            kind = "sqlite"
            path = "/data/{site}/n.db"
        "#;
        let taken: Table = own_paths(&text.parse().unwrap(), Path::new("/etc/lifeboat")).parse().unwrap();
        assert_eq!(taken.keys().collect::<Vec<_>>(), ["sources"], "{taken}");
        let sources = &taken["sources"];
        assert_eq!(sources["files"]["path"].as_str(), Some("/etc/lifeboat/srv/{site}"));
        assert_eq!(sources["files"]["exclude"][0].as_str(), Some("tmp"));
        assert_eq!(sources["app"]["url"].as_str(), Some("file:/etc/lifeboat/app.url"));
        assert_eq!(sources["app"]["tables"]["a.b"]["tenant_column"].as_str(), Some("org"));
        assert_eq!(sources["notes"]["path"].as_str(), Some("/data/{site}/n.db"));
    }
}
