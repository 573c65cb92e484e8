//! Which machine this is, and which process, for others to know whether they are still there.

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// The namespace of names that a machine begins with (`PROC_UTS_INIT_INO`, include/linux/proc_ns.h).
const FIRST_NAMES: &str = "uts:[4026531838]";

/// The same of numbers of processes (`PROC_PID_INIT_INO`).
const FIRST_PIDS: &str = "pid:[4026531836]";

/// A machine as long as it runs. By its boot it is known: that is another one after each start, and no other machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// Its name, for people.
    pub(super) host: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub(super) boot: String,
}

impl Node {
    /// This one.
    pub(super) fn this() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { host, boot: boot.trim().to_owned() }
    }

    /// Whether a boot is this one.
    pub(super) fn is_here(&self) -> bool {
        !self.boot.is_empty() && self.boot == Self::this().boot
    }
}

/// A process on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) host: String,
    pub(super) boot: String,
    /// The namespace that its number is of, as `/proc/self/ns/pid` names it.
    namespace: String,
    pub(super) pid: u32,
    /// When it was started, by the kernel's count (proc_pid_stat(5)): another one may get its number.
    pub(super) started: Option<u64>,
}

impl Process {
    /// This one.
    pub(super) fn this() -> Self {
        let Node { host, boot } = Node::this();
        let pid = std::process::id();
        Self { host, boot, namespace: namespace(), pid, started: look(pid).map(|(_, started)| started) }
    }

    /// What no other one has.
    pub(super) fn name(&self) -> String {
        let Self { boot, pid, started, .. } = self;
        format!("{boot}-{pid}-{}", started.unwrap_or_default())
    }

    /// Whether it is, or was, on this machine, which was not started again since.
    pub(super) fn is_of_this_boot(&self) -> bool {
        Node { host: String::new(), boot: self.boot.clone() }.is_here()
    }

    /// Whether it is known to have ended. That cannot be known of one on another machine, nor of one in another container.
    pub(super) fn has_ended(&self) -> bool {
        if !self.is_of_this_boot() || self.namespace.is_empty() || self.namespace != namespace() {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // One that was not waited for is there, and does nothing more.
        let is_over = |(state, started): (char, u64)| {
            matches!(state, 'Z' | 'X') || self.started.is_some_and(|then| then != started)
        };
        test_kill_process(pid) == Err(rustix::io::Errno::SRCH) || look(self.pid).is_some_and(is_over)
    }
}

/// What this machine is called in each of its boots: its name, and `/etc/machine-id`. Machines that boot from one image may have the same id, and
/// containers any name. So there is none in a container that has a name of its own, nor without an id.
pub(super) fn machine() -> Option<String> {
    let own_names = std::fs::read_link("/proc/self/ns/uts").ok()?;
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let is_host = own_names.as_os_str() == FIRST_NAMES && !id.trim().is_empty();
    is_host.then(|| format!("{} {}", Node::this().host, id.trim()))
}

/// Whether numbers of processes are those of the machine.
pub(super) fn is_first_pid_namespace() -> bool {
    namespace() == FIRST_PIDS
}

fn namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The state of a process, and when it was started.
fn look(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, with anything in it; the third and the 22nd are meant.
    let rest = text.rsplit_once(") ")?.1;
    Some((rest.chars().next()?, rest.split(' ').nth(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_not_ended_and_of_another_machine_nobody_knows() {
        let this = Process::this();
        assert!(this.started.is_some() && !this.has_ended());
        assert!(Process { started: Some(1), ..this.clone() }.has_ended());
        assert!(!Process { started: Some(1), boot: "another".to_owned(), ..this.clone() }.has_ended());
        assert!(!Process { started: Some(1), namespace: "pid:[1]".to_owned(), ..this }.has_ended());
    }
}
