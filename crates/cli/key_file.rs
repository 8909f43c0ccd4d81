//! The master key where the operator keeps it: in a file of mode 0600, or in the environment.
//!
//! A key that others can read is refused before it is used: the operator should learn of it now,
//! not after the bucket was copied. The text of a key is in no message and in no log, and its
//! buffers are wiped.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use lifeboat_format::SecretKey;
use lifeboat_model::Faulty;
use zeroize::Zeroizing;

use crate::CliError;
use crate::config::KeyRef;

/// No key file is longer; a larger one is something else.
const BYTES_MAX: u64 = 4096;

/// Reads the key that opens the repository. `env` looks a variable up.
///
/// A master key, or the recovery key in its place: whoever lost the first must be able to go on.
pub fn load(key: &KeyRef, env: &dyn Fn(&str) -> Option<OsString>) -> Result<SecretKey, CliError> {
    let text = match key {
        KeyRef::File(path) => read_secret(path)?,
        KeyRef::Env(name) => {
            let missing = || {
                CliError::operator(format!("the key's environment variable is not set: name=`{name}`"))
                    .with_hint(format!("set {name} to the key, or write key = \"file:lifeboat.key\""))
            };
            let text = env(name).filter(|text| !text.is_empty()).ok_or_else(missing)?;
            Zeroizing::new(text.into_string().map_err(|_| not_a_key(key, "it is not text"))?)
        }
    };
    parse(&text).map_err(|error| match error {
        lifeboat_format::Error::NotAKey { detail, .. } => not_a_key(key, detail),
        other => CliError::new(other.fault(), other.to_string()),
    })
}

/// A master key or a recovery key; they are told apart by their lengths.
pub fn parse(text: &str) -> Result<SecretKey, lifeboat_format::Error> {
    const RECOVERY_CHARS_MIN: usize = 50;
    if text.trim().len() >= RECOVERY_CHARS_MIN {
        SecretKey::parse_recovery_text(text)
    } else {
        SecretKey::parse_base64(text)
    }
}

fn not_a_key(key: &KeyRef, detail: &str) -> CliError {
    CliError::operator(format!("not a master key, {detail}: key=`{key}`"))
        .with_hint("a master key is the 44 characters of base64 that `lifeboat init` wrote; put the right file back")
}

/// Reads a secret text from a file that nobody else can read or write. A link is followed; what
/// it leads to is what counts.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let shown = path.display();
    let failed = |io: &io::Error| {
        let error = CliError::operator(format!("cannot read the key file: file=`{shown}`, reason=`{io}`"));
        match io.kind() {
            io::ErrorKind::NotFound => error.with_hint(
                "put the key file back, or the recovery key in its place, or name it in `repository.key`; where there never was a repository, `lifeboat init` makes one",
            ),
            _ => error.with_hint("run as the user who owns the key file"),
        }
    };
    // The opened file is asked, not the path: nobody can swap it in between. A FIFO would block.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|io| failed(&io))?;
    let metadata = file.metadata().map_err(|io| failed(&io))?;
    if !metadata.is_file() {
        return Err(CliError::operator(format!("the key file is not a regular file: file=`{shown}`"))
            .with_hint("name the key file in `repository.key` = \"file:PATH\""));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(CliError::operator(format!(
            "others can read or write the key file: file=`{shown}`, mode=`{:04o}`",
            metadata.mode() & 0o7777
        ))
        .with_hint(format!("run `chmod 600 {}`; if somebody may have read it, `lifeboat key rotate`", quoted(path))));
    }
    if metadata.len() > BYTES_MAX {
        return Err(CliError::operator(format!("too long for a key file: file=`{shown}`, bytes=`{}`", metadata.len()))
            .with_hint("is it the right file? a key is one line of text"));
    }
    read_text(&mut file, path).map_err(|io| failed(&io))
}

fn read_text(file: &mut File, path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(vec![0u8; BYTES_MAX as usize]);
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..])? {
            0 => break,
            count => len += count,
        }
    }
    let text = std::str::from_utf8(&bytes[..len]).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is not text", path.file_name().unwrap_or_default().display()),
        )
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Writes a secret text into a file that must not exist, mode 0600, durable with its name.
pub fn write_new_secret(path: &Path, secret: &str) -> Result<(), CliError> {
    let shown = path.display();
    let failed = |io: &io::Error| {
        let error = CliError::operator(format!("cannot write the key file: file=`{shown}`, reason=`{io}`"));
        match io.kind() {
            io::ErrorKind::AlreadyExists => CliError::usage(format!("the key file exists already: file=`{shown}`"))
                .with_hint("a key is never overwritten; name another file, or move this one away"),
            io::ErrorKind::StorageFull => error.with_hint("free some space, then run the same command again"),
            _ => error.with_hint("name a file in a directory that exists and is writable"),
        }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|io| failed(&io))?;
    let written = write_durably(&mut file, path, secret);
    if let Err(io) = written {
        // Ours, made a moment ago and not whole: a later try must not stumble over it.
        let _ = std::fs::remove_file(path);
        return Err(failed(&io));
    }
    Ok(())
}

fn write_durably(file: &mut File, path: &Path, secret: &str) -> io::Result<()> {
    file.write_all(secret.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+@%,:".contains(character);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests;
