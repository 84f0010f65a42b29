//! The control group of a command whose supervisor is the main process of a unit of its own.
//!
//! systemd gives such a unit a control group and delegates it. In it the supervisor makes two: `command`, in which the
//! command is born and which none of its processes can leave by forking, and `supervisor`, where it lives itself. The
//! command needs no help to get there: a process is born in the group of its parent, and the supervisor is in `command`
//! for that moment.
//!
//! Only version 2 of control groups can kill a group; under version 1 alone there is none for us.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::descendants::PATIENCE;
use super::process::signal_if;
use crate::executor::proc;

/// Where version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// How the names of our units begin.
const UNIT: &str = "opensvc-action-";

const COMMAND: &str = "command";
const SUPERVISOR: &str = "supervisor";

/// How often the members of a group that the kernel cannot kill at once are killed one by one.
const ROUNDS: usize = 100;

/// The group of one command.
#[derive(Debug)]
pub(in crate::executor) struct Group {
    unit: PathBuf,
    /// The kernel gives the number of a group to no other until the next boot.
    id: u64,
}

impl Group {
    /// Makes the groups of this supervisor, if it is alone in the control group of a unit of ours.
    pub(in crate::executor) fn own() -> Option<Self> {
        let text = proc::read("/proc/self/cgroup", 8192).ok()?;
        let path = unit_path(&text)?;
        let unit = MOUNTS.iter().map(|mount| Path::new(mount).join(path));
        let unit = unit.into_iter().find(|unit| unit.join("cgroup.procs").exists())?;
        // Where one of them is there already, this unit is not ours alone.
        DirBuilder::new().create(unit.join(SUPERVISOR)).ok()?;
        DirBuilder::new().create(unit.join(COMMAND)).ok()?;
        let id = fs::metadata(unit.join(COMMAND)).ok()?.ino();
        Some(Self { unit, id })
    }

    /// The group that [`Self::note`] has told of, if it is there still.
    pub(in crate::executor) fn noted(id: u64, command: &str) -> Option<Self> {
        let command = Path::new(command);
        let is_group = command.starts_with(MOUNTS[0]) && command.file_name() == Some(COMMAND.as_ref());
        let unit = command.parent().filter(|_| is_group)?.to_owned();
        (fs::metadata(command).ok()?.ino() == id).then_some(Self { unit, id })
    }

    /// What must be known of it to find it again.
    pub(in crate::executor) fn note(&self) -> String {
        format!("{} {}", self.id, self.command().display())
    }

    fn command(&self) -> PathBuf {
        self.unit.join(COMMAND)
    }

    /// Whatever this process starts from here on is born in the command's group.
    pub(super) fn enter(&self) -> io::Result<()> {
        write(&self.command().join("cgroup.procs"), "0")
    }

    /// Back to where the command's end does not reach.
    pub(super) fn leave(&self) -> io::Result<()> {
        write(&self.unit.join(SUPERVISOR).join("cgroup.procs"), "0")
    }

    /// Signals every process in it but some.
    pub(super) fn signal(&self, signal: Signal, but: &HashSet<Pid>) -> io::Result<()> {
        let group = self.command();
        let suffix = group.strip_prefix(self.unit.parent().unwrap_or(&group)).unwrap_or(&group);
        let suffix = format!("/{}", suffix.display());
        let mut done = Ok(());
        for pid in processes(&group)?.into_iter().filter(|pid| !but.contains(pid)) {
            let is_member = || {
                let path = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
                path.lines().any(|line| line.starts_with("0::") && line.contains(&suffix))
            };
            done = done.and(signal_if(pid, signal, is_member).map(drop));
        }
        done
    }

    /// Kills everything in it, whatever it does meanwhile.
    pub(super) fn kill(&self) -> io::Result<()> {
        match write(&self.command().join("cgroup.kill"), "1") {
            Err(err) if err.kind() == ErrorKind::NotFound => self.kill_each(), // before Linux 5.14
            killed => killed,
        }
    }

    /// Stopped first, if the kernel can, so that it makes no new ones: the killed leave a stopped group as well.
    fn kill_each(&self) -> io::Result<()> {
        let _ = write(&self.command().join("cgroup.freeze"), "1"); // from Linux 5.2 on
        let mut killed = Ok(());
        for _ in 0..ROUNDS {
            if processes(&self.command())?.is_empty() {
                break;
            }
            killed = self.signal(Signal::KILL, &HashSet::new());
        }
        let _ = write(&self.command().join("cgroup.freeze"), "0");
        killed
    }

    /// Kills everything in it and waits until it is gone. Where it cannot be killed from here, since the handler may write to
    /// no control group, the service manager may just have done it.
    ///
    /// # Errors
    /// When something in it does not end.
    pub(in crate::executor) fn end(&self) -> io::Result<()> {
        match self.kill_and_wait() {
            // It was removed meanwhile, as only an empty one can be.
            Err(err) if matches!(Errno::from_io_error(&err), Some(Errno::NOENT | Errno::NODEV)) => Ok(()),
            ended => ended,
        }
    }

