//! The codecs of the `rpc` dialect against python's `xmlrpc.client` and `json`: it reads what we write, and we read what it
//! writes.

use crate::python::answers;
use opensvc_actions::action::time::Timestamp;
use opensvc_actions::action::{ActionId, QueuedAction, RowStatus};
use opensvc_actions::collector::Report;
use opensvc_actions::collector::rpc::{Call, FaultKind, RpcError, json, xml};
use serde_json::{Value, json};

/// Texts that one format or the other has trouble with.
const TEXTS: [&str; 12] = [
    "",
    " ",
    "plain",
    "\r",
    "a\r\nb\rc\n",
    "\t\n ",
    "<&>\"'",
    "]]>",
    "<![CDATA[x]]>&amp;&#13;",
    "\u{e9}\u{20ac}\u{fffd}",
    "\u{1f600}\u{10ffff}",
    "\u{7f}\u{85}\u{a0}\u{2028}\u{feff}",
];

fn reports() -> Vec<Report> {
    let report = |(number, text): (i64, &&str)| Report {
        id: ActionId(number),
        ret: i32::try_from(number).unwrap() - 5,
        stdout: (*text).to_owned(),
        stderr: text.chars().rev().collect(),
        ended_at: Timestamp { seconds: 0, nanos: 0 },
    };
    (1..).zip(&TEXTS).map(report).collect()
}

#[test]
fn python_reads_every_call_as_it_was_meant() {
    let (ids, reports) = ([1, 2_147_483_647].map(ActionId), reports());
    let rows: Vec<_> = reports.iter().map(|one| json!([one.id.0, one.ret, one.stdout, one.stderr])).collect();
    let (node, uuid) = ("n\u{e9}.example.com", "<u&]]>");
    let auth = json!([uuid, node]);
    let calls = [
        (Call::Fetch, json!(["collector_get_action_queue_v2", [node, auth]])),
        (Call::FetchV1, json!(["collector_get_action_queue", [node, auth]])),
        (Call::Received(&ids), json!(["collector_update_action_queue_received", [[1, 2_147_483_647], auth]])),
        (Call::Received(&[]), json!(["collector_update_action_queue_received", [[], auth]])),
        (Call::Update(&reports), json!(["collector_update_action_queue", [rows, auth]])),
        (Call::ListMethods, json!(["system.listMethods", []])),
    ];
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let written: Vec<_> = calls.iter().map(|(call, _)| text(xml::encode(call, node, uuid))).collect();
    let read = "
import xmlrpc.client
def answer(call):
    params, method = xmlrpc.client.loads(call.encode())
    return [method, params]
";
    for ((call, meant), read) in calls.iter().zip(answers(read, &written)) {
        assert_eq!(read, *meant, "{}", call.method());
    }
    // And python writes the same bytes, but for the carriage returns that it lets become line feeds.
    let write = "
import xmlrpc.client
def answer(call):
    params, method = xmlrpc.client.loads(call.encode())
    written = xmlrpc.client.dumps(params, method, allow_none=True)
    return written.replace('\\r', '&#13;')
";
    for (ours, theirs) in written.iter().zip(answers(write, &written)) {
        assert_eq!(theirs, json!(ours));
    }
    let written: Vec<_> = calls.iter().map(|(call, _)| text(json::encode(7, call, node, uuid))).collect();
    let read = "
def answer(call):
    call = json.loads(call)
    assert call.pop('jsonrpc') == '2.0' and call.pop('id') == 7
    return [call.pop('method'), call.pop('params'), call]
";
    for ((call, meant), read) in calls.iter().zip(answers(read, &written)) {
        assert_eq!(read, json!([meant[0], meant[1], {}]), "{}", call.method());
    }
}

/// What python makes of a row with this command: an answer in XML, and one in JSON.
const ROW: &str = "
import xmlrpc.client
def answer(command):
    row = {'id': 7, 'status': 'N', 'ret': None, 'command': command, 'stdout': command, 'stderr': None, 'svcname': None,
           'svc_id': '', 'date_queued': xmlrpc.client.DateTime('20261121T07:51:20'), 'date_dequeued': None,
           'more': [1, 2.5, True, b'x', {'a': []}]}
    rows = [row, dict(row, id=8, date_queued='0000-00-00 00:00:00', ret=-9)]
    written = xmlrpc.client.dumps((rows,), methodresponse=True, allow_none=True)
    for row in rows:
        row.update(date_queued=str(row['date_queued']), more=[1, 2.5, True, {'a': []}])
    return [written, json.dumps({'jsonrpc': '2.0', 'id': 7, 'result': rows})]
";

#[test]
fn rows_that_python_writes_are_read() {
    let commands: Vec<_> = TEXTS.iter().map(ToString::to_string).collect();
    for (command, written) in commands.iter().zip(answers(ROW, &commands)) {
        let [in_xml, in_json] = [0, 1].map(|format| written[format].as_str().unwrap().as_bytes());
        let row = |command: &str, date: Option<&str>| QueuedAction {
            id: ActionId(7),
            status: RowStatus::Notified,
            command: command.to_owned(),
            svc_id: String::new(),
            svcname: String::new(),
            queued_at: date.map(str::to_owned),
            earlier_ret: None,
        };
        // XML has no carriage returns but those that are written as a reference, which python does not.
        let normal = command.replace("\r\n", "\n").replace('\r', "\n");
        let batches = [
            (xml::decode_fetch(in_xml).unwrap(), normal.as_str()),
            (json::decode_fetch(7, in_json).unwrap(), command.as_str()),
        ];
        for (batch, command) in batches {
            assert!(batch.malformed.is_empty() && batch.unusable.is_empty());
            let first = row(command, Some("20261121T07:51:20"));
            let second = QueuedAction { id: ActionId(8), earlier_ret: Some(-9), ..row(command, None) };
            assert_eq!(batch.actions, [first, second], "{command:?}");
        }
    }
}

#[test]
fn what_python_answers_otherwise_is_read() {
    let write = "
import xmlrpc.client
def answer(words):
    dumps = xmlrpc.client.dumps
    return [dumps((None,), methodresponse=True, allow_none=True),
            dumps((['system.listMethods', words],), methodresponse=True),
            dumps(xmlrpc.client.Fault(1, \"<class 'Exception'>:\" + words)),
            json.dumps({'id': 7, 'error': {'code': -32099, 'message': 'Server error', 'data': 'Exception: ' + words + '\\nFalse'}})]
";
    let inputs = ["agent n1 not registered", "a <&> ]]> \u{e9}"].map(str::to_owned);
    for (words, written) in inputs.iter().zip(answers(write, &inputs)) {
        let written: Vec<_> = written.as_array().unwrap().iter().map(|text| Value::as_str(text).unwrap()).collect();
        assert_eq!(xml::decode_done(written[0].as_bytes()), Ok(()));
        assert_eq!(xml::decode_methods(written[1].as_bytes()).unwrap(), ["system.listMethods", words]);
        let kind = if words.starts_with("agent") { FaultKind::NotRegistered } else { FaultKind::Other };
        let fault = RpcError::Fault { kind, text: words.clone() };
        assert_eq!(xml::decode_fetch(written[2].as_bytes()), Err(fault.clone()));
        assert_eq!(json::decode_fetch(7, written[3].as_bytes()), Err(fault));
    }
}
