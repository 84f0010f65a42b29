//! Each dialect's codec: answers of 1, 10 and 1,000 rows, acknowledgements and reports.

use opensvc_actions::action::time::Timestamp;
use opensvc_actions::action::{ActionId, Batch};
use opensvc_actions::collector::rpc::{Call, json, xml};
use opensvc_actions::collector::{Report, oc3};

use super::{Work, recorded};

const NODE: &str = "n1.example.com";
const UUID: &str = "6f2d0c1e-0000-4000-8000-000000000001";

struct Codec {
    dialect: &'static str,
    /// An answer with so many rows.
    answer: fn(usize) -> Vec<u8>,
    decode: fn(&[u8]) -> Batch,
    acknowledge: fn(&[ActionId]) -> Vec<u8>,
    report: fn(&[Report]) -> Vec<u8>,
}

const CODECS: [Codec; 3] = [
    Codec {
        dialect: "oc3",
        answer: recorded::oc3,
        decode: |body| oc3::decode_actions(body).unwrap(),
        acknowledge: |ids| oc3::encode_running(ids),
        report: |reports| oc3::encode_done(&reports[0]),
    },
    Codec {
        dialect: "xml",
        answer: recorded::xml,
        decode: |body| xml::decode_fetch(body).unwrap(),
        acknowledge: |ids| xml::encode(&Call::Received(ids), NODE, UUID),
        report: |reports| xml::encode(&Call::Update(reports), NODE, UUID),
    },
    Codec {
        dialect: "json",
        answer: recorded::json,
        decode: |body| json::decode_fetch(1, body).unwrap(),
        acknowledge: |ids| json::encode(1, &Call::Received(ids), NODE, UUID),
        report: |reports| json::encode(1, &Call::Update(reports), NODE, UUID),
    },
];

fn report(id: i64, stdout: String) -> Report {
    let ended_at = Timestamp { seconds: 1_795_251_600, nanos: 123_000_000 };
    Report { id: ActionId(id), ret: 0, stdout, stderr: "warning: <disk> \"a & b\"\n".to_owned(), ended_at }
}

/// What fits a report, as commands print it.
fn long() -> String {
    "2026-11-21 09:00:00 fs#1 - <mount> \"/srv/a & b\" is up, état ok\n".repeat(900)
}

pub(crate) fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for Codec { dialect, answer, decode, acknowledge, report: encode } in CODECS {
        for rows in [1, 10, 1_000] {
            let body = answer(rows);
            let batch = decode(&body);
            assert_eq!((batch.actions.len(), batch.malformed.len(), batch.unusable.len()), (rows, 0, 0), "{dialect}");
            let name = format!("{dialect}, decode {rows}");
            works.push(Work::new(name, (rows, "row"), body.len(), move || decode(&body)));
        }
        let ids: Vec<_> = (0..1_000).map(|number| ActionId(100_000 + number)).collect();
        let bytes = acknowledge(&ids).len();
        let name = format!("{dialect}, acknowledge 1000");
        works.push(Work::new(name, (ids.len(), "row"), bytes, move || acknowledge(&ids)));
        // Only rpc takes several results in one call.
        let several = if dialect == "oc3" { 1 } else { 100 };
        for (what, reports) in [
            ("report", vec![report(1, "done\n".to_owned())]),
            ("reports", (0..several).map(|id| report(id, "done\n".to_owned())).collect()),
            ("long report", vec![report(1, long())]),
        ] {
            if what != "reports" || several > 1 {
                let bytes = encode(&reports).len();
                let units = if what == "long report" { (bytes, "byte") } else { (reports.len(), "report") };
                works.push(Work::new(format!("{dialect}, {what}"), units, bytes, move || encode(&reports)));
            }
        }
    }
    works
}
