//! Who this process is, and whether the process behind an old commit still runs.

use lifeboat_model::WriterIdentity;

/// This process, as commits name it.
pub fn this_process() -> WriterIdentity {
    let pid = std::process::id();
    WriterIdentity {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        machine: lifeboat_source::identity::machine(),
        boot: boot_id(),
        pid,
        started: start_ticks(pid).unwrap_or(0),
    }
}

/// Whether the process is surely gone: it ran on this machine, and no longer does. Of a process on
/// another machine nothing can be said, so the answer is no.
pub fn is_gone(writer: &WriterIdentity) -> bool {
    if writer.machine != lifeboat_source::identity::machine() {
        return false;
    }
    writer.boot != boot_id() || start_ticks(writer.pid) != Some(writer.started)
}

/// Random bytes for a new id, from the operating system.
pub(crate) fn random_id<const LEN: usize>() -> Result<[u8; LEN], crate::Error> {
    let mut bytes = [0u8; LEN];
    getrandom::fill(&mut bytes).map_err(|error| crate::Error::Bug(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Start of a process in clock ticks after boot: field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)).
/// The second field is the command in parentheses and may itself hold spaces and parentheses.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_whitespace();
    // Dead, and not yet buried by its parent: it does nothing any more.
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_dead_and_not_buried_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut it = WriterIdentity { pid: child.id(), ..this_process() };
        // Alive or dead, its start is in the file.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", it.pid)).unwrap();
        it.started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let till = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !is_gone(&it) {
            assert!(std::time::Instant::now() < till, "it is taken for one that works");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_gone_when_its_number_is_free_or_somebody_elses() {
        let me = this_process();
        assert!(me.started > 0);
        assert!(!is_gone(&me));
        assert!(is_gone(&WriterIdentity { started: me.started + 1, ..me.clone() }), "the number was used again");
        assert!(is_gone(&WriterIdentity { boot: "before the power loss".into(), ..me.clone() }));
        assert!(
            !is_gone(&WriterIdentity { machine: "elsewhere".into(), boot: "x".into(), ..me }),
            "nobody here can tell"
        );
    }
}
