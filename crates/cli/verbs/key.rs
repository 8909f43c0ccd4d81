//! `lifeboat key verify | add | rotate`: what opens the repository.

use std::path::{Path, PathBuf};

use lifeboat_format::{CredentialKind, SecretKey};
use lifeboat_model::{AuditAction, AuditTarget};
use lifeboat_repo::{Credential, Repository};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::KeyCommand;
use crate::audit::Audited;
use crate::output::{Align, Outcome, Output, Table};
use crate::{CliError, Context, key_file};

pub fn run(command: &KeyCommand, context: &Context) -> Result<Outcome, CliError> {
    match command {
        KeyCommand::Verify { recovery_key_file } => {
            let key = read_recovery(recovery_key_file.as_deref(), context)?;
            context.block_on(verify(&key, context))
        }
        KeyCommand::Add { recovery: true, .. } => context.block_on(add_recovery(context)),
        KeyCommand::Add { to, .. } => {
            let to = to.as_deref().ok_or_else(|| CliError::bug("a key without a file"))?;
            context.block_on(add(&context.path(to), context))
        }
        KeyCommand::Rotate { to } => context.block_on(rotate(&context.path(to), context)),
    }
}

/// The recovery key is shown this once: between two lines, so that it is not overlooked.
pub(super) fn show_recovery(text: &str, output: &Output) {
    output.line("");
    output.line("RECOVERY KEY, shown this once. Write it down and keep it away from this machine and the bucket:");
    output.line("");
    output.line(format!("    {text}"));
    output.line("");
}

fn read_recovery(file: Option<&Path>, context: &Context) -> Result<SecretKey, CliError> {
    let text = match file {
        Some(path) => key_file::read_secret(&context.path(path))?,
        None => Zeroizing::new(context.output.ask_secret("Recovery key: ").ok_or_else(|| {
            CliError::usage("no recovery key was given")
                .with_hint("type it, send it to stdin, or name its file with --recovery-key-file FILE")
        })?),
    };
    key_file::parse(&text).map_err(|error| {
        CliError::usage(error.to_string())
            .with_hint("a recovery key is 14 groups of four letters and digits; check it against the paper")
    })
}

async fn verify(key: &SecretKey, context: &Context) -> Result<Outcome, CliError> {
    let config = context.config()?;
    let store = context.open_store(&config.repository.url, false).await?.store;
    // Opened with the key alone: that is what it must be able to do when all else is lost.
    let repository = Repository::open(store, key).await?;
    let mut audited = Audited::of_keys(&repository, &config, context);
    audited.about(AuditTarget::Key(key.id().to_string()));
    audited.begin().await?;
    audited.end(AuditAction::KeyUsed, proven(key, &repository, context).await).await
}

async fn proven(key: &SecretKey, repository: &Repository, context: &Context) -> Result<Outcome, CliError> {
    let proven = repository.verify_key(key).await?;
    list(repository, &context.output).await?;
    context.output.line(format!("The {} key {} opens the repository.", kind(proven.kind), proven.id));
    Ok(Outcome::ok().with("key_id", proven.id.to_string()).with("kind", kind(proven.kind)))
}

async fn add(to: &Path, context: &Context) -> Result<Outcome, CliError> {
    let Opened { repository, current, mut audited } = open(context).await?;
    let new = new_key(to)?;
    if is_known(&repository, &new).await? {
        return Err(CliError::usage(format!("the key opens the repository already: file=`{}`", to.display()))
            .with_hint("name a file that does not exist, for a new key"));
    }
    audited.about(AuditTarget::Key(new.id().to_string()));
    audited.begin().await?;
    let work = async {
        repository.add_key(&current, &new, CredentialKind::Master).await?;
        list(&repository, &context.output).await?;
        context.output.line(format!("Added the master key {} in {}.", new.id(), to.display()));
        Ok(Outcome::ok().with("key_id", new.id().to_string()).with("key", format!("file:{}", to.display())))
    };
    let added = work.await;
    audited.end(AuditAction::KeyAdded, added).await
}

async fn add_recovery(context: &Context) -> Result<Outcome, CliError> {
    let Opened { repository, current, mut audited } = open(context).await?;
    let new = SecretKey::generate()?;
    audited.about(AuditTarget::Key(new.id().to_string()));
    audited.begin().await?;
    let added = repository.add_key(&current, &new, CredentialKind::Recovery).await;
    let outcome = added.map(|_| Outcome::ok().with("key_id", new.id().to_string())).map_err(CliError::from);
    let outcome = audited.end(AuditAction::KeyAdded, outcome).await?;
    let text = new.to_recovery_text();
    show_recovery(&text, &context.output);
    context.output.event("recovery_key", json!({ "recovery_key": text.as_str() }));
    context.output.say("Prove that you can read it back with `lifeboat key verify`. Earlier recovery keys stay valid.");
    Ok(outcome)
}

