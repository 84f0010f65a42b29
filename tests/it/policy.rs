//! The local policy, from `[policy]` to what is run and what the collector is told.

use crate::support::history::Allowed;
use crate::support::world::World;
use crate::support::{Dialect, both};

both!(what_a_rule_denies_is_125_with_file_rule_and_text_and_the_rest_runs);
fn what_a_rule_denies_is_125_with_file_rule_and_text_and_the_rest_runs(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure(
        "[[policy.rule]]\nverdict = \"allow\"\nservice = \"web\"\n\
         [[policy.rule]]\nverdict = \"deny\"\ncommand = [\"%*\", \"echo\", \"**\"]\n",
    );
    let denied = [world.enqueue("echo node"), world.enqueue_for("db", "'e'\"cho\" db")];
    let (allowed, other) = (world.enqueue_for("web", "echo web"), world.enqueue("err node"));
    world.run().exits(0);
    let file = world.node.path("etc/actions.d/50-test.toml").display().to_string();
    for id in denied {
        let expected = format!("refused: by rule 2 of {file} (line 4): deny command=[\"%*\", \"echo\", \"**\"]");
        assert_eq!(world.reason(id, 125), expected);
        assert_eq!(world.node.runs_of(id), 0);
    }
    assert_eq!(world.result(allowed).1, "web\n");
    assert_eq!(world.result(other).2, "node\n");
    world.check();
}

both!(under_deny_by_default_only_what_is_listed_runs);
fn under_deny_by_default_only_what_is_listed_runs(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write(
        "etc/actions.d/10-allow.toml",
        "[[policy.rule]]\nverdict = \"allow\"\nservice = \"web\"\ncommand = [\"%*\", \"echo\", \"[a-z]*\"]\n",
    );
    world.node.configure("[policy]\ndefault = \"deny\"\n");
    let allowed = world.enqueue_for("web", "echo done");
    let refused = [
        world.enqueue("echo done"),
        world.enqueue_for("db", "echo done"),
        world.enqueue_for("web", "echo done more"),
        world.enqueue_for("web", "echo Done"),
        world.enqueue_for("web", "--local echo done"),
        world.enqueue_for("web", "'echo done'"),
        world.enqueue_for("web", "echo 'done' ''"),
        world.enqueue_for("web", "ech\u{43e} done"),
    ];
    world.run().exits(0);
    assert_eq!(world.result(allowed).1, "done\n");
    for id in refused {
        let reason = world.reason(id, 125);
        assert!(reason.contains("no rule of the policy allows it"), "{reason}");
        assert!(reason.contains("50-test.toml:2"), "{reason}");
    }
    assert_eq!(world.node.starts().len(), 1);
    world.check();
}

both!(only_a_rule_with_retarget_lets_an_action_choose_another_target);
fn only_a_rule_with_retarget_lets_an_action_choose_another_target(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure(
        "[[policy.rule]]\nverdict = \"allow\"\nservice = \"web\"\nretarget = true\n\
         [[policy.rule]]\nverdict = \"allow\"\n",
    );
    let (allowed, refused) = (world.enqueue_for("web", "echo done -s db"), world.enqueue_for("db", "echo done -s web"));
    let selector = world.enqueue_for("web*", "echo done");
    world.run().exits(0);
    assert_eq!(world.result(allowed).1, "done\n");
    assert!(world.reason(refused, 125).contains("another target"));
    assert!(world.reason(selector, 125).contains("service name"));
    world.check();
}

both!(a_rule_sets_the_timeout_of_its_actions);
fn a_rule_sets_the_timeout_of_its_actions(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure(
        "[execution]\nmax_parallel = 2\ntimeout = \"300ms\"\nkill_grace = \"100ms\"\n\
         [[policy.rule]]\nverdict = \"allow\"\nservice = \"slow\"\ntimeout = \"none\"\n\
         [[policy.rule]]\nverdict = \"allow\"\nservice = \"slower\"\ntimeout = \"400ms\"\n",
    );
    let mut gate = world.node.gate("gate");
    let _closed = world.node.gate("closed");
    let (slow, slower) = (world.enqueue_for("slow", "wait gate echo done"), world.enqueue_for("slower", "wait closed"));
    let usual = world.enqueue_for("usual", "wait closed");
    let handler = world.node.handler().start();
    world.collector.wait_for_result(slower);
    world.collector.wait_for_result(usual);
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(slow).1, "done\n");
    assert!(world.reason(slower, 124).contains("its timeout of 400ms"));
    assert!(world.reason(usual, 124).contains("its timeout of 300ms"));
    world.check_but(&Allowed { interrupted: true, ..Allowed::default() });
}

