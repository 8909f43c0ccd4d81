//! `lifeboat init`: a repository, its keys and a first configuration; nothing is ever overwritten.
//!
//!   key file (durable) ─▶ repository ─▶ lifeboat.toml ─▶ recovery key shown, once
//!
//! Killed anywhere, the same command goes on with what is there. Only the recovery key cannot be
//! shown again: `key add --recovery` makes another.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lifeboat_format::SecretKey;
use lifeboat_repo::{Error as RepoError, Repository};
use serde_json::json;

use crate::args::InitArgs;
use crate::config::{Config, KeyRef, directory_of};
use crate::output::Outcome;
use crate::{CliError, Context, key_file};

/// What is to be made, and what of it is there.
struct Wanted {
    config_path: PathBuf,
    /// The configuration, when there is one already.
    has_config: bool,
    url: String,
    key: KeyRef,
}

pub fn run(args: &InitArgs, context: &Context) -> Result<Outcome, CliError> {
    let wanted = find_out(args, context)?;
    let recovery_file = args.recovery_key_file.as_deref().map(|path| context.path(path));
    if let Some(path) = recovery_file.as_deref().filter(|path| path.exists()) {
        return Err(CliError::usage(format!(
            "the file for the recovery key exists already: file=`{}`",
            path.display()
        ))
        .with_hint("a key is never overwritten; name another file"));
    }
    context.block_on(make(&wanted, recovery_file.as_deref(), context))
}

fn find_out(args: &InitArgs, context: &Context) -> Result<Wanted, CliError> {
    let config_path = context.config_path();
    if config_path.exists() {
        let config = Config::load(&config_path)?;
        if args.repo.as_ref().is_some_and(|url| *url != config.repository.url) {
            return Err(CliError::usage(format!(
                "the configuration names another repository: file=`{}`, url=`{}`",
                config_path.display(),
                config.repository.url
            ))
            .with_hint("leave --repo out to make that one, or begin in another directory or with another --config"));
        }
        let Config { repository, .. } = config;
        return Ok(Wanted { config_path, has_config: true, url: repository.url, key: repository.key });
    }
    let config_path = std::path::absolute(&config_path)
        .map_err(|io| CliError::operator(format!("no working directory: reason=`{io}`")))?;
    let directory = config_path.parent().unwrap_or(Path::new("/"));
    let url = match &args.repo {
        Some(url) => url.clone(),
        None => file_url(&directory.join("lifeboat-repository"))?,
    };
    directory_of(&url).map_err(|(detail, hint)| {
        CliError::usage(format!("not an address of a repository, {detail}: --repo=`{url}`")).with_hint(hint)
    })?;
    let key = KeyRef::File(directory.join("lifeboat.key"));
    Ok(Wanted { config_path, has_config: false, url, key })
}

/// A directory as an address; what has a meaning of its own there is escaped.
pub(super) fn file_url(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().ok_or_else(|| {
        CliError::usage(format!("the directory's name is not UTF-8: path=`{}`", path.display()))
            .with_hint("say where the repository is to be with --repo URL")
    })?;
    Ok(format!("file://{}", text.replace('%', "%25").replace('?', "%3F")))
}

async fn make(wanted: &Wanted, recovery_file: Option<&Path>, context: &Context) -> Result<Outcome, CliError> {
    let (key, is_new_key) = match load_key(wanted, context)? {
        Some(key) => (key, false),
        None => (SecretKey::generate()?, true),
    };
    let store = context.open_store(&wanted.url, true).await?.store;
    // Asked before a key is written: a repository that is there has its own.
    let there = match Repository::open(store.clone(), &key).await {
        Ok(repository) => Some(repository),
        Err(RepoError::NoRepository { .. }) => None,
        Err(RepoError::WrongKey { store, .. }) => return Err(RepoError::RepositoryExists { store }.into()),
        Err(error) => return Err(error.into()),
    };
    if there.is_some() && wanted.has_config {
        return Err(RepoError::RepositoryExists { store: store.describe() }.into());
    }
    if is_new_key && let KeyRef::File(path) = &wanted.key {
        key_file::write_new_secret(path, &key.to_base64())?;
    }
    let recovery = match there {
        Some(_) => None,
        None => Some(Repository::init(store.clone(), &key).await?.1.recovery),
    };
    if !wanted.has_config {
        write_config(wanted)?;
    }
    tell(wanted, recovery.as_ref(), recovery_file, context)
}

fn load_key(wanted: &Wanted, context: &Context) -> Result<Option<SecretKey>, CliError> {
    match &wanted.key {
        KeyRef::File(path) if !path.exists() => Ok(None),
        key => context.load_key(key).map(Some),
    }
}

fn write_config(wanted: &Wanted) -> Result<(), CliError> {
    let shown = wanted.config_path.display();
    let text = first_config(&wanted.url);
    // 0644: there is no secret in it.
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(&wanted.config_path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())).map_err(|io| {
        CliError::operator(format!("cannot write the configuration: file=`{shown}`, reason=`{io}`"))
            .with_hint("make its directory writable, then run the same command again: it goes on from here")
    })
}

fn first_config(url: &str) -> String {
    // A TOML basic string and a JSON string agree on everything that an address can hold.
    let url = serde_json::Value::from(url);
    format!(
        r#"# Every key is explained in config/example.toml. Paths are relative to this file.

[repository]
url = {url}
key = "file:lifeboat.key"

# Where your sites are; {{site}} stands for the site's id. Take the `#` away and mend the paths.
#[sources.notes]
#kind = "sqlite"
#path = "/srv/sites/{{site}}/notes.db"

#[sources.attachments]
#kind = "files"
#path = "/srv/sites/{{site}}/attachments"

[policy]
rpo = "24h"
"#
    )
}

fn tell(
    wanted: &Wanted,
    recovery: Option<&SecretKey>,
    recovery_file: Option<&Path>,
    context: &Context,
) -> Result<Outcome, CliError> {
    let output = &context.output;
    let config = wanted.config_path.display().to_string();
    let mut outcome =
        Outcome::ok().with("config", &config).with("repository", &wanted.url).with("key", wanted.key.to_string());
    output.line(format!("repository     {}", wanted.url));
    output.line(format!("master key     {}", wanted.key));
    output.line(format!("configuration  {config}"));
    let Some(recovery) = recovery else {
        output.warn(
            "the repository was there already, made by an earlier run: its recovery key was shown then",
            Some("if nobody wrote it down, make another with `lifeboat key add --recovery`"),
        );
        return Ok(outcome);
    };
    let text = recovery.to_recovery_text();
    if let Some(path) = recovery_file {
        key_file::write_new_secret(path, &text).map_err(|error| {
            error.with_hint("the repository is made; make another recovery key with `lifeboat key add --recovery`")
        })?;
        output.line(format!("recovery key   {}", path.display()));
        outcome = outcome.with("recovery_key_file", path.display().to_string());
    } else {
        super::key::show_recovery(&text, output);
        output.event("recovery_key", json!({ "recovery_key": text.as_str() }));
    }
    output.say("");
    output.say("Next: prove that you can read it back with `lifeboat key verify`,");
    output.say(format!("name your sources in {config}, then `lifeboat sources inspect` and `lifeboat backup --all`."));
    Ok(outcome)
}