async fn rotate(to: &Path, context: &Context) -> Result<Outcome, CliError> {
    let Opened { repository, current, mut audited } = open(context).await?;
    let in_use = repository.credentials().await?.into_iter().find(|credential| credential.id == current.id());
    if in_use.is_some_and(|credential| credential.kind == CredentialKind::Recovery) {
        return Err(CliError::usage("the key in use is the recovery key, which is not replaced")
            .with_hint("make a new master key with `lifeboat key add FILE`, and name it in `repository.key`"));
    }
    let new = new_key(to)?;
    if new.id() == current.id() {
        return Err(CliError::usage(format!("that is the key in use: file=`{}`", to.display()))
            .with_hint("name a file that does not exist, for a new key"));
    }
    audited.about(AuditTarget::Key(new.id().to_string()));
    audited.about(AuditTarget::Key(current.id().to_string()));
    audited.begin().await?;
    let rotated = repository.rotate_key(&current, &new).await.map(|_| Outcome::ok()).map_err(CliError::from);
    audited.end(AuditAction::KeyRotated, rotated).await?;
    list(&repository, &context.output).await?;
    let output = &context.output;
    output.line(format!(
        "The master key is now {} in {}; {} opens nothing any more.",
        new.id(),
        to.display(),
        current.id()
    ));
    output.say(format!("Now write key = \"file:{}\" into {}.", to.display(), context.config_path().display()));
    Ok(Outcome::ok()
        .with("key_id", new.id().to_string())
        .with("key", format!("file:{}", to.display()))
        .with("removed_key_id", current.id().to_string()))
}

/// The repository, with the key that opened it, and what is written of it into the audit log.
struct Opened {
    repository: Repository,
    current: SecretKey,
    audited: Audited,
}

async fn open(context: &Context) -> Result<Opened, CliError> {
    let config = context.config()?;
    let key = context.master_key(&config)?;
    let store = context.open_store(&config.repository.url, false).await?.store;
    let repository = Repository::open(store, &key).await?;
    let audited = Audited::of_keys(&repository, &config, context);
    Ok(Opened { repository, current: key, audited })
}

/// The key in this file, made when there is none: a run that was interrupted goes on with its own.
fn new_key(path: &Path) -> Result<SecretKey, CliError> {
    if path.exists() {
        let env = |_: &str| None;
        return key_file::load(&crate::config::KeyRef::File(PathBuf::from(path)), &env);
    }
    let key = SecretKey::generate()?;
    key_file::write_new_secret(path, &key.to_base64())?;
    Ok(key)
}

async fn is_known(repository: &Repository, key: &SecretKey) -> Result<bool, CliError> {
    Ok(repository.credentials().await?.iter().any(|credential| credential.id == key.id()))
}

async fn list(repository: &Repository, output: &Output) -> Result<(), CliError> {
    let mut table =
        Table::new(&[("KEY ID", Align::Left), ("KIND", Align::Left), ("MADE", Align::Left), ("PROVEN", Align::Left)]);
    for credential in repository.credentials().await? {
        let proven = if credential.verified { "yes" } else { "no" };
        table.row([
            credential.id.to_string(),
            kind(credential.kind).to_owned(),
            credential.created_at.to_string(),
            proven.to_owned(),
        ]);
        output.event("key", to_json(&credential));
    }
    table.lines().iter().for_each(|line| output.line(line));
    Ok(())
}

fn to_json(credential: &Credential) -> Value {
    json!({
        "key_id": credential.id.to_string(),
        "kind": kind(credential.kind),
        "made_at": credential.created_at.to_string(),
        "proven": credential.verified,
    })
}

fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Master => "master",
        CredentialKind::Recovery => "recovery",
    }
}

/// Warns while nobody has proven a recovery key: the day it is needed is too late to find out.
pub(super) async fn warn_unproven(repository: &Repository, output: &Output) {
    // A failure here is the verb's own soon enough.
    if let Ok(false) = is_proven(repository).await {
        output.warn(
            "no recovery key of this repository was ever read back",
            Some("run `lifeboat key verify` with the key that `lifeboat init` showed"),
        );
    }
}

/// Whether a recovery key was ever read back.
pub(super) async fn is_proven(repository: &Repository) -> Result<bool, CliError> {
    let credentials = repository.credentials().await?;
    Ok(credentials.iter().any(|key| key.kind == CredentialKind::Recovery && key.verified))
}
