use super::*;
use crate::action::RowStatus;
use crate::action::time::Timestamp;

fn decode(body: &str) -> Batch {
    decode_actions(body.as_bytes()).unwrap()
}

fn fails(body: &str) -> String {
    decode_actions(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_empty_queue_has_several_spellings() {
    for body in [r#"{"actions":[]}"#, r#"{"actions":null}"#, r#" {"x":[{}],"actions":[],"y":1e99}  "#] {
        assert_eq!(decode(body), Batch::default());
    }
}

#[test]
fn missing_null_and_odd_values_of_a_row() {
    let batch = decode(
        r#"{"actions":[{"id":1},
            {"id":2,"command":null,"status":3,"svc_id":null,"svcname":null,"queued_at":[],"nodename":{"a":[1]}},
            {"status":"N","id":9,"queued_at":"0001-01-01T00:00:00Z","command":"a","id":3,"command":"b","ret":5}]}"#,
    );
    assert_eq!((batch.malformed.len(), batch.unusable.len()), (0, 0));
    let ids: Vec<_> = batch.actions.iter().map(|action| action.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(batch.actions[1], crate::action::QueuedAction { id: ActionId(2), ..batch.actions[0].clone() });
    assert_eq!(batch.actions[0].command, "");
    assert_eq!(batch.actions[1].status, RowStatus::Other);
    let last = &batch.actions[2];
    assert_eq!((last.command.as_str(), last.status), ("b", RowStatus::Notified));
    assert_eq!((&last.queued_at, last.earlier_ret), (&None, None));
}

#[test]
fn rows_of_no_use_are_told_apart_and_block_nobody() {
    let batch = decode(
        r#"{"actions":[7,{"id":"1"},{"id":0},{"id":-1},{"id":1.0},{"id":9223372036854775808},{},null,[[]],"x",true,
            {"id":1,"command":5},{"id":2,"svc_id":{}},{"id":3,"svcname":true},{"id":9223372036854775807}]}"#,
    );
    assert_eq!(batch.actions.len(), 1);
    let reasons: Vec<_> = batch.malformed.iter().map(|row| (row.id.0, row.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "command is an integer, not text"),
            (2, "svc_id is an object, not text"),
            (3, "svcname is true or false, not text")
        ]
    );
    assert_eq!(
        batch.unusable,
        [
            "row 1 of the answer: it is a number, not a row",
            "row 2 of the answer: its id is text, not an integer",
            "row 3 of the answer: its id is 0",
            "row 4 of the answer: its id is -1",
            "row 5 of the answer: its id is a number with a fraction, not an integer",
            "row 6 of the answer: its id is a number above 63 bits, not an integer",
            "row 7 of the answer: its id is nothing, not an integer",
            "row 8 of the answer: it is null, not a row",
            "row 9 of the answer: it is an array, not a row",
            "row 10 of the answer: it is text, not a row",
            "row 11 of the answer: it is true or false, not a row",
        ]
    );
}

#[test]
fn a_body_that_is_no_answer_is_an_error_with_its_place() {
    assert_eq!(fails(""), "line 1, column 0: EOF while parsing a value");
    assert_eq!(fails("{\"actions\":[\n{]}"), "line 2, column 2: key must be a string");
    assert_eq!(fails("{\"x\":1}"), "line 1, column 7: missing field `actions`");
    assert_eq!(fails("{\"actions\":{}}"), "line 1, column 13: invalid type: map, expected an array of rows");
    assert!(fails("[]").contains("invalid type: sequence, expected an object with \"actions\""));
    assert!(fails("<html>").contains("expected value"));
    assert!(fails("{\"actions\":[]} x").contains("trailing characters"));
    assert!(fails(&format!("{{\"actions\":\"{}\"}}", "x".repeat(9999))).len() < 2000);
    assert!(fails(&format!("{{\"actions\":{}", "[".repeat(9999))).len() < 2000);
}

#[test]
fn results_have_the_collector_s_members_in_its_range_of_dates() {
    let report = Report {
        id: ActionId(7),
        ret: -1,
        stdout: "a\n\"".to_owned(),
        stderr: "é\u{fffd}".to_owned(),
        ended_at: Timestamp { seconds: i64::MAX, nanos: 0 },
    };
    assert_eq!(
        String::from_utf8(encode_done(&report)).unwrap(),
        "{\"id\":7,\"ret\":-1,\"stdout\":\"a\\n\\\"\",\"stderr\":\"é\u{fffd}\",\"dequeued_at\":\"2038-01-18T00:00:00.000Z\"}"
    );
    assert_eq!(encode_running(&[]), b"{\"ids\":[]}");
}

#[test]
fn error_texts_are_one_bounded_line() {
    assert_eq!(error_text(br#"{"text":"a\nb\u001b[0m"}"#).unwrap(), "a b [0m");
    assert_eq!(error_text(br#"{"message":"m","text":null}"#).unwrap(), "m");
    assert_eq!(error_text(br#"{"message":"m","text":"t"}"#).unwrap(), "t");
    for body in ["", "null", "<html>", "{}", "{\"text\":1}", "{\"text\":\" \"}", "[\"text\"]"] {
        assert_eq!(error_text(body.as_bytes()), None, "{body}");
    }
    assert!(error_text(format!("{{\"text\":\"{}\"}}", "é".repeat(9999)).as_bytes()).unwrap().len() < 1100);
}
