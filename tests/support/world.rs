//! One node and its collector: where most tests begin.

use super::collector::Collector;
use super::collector::state::Row;
use super::history::{self, Allowed};
use super::node::Node;
use super::process::Ended;
use super::{Dialect, Wire, pki::Flaw};

/// A node with one queue, and the collector of it.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) collector: Collector,
    pub(crate) dialect: Dialect,
}

impl World {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self::at(Collector::start(), dialect)
    }

    pub(crate) fn with_flaw(dialect: Dialect, flaw: Flaw) -> Self {
        Self::at(Collector::with_flaw(flaw), dialect)
    }

    pub(crate) fn at(collector: Collector, dialect: Dialect) -> Self {
        Self { node: Node::of(&collector, &[dialect]), collector, dialect }
    }

    /// A node and a collector that talk over this wire.
    #[allow(dead_code, reason = "not every test binary speaks them all")]
    pub(crate) fn over(wire: Wire) -> Self {
        let collector = Collector::start();
        if wire == Wire::RpcXmlV1 {
            collector.become_old();
        }
        Self { node: Node::over(&collector, &[wire]), collector, dialect: wire.dialect() }
    }

    pub(crate) fn enqueue(&self, command: &str) -> i64 {
        self.collector.enqueue(self.dialect, command)
    }

    pub(crate) fn enqueue_for(&self, service: &str, command: &str) -> i64 {
        self.collector.enqueue_for(self.dialect, service, command)
    }

    /// A row to be changed before it is added.
    pub(crate) fn row(&self, command: &str) -> Row {
        Row::new(self.dialect, command)
    }

    pub(crate) fn run(&self) -> Ended {
        self.node.run()
    }

    /// Insists on what must always be true.
    #[track_caller]
    pub(crate) fn check(&self) {
        self.check_but(&Allowed::default());
    }

    #[track_caller]
    pub(crate) fn check_but(&self, allowed: &Allowed) {
        history::check(&self.node, &[&self.collector], allowed);
    }

    /// Insists that the row was answered with a result of ours, and tells the reason that ends its stderr.
    #[track_caller]
    pub(crate) fn reason(&self, id: i64, ret: i64) -> String {
        let (reported, _, stderr) = self.result(id);
        let last = stderr.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("opensvc-actions: ");
        assert!(reported == ret && reason.is_some(), "{id}: {ret} and a reason expected, not {reported} {stderr:?}");
        reason.unwrap_or_default().to_owned()
    }

    /// What was reported: ret, stdout, stderr.
    #[track_caller]
    pub(crate) fn result(&self, id: i64) -> (i64, String, String) {
        let row = self.collector.row(id);
        assert_eq!(row.status, 'T', "{id} has no result: {row:?}");
        (row.ret.unwrap(), row.stdout.unwrap(), row.stderr.unwrap())
    }
}
