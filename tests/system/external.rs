//! External actions in template units: `systemd-start` and `systemd-check` under a real systemd.

use serde_json::{Value, json};

use crate::harness::{Down, Machine, Queue};

/// The UUID of the action with this number.
fn uuid(number: u32) -> String {
    format!("aca537a8-f400-40df-8a0d-{number:012}")
}

/// What an agent of the original gives to both commands.
fn record(id: &str) -> String {
    let headers = json!({"authorization": "Bearer secret", "x-custom": "hello"});
    json!({"args": {"count": 3}, "headers": headers, "id": id, "kind": "external.agent.replicante.io/example"})
        .to_string()
}

/// One action of a template unit.
struct Action<'a> {
    machine: &'a Machine,
    template: &'a str,
    id: String,
}

impl<'a> Action<'a> {
    /// The action number `number` of the template, which gets these lines.
    fn of(machine: &'a Machine, template: &'a str, number: u32, lines: &str) -> Self {
        let text = if lines.contains('[') { lines.to_owned() } else { format!("[Service]\n{lines}\n") };
        machine.write(&format!("/etc/systemd/system/{template}@.service"), text);
        machine.ok(&["systemctl", "daemon-reload"]);
        Self { machine, template, id: uuid(number) }
    }

    fn unit(&self) -> String {
        format!("{}@{}.service", self.template, self.id)
    }

    /// Runs a helper, the record on its standard input.
    fn helper(&self, name: &str) -> crate::harness::Output {
        let script = format!("printf %s '{}' | opensvc-actions {name} {}", record(&self.id), self.template);
        self.machine.run(&["/bin/sh", "-c", &script])
    }

    fn started(self) -> Self {
        let output = self.helper("systemd-start");
        assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{output:?}");
        self
    }

