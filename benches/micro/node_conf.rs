//! `node.conf`, as each generation of the agents reads it.

use opensvc_actions::config::node_conf::{Reading, parse};

use super::Work;

/// As the agents' installation leaves it, with a few settings.
const USUAL: &str = "\
[DEFAULT]
id = 6f2d0c1e-0000-4000-8000-000000000001

# where actions are queued
[node]
dbopensvc = https://collector.example.com
uuid = 6f2d0c1e-0000-4000-8000-000000000001
env = PRD
loc_city = Paris ; of the site
prkey = 0x0123456789abcdef
dbinsecure@n2 = true

[dequeue_actions]
schedule = [
    \"00:00-01:00@61 mon,tue\",
    \"@10\"]

[listener]
addr = 0.0.0.0
port = 1214

[stats_collection]
schedule = @10
";

pub(crate) fn works() -> Vec<Work> {
    let long: String = (0..200).map(|number| USUAL.replace("[node]", &format!("[node{number}]"))).collect();
    let mut works = Vec::new();
    for (name, text) in [("usual", USUAL.to_owned()), ("long", long)] {
        for (generation, reading) in [("2.x", Reading::V2), ("3.x", Reading::V3)] {
            let (text, lines) = (text.clone(), text.lines().count());
            assert!(parse(&text, reading).unwrap().len() > lines / 3, "{generation}");
            let bytes = text.len();
            works.push(Work::new(format!("{name}, {generation}"), (lines, "line"), bytes, move || {
                parse(&text, reading).unwrap()
            }));
        }
    }
    works
}
