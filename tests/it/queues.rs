//! Both queues on one node: the same number in both is two actions, and what one collector does is no matter to the other.

use std::thread;

use crate::support::collector::Collector;
use crate::support::collector::fault::{Answer, Call, Fault, When};
use crate::support::collector::state::Row;
use crate::support::history::{self, Allowed};
use crate::support::node::Node;
use crate::support::pki::Flaw;
use crate::support::process::Ended;
use crate::support::{Dialect, NODE, UUID, both};

/// A node with a queue at each of two collectors.
struct Both {
    node: Node,
    oc3: Collector,
    rpc: Collector,
}

impl Both {
    fn new() -> Self {
        Self::at(Collector::start(), Collector::start())
    }

    fn at(oc3: Collector, rpc: Collector) -> Self {
        let node = Node::bare();
        node.register(&[(Dialect::Oc3, &oc3), (Dialect::Rpc, &rpc)]);
        Self { node, oc3, rpc }
    }

    fn of(&self, dialect: Dialect) -> &Collector {
        match dialect {
            Dialect::Oc3 => &self.oc3,
            Dialect::Rpc => &self.rpc,
        }
    }

    /// Queues a row with this id.
    fn enqueue(&self, dialect: Dialect, id: i64, command: &str) {
        let mut row = Row::new(dialect, command);
        row.id = id;
        self.of(dialect).add(row);
    }

    fn operator(&self, args: &[&str]) -> Ended {
        self.node.handler().args(args).run()
    }

    /// How often the command of this row of this queue has started.
    fn runs(&self, dialect: Dialect, id: i64) -> usize {
        self.node.starts().iter().filter(|mark| mark.row() == Some((dialect, id))).count()
    }

    /// What the collector of this queue was told about this row.
    #[track_caller]
    fn result(&self, dialect: Dialect, id: i64) -> (i64, String) {
        let row = self.of(dialect).row(id);
        assert_eq!(row.status, 'T', "{row:?}");
        (row.ret.unwrap(), row.stdout.unwrap())
    }

    #[track_caller]
    fn check(&self) {
        history::check(&self.node, &[&self.oc3, &self.rpc], &Allowed::default());
    }
}

fn other(dialect: Dialect) -> Dialect {
    match dialect {
        Dialect::Oc3 => Dialect::Rpc,
        Dialect::Rpc => Dialect::Oc3,
    }
}

#[test]
fn the_same_id_in_both_queues_is_two_actions_each_answered_where_it_came_from() {
    let both = Both::new();
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, &format!("echo {}", dialect.name()));
    }
    both.node.run().exits(0);
    for dialect in Dialect::BOTH {
        assert_eq!(both.result(dialect, 700), (0, format!("{}\n", dialect.name())));
        assert_eq!(both.runs(dialect, 700), 1);
        for call in [Call::Ack, Call::Report] {
            assert_eq!(both.of(dialect).count(call), 1, "{dialect:?} {call:?}");
        }
    }
    both.check();
}

both!(a_redo_in_one_queue_is_none_in_the_other);
fn a_redo_in_one_queue_is_none_in_the_other(dialect: Dialect) {
    let both = Both::new();
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, "echo done");
    }
    both.node.run().exits(0);
    both.of(dialect).redo(700);
    both.node.run().exits(0);
    assert_eq!((both.runs(dialect, 700), both.runs(other(dialect), 700)), (2, 1));
    assert_eq!(both.of(other(dialect)).count(Call::Report), 1);
    let name = dialect.name();
    both.operator(&["show", &format!("{name}:700.2")]).exits(0);
    both.operator(&["show", &format!("{}:700.2", other(dialect).name())]).exits(64);
    both.check();
}