    fn check(&self) -> Value {
        let output = self.helper("systemd-check");
        assert_eq!(output.status, 0, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Waits until the manager shows this state.
    fn wait(&self, state: &str) {
        self.machine.wait_for(&format!("{} to be {state}", self.unit()), || self.state() == state);
    }

    fn state(&self) -> String {
        let show = ["ActiveState", "SubState"].map(|property| self.machine.property(&self.unit(), property));
        show.join("/")
    }

    #[track_caller]
    fn assert_running(&self) {
        assert_eq!(self.check(), json!({"status": "running"}), "{}", self.state());
        assert!(self.machine.path(&self.data()).exists(), "its data is gone while it runs");
    }

    /// It has finished, and says so as often as it is asked.
    #[track_caller]
    fn assert_finished(&self) {
        for _ in 0..2 {
            assert_eq!(self.check(), json!({"status": "finished"}), "{}", self.state());
        }
        self.assert_tidy();
    }

    /// It has failed, for this reason, and says so as often as it is asked.
    #[track_caller]
    fn assert_failed(&self, why: &str) -> Value {
        let said = self.check();
        assert!(said["status"] == "failed" && said["error"].as_str().unwrap().contains(why), "{said} {}", self.state());
        assert_eq!(self.check(), said);
        self.assert_tidy();
        said
    }

    /// Nothing is left but the note that answers again.
    #[track_caller]
    fn assert_tidy(&self) {
        let files = self.machine.sh("cd /run; ls -A | grep -F action. || true");
        let own: Vec<_> = files.lines().filter(|name| name.contains(&self.id)).collect();
        assert_eq!(own, [format!("{}.action.state", self.id)]);
        let pins =
            self.machine.ok(&["systemctl", "list-units", "--all", "--no-legend", "--plain", "opensvcaction*.slice"]);
        assert!(!pins.contains(&self.id[24..]), "{pins}");
    }

    fn data(&self) -> String {
        format!("/run/{}.action.json", self.id)
    }
}

/// A shell command of a unit.
fn sh(script: &str) -> String {
    format!("/bin/sh -c '{script}'")
}

const WAITS: &str = "while ! test -e /run/go-%i; do sleep 0.05; done";

#[test]
fn every_row_of_the_state_table_is_told_as_it_is() {
    let machine = Machine::with_product("unit-states");
    let go = |action: &Action<'_>| machine.write(&format!("/run/go-{}", action.id), "");
    let exec = |script: &str| format!("Type=exec\nExecStart={}", sh(script));

    // active/running, then a clean exit
    let action = Action::of(&machine, "plain", 1, &exec(WAITS)).started();
    action.wait("active/running");
    action.assert_running();
    go(&action);
    action.wait("inactive/dead");
    assert_ne!(machine.property(&action.unit(), "InvocationID"), "", "the manager has forgotten it");
    action.assert_finished();

    // active/exited
    let action = Action::of(&machine, "remains", 2, &format!("{}\nRemainAfterExit=yes", exec("exit 0"))).started();
    action.wait("active/exited");
    action.assert_finished();

    // reloading
    let reload = format!("ExecReload={}", sh(WAITS));
    let action =
        Action::of(&machine, "reloads", 3, &format!("Type=exec\nExecStart=sleep infinity\n{reload}")).started();
    action.wait("active/running");
    machine.ok(&["systemctl", "reload", "--no-block", &action.unit()]);
    action.wait("reloading/reload");
    action.assert_running();
    go(&action);
    action.wait("active/running");

    // activating/start of a oneshot, then its end
    let action = Action::of(&machine, "oneshot", 4, &format!("Type=oneshot\nExecStart={}", sh(WAITS))).started();
    action.wait("activating/start");
    action.assert_running();
    go(&action);
    action.wait("inactive/dead");
    action.assert_finished();

    // activating/start-pre
    let action = Action::of(&machine, "pre", 5, &format!("ExecStartPre={}\n{}", sh(WAITS), exec("exit 0"))).started();
    action.wait("activating/start-pre");
    action.assert_running();
    go(&action);
    action.wait("inactive/dead");
    action.assert_finished();

    // activating/auto-restart: between two attempts
    let lines = format!("{}\nRestart=on-failure\nRestartSec=1h", exec("exit 3"));
    let action = Action::of(&machine, "again", 6, &lines).started();
    action.wait("activating/auto-restart");
    action.assert_running();
    machine.ok(&["systemctl", "stop", &action.unit()]);
    action.assert_failed("stopped");

    // inactive with a queued start job
    machine.write("/etc/systemd/system/slow.service", format!("[Service]\nType=oneshot\nExecStart={}\n", sh(WAITS)));
    let lines = format!("[Unit]\nRequires=slow.service\nAfter=slow.service\n[Service]\n{}\n", exec("exit 0"));
    let action = Action::of(&machine, "queued", 7, &lines).started();
    assert_eq!(action.state(), "inactive/dead");
    action.assert_running();
    machine.write("/run/go-", "");
    machine.wait_for("its end", || action.state() == "inactive/dead" && action.check() != json!({"status": "running"}));
    action.assert_finished();

    // deactivating
    let lines = format!("{}\nExecStopPost={}", exec("exit 0"), sh(WAITS));
    let action = Action::of(&machine, "stops", 8, &lines).started();
    action.wait("deactivating/stop-post");
    action.assert_running();
    go(&action);
    action.wait("inactive/dead");
    action.assert_finished();

    // failed: exit code, with its last words; signal; timeout; 203; start limit
    let action = Action::of(&machine, "fails", 9, &exec("echo the last words; exit 7")).started();
    action.wait("failed/failed");
    let said = action.assert_failed("exited with status 7 (result exit-code)");
    assert_eq!(said["exit_status"], 7);
    assert!(said["error"].as_str().unwrap().contains("the last words"), "{said}");
    let action = Action::of(&machine, "killed", 10, &exec("kill -9 $$$$")).started();
    action.wait("failed/failed");
    action.assert_failed("signal 9 ended its main process");
    let action = Action::of(&machine, "late", 11, "ExecStart=sleep infinity\nRuntimeMaxSec=50ms").started();
    action.wait("failed/failed");
    action.assert_failed("result timeout");
    let action = Action::of(&machine, "nothing", 12, "Type=simple\nExecStart=/nonexistent").started();
    action.wait("failed/failed");
    action.assert_failed("status 203");
    let limit = "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n[Service]\nExecStart=false\nRestart=always\nRestartSec=0\n";
    let action = Action::of(&machine, "limit", 13, limit).started();
    action.wait("failed/failed");
    action.assert_failed("exited with status 1");

    // a unit that calls another end than 0 a success
    let action = Action::of(&machine, "own", 14, &format!("{}\nSuccessExitStatus=3", exec("exit 3"))).started();
    action.wait("inactive/dead");
    action.assert_finished();
}

#[test]
fn an_action_that_somebody_stops_resets_or_never_started_is_not_told_as_finished() {
    let machine = Machine::with_product("unit-lost");
    let kinds = [
        ("dies", "Type=exec\nExecStart=sleep infinity".to_owned(), "active/running"),
        (
            "bows",
            format!(
                "Type=exec\nExecStart={}",
                sh("trap \"exit 0\" TERM; touch /run/ready-bows; while :; do sleep 0.05; done")
            ),
            "active/running",
        ),
        (
            "oneshot",
            format!(
                "Type=oneshot\nExecStart={}",
                sh("trap \"exit 0\" TERM; touch /run/ready-oneshot; while :; do sleep 0.05; done")
            ),
            "activating/start",
        ),
    ];
    for (number, (template, lines, state)) in (1..).zip(&kinds) {
        let action = Action::of(&machine, template, number, lines).started();
        action.wait(state);
        if *template != "dies" {
            machine.wait_for("its trap", || machine.path(&format!("/run/ready-{template}")).exists());
        }
        machine.ok(&["systemctl", "stop", &action.unit()]);
        action.assert_failed("stopped before its end");
    }

    // killed by somebody, which the manager calls a success
    let action = Action::of(&machine, "dies", 10, &kinds[0].1).started();
    action.wait("active/running");
    machine.ok(&["systemctl", "kill", "--signal=TERM", &action.unit()]);
    action.wait("inactive/dead");
    action.assert_failed("signal 15");

    // failed, and reset before anybody asked
    let action = Action::of(&machine, "fails", 11, "ExecStart=false").started();
    action.wait("failed/failed");
    machine.ok(&["systemctl", "reset-failed", &action.unit()]);
    action.assert_failed("failed");

    // never started; not even there
    let never = Action { machine: &machine, template: "fails", id: uuid(12) };
    never.assert_failed("nothing is known of its start");
    let unknown = Action { machine: &machine, template: "unknown", id: uuid(13) };
    unknown.assert_failed("there is no such unit");

    // a condition that does not hold
    let condition = "[Unit]\nConditionPathExists=/nonexistent\n[Service]\nExecStart=true\n";
    let action = Action::of(&machine, "condition", 14, condition).started();
    machine.wait_for("its job", || machine.property(&action.unit(), "Job").is_empty());
    action.assert_failed("a condition of its unit does not hold");
}

#[test]
fn what_is_not_started_leaves_nothing_and_what_was_started_is_not_started_again() {
    let machine = Machine::with_product("unit-starts");
    let nothing = |id: &str| machine.sh(&format!("ls -A /run | grep -F {id} || true"));

    let unknown = Action { machine: &machine, template: "unknown", id: uuid(1) };
    let output = unknown.helper("systemd-start");
    assert!(
        output.status == 69 && output.stderr.contains("unknown@") && output.stderr.contains("not-found"),
        "{output:?}"
    );
    assert_eq!(nothing(&unknown.id), "");
    let masked = Action { machine: &machine, template: "masked", id: uuid(2) };
    machine.ok(&["systemctl", "--quiet", "mask", "masked@.service"]);
    let output = masked.helper("systemd-start");
    assert!(output.status == 69 && output.stderr.contains("masked"), "{output:?}");
    assert_eq!(nothing(&masked.id), "");

    let lines = format!("Type=exec\nExecStart={}", sh(&format!("echo run >>/var/log/runs; {WAITS}")));
    let action = Action::of(&machine, "once", 3, &lines).started();
    let metadata = machine.ok(&["stat", "--format=%a %U", &action.data()]);
    assert_eq!(metadata, "600 root");
    let data: Value = serde_json::from_str(&machine.read(&action.data())).unwrap();
    assert_eq!(data, serde_json::from_str::<Value>(&record(&action.id)).unwrap());
    action.wait("active/running");
    let action = action.started(); // as it is asked for
    machine.write(&format!("/run/go-{}", action.id), "");
    action.wait("inactive/dead");
    for _ in 0..2 {
        let output = action.helper("systemd-start");
        assert!(output.status == 69 && output.stderr.contains("not started a second time"), "{output:?}");
        action.assert_finished();
    }
    assert_eq!(machine.read("/var/log/runs"), "run\n");

    // Ids and units that would be more than a name.
    for id in ["../../etc/x", "a/b", "a b", "*", "", "-x", "a@b"] {
        for helper in ["systemd-start", "systemd-check"] {
            let script = format!("printf %s '{}' | opensvc-actions {helper} once", record(id));
            let output = machine.run(&["/bin/sh", "-c", &script]);
            assert!(output.status == 65 && output.stderr.contains("is refused"), "{id}: {output:?}");
        }
    }
    for unit in ["a@b", "../a", "a/b", "*", "-x"] {
        let script = format!("printf %s '{}' | opensvc-actions systemd-start -- '{unit}'", record(&uuid(4)));
        assert_eq!(machine.run(&["/bin/sh", "-c", &script]).status, 64, "{unit}");
    }
    for input in ["", "x", "[]", r#"{"id": 5}"#] {
        let script = format!("printf %s '{input}' | opensvc-actions systemd-check once");
        assert_eq!(machine.run(&["/bin/sh", "-c", &script]).status, 65, "{input}");
    }

    // A link that waits where the data goes is replaced, and what it leads to is left alone.
    machine.write("/etc/victim", "precious");
    let action = Action { machine: &machine, template: "once", id: uuid(5) };
    machine.ok(&["ln", "-s", "/etc/victim", &action.data()]);
    let action = action.started();
    assert_eq!(machine.read("/etc/victim"), "precious");
    action.assert_running();
}

#[test]
fn after_a_reboot_it_is_lost_and_without_a_manager_nothing_is_said() {
    let machine = Machine::with_product("unit-reboot");
    machine.ok(&["mkdir", "/var/lib/data"]);
    let action = Action::of(&machine, "plain", 1, "Type=exec\nExecStart=sleep infinity").started();
    action.wait("active/running");
    // The same with data that survives.
    let durable = |helper: &str| {
        let script = format!("printf %s '{}' | opensvc-actions {helper} --data=/var/lib/data plain", record(&uuid(2)));
        machine.run(&["/bin/sh", "-c", &script])
    };
    assert_eq!(durable("systemd-start").status, 0);
    assert_eq!(durable("systemd-check").stdout, r#"{"status":"running"}"#);

    // No manager can be reached: no answer at all, rather than a wrong one.
    let script = format!(
        "mount -t tmpfs none /run/systemd; mount -t tmpfs none /run/dbus; printf %s '{}' | opensvc-actions systemd-check plain",
        record(&action.id)
    );
    let output = machine.run(&["unshare", "--mount", "/bin/sh", "-c", &script]);
    assert!(output.status == 75 && output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    let script = script.replace("systemd-check", "systemd-start").replace(&action.id, &uuid(3));
    assert_eq!(machine.run(&["unshare", "--mount", "/bin/sh", "-c", &script]).status, 75);
    assert_eq!(machine.sh(&format!("ls -A /run | grep -F {} || true", uuid(3))), "");
    action.assert_running();

    machine.run(&["systemctl", "reboot"]);
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    machine.boot_again();
    action.assert_failed("nothing is known of its start in this boot");
    let said: Value = serde_json::from_str(&durable("systemd-check").stdout).unwrap();
    assert!(said["status"] == "failed" && said["error"].as_str().unwrap().contains("has booted since"), "{said}");
    assert!(!machine.path(&format!("/var/lib/data/{}.action.json", uuid(2))).exists());
}

/// The unit file of the original's documentation, letter for letter.
const DOCUMENTED: &str = "[Unit]
Description=Example SystemD managed Replicante External Action

[Service]
Type=exec
ExecStart=/path/to/action %i

[Install]
WantedBy=multi-user.target
";

#[test]
fn the_documented_example_of_the_original_runs_unchanged() {
    let machine = Machine::with_product("unit-example");
    machine.sh("mkdir -p /path/to /root/.config/systemd/user; for name in start check; do ln -s /usr/bin/opensvc-actions /path/to/systemd-$name; done");
    machine.write("/path/to/action", "#!/bin/sh\ncp /run/$1.action.json /root/seen-$1 2>&1 || cp $XDG_RUNTIME_DIR/$1.action.json /root/seen-$1\nwhile ! test -e /root/go; do sleep 0.05; done\n");
    machine.sh("chmod 755 /path/to/action");
    machine.write("/root/.config/systemd/user/example@.service", DOCUMENTED);
    machine.write("/etc/systemd/system/example@.service", DOCUMENTED);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "user@0.service"]);
    let options = ["", "--user --dat /run/user/0"];
    let call = |helper: &str, option: &str, id: &str| {
        let environment = "export XDG_RUNTIME_DIR=/run/user/0";
        let script = format!("{environment}; printf %s '{}' | /path/to/systemd-{helper} {option} example", record(id));
        let output = machine.run(&["/bin/sh", "-c", &script]);
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    };
    for (number, option) in (1..).zip(options) {
        let id = uuid(number);
        assert_eq!(call("start", option, &id), "");
        assert_eq!(call("check", option, &id), r#"{"status":"running"}"#);
        machine.wait_for("the action", || machine.read(&format!("/root/seen-{id}")).contains(r#""count":3"#));
    }
    machine.write("/root/go", "");
    for (number, option) in (1..).zip(options) {
        let id = uuid(number);
        machine.wait_for("its end", || call("check", option, &id) == r#"{"status":"finished"}"#);
        assert_eq!(machine.sh(&format!("find /run -name {id}.action.json")), "");
    }
}

/// The shell scripts of a section of the manual, in their order.
fn scripts(section: &str) -> Vec<String> {
    let page = include_str!("../../man/opensvc-actions.8");
    let text = page.split(&format!(".SS {section}\n")).nth(1).unwrap().split("\n.SS ").next().unwrap();
    let plain = |block: &str| {
        let signs = [("\\-", "-"), ("\\(dq", "\""), ("\\(aq", "'"), ("\\(ga", "`"), ("\\e", "\\")];
        signs.into_iter().fold(block.to_owned(), |text, (sign, plain)| text.replace(sign, plain))
    };
    text.split(".nf\n").skip(1).map(|block| plain(block.split("\n.fi").next().unwrap())).collect()
}

#[test]
fn the_manual_leads_to_an_external_action_that_works_as_it_is_written() {
    let machine = Machine::with_product("unit-manual");
    let [setup, trial, row] = <[String; 3]>::try_from(scripts("Writing an external action")).unwrap();
    machine.sh(&setup);
    for (file, shipped) in [
        ("/usr/local/bin/example-action", include_str!("../../units/example-action")),
        ("/etc/systemd/system/example-action@.service", include_str!("../../units/example-action@.service")),
    ] {
        assert_eq!(machine.read(file), shipped);
    }
    let collector = machine.collector(Queue::Rpc);
    let said = machine.sh(&trial);
    assert!(said.starts_with("{\"status\":\"running\"}\n"), "{said}");

    machine.enable_socket();
    let id = collector.enqueue(row.trim());
    let missing = collector.enqueue("external example {}");
    machine.peer(1, 1, "notify");
    machine.wait_for("its start", || machine.sh("ls /run").contains(".action.json"));
    let result = collector.result(missing);
    assert_eq!(result["ret"], 125, "{result}");
    // The handler does not stay; the timer brings it back.
    machine.wait_for("its end", || {
        machine.ok(&["systemctl", "start", "opensvc-actions.service"]);
        collector.show(id)["status"] == "T"
    });
    let result = collector.show(id);
    assert_eq!((&result["ret"], result["stdout"].as_str().unwrap().trim()), (&json!(0), r#"{"status":"finished"}"#));
    machine.wait_until_idle();
    assert_eq!(machine.counts(), [0, 0, 0]);
}

#[test]
fn a_reboot_in_the_middle_of_an_external_action_is_told_and_it_is_not_started_again() {
    let machine = Machine::with_product("unit-queued-reboot");
    let collector = machine.collector(Queue::Rpc);
    machine.write(
        "/etc/systemd/system/long@.service",
        "[Service]\nExecStart=/bin/sh -c 'echo run >>/var/log/runs; exec sleep infinity'\n",
    );
    let helper = |name: &str| format!("[\"/usr/bin/opensvc-actions\", \"systemd-{name}\", \"long\"]");
    let settings = format!("[external_actions.long]\naction = {}\ncheck = {}\n", helper("start"), helper("check"));
    machine.write("/etc/opensvc/actions.d/long.toml", settings);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.enable_socket();
    let id = collector.enqueue("external long");
    machine.peer(1, 1, "notify");
    machine.wait_for("its run", || !machine.read("/var/log/runs").is_empty());
    machine.wait_for("a check", || {
        machine.status()["running"][0]["external"]["checks"].as_u64().is_some_and(|checks| checks > 0)
    });
    machine.run(&["systemctl", "reboot"]);
    assert_eq!(machine.wait_until_down(), Down::Reboot);
    machine.boot_again();
    collector.start();
    machine.peer(1, 1, "notify");
    let result = collector.result(id);
    assert_eq!(result["ret"], 1, "{result}");
    assert!(result["stderr"].as_str().unwrap().contains("it is lost"), "{result}");
    assert_eq!(machine.read("/var/log/runs"), "run\n");
}
