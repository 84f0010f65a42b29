//! Bounds of a command that only a control group can hold.

/// What the service manager holds a command to; `None`: unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes of memory.
    pub memory_max: Option<u64>,
    /// Percent of one processor.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}