both!(a_row_sent_again_by_one_collector_is_answered_from_its_own_record);
fn a_row_sent_again_by_one_collector_is_answered_from_its_own_record(dialect: Dialect) {
    let both = Both::new();
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, &format!("echo {} exit 3", dialect.name()));
    }
    both.node.run().exits(0);
    both.of(dialect).send_once_more(700);
    both.node.run().exits(0);
    assert_eq!(both.runs(dialect, 700) + both.runs(other(dialect), 700), 2);
    assert_eq!(both.result(dialect, 700), (3, format!("{}\n", dialect.name())));
    assert_eq!(both.of(dialect).count(Call::Report), 2);
    assert_eq!(both.of(other(dialect)).count(Call::Report), 1);
    both.check();
}

both!(cancel_and_show_want_the_queue_when_the_number_is_in_both);
fn cancel_and_show_want_the_queue_when_the_number_is_in_both(dialect: Dialect) {
    let both = Both::new();
    let mut gate = both.node.gate("gate");
    both.enqueue(Dialect::Oc3, 1, "wait gate");
    both.enqueue(Dialect::Rpc, 1, "wait gate");
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, &format!("echo {}", dialect.name()));
    }
    let handler = both.node.handler().start();
    both.node.wait_for_mark("start"); // by then both queues were fetched
    for command in ["cancel", "show"] {
        both.operator(&[command, "700"]).exits(64).says("oc3:700.1").says("rpc:700.1");
    }
    both.operator(&["cancel", &format!("{}:700", dialect.name())]).exits(0);
    gate.open();
    handler.wait().exits(0);
    assert_eq!(both.result(dialect, 700), (130, String::new()));
    let spared = other(dialect);
    assert_eq!(both.result(spared, 700), (0, format!("{}\n", spared.name())));
    assert_eq!((both.runs(dialect, 700), both.runs(spared, 700)), (0, 1));
    let shown = both.operator(&["show", &format!("{}:700", spared.name()), "--stdout"]);
    assert_eq!(shown.exits(0).stdout, format!("{}\n", spared.name()));
    let shown = both.operator(&["show", &format!("{}:700.1", dialect.name()), "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    assert_eq!((&shown["action"], &shown["ret"]), (&format!("{}:700.1", dialect.name()).into(), &130.into()));
}

both!(a_collector_that_is_down_stops_nothing_of_the_other);
fn a_collector_that_is_down_stops_nothing_of_the_other(dialect: Dialect) {
    let both = Both::new();
    let (down, up) = (dialect, other(dialect));
    both.enqueue(down, 700, "echo late");
    both.enqueue(up, 700, "echo done");
    both.of(down).down();
    both.node.run().exits(75).says(&both.of(down).url());
    assert_eq!(both.result(up, 700), (0, "done\n".to_owned()));
    both.of(down).up();
    both.node.run().exits(0);
    assert_eq!(both.result(down, 700), (0, "late\n".to_owned()));
    assert_eq!((both.runs(down, 700), both.runs(up, 700)), (1, 1));
    both.check();
}

both!(a_result_waits_for_its_own_collector_while_the_other_gets_its);
fn a_result_waits_for_its_own_collector_while_the_other_gets_its(dialect: Dialect) {
    let both = Both::new();
    let mut gate = both.node.gate("gate");
    both.enqueue(dialect, 700, "wait gate echo mine");
    both.enqueue(other(dialect), 700, "wait gate echo its");
    let handler = both.node.handler().start();
    both.node.wait_for_mark("start");
    both.of(dialect).down();
    gate.open();
    handler.wait().exits(75);
    assert_eq!(both.result(other(dialect), 700), (0, "its\n".to_owned()));
    both.of(dialect).up();
    both.operator(&["report"]).exits(0);
    assert_eq!(both.result(dialect, 700), (0, "mine\n".to_owned()));
    both.check();
}

/// How a fetch from a collector can end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fetch {
    Fine = 0,
    /// The answer makes no sense.
    Garbage = 65,
    /// The certificate has expired.
    Unreachable = 75,
    /// The uuid is refused.
    Refused = 77,
    /// What is to be trusted is no certificate.
    Misconfigured = 78,
}

impl Fetch {
    const ALL: [Self; 5] = [Self::Fine, Self::Garbage, Self::Unreachable, Self::Refused, Self::Misconfigured];

