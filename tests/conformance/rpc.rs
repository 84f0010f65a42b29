//! A 1.x/2.x collector and the 2.x agent, recorded between them.

use crate::bytes::{Message, message, names, read};
use opensvc_actions::action::time::Timestamp;
use opensvc_actions::action::{ActionId, Batch, QueuedAction, RowStatus};
use opensvc_actions::collector::Report;
use opensvc_actions::collector::rpc::{Call, FaultKind, RpcError, json, xml};

const NODE: &str = "vm";
const UUID: &str = "6f2d0c1e-0000-4000-8000-000000000001";

/// The requests and answers of a recorded conversation, in turn.
fn exchanges(name: &str) -> Vec<(Message, Message)> {
    let file = read(&format!("rpc/{name}.txt"));
    let mut messages = Vec::new();
    let mut rest = file.as_slice();
    // Each message has a line above it that gives its direction and time.
    while let Some(at) = rest.windows(5).position(|window| window == b"\n=== ") {
        let line_end = at + 1 + rest[at + 1..].iter().position(|&byte| byte == b'\n').unwrap();
        let line = std::str::from_utf8(&rest[at..line_end]).unwrap();
        rest = &rest[line_end + 1..];
        if !line.contains(" EOF ") {
            let (message, behind) = message(rest);
            messages.push(message);
            rest = behind;
        }
    }
    let mut messages = messages.into_iter();
    std::iter::from_fn(|| Some((messages.next()?, messages.next().expect("an answer")))).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The results that a recorded request posts, taken from its text: one line of XML for each value, but for line breaks in
/// the streams.
fn results(request: &[u8]) -> Vec<Report> {
    let unescape = |xml: &str| xml.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let between = |xml: &str, open: &str, close: &str| -> Vec<String> {
        xml.split(open).skip(1).map(|rest| unescape(rest.split(close).next().unwrap())).collect()
    };
    let (rows, _auth) = text(request).split_once("</param>").unwrap();
    rows.split("<value><array><data>\n")
        .skip(2)
        .map(|row| {
            let integers = between(row, "<value><int>", "</int>");
            let strings = between(row, "<value><string>", "</string>");
            Report {
                id: ActionId(integers[0].parse().unwrap()),
                ret: integers[1].parse().unwrap(),
                stdout: strings[0].clone(),
                stderr: strings[1].clone(),
                ended_at: Timestamp { seconds: 0, nanos: 0 },
            }
        })
        .collect()
}

fn fetch(node: &str, uuid: &str) -> Vec<u8> {
    xml::encode(&Call::Fetch, node, uuid)
}

fn received(ids: &[ActionId], node: &str, uuid: &str) -> Vec<u8> {
    xml::encode(&Call::Received(ids), node, uuid)
}

fn update(reports: &[Report], node: &str, uuid: &str) -> Vec<u8> {
    xml::encode(&Call::Update(reports), node, uuid)
}

#[track_caller]
fn assert_sends(sent: &[u8], recorded: &Message) {
    assert!(recorded.start.starts_with("POST "), "{}", recorded.start);
    assert_eq!(text(sent), text(&recorded.body));
}

fn waiting(id: i64, queued_at: &str, command: &str, svc_id: &str, svcname: &str) -> QueuedAction {
    QueuedAction {
        id: ActionId(id),
        status: RowStatus::Waiting,
        command: command.to_owned(),
        svc_id: svc_id.to_owned(),
        svcname: svcname.to_owned(),
        queued_at: Some(queued_at.to_owned()),
        earlier_ret: None,
    }
}

/// The three rows that most recordings begin with.
fn three_rows(first: i64, queued_at: &str) -> Batch {
    let provision = "create --provision --template=12 --disable-rollback --env=foo=\"b r\" --env=acc=\"é €\"";
    let actions = vec![
        waiting(first, queued_at, "print prkey --color=no", "", ""),
        waiting(first + 1, queued_at, "print config --local", "aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a", "svc1"),
        waiting(first + 2, queued_at, provision, "ffffffff-0562-11e6-8c70-7e9e6cf13c8a", ""),
    ];
    Batch { actions, ..Batch::default() }
}

fn fault(answer: &[u8]) -> (FaultKind, String) {
    match (xml::decode_fetch(answer), xml::decode_done(answer)) {
        (Err(RpcError::Fault { kind, text }), Err(same)) if same == (RpcError::Fault { kind, text: text.clone() }) => {
            (kind, text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_cycle_is_sent_and_read_as_recorded() {
    let [first, ack, posted, last] = &exchanges("02-v2-fetch-ack-update-01")[..] else { panic!("four exchanges") };
    assert_sends(&fetch(NODE, UUID), &first.0);
    assert_eq!(xml::decode_fetch(&first.1.body).unwrap(), three_rows(841, "20261121T08:16:23"));

    assert_sends(&received(&[841, 842, 843].map(ActionId), NODE, UUID), &ack.0);
    assert_eq!(xml::decode_done(&ack.1.body), Ok(()));

    let reports = results(&posted.0.body);
    assert_eq!(reports.iter().map(|report| report.id.0).collect::<Vec<_>>(), [841, 842, 843]);
    assert!(reports[0].stderr.starts_with("om node ...\n\n  --help "));
    assert_eq!(reports[1].stderr, "object not found\n");
    assert_sends(&update(&reports, NODE, UUID), &posted.0);
    assert_eq!(xml::decode_done(&posted.1.body), Ok(()));

    assert_sends(&fetch(NODE, UUID), &last.0);
    assert_eq!(xml::decode_fetch(&last.1.body).unwrap(), Batch::default());
}

#[test]
fn the_older_cycle_has_the_same_rows_and_results() {
    let exchanges = exchanges("01-first-run-v1-01");
    // What a collector knows, asked as we ask it; this one knows both ways of asking for the queue.
    assert_sends(&xml::encode(&Call::ListMethods, NODE, UUID), &exchanges[0].0);
    let methods = xml::decode_methods(&exchanges[0].1.body).unwrap();
    assert_eq!(methods.len(), 94);
    for call in [Call::ListMethods, Call::Fetch, Call::FetchV1, Call::Received(&[]), Call::Update(&[])] {
        assert!(methods.iter().any(|name| name == call.method()), "{call:?}");
    }
    assert_sends(&xml::encode(&Call::FetchV1, NODE, UUID), &exchanges[1].0);
    let rows = xml::decode_fetch(&exchanges[1].1.body).unwrap();
    assert_eq!(rows.actions.len(), 3);
    assert!(rows.malformed.is_empty() && rows.unusable.is_empty());
    for (request, answer) in &exchanges[2..4] {
        assert_sends(&update(&results(&request.body), NODE, UUID), request);
        assert_eq!(xml::decode_done(&answer.body), Ok(()));
    }
}

#[test]
fn refused_credentials_are_told_apart() {
    let [(request, answer)] = &exchanges("03-bad-uuid-01")[..] else { panic!("one exchange") };
    assert_sends(&fetch(NODE, "6f2d0c1e-0000-4000-8000-000000000002"), request);
    assert_eq!(fault(&answer.body), (FaultKind::BadUuid, "agent authentication error".to_owned()));

    let [(request, answer)] = &exchanges("04-unregistered-01")[..] else { panic!("one exchange") };
    assert_sends(&fetch(NODE, UUID), request);
    assert_eq!(fault(&answer.body), (FaultKind::NotRegistered, "agent vm not registered".to_owned()));
}

#[test]
fn faults_keep_their_words() {
    for (number, kind, words) in [
        (1, FaultKind::Other, "collector_get_action_queue_v2() takes exactly 2 arguments (1 given)"),
        (2, FaultKind::Other, "no authentication data found in the request"),
        (3, FaultKind::Other, "no authentication data found in the request"),
        (5, FaultKind::BadUuid, "agent authentication error"),
        (7, FaultKind::NotRegistered, "agent 'vm' not registered"),
        (8, FaultKind::Other, "global name 'acquire_lock' is not defined"),
        (9, FaultKind::UnknownMethod, "method \"nosuchmethod\" is not supported"),
        (10, FaultKind::Other, "need more than 3 values to unpack"),
        (16, FaultKind::Other, "unclosed token: line 1, column 33"),
    ] {
        let [(_, answer)] = &exchanges(&format!("05-faults-misc-{number:02}"))[..] else { panic!("one exchange") };
        assert_eq!(fault(&answer.body), (kind, words.to_owned()), "{number}");
    }
}

#[test]
fn the_node_s_name_is_written_as_given() {
    for (number, node, uuid) in [(5, NODE, ""), (6, "VM", UUID), (7, "'vm'", UUID), (8, "svc1@vm", UUID)] {
        // The first argument is ignored by the collector; these recordings have the plain name there.
        let [(request, _)] = &exchanges(&format!("05-faults-misc-{number:02}"))[..] else { panic!("one exchange") };
        let sent = fetch(node, uuid);
        let first = |name: &str| format!("<param>\n<value><string>{name}</string></value>\n</param>");
        assert_eq!(text(&sent).replacen(&first(node), &first(NODE), 1), text(&request.body), "{number}");
    }
    let [(_, answer)] = &exchanges("05-faults-misc-06")[..] else { panic!("one exchange") };
    assert_eq!(xml::decode_fetch(&answer.body), Ok(Batch::default()));
}

#[test]
fn empty_lists_and_unknown_rows_are_sent_and_accepted() {
    let nothing = (update(&[], NODE, UUID), received(&[], NODE, UUID));
    let unknown = Report {
        id: ActionId(999_999),
        ret: 0,
        stdout: "a".to_owned(),
        stderr: "b".to_owned(),
        ended_at: Timestamp { seconds: 0, nanos: 0 },
    };
    for (number, sent) in [
        (11, nothing.0),
        (12, nothing.1),
        (13, received(&[unknown.id], NODE, UUID)),
        (14, update(&[unknown], NODE, UUID)),
    ] {
        let [(request, answer)] = &exchanges(&format!("05-faults-misc-{number}"))[..] else { panic!("one exchange") };
        assert_sends(&sent, request);
        assert_eq!(xml::decode_done(&answer.body), Ok(()), "{number}");
    }
}

#[test]
fn a_collector_without_its_event_server_still_hands_out_rows() {
    let [(request, answer)] = &exchanges("08-comet-down-01")[..] else { panic!("one exchange") };
    assert_sends(&fetch(NODE, UUID), request);
    assert_eq!(xml::decode_fetch(&answer.body).unwrap(), three_rows(800, "20261121T08:10:56"));

    let refused = (FaultKind::Trouble, "[Errno socket error] [Errno 111] Connection refused".to_owned());
    let [(request, answer)] = &exchanges("08-comet-down-02")[..] else { panic!("one exchange") };
    assert_sends(&received(&[ActionId(800)], NODE, UUID), request);
    assert_eq!(fault(&answer.body), refused);
    let [(request, answer)] = &exchanges("08-comet-down-03")[..] else { panic!("one exchange") };
    assert_sends(&update(&results(&request.body), NODE, UUID), request);
    assert_eq!(fault(&answer.body), refused);
    // Refused credentials look the same then.
    let [(request, answer)] = &exchanges("08-comet-down-04")[..] else { panic!("one exchange") };
    assert_sends(&fetch(NODE, "bad"), request);
    assert_eq!(fault(&answer.body), refused);
}

/// The reference agent sends the bell character as it is, and the collector refuses the whole call. It is the one place
/// where our bytes differ on purpose.
#[test]
fn a_control_character_is_not_sent() {
    let [first, ack, posted] = &exchanges("09-control-char-fault-01")[..] else { panic!("three exchanges") };
    let rows = xml::decode_fetch(&first.1.body).unwrap();
    assert_eq!(rows.actions[0].command, "printf \"bell\\007\"");
    assert_eq!(rows.actions[1].command, "echo two");
    let ids: Vec<_> = rows.actions.iter().map(|action| action.id).collect();
    assert_sends(&received(&ids, NODE, UUID), &ack.0);

    let recorded = text(&posted.0.body);
    assert!(recorded.contains("<string>bell\x07</string>"));
    let sent = update(&results(&posted.0.body), NODE, UUID);
    assert_eq!(text(&sent), recorded.replace('\x07', "\u{fffd}"));
    let words = "not well-formed (invalid token): line 10, column 19".to_owned();
    assert_eq!(fault(&posted.1.body), (FaultKind::Other, words));
}

#[test]
fn the_notification_is_fifteen_bytes() {
    assert_eq!(read("rpc/10-notification.txt"), b"dequeue_actions");
}

#[test]
fn every_answer_is_read_or_refused_in_words() {
    for name in names("rpc").iter().filter(|name| !name.contains("notification")) {
        let name = name.strip_prefix("rpc/").and_then(|name| name.strip_suffix(".txt")).unwrap();
        for (_, answer) in exchanges(name) {
            let is_xml = answer.body.starts_with(b"<?xml");
            match xml::decode_done(&answer.body) {
                Ok(()) | Err(RpcError::Fault { .. }) => assert!(is_xml, "{name}"),
                Err(RpcError::Decode(error)) => assert!(!is_xml, "{name}: {error}"),
            }
            let is_json = answer.body.starts_with(b"{");
            match json::decode_done(1, &answer.body) {
                Ok(()) | Err(RpcError::Fault { .. }) => assert!(is_json, "{name}"),
                // Only the first has the number 1.
                Err(RpcError::Decode(error)) => assert!(!is_json || !name.ends_with("01"), "{name}: {error}"),
            }
        }
    }
}

/// The exchange of a recording in JSON.
fn json_exchange(number: u8) -> (Message, Message) {
    let mut exchanges = exchanges(&format!("07-jsonrpc2-{number:02}"));
    assert_eq!(exchanges.len(), 1);
    exchanges.remove(0)
}

/// The recorded requests were written by hand, and members of an object have no order: they are compared as values. The
/// bytes of an answer do not depend on the order either.
#[track_caller]
fn assert_sends_json(sent: &[u8], recorded: &Message) {
    assert!(recorded.start.starts_with("POST /feed/default/call/jsonrpc2 "), "{}", recorded.start);
    let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(value(sent), value(&recorded.body));
}

fn json_fault(id: u64, answer: &[u8]) -> (FaultKind, String) {
    match (json::decode_fetch(id, answer), json::decode_done(id, answer)) {
        (Err(RpcError::Fault { kind, text }), Err(same)) if same == (RpcError::Fault { kind, text: text.clone() }) => {
            (kind, text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cycle_in_json_is_sent_and_read_as_recorded() {
    let (request, answer) = json_exchange(1);
    assert_sends_json(&json::encode(1, &Call::Fetch, NODE, UUID), &request);
    assert_eq!(json::decode_fetch(1, &answer.body).unwrap(), three_rows(637, "2026-11-21 07:51:20"));
    let (_, answer) = json_exchange(2);
    assert_eq!(json::decode_fetch(2, &answer.body), Ok(Batch::default()));
    let (request, answer) = json_exchange(3);
    assert_sends_json(&json::encode(3, &Call::Received(&[637, 638, 639].map(ActionId)), NODE, UUID), &request);
    assert_eq!(json::decode_done(3, &answer.body), Ok(()));
    // The call of this recording has a word for a number; ours never have.
    let (mut request, mut answer) = json_exchange(4);
    for message in [&mut request, &mut answer] {
        message.body = text(&message.body).replacen("\"x\"", "4", 1).into_bytes();
    }
    let report = Report {
        id: ActionId(637),
        ret: 0,
        stdout: "out é".to_owned(),
        stderr: "err".to_owned(),
        ended_at: Timestamp { seconds: 0, nanos: 0 },
    };
    assert_sends_json(&json::encode(4, &Call::Update(&[report]), NODE, UUID), &request);
    assert_eq!(json::decode_done(4, &answer.body), Ok(()));
}

#[test]
fn errors_in_json_are_the_same_faults() {
    let (request, answer) = json_exchange(5);
    assert_sends_json(&json::encode(4, &Call::Fetch, NODE, "bad"), &request);
    assert_eq!(json_fault(4, &answer.body), (FaultKind::BadUuid, "agent authentication error".to_owned()));
    let (_, answer) = json_exchange(6);
    assert_eq!(json_fault(5, &answer.body), (FaultKind::NotRegistered, "agent nope not registered".to_owned()));
    let (request, answer) = json_exchange(7);
    assert_sends_json(&json::encode(6, &Call::ListMethods, NODE, UUID), &request);
    let unknown = |name: &str| (FaultKind::UnknownMethod, format!("Method \"{name}\" does not exist"));
    assert_eq!(json_fault(6, &answer.body), unknown("system.listMethods"));
    assert_eq!(json_fault(7, &json_exchange(8).1.body), unknown("nope"));
    // Where the collector could not read the call, it does not know its number.
    for (number, words) in [
        (10, "Unsupported jsonrpc version \"1.0\" (-32603): Internal JSON-RPC error."),
        (11, "Missing arguments ['jsonrpc']. (-32600): The JSON sent is not a valid Request object."),
        (
            12,
            "Parse error. Invalid JSON was received by the server. (-32700): An error occurred on the server while \
             parsing the JSON text.",
        ),
    ] {
        assert_eq!(json_fault(77, &json_exchange(number).1.body), (FaultKind::Other, words.to_owned()));
    }
}

#[test]
fn an_answer_in_json_that_is_no_answer_to_the_call_is_refused() {
    for (number, id, words) in [
        (3, 4, "line 1, column 0: it is not the answer to call 4"),
        (5, 9, "line 1, column 0: it is not the answer to call 9"),
        (4, 4, "line 1, column 0: it is not the answer to call 4"),
        (9, 1, "line 1, column 0: EOF while parsing a value"),
        (13, 9, "line 1, column 0: invalid type: sequence, expected an object with \"result\" or \"error\""),
    ] {
        match json::decode_done(id, &json_exchange(number).1.body) {
            Err(RpcError::Decode(error)) => assert_eq!(error.to_string(), words, "{number}"),
            other => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn registrations_are_asked_for_and_answered_as_recorded() {
    use opensvc_actions::collector::rpc::registration::{Answered, decode, encode};

    let refused = |words: &str| Answered::Refusal(words.to_owned());
    for (name, node, expected) in [
        ("06-register-01", "newnode", Answered::Uuid("9e1d0202-0b38-440a-845e-e1deb340d38b".to_owned())),
        ("06-register-02", "newnode", refused("already registered")),
        ("06-register-03", "", refused("no node name provided")),
        ("06-register-05", "VM", refused("already registered")),
    ] {
        for (request, answer) in exchanges(name) {
            assert_eq!(text(&encode(node)), text(&request.body), "{name}");
            assert_eq!(decode(&answer.body).unwrap(), expected, "{name}");
        }
    }
}
