//! The account behind this process.

use std::ffi::OsString;

use lifeboat_model::AuditAccount;

const USERS: &str = "/etc/passwd";

/// Whose process this is; who became that by sudo is what the environment says.
pub fn account(env: impl Fn(&str) -> Option<OsString>) -> AuditAccount {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string(USERS).unwrap_or_default();
    let sudo_user = env("SUDO_USER").map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty());
    AuditAccount { uid, user: name_of(uid, &users), sudo_user }
}

/// The name of a user, in the form of passwd(5). Those of a directory server are not there: their number is.
fn name_of(uid: u32, users: &str) -> Option<String> {
    let mut fields = users.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_of_the_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nada:x:1000:1000::/home/ada:\n";
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(1_000, users).as_deref(), Some("ada"));
        assert_eq!(name_of(7, users), None);
        let told = account(|name| (name == "SUDO_USER").then(|| "ada".into()));
        assert_eq!((told.uid, told.sudo_user.as_deref()), (rustix::process::getuid().as_raw(), Some("ada")));
    }
}