/// What a handler finds that belongs to another boot, and left nothing behind.
fn lost_with_its_boot(world: &World, rule: &str, command: &str) -> i64 {
    world.node.configure(rule);
    let _closed = world.node.gate("closed");
    let id = world.enqueue(&format!("{command} wait closed"));
    let handler = world.node.handler().start();
    let started = world.node.wait_for_start(id);
    handler.signal(rustix::process::Signal::KILL);
    handler.wait().exits(137);
    let supervisor = crate::interruptions::supervisor_of(started.pid);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(started.pid).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    world.node.wait_until_alone(&[]);
    let ledger = rusqlite::Connection::open(world.node.path("var/actions/ledger.sqlite")).unwrap();
    ledger.execute("UPDATE action SET boot_id = 'another'", []).unwrap();
    drop(ledger);
    world.run().exits(0);
    id
}

both!(a_rule_says_which_actions_end_the_boot);
fn a_rule_says_which_actions_end_the_boot(dialect: Dialect) {
    let rule = "[[policy.rule]]\nverdict = \"allow\"\ncommand = [\"%*\", \"kexec\", \"**\"]\nends_boot = true\n";
    for (command, ret) in [("kexec", 0), ("other", 254)] {
        let world = World::new(dialect);
        let id = lost_with_its_boot(&world, rule, command);
        world.reason(id, ret);
        assert_eq!(world.node.runs_of(id), 1);
    }
}

both!(rules_that_cannot_be_obeyed_are_78_and_nothing_is_fetched);
fn rules_that_cannot_be_obeyed_are_78_and_nothing_is_fetched(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done");
    for (rules, words) in [
        ("[policy]\ndefault = \"maybe\"\n", "50-test.toml:2: policy.default"),
        (
            "[[policy.rule]]\nverdict = \"allow\"\nuser = \"0\"\n",
            "50-test.toml:3: policy.rule.user: \"0\" is not the name of a user",
        ),
        ("[[policy.rule]]\nverdict = \"deny\"\nretarget = true\n", "50-test.toml:3: policy.rule.retarget"),
        ("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\"[\"]\n", "50-test.toml:3: policy.rule.command"),
        (
            "[execution]\nlauncher = \"direct\"\n[[policy.rule]]\nverdict = \"allow\"\nmemory_max = \"1GiB\"\n",
            "50-test.toml:5: policy.rule.memory_max",
        ),
    ] {
        world.node.configure(rules);
        world.run().exits(78).says(words);
    }
    assert!(world.collector.events().is_empty());
}

#[test]
fn show_config_lists_the_rules_in_their_order() {
    let world = World::new(Dialect::Oc3);
    world.node.configure(
        "[policy]\ndefault = \"deny\"\n[[policy.rule]]\nverdict = \"deny\"\ncommand = [\"stop\", \"**\"]\n\
         [[policy.rule]]\nverdict = \"allow\"\nservice = \"web*\"\ntimeout = \"10m\"\n",
    );
    let shown = world.node.handler().arg("show-config").run();
    shown.exits(0);
    let lines: Vec<_> = shown.stdout.lines().filter(|line| line.starts_with("policy.")).collect();
    let file = world.node.path("etc/actions.d/50-test.toml").display().to_string();
    for (line, (value, number)) in lines.iter().zip([
        ("deny", 2),
        ("deny command=[\"stop\", \"**\"]", 3),
        ("allow service=\"web*\" timeout=\"10m\"", 6),
    ]) {
        assert!(line.ends_with(&format!(" = {value}  # {file}:{number}")), "{line}");
    }
    assert_eq!(lines.len(), 3);
}