    fn collector(self, dialect: Dialect) -> Collector {
        let collector = match self {
            Self::Unreachable => Collector::with_flaw(Flaw::Expired),
            _ => Collector::start(),
        };
        let answer = |status, text: &str| Fault::Answer(Answer::new(status, "application/json", text));
        match (self, dialect) {
            (Self::Garbage, _) => collector.fail(Call::Fetch, When::Always, answer(200, "\u{1}what?")),
            (Self::Refused, Dialect::Oc3) => {
                collector.fail(Call::Fetch, When::Always, answer(401, "{\"text\":\"invalid credentials\"}\n"));
            }
            (Self::Refused, Dialect::Rpc) => {
                collector.fail(Call::Fetch, When::Always, Fault::Refusal("agent authentication error".to_owned()));
            }
            _ => {}
        }
        collector
    }
}

/// The contract's order.
fn worse(one: i32, two: i32) -> i32 {
    [70, 78, 77, 69, 65, 75, 0].into_iter().find(|code| [one, two].contains(code)).unwrap()
}

#[test]
fn of_what_goes_wrong_at_two_collectors_the_worse_is_the_exit_status() {
    thread::scope(|scope| {
        for (first, second) in Fetch::ALL.iter().flat_map(|first| Fetch::ALL.map(|second| (*first, second))) {
            scope.spawn(move || {
                let both = Both::at(first.collector(Dialect::Oc3), second.collector(Dialect::Rpc));
                for (dialect, fetch) in [(Dialect::Oc3, first), (Dialect::Rpc, second)] {
                    both.enqueue(dialect, 700, "echo done");
                    if fetch == Fetch::Misconfigured {
                        both.node.write(&format!("etc/{}.pem", dialect.name()), "no certificate");
                    }
                }
                let expected = worse(first as i32, second as i32);
                both.node.run().exits(expected);
                for (dialect, fetch) in [(Dialect::Oc3, first), (Dialect::Rpc, second)] {
                    // a mistake in the settings stops everything; nothing else does
                    let works = fetch == Fetch::Fine && expected != 78;
                    assert_eq!(both.runs(dialect, 700), usize::from(works), "{dialect:?} of {first:?} and {second:?}");
                }
                // the order of the queues is no matter
                both.node.configure("queues = [\"rpc\", \"oc3\"]\n");
                both.node.run().exits(expected);
            });
        }
    });
}

/// With a result that waits for each of two collectors, and without an agent (69).
#[test]
fn what_is_missing_here_and_what_goes_wrong_at_collectors_are_one_exit_status() {
    let refuse = |dialect| match dialect {
        Dialect::Oc3 => Fault::Answer(Answer::new(401, "application/json", "{\"text\":\"invalid credentials\"}\n")),
        Dialect::Rpc => Fault::Refusal("agent authentication error".to_owned()),
    };
    let refuse = &refuse;
    thread::scope(|scope| {
        for (refused, expected) in [(Some(Dialect::Oc3), 77), (Some(Dialect::Rpc), 77), (None, 69)] {
            scope.spawn(move || {
                let both = Both::new();
                let mut gate = both.node.gate("gate");
                for dialect in Dialect::BOTH {
                    both.enqueue(dialect, 700, "wait gate echo done");
                }
                let handler = both.node.handler().start();
                both.node.wait_for_mark("start");
                both.oc3.down();
                both.rpc.down();
                gate.open();
                handler.wait().exits(75);
                both.node.remove("bin/om");
                both.oc3.up();
                both.rpc.up();
                match refused {
                    Some(dialect) => both.of(dialect).fail(Call::Report, When::Always, refuse(dialect)),
                    None => both.oc3.down(), // 75 counts less
                }
                both.node.run().exits(expected);
                let unheard = refused.unwrap_or(Dialect::Oc3);
                assert_eq!(both.result(other(unheard), 700), (0, "done\n".to_owned()), "{refused:?}");
                both.oc3.heal();
                both.rpc.heal();
                if refused.is_none() {
                    both.oc3.up();
                }
                both.node.install_om();
                both.node.run().exits(0);
                assert_eq!(both.result(unheard, 700), (0, "done\n".to_owned()), "{refused:?}");
                both.check();
            });
        }
    });
}

