//! What a command has used of its machine.

use serde::{Deserialize, Serialize};

/// What a command has used, as far as the kernel can tell; `None`: it cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Counted for the command's control group: everything that it has started. Otherwise for those of its processes that
    /// have ended and were waited for, by each other or by the supervisor: a daemon that lives on is not in it.
    pub of_group: bool,
    /// Processor time outside the kernel, in microseconds.
    pub user_usec: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_usec: u64,
    /// The most memory at a time, in bytes: of the group; otherwise of the largest of the processes.
    pub memory_peak: Option<u64>,
    /// Bytes that were read from disks, what the page cache had already left out.
    pub read_bytes: Option<u64>,
    /// Bytes that were written to disks: of the group, those that have reached them; otherwise those that were caused.
    pub written_bytes: Option<u64>,
    /// Processes of the group that the kernel has killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Usage {
    /// That the kernel killed for want of memory, if it did: how an operator sees why a command failed.
    #[must_use]
    pub fn lack_of_memory(&self) -> Option<String> {
        match self.oom_kills.unwrap_or_default() {
            0 => None,
            1 => Some("the kernel killed one of its processes for want of memory".to_owned()),
            many => Some(format!("the kernel killed {many} of its processes for want of memory")),
        }
    }
}
