use super::super::json::{decode_done, decode_fetch, encode, error_text};
use super::super::*;
use crate::action::time::Timestamp;
use crate::action::{Batch, QueuedAction, RowStatus};
use serde_json::Value as Json;

/// The rows of an answer with these elements.
fn rows(elements: &str) -> Batch {
    decode_fetch(1, format!("{{\"id\": 1, \"result\": [{elements}]}}").as_bytes()).unwrap()
}

fn fails(body: impl AsRef<[u8]>) -> String {
    match (decode_fetch(1, body.as_ref()).unwrap_err(), decode_done(1, body.as_ref())) {
        (RpcError::Decode(error), Err(RpcError::Decode(_)) | Ok(())) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn fault(error: &str) -> (FaultKind, String) {
    let body = format!("{{\"jsonrpc\": \"2.0\", \"id\": 1, \"error\": {error}}}");
    match (decode_fetch(1, body.as_bytes()).unwrap_err(), decode_done(1, body.as_bytes()).unwrap_err()) {
        (RpcError::Fault { kind, text }, same) if same == (RpcError::Fault { kind, text: text.clone() }) => {
            assert_eq!(error_text(body.as_bytes()).as_ref(), Some(&text));
            (kind, text)
        }
        other => panic!("{other:?}"),
    }
}

fn exception(data: &str) -> (FaultKind, String) {
    fault(&serde_json::json!({"message": "Server error", "code": -32099, "data": data}).to_string())
}

#[test]
fn members_come_in_any_order_of_any_type_or_not_at_all() {
    let batch = rows(
        r#"{"id": 1},
           {"unknown": {"deep": [1.5, null]}, "ret": -9, "date_queued": "2026-11-21 07:51:20", "svcname": "s",
            "command": "first", "command": "last", "status": "S", "svc_id": "i", "id": 2, "stdout": "x"},
           {"id": 3, "svcname": null, "svc_id": null, "command": null, "date_queued": "0000-00-00 00:00:00", "ret": null},
           {"id": "4"}, {"id": 0}, {"id": 9223372036854775808}, {"id": 4.0}, {"id": null}, {}, null, 5, "x", [6], true,
           {"id": 7, "command": true}"#,
    );
    let bare = |id| QueuedAction {
        id: ActionId(id),
        status: RowStatus::Other,
        command: String::new(),
        svc_id: String::new(),
        svcname: String::new(),
        queued_at: None,
        earlier_ret: None,
    };
    let full = QueuedAction {
        status: RowStatus::Sent,
        command: "last".to_owned(),
        svc_id: "i".to_owned(),
        svcname: "s".to_owned(),
        queued_at: Some("2026-11-21 07:51:20".to_owned()),
        earlier_ret: Some(-9),
        ..bare(2)
    };
    assert_eq!(batch.actions, [bare(1), full, bare(3)]);
    assert_eq!(batch.malformed[0].reason, "command is true or false, not text");
    assert_eq!(batch.unusable.len(), 11);
}

#[test]
fn texts_that_no_strict_reader_takes_are_read() {
    for (written, command) in [
        (r"\ud83d\ude00 \u00e9", "😀 é"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
        (r"\ude00\\ud800\\", "\u{fffd}\\ud800\\"),
        (r"\r\u0000]]>", "\r\0]]>"),
    ] {
        let batch = rows(&format!(r#"{{"id": 1, "command": "{written}"}}"#));
        assert_eq!(batch.actions[0].command, command, "{written}");
    }
    let batch = decode_fetch(1, b"{\"id\": 1, \"result\": [{\"id\": 1, \"command\": \"\xff\"}]}").unwrap();
    assert_eq!(batch.actions[0].command, "\u{fffd}");
}

#[test]
fn exceptions_are_told_apart_by_their_words() {
    let of = |kind, text: &str| (kind, text.to_owned());
    assert_eq!(
        exception("Exception: agent n1 not registered\nFalse"),
        of(FaultKind::NotRegistered, "agent n1 not registered")
    );
    assert_eq!(
        exception("Exception: agent authentication error\n['Traceback (most recent call last):\\n']"),
        of(FaultKind::BadUuid, "agent authentication error")
    );
    assert_eq!(
        exception("IOError: [Errno socket error] [Errno 111] Connection refused\nFalse"),
        of(FaultKind::Trouble, "[Errno socket error] [Errno 111] Connection refused")
    );
    assert_eq!(
        exception("OperationalError: (2006, 'server has gone away')\nFalse"),
        of(FaultKind::Trouble, "(2006, 'server has gone away')")
    );
    assert_eq!(exception("ValueError: a: b\nc\nFalse"), of(FaultKind::Other, "a: b c"));
    let words = "method \"x\" is not supported";
    assert_eq!(exception(&format!("Exception: {words}\nFalse")), of(FaultKind::Other, words));
    assert_eq!(exception("no name: words"), of(FaultKind::Other, "no name: words"));
    assert_eq!(exception(""), of(FaultKind::Other, "Server error (-32099)"));
    assert!(exception(&"x".repeat(9999)).1.len() < 1100);
    assert_eq!(fault(r#"{"code": -32601, "message": "gone"}"#), of(FaultKind::UnknownMethod, "gone"));
    assert_eq!(fault(r#"{"code": "x", "message": 1}"#), of(FaultKind::Other, "a fault without words"));
    assert_eq!(fault("{}"), of(FaultKind::Other, "a fault without words"));
}

#[test]
fn what_is_no_answer_is_an_error_with_its_place() {
    assert_eq!(fails(""), "line 1, column 0: EOF while parsing a value");
    assert_eq!(fails("<html>"), "line 1, column 1: expected value");
    assert_eq!(fails("{\"id\": 1,\n \"result\": [}"), "line 2, column 13: expected value");
    assert_eq!(fails("{\"id\": 1}"), "line 1, column 0: neither result nor error");
    assert_eq!(fails("{\"id\": 1, \"error\": null}"), "line 1, column 0: neither result nor error");
    assert_eq!(fails("{\"id\": 1, \"result\": null}"), "line 1, column 0: result is null, not an array of rows");
    assert!(fails("{\"id\": 1, \"result\": {\"ret\": 1}}").ends_with("invalid type: map, expected an array of rows"));
    assert!(fails("{\"id\": 1, \"result\": []} x").ends_with("trailing characters"));
    for id in ["2", "\"1\"", "1.5", "null", "-1", "[1]"] {
        let words = fails(format!("{{\"id\": {id}, \"result\": []}}"));
        assert!(words.ends_with("it is not the answer to call 1"), "{id}: {words}");
    }
    assert!(fails("{\"result\": []}").ends_with("it is not the answer to call 1"));
    assert!(fails("{\"id\": 2, \"error\": {\"code\": 1}}").ends_with("it is not the answer to call 1"));
    let whole = "{\"jsonrpc\": \"2.0\", \"id\": 1, \"error\": null, \"result\": []}";
    assert_eq!(decode_fetch(1, whole.as_bytes()), Ok(Batch::default()));
    for end in 0..whole.len() {
        assert!(fails(&whole[..end]).len() < 300, "{end}");
    }
    assert_eq!(error_text(b"<html>"), None);
    assert_eq!(error_text(whole.as_bytes()), None);
}

#[test]
fn depth_and_count_are_bounded() {
    let deep =
        |depth: usize| format!("{{\"id\": 1, \"x\": {}{}, \"result\": []}}", "[".repeat(depth), "]".repeat(depth));
    assert!(decode_fetch(1, deep(31).as_bytes()).is_ok());
    assert_eq!(fails(deep(32)), "line 1, column 47: arrays and objects nest more than 32 deep");
    assert!(fails("[".repeat(1_000_000)).ends_with("nest more than 32 deep"));
    let in_text = format!("{{\"id\": 1, \"x\": \"\\\"{}\", \"result\": []}}", "[".repeat(99));
    assert!(decode_fetch(1, in_text.as_bytes()).is_ok());
    let many = format!("{{\"id\": 1, \"result\": [{}1]}}", "1,".repeat(1_000_000));
    assert!(fails(many).contains("more than 1000000 rows"));
}

#[test]
fn calls_are_numbered_and_their_last_argument_is_the_credentials() {
    let report = Report {
        id: ActionId(7),
        ret: -1,
        stdout: "a\r\n\"\\\0".to_owned(),
        stderr: "é".to_owned(),
        ended_at: Timestamp { seconds: 0, nanos: 0 },
    };
    let weight = weight(&report);
    let sent = encode(5, &Call::Update(&[report]), "n", "u");
    assert!(sent.len() < weight);
    assert_eq!(
        serde_json::from_slice::<Json>(&sent).unwrap(),
        serde_json::json!({
            "jsonrpc": "2.0", "id": 5, "method": "collector_update_action_queue",
            "params": [[[7, -1, "a\r\n\"\\\u{0}", "é"]], ["u", "n"]],
        })
    );
    let sent = encode(6, &Call::FetchV1, "n", "u");
    assert_eq!(
        serde_json::from_slice::<Json>(&sent).unwrap(),
        serde_json::json!({"jsonrpc": "2.0", "id": 6, "method": "collector_get_action_queue", "params": ["n", ["u", "n"]]})
    );
}