#[test]
fn each_queue_has_its_own_name_and_trust() {
    let both = Both::new();
    let trust = |dialect: Dialect| both.node.path(&format!("etc/{}.pem", dialect.name())).display().to_string();
    let (oc3, rpc) = (trust(Dialect::Oc3), trust(Dialect::Rpc));
    let file = |oc3: &str, rpc: &str, name: &str| {
        format!(
            "[collector]\nnode = \"other.example.com\"\n[collector.oc3]\nnode = {NODE:?}\nca_file = {oc3:?}\n\
             [collector.rpc]\nnode = {name:?}\nca_file = {rpc:?}\n"
        )
    };
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, "echo done");
    }
    // each trusts the other's authority only: the two are not mixed
    both.node.write("etc/actions.toml", file(&rpc, &oc3, NODE));
    both.node.run().exits(75).says("is not signed by the authority that this machine trusts");
    assert_eq!(both.oc3.count(Call::Fetch) + both.rpc.count(Call::Fetch), 0);
    both.node.write("etc/actions.toml", file(&oc3, &rpc, "other.example.com"));
    both.node.run().exits(77);
    assert_eq!(both.result(Dialect::Oc3, 700), (0, "done\n".to_owned()));
    assert_eq!(both.runs(Dialect::Rpc, 700), 0);
    both.node.write("etc/actions.toml", file(&oc3, &rpc, NODE));
    both.node.run().exits(0);
    assert_eq!(both.result(Dialect::Rpc, 700), (0, "done\n".to_owned()));
    let shown = both.operator(&["show-config"]);
    assert_eq!(shown.exits(0).stdout.matches(UUID).count(), 0);
}

#[test]
fn each_queue_is_acknowledged_as_its_own_table_says() {
    let both = Both::new();
    let mut gate = both.node.gate("gate");
    both.node.configure("[collector.rpc]\nack = \"started\"\n");
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 1, "wait gate");
        both.enqueue(dialect, 700, "echo done");
    }
    let handler = both.node.handler().start();
    both.node.wait_for_mark("start");
    both.of(Dialect::Oc3).wait_for_status(700, 'R');
    assert_eq!(both.of(Dialect::Rpc).row(700).status, 'S');
    gate.open();
    handler.wait().exits(0);
    both.check();
}

#[test]
fn output_that_stays_here_is_kept_for_each_queue() {
    let both = Both::new();
    for (dialect, letter) in [(Dialect::Oc3, "o"), (Dialect::Rpc, "r")] {
        both.enqueue(dialect, 700, &format!("echo {}", letter.repeat(100_000)));
    }
    both.node.run().exits(0);
    for (dialect, letter) in [(Dialect::Oc3, "o"), (Dialect::Rpc, "r")] {
        let shown = both.operator(&["show", &format!("{}:700", dialect.name()), "--stdout"]);
        assert!(shown.exits(0).stdout == format!("{}\n", letter.repeat(100_000)), "{dialect:?}");
    }
    both.check();
}

both!(a_list_of_queues_leaves_the_others_alone);
fn a_list_of_queues_leaves_the_others_alone(dialect: Dialect) {
    let both = Both::new();
    for dialect in Dialect::BOTH {
        both.enqueue(dialect, 700, "echo done");
    }
    both.node.configure(&format!("queues = [{:?}]\n", dialect.name()));
    both.of(other(dialect)).down(); // nobody minds
    both.node.run().exits(0);
    assert_eq!(both.result(dialect, 700), (0, "done\n".to_owned()));
    assert_eq!(both.of(other(dialect)).count(Call::Fetch), 0);
    both.of(other(dialect)).up();
    both.node.configure("queues = \"auto\"\n");
    both.node.run().exits(0);
    assert_eq!(both.result(other(dialect), 700), (0, "done\n".to_owned()));
    both.check();
}
