//! Commands that run as another user than root: `user` in a rule of the policy.
//!
//! The supervisor looks the user up as every other program of this machine does (NSS), and starts this same executable,
//! which becomes that user and then the command. A process of its own has to do it: the supervisor stays root, and
//! the standard library, which could change the user of a child, would take its supplementary groups away.
//!
//! Its standard input is the way back: what could not be done is written there, and the program's own start closes it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setuid};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

/// The argument that makes this executable become a user and then a command.
pub const ARGUMENT: &str = "exec-as";

/// Where a program is that is this one, whatever became of its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Who a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
    /// All of them, the first one included.
    groups: Vec<u32>,
    name: String,
    home: OsString,
}

/// Why a user cannot be found.
#[derive(Debug)]
pub(super) enum NotFound {
    /// There is no such user.
    Unknown,
    /// It cannot be known.
    Unanswered(io::Error),
}

/// What a process could not do on its way to the command.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not become that user.
    Become(io::Error),
    /// As that user, the program cannot be started.
    Exec(io::Error),
}

/// The supervisor's end of the way back.
pub(super) struct Back(File);

impl Identity {
    /// Looks a user up. May take as long as the directory of users takes to answer, and may leave descriptors open.
    ///
    /// # Errors
    /// When there is no such user, or it cannot be known.
    pub(super) fn find(name: &str) -> Result<Self, NotFound> {
        let user = match User::from_name(name) {
            Ok(Some(user)) => user,
            // What getpwnam(3) says that some systems say.
            Ok(None) | Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => {
                return Err(NotFound::Unknown);
            }
            Err(errno) => return Err(NotFound::Unanswered(errno.into())),
        };
        // A name with a NUL is nobody's.
        let name = CString::new(name).map_err(|_| NotFound::Unknown)?;
        let groups = getgrouplist(&name, user.gid).map_err(|errno| NotFound::Unanswered(errno.into()))?;
        Ok(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: user.name,
            home: user.dir.into_os_string(),
        })
    }

    /// What the environment of a command says of its user.
    pub(super) fn environment(&self) -> [(&'static OsStr, &OsStr); 3] {
        let name = OsStr::new(&self.name);
        [("HOME", self.home.as_os_str()), ("USER", name), ("LOGNAME", name)]
            .map(|(key, value)| (OsStr::new(key), value))
    }

    /// A command that becomes this user and then `program`, with the arguments that are added to it. Its standard input is
    /// taken; in the end the program reads `input`, which has to stay open here until it has begun, or nothing.
    ///
    /// # Errors
    /// When no pipe can be made.
    pub(super) fn command(&self, program: &str, input: Option<&File>) -> io::Result<(Command, Back)> {
        let (back, told) = pipe_with(PipeFlags::CLOEXEC)?;
        let groups: Vec<_> = self.groups.iter().map(u32::to_string).collect();
        let input = input.map_or_else(
            || "/dev/null".to_owned(),
            |input| format!("/proc/{}/fd/{}", std::process::id(), input.as_raw_fd()),
        );
        let mut command = Command::new(THIS_PROGRAM);
        command
            .arg0("opensvc-actions")
            .args([ARGUMENT, &self.uid.to_string(), &self.gid.to_string(), &groups.join(","), &input, program])
            .stdin(Stdio::from(told));
        Ok((command, Back(File::from(back))))
    }
}

impl Back {
    /// Waits until the program has begun. No other copy of the other end may be left open here: the [`Command`] has one.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn began(mut self) -> Result<(), Failure> {
        let mut told = Vec::new();
        let heard = self.0.read_to_end(&mut told);
        match (heard, told.split_first()) {
            (Ok(_), None) => Ok(()),
            (Ok(_), Some((&stage, errno))) => {
                let errno = errno.try_into().map_or(0, i32::from_le_bytes);
                let err = io::Error::from_raw_os_error(errno);
                Err(if stage == EXEC { Failure::Exec(err) } else { Failure::Become(err) })
            }
            (Err(err), _) => Err(Failure::Become(err)),
        }
    }
}

/// The first byte of what goes back, before the number of the error.
const BECOME: u8 = b'U';
const EXEC: u8 = b'X';

/// Becomes the user and the command that the arguments say. Returns only if it cannot.
#[must_use]
pub fn run() -> bool {
    // A person who typed the name of this is told; the supervisor reads it from the other end of the standard input.
    let usage = |why: &dyn std::fmt::Display| {
        let _ = writeln!(io::stderr(), "opensvc-actions: {ARGUMENT} is for the supervisor: {why}");
    };
    let back = match way_back() {
        Ok(back) => back,
        Err(err) => {
            usage(&err);
            return false;
        }
    };
    let (stage, err) = match become_user() {
        Ok(mut command) => (EXEC, command.exec()),
        Err(err) => (BECOME, err),
    };
    let mut told = vec![stage];
    told.extend(err.raw_os_error().unwrap_or_default().to_le_bytes());
    if File::from(back).write_all(&told).is_err() {
        usage(&err);
    }
    false
}

/// The pipe came as standard input: it moves out of the way of the command, and is closed when that begins.
fn way_back() -> io::Result<OwnedFd> {
    let back = fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let input = std::env::args_os().nth(5).unwrap_or_else(|| "/dev/null".into());
    rustix::stdio::dup2_stdin(File::open(input)?)?;
    Ok(back)
}

/// Becomes the user; what is left to do is to execute the command.
fn become_user() -> io::Result<Command> {
    let mut words = std::env::args_os().skip(2);
    let invalid = || io::Error::from_raw_os_error(Errno::EINVAL as i32);
    let mut word = || words.next().and_then(|word| word.into_string().ok()).ok_or_else(invalid);
    let uid: u32 = word()?.parse().map_err(|_| invalid())?;
    let gid: u32 = word()?.parse().map_err(|_| invalid())?;
    let groups = word()?;
    let groups = groups.split(',').map(|group| group.parse().map(Gid::from_raw));
    let groups: Vec<_> = groups.collect::<Result<_, _>>().map_err(|_| invalid())?;
    word()?; // what it reads, which is open already
    let mut command = Command::new(words.next().ok_or_else(invalid)?);
    command.args(words);
    // What opens /dev/stdout or /dev/stderr opens these pipes anew, and has to own them for that.
    fchown(io::stdout(), Some(uid), Some(gid))?;
    fchown(io::stderr(), Some(uid), Some(gid))?;
    setgroups(&groups)?;
    setgid(Gid::from_raw(gid))?;
    setuid(Uid::from_raw(uid))?;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_all_its_groups_and_the_first_one_among_them() {
        let root = Identity::find("root").unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0));
        assert!(root.environment().contains(&(OsStr::new("LOGNAME"), OsStr::new("root"))));
        assert!(matches!(Identity::find("no-such-user-here"), Err(NotFound::Unknown)));
    }

    #[test]
    fn what_comes_back_is_told_apart() {
        let back = |bytes: &[u8]| {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            File::from(writer).write_all(bytes).unwrap();
            Back(File::from(reader)).began()
        };
        assert!(back(b"").is_ok());
        let errno = (Errno::EACCES as i32).to_le_bytes();
        let sent = |stage: u8| [&[stage][..], &errno].concat();
        let code = |err: &io::Error| err.raw_os_error();
        assert!(matches!(back(&sent(EXEC)), Err(Failure::Exec(err)) if code(&err) == Some(Errno::EACCES as i32)));
        assert!(matches!(back(&sent(BECOME)), Err(Failure::Become(err)) if code(&err) == Some(Errno::EACCES as i32)));
    }
}
