//! Collector 3, recorded from its own handlers on a real database.

use crate::bytes::{message, names, read};
use opensvc_actions::action::time::Timestamp;
use opensvc_actions::action::{ActionId, Batch, QueuedAction, RowStatus};
use opensvc_actions::collector::{Report, oc3};
use serde_json::Value;

fn body(name: &str) -> Vec<u8> {
    message(&read(&format!("oc3/{name}"))).0.body
}

fn decoded(name: &str) -> Batch {
    oc3::decode_actions(&body(name)).unwrap()
}

fn waiting(id: i64, command: &str, svc_id: &str, svcname: &str) -> QueuedAction {
    QueuedAction {
        id: ActionId(id),
        status: RowStatus::Waiting,
        command: command.to_owned(),
        svc_id: svc_id.to_owned(),
        svcname: svcname.to_owned(),
        queued_at: Some("2026-11-21T08:50:03Z".to_owned()),
        earlier_ret: None,
    }
}

fn report(id: i64, stdout: &str) -> Report {
    // 2026-11-21T09:00:00Z
    let ended_at = Timestamp { seconds: 1_795_251_600, nanos: 0 };
    Report { id: ActionId(id), ret: 0, stdout: stdout.to_owned(), stderr: String::new(), ended_at }
}

#[test]
fn fetched_rows_are_decoded() {
    let rows = vec![
        waiting(1, "pushasset", "", ""),
        waiting(2, "start --local", "99999999-9999-9999-9999-999999999991", "svc1"),
        waiting(3, "stop --local", "99999999-9999-9999-9999-99999999999f", ""),
        waiting(4, "compliance check --module \"a b\" --env=k=\"v\" <&>é", "", ""),
    ];
    assert_eq!(decoded("02-get-rows.response"), Batch { actions: rows, ..Batch::default() });
    assert_eq!(decoded("01-get-empty.response"), Batch::default());
    assert_eq!(decoded("04-get-after-running.response"), Batch::default());
}

#[test]
fn a_redone_row_waits_and_a_row_sent_again_was_sent() {
    assert_eq!(decoded("12-get-redo.response").actions, [waiting(1, "pushasset", "", "")]);
    let again = QueuedAction {
        status: RowStatus::Sent,
        queued_at: Some("2026-11-21T08:49:03Z".to_owned()),
        ..waiting(1, "pushasset", "", "")
    };
    assert_eq!(decoded("13-get-resend.response").actions, [again]);
}

/// The recorded requests were made by a driver of the tests in python, which puts blanks behind `:` and `,` and wrote
/// dates of its own making; the collector reads JSON. So bodies are compared as values, and the dates in them by
/// instant: ours is always UTC, in milliseconds (the column cuts fractions anyhow).
fn assert_sends(name: &str, sent: &[u8], date: Option<&str>) {
    let mut recorded: Value = serde_json::from_slice(&body(name)).unwrap();
    if let Some(date) = date {
        recorded["dequeued_at"] = date.into();
    }
    assert_eq!(serde_json::from_slice::<Value>(sent).unwrap(), recorded, "{name}");
}

#[test]
fn acknowledgements_are_those_of_the_recording() {
    assert_sends("03-running.request", &oc3::encode_running(&[1, 2, 3, 4].map(ActionId)), None);
}

#[test]
fn results_are_those_of_the_recording() {
    let first = Report {
        // 2026-11-21T09:00:00.123456789+02:00
        ended_at: Timestamp { seconds: 1_795_244_400, nanos: 123_456_789 },
        ..report(1, "hello\n")
    };
    assert_sends("05-done.request", &oc3::encode_done(&first), Some("2026-11-21T07:00:00.123Z"));
    let date = Some("2026-11-21T09:00:00.000Z");
    assert_sends("06-done-unknown-id.request", &oc3::encode_done(&report(999_999, "")), date);
    // The next two show what a collector refuses. The codec itself encodes any text (clamping is what keeps such a
    // character out), but no date that the column does not cover.
    assert_sends("08-done-astral.request", &oc3::encode_done(&report(2, "\u{1f600}")), date);
    let late = Report { ended_at: Timestamp { seconds: 2_205_306_000, nanos: 0 }, ..report(2, "") };
    assert_sends("09-done-bad-date.request", &oc3::encode_done(&late), Some("2038-01-18T00:00:00.000Z"));
}

#[test]
fn the_words_of_errors_are_found() {
    for (name, status, text) in [
        ("07-done-too-long", 500, "Error 1406: Data too long for column 'stdout' at row 1"),
        (
            "08-done-astral",
            500,
            r"Error 1366: Incorrect string value: '\xF0\x9F\x98\x80' for column `opensvc`.`action_queue`.`stdout` at row 1",
        ),
        (
            "09-done-bad-date",
            500,
            "Error 1292: Incorrect datetime value: '2039-11-21 09:00:00' for column `opensvc`.`action_queue`.`date_dequeued` at row 1",
        ),
        ("10-done-bad-json", 400, "json: cannot unmarshal string into Go struct field QueuedActionDone.id of type int"),
        ("11-running-empty-body", 400, "unexpected end of JSON input"),
        ("14-no-credentials", 401, "strategies/union: [not public url, strategies/basic: Request missing BasicAuth]"),
        ("15-bad-uuid", 401, "strategies/union: [not public url, invalid credentials]"),
        ("16-not-found", 404, "Not Found"),
        ("17-method-not-allowed", 405, "Method Not Allowed"),
        ("19-poison-row", 500, "Something went wrong. Please try again later"),
        ("20-database-down", 401, "strategies/union: [not public url, invalid credentials]"),
    ] {
        let file = read(&format!("oc3/{name}.response"));
        let (answer, _) = message(&file);
        assert!(answer.start.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {}", answer.start);
        assert_eq!(oc3::error_text(&answer.body).as_deref(), Some(text), "{name}");
        assert!(oc3::decode_actions(&answer.body).is_err(), "{name}");
    }
}

#[test]
fn every_answer_is_rows_or_an_error_or_nothing() {
    for name in names("oc3").iter().filter(|name| name.ends_with(".response")) {
        let file = read(name);
        let (answer, rest) = message(&file);
        assert!(rest.is_empty(), "{name}");
        let is_ok = answer.start.starts_with("HTTP/1.1 2");
        assert_eq!(oc3::error_text(&answer.body).is_none(), is_ok, "{name}");
        let is_fetch = answer.start.contains(" 200 ") && !name.contains("version");
        assert_eq!(oc3::decode_actions(&answer.body).is_ok(), is_fetch, "{name}");
    }
}