    fn kill_and_wait(&self) -> io::Result<()> {
        // The watch first: an end between the two is seen.
        let mut events = File::open(self.command().join("cgroup.events"))?;
        let killed = self.kill();
        loop {
            let mut text = String::new();
            events.read_to_string(&mut text)?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&PATIENCE)) {
                Ok(0) => {
                    return killed.and_then(|()| {
                        Err(io::Error::new(ErrorKind::TimedOut, "a control group that was killed stays"))
                    });
                }
                Ok(_) | Err(Errno::INTR) => io::Seek::rewind(&mut events)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The text of a file of the command's group, or of the whole unit's where the command has none: the supervisor, which
    /// is small, is in that too.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let read = |group: &Path| fs::read_to_string(group.join(name)).ok();
        read(&self.command()).or_else(|| read(&self.unit))
    }
}

/// The path in `/proc/self/cgroup`, below the mount, if it is that of a unit of ours.
fn unit_path(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let name = Path::new(path).file_name()?.to_str()?;
    (is_plain && name.starts_with(UNIT)).then_some(path)
}

/// Every process in a group and in those below it.
fn processes(group: &Path) -> io::Result<Vec<Pid>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    // 0 is a process that another namespace hides from us.
    let mut found: Vec<_> = text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect();
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match processes(&entry.path()) {
                Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
                below => found.extend(below.unwrap_or_default()),
            }
        }
    }
    Ok(found)
}

/// Writes to a file that the kernel has made, and makes none.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_a_unit_of_ours_is_a_group_of_ours() {
        let unit = "system.slice/opensvc-action-oc3-628-1.service";
        assert_eq!(unit_path(&format!("1:name=systemd:/x\n0::/{unit}\n")), Some(unit));
        for other in [
            "",
            "0::/\n",
            "0::/system.slice/opensvc-actions.service\n",
            "0::/system.slice/opensvc-action-oc3-628-1.service/command\n",
            "0::/../opensvc-action-oc3-628-1.service\n",
            "3:cpu:/system.slice/opensvc-action-oc3-628-1.service\n",
        ] {
            assert_eq!(unit_path(other), None, "{other}");
        }
    }

    /// A unit as systemd would make it, with three processes in the command's group: one of them in a session of its own,
    /// one in a group below. `None`, and said loudly, where no control group can be made.
    fn unit() -> Option<(Group, Child)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{UNIT}unit-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mounts = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists());
        let unit = mounts.map(|mount| mount.join(name)).filter(|unit| {
            [unit.clone(), unit.join(COMMAND), unit.join("command/below")]
                .iter()
                .all(|group| fs::create_dir(group).is_ok())
        });
        let Some(unit) = unit else {
            assert!(std::env::var_os("CI").is_none(), "no control groups of version 2 to be written here");
            eprintln!("SKIPPED: no control groups of version 2 to be written here");
            return None;
        };
        let script = "echo $$ >$0/cgroup.procs; setsid sleep 1000 & (echo 0 >$0/below/cgroup.procs; exec sleep 1000) & \
            trap '' TERM; echo; wait; sleep 1000 & wait";
        let command = unit.join(COMMAND);
        let mut shell = Command::new("sh").arg("-c").arg(script).arg(&command).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        while processes(&command).unwrap().len() < 3 || processes(&command.join("below")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let id = fs::metadata(&command).unwrap().ino();
        Some((Group { unit, id }, shell))
    }

    fn remove(group: &Group, mut leader: Child) {
        leader.wait().unwrap();
        for name in ["command/below", "command", ""] {
            let begun = std::time::Instant::now();
            while fs::remove_dir(group.unit.join(name)).is_err() {
                assert!(begun.elapsed().as_secs() < 10, "{name} is not empty");
            }
        }
    }

    #[test]
    fn the_kernel_ends_a_group_as_a_whole_and_what_was_noted_finds_it() {
        let Some((group, leader)) = unit() else { return };
        let note = group.note();
        let (id, path) = note.split_once(' ').unwrap();
        assert!(Group::noted(id.parse::<u64>().unwrap() + 1, path).is_none(), "another group of that name");
        Group::noted(id.parse().unwrap(), path).unwrap().end().unwrap();
        assert_eq!(processes(&group.command()).unwrap(), []);
        remove(&group, leader);
        group.end().unwrap(); // one that is gone has no members
    }

    #[test]
    fn where_the_kernel_cannot_each_process_of_a_group_is_ended() {
        let Some((group, leader)) = unit() else { return };
        group.kill_each().unwrap();
        remove(&group, leader);
    }

    #[test]
    fn every_process_of_a_group_is_told_but_those_who_were() {
        let Some((group, leader)) = unit() else { return };
        let told = HashSet::from([Pid::from_child(&leader)]);
        group.signal(Signal::TERM, &told).unwrap();
        // The two that sleep heed it; the leader, which does not, would start another one then.
        while !processes(&group.command().join("below")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(group.read("cpu.stat").is_some_and(|text| text.contains("user_usec ")));
        assert_eq!(group.read("no.such.file"), None);
        group.end().unwrap();
        remove(&group, leader);
    }

    #[test]
    fn a_directory_that_is_no_group_of_ours_is_not_found_again() {
        for path in ["/", "/sys/fs/cgroup/command", "/tmp/command", "command", ""] {
            assert!(Group::noted(1, path).is_none(), "{path}");
        }
    }
}
