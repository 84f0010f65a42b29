//! Commands as another user, under both launchers.

use crate::harness::{Machine, Queue};

const SERVICE: &str = "opensvc-actions.service";

/// Stands where `om` would, and says who it is, where, and whether the name of its own output can be opened.
const OM: &str = "#!/bin/sh\nid -u; id -g; id -G; echo \"$HOME $USER $LOGNAME\"; umask; pwd\n\
    echo again >/dev/stdout; grep -e ^CapEff -e ^NoNewPrivs -e ^Seccomp: /proc/self/status\n\
    ls /proc/self/fd | tr '\\n' ' '; grep -o 'opensvc-action-.*' /proc/self/cgroup >>/var/tmp/groups; exit 3\n";

#[test]
fn a_command_is_its_user_in_all_its_groups_under_both_launchers() {
    let machine = Machine::with_product("runas");
    let collector = machine.collector(Queue::Oc3);
    machine.sh("groupadd -g 4713 more && groupadd -g 4714 other && groupadd -g 4712 keepers");
    machine.sh("useradd -u 4711 -g keepers -G more -d /srv/keeper keeper");
    machine.write("/usr/local/bin/om", OM);
    machine.sh("chmod 755 /usr/local/bin/om && touch /var/tmp/groups && chmod 666 /var/tmp/groups");
    machine.write(
        "/etc/opensvc/actions.d/rules.toml",
        "[execution]\nom = \"/usr/local/bin/om\"\n[[policy.rule]]\nverdict = \"allow\"\ncommand = [\"plain\"]\n\
         [[policy.rule]]\nverdict = \"allow\"\nuser = \"keeper\"\n",
    );
    let mut seen = Vec::new();
    for launcher in ["systemd", "direct"] {
        if launcher == "direct" {
            machine.wait_until_inactive();
            machine.lift_the_sandbox();
        }
        machine.write("/etc/opensvc/actions.d/zz.toml", format!("[execution]\nlauncher = \"{launcher}\"\n"));
        let (keeper, root) = (collector.enqueue("who"), collector.enqueue("plain"));
        machine.ok(&["systemctl", "start", SERVICE]);
        let [keeper, root] = [keeper, root].map(|id| collector.result(id));
        assert_eq!((&keeper["ret"], &root["ret"]), (&3.into(), &3.into()), "{launcher}: {keeper} {root}");
        assert!(root["stdout"].as_str().unwrap().starts_with("0\n0\n0\n"), "{launcher}: {root}");
        seen.push(keeper["stdout"].as_str().unwrap().to_owned());
    }
    let expected = "4711\n4712\n4712 4713\n/srv/keeper keeper keeper\n0022\n/\nagain\nCapEff:\t0000000000000000\n\
                    NoNewPrivs:\t0\n";
    assert!(seen[0].starts_with(expected), "{}", seen[0]);
    assert_eq!(seen[0], seen[1], "left: systemd, right: direct");
    // Under the manager it was where the manager can end it as a whole.
    let groups = machine.read("/var/tmp/groups");
    assert!(groups.lines().any(|group| group == "opensvc-action-oc3-1-1.service/command"), "{groups}");
}
