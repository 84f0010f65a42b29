//! From a queued row to its result.

use crate::support::both;
use crate::support::world::World;

both! {
    fn a_node_action_a_service_action_and_a_failing_one(dialect) {
        let world = World::new(dialect);
        let node = world.enqueue("echo hello");
        let service = world.enqueue_for("svc1", "start --local echo started");
        let failing = world.enqueue("err broken exit 3");
        world.run().exits(0);
        assert_eq!(world.result(node), (0, "hello\n".to_owned(), String::new()));
        assert_eq!(world.result(service), (0, "started\n".to_owned(), String::new()));
        assert_eq!(world.result(failing), (3, String::new(), "broken\n".to_owned()));
        let starts = world.node.starts();
        let argv: Vec<_> = starts.iter().map(|start| start.argv().join(" ")).collect();
        assert_eq!(argv, ["node echo hello", "svc -s svc1 start --local echo started", "node err broken exit 3"]);
        world.check();
    }
}
