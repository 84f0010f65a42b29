//! A Debian under its own systemd, for the launcher that needs one: a tree that `tests/system` has made, booted with
//! systemd-nspawn, and gone afterwards. This same bench then runs in it, with the same files at the same places.

use std::error::Error;
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long it may take to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the machine's life is, in a mount namespace of its own: until standard input ends. Arguments: the tree, an empty
/// directory, the machine's name, a directory to be seen in it, control groups to be in.
const LIFE: &str = r#"
tree=$1 fs=$2 name=$3 seen=$4
shift 4
for group; do mkdir -p "$group"; echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=755 tmpfs "$fs"
mkdir "$fs/upper" "$fs/work" "$fs/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$fs/upper,workdir=$fs/work" overlay "$fs/root"
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 tmpfs /run/systemd
exec systemd-nspawn --directory="$fs/root" --boot --register=no --keep-unit --quiet --private-network --bind="$seen" \
    --machine="$name" --notify-ready=yes --link-journal=no --resolv-conf=off --timezone=off
"#;

/// A booted machine.
struct Machine {
    container: Child,
    /// Its process 1.
    init: String,
    control_groups: Vec<PathBuf>,
    _directory: TempDir,
}

/// Runs this bench, with these arguments, in a machine. Tells whether it ended well.
pub(crate) fn run_inside(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let machine = Machine::boot()?;
    let mut bench = Command::new("nsenter");
    bench.args(["--target", &machine.init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
    bench.arg(std::env::current_exe()?).args(arguments).env_clear().stdin(Stdio::null());
    bench.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(bench.status()?.success())
}

impl Machine {
    fn boot() -> Result<Self, Box<dyn Error>> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("where is the target directory?")?;
        let tree = target.join("system-test/base-bookworm-1");
        if !tree.exists() {
            return Err(format!("{} is not there: cargo test --test system makes it", tree.display()).into());
        }
        let directory = tempfile::Builder::new().prefix("machine-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let name = format!("bench-{}", std::process::id());
        let notify = format!("opensvc-actions-{name}");
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&notify)?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let control_groups = control_groups(&notify)?;
        let mut life = Command::new("setpriv");
        life.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork"])
            .args(["--kill-child=KILL", "--mount-proc", "sh", "-ec", LIFE, "sh"])
            .args([&tree, directory.path()])
            .arg(&name)
            .arg(target)
            .args(&control_groups)
            .env("NOTIFY_SOCKET", format!("@{notify}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let container = life.spawn()?;
        let mut machine = Self { container, init: String::new(), control_groups, _directory: directory };
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).map_err(|err| format!("no machine within {PATIENCE:?}: {err}"))?;
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
                break;
            }
        }
        // setpriv became unshare; its child is process 1 of a pid namespace and became systemd-nspawn.
        machine.init = only_child(&only_child(&machine.container.id().to_string())?)?;
        Ok(machine)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With unshare goes its child, with that the pid namespace, and with it all processes and mounts.
        let _ = self.container.kill();
        let _ = self.container.wait();
        for group in &self.control_groups {
            remove_control_group(group);
        }
    }
}

fn only_child(parent: &str) -> Result<String, Box<dyn Error>> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let child = children.trim();
    if child.is_empty() || child.contains(' ') {
        return Err(format!("process {parent} has the children {child:?}").into());
    }
    Ok(child.to_owned())
}

/// A control group of the machine's own in each hierarchy that systemd manages.
fn control_groups(name: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let (groups, mounts) = (fs::read_to_string("/proc/self/cgroup")?, fs::read_to_string("/proc/self/mountinfo")?);
    let mut found = Vec::new();
    for line in groups.lines() {
        let (kind, option, path) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "", path] => (" - cgroup2 ", "", path),
            [_, "name=systemd", path] => (" - cgroup ", "name=systemd", path),
            _ => continue,
        };
        let mount = mounts.lines().find(|line| line.contains(kind) && line.contains(option));
        if let Some(point) = mount.and_then(|mount| mount.split(' ').nth(4)) {
            found.push(Path::new(point).join(path.trim_start_matches('/')).join(name));
        }
    }
    Ok(found)
}

/// Removes a control group with those below it, as soon as the kernel has buried who was in it.
fn remove_control_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_control_group(&entry.path());
        }
    }
    for _ in 0..1000 {
        if !group.exists() || fs::remove_dir(group).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
