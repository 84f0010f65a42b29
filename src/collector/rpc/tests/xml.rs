use super::super::xml::{decode_done, decode_fetch, decode_methods, encode};
use super::super::*;
use crate::action::Batch;
use crate::action::time::Timestamp;
use crate::action::{QueuedAction, RowStatus};

/// An answer with this value.
fn answer(value: &str) -> String {
    format!("<?xml version='1.0'?><methodResponse><params><param>{value}</param></params></methodResponse>")
}

/// An answer with rows of these members.
fn rows(rows: &[&str]) -> Batch {
    let rows = rows.join("</struct></value>\n<value><struct>");
    decode_fetch(
        answer(&format!("<value><array><data><value><struct>{rows}</struct></value></data></array></value>"))
            .as_bytes(),
    )
    .unwrap()
}

fn member(name: &str, value: &str) -> String {
    format!("<member><name>{name}</name><value>{value}</value></member>")
}

fn fails(body: &str) -> String {
    match decode_fetch(body.as_bytes()).unwrap_err() {
        RpcError::Decode(error) => error.to_string(),
        fault @ RpcError::Fault { .. } => panic!("{fault}"),
    }
}

fn fault(text: &str) -> (FaultKind, String) {
    let body = format!(
        "<methodResponse><fault><value><struct>{}{}</struct></value></fault></methodResponse>",
        member("faultString", text),
        member("faultCode", "<int>1</int>")
    );
    match (decode_fetch(body.as_bytes()).unwrap_err(), decode_done(body.as_bytes()).unwrap_err()) {
        (RpcError::Fault { kind, text }, same) if same == (RpcError::Fault { kind, text: text.clone() }) => {
            (kind, text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_of_value_is_read() {
    for (value, id) in [
        ("<int>7</int>", Some(7)),
        ("<i4> 7\n</i4>", Some(7)),
        ("<i8>9223372036854775807</i8>", Some(i64::MAX)),
        ("\n<int>7</int>\n", Some(7)),
        ("<int>0</int>", None),
        ("<int>9223372036854775808</int>", None),
        ("<int></int>", None),
        ("<string>7</string>", None),
        ("7", None),
        ("<double>7.0</double>", None),
        ("<boolean>1</boolean>", None),
        ("<base64>Nw==</base64>", None),
        ("<dateTime.iso8601>20261121T08:16:23</dateTime.iso8601>", None),
        ("<nil/>", None),
        ("<ex:nil/>", None),
        ("<array><data><value><int>7</int></value></data></array>", None),
        ("<struct><member><name>id</name><value><int>7</int></value></member></struct>", None),
        ("<new>7</new>", None),
    ] {
        let batch = rows(&[&member("id", value)]);
        assert_eq!(batch.actions.first().map(|action| action.id.0), id, "{value}");
        assert_eq!((batch.malformed.len(), batch.unusable.len()), (0, usize::from(id.is_none())), "{value}");
    }
}

#[test]
fn texts_are_read_as_xml_has_them() {
    for (value, command) in [
        ("<string>a &lt;&amp;&gt; &quot;b&apos; &#233;&#x20ac;&#13;</string>", "a <&> \"b' é€\r"),
        ("<string><![CDATA[a <b>]]> c<!-- no --></string>", "a <b> c"),
        (" untyped\n", " untyped\n"),
        ("<string>a\r\nb\rc</string>", "a\nb\nc"),
        ("<string>bell\x07</string>", "bell\x07"),
        ("<string/>", ""),
        ("", ""),
        ("<nil/>", ""),
        ("<dateTime.iso8601>x</dateTime.iso8601>", "x"),
    ] {
        let batch = rows(&[&(member("id", "<int>1</int>") + &member("command", value))]);
        assert_eq!(batch.actions[0].command, command, "{value}");
    }
    let invalid = answer(
        "<value><array><data><value><struct><member><name>command</name><value>X</value></member><member><name>id</name><value><int>1</int></value></member></struct></value></data></array></value>",
    );
    let at = invalid.find('X').unwrap();
    let mut invalid = invalid.into_bytes();
    invalid[at] = 0xff;
    assert_eq!(decode_fetch(&invalid).unwrap().actions[0].command, "\u{fffd}");
}

#[test]
fn members_come_in_any_order_or_not_at_all() {
    let [first, second, third] = &rows(&[
        &(member("stdout", "x") + &member("id", "<int>1</int>")),
        &[
            ("unknown", "<array><data></data></array>"),
            ("ret", "<int>-9</int>"),
            ("date_queued", "<dateTime.iso8601>20261121T08:16:23</dateTime.iso8601>"),
            ("svcname", "s"),
            ("command", "first"),
            ("command", "last"),
            ("status", "<string>S</string>"),
            ("svc_id", "i"),
            ("id", "<int>2</int>"),
        ]
        .map(|(name, value)| member(name, value))
        .concat(),
        "<member><value><int>3</int></value><name> id </name></member><odd/><member/>",
    ])
    .actions[..] else {
        panic!("three rows")
    };
    let bare = |id| QueuedAction {
        id: ActionId(id),
        status: RowStatus::Other,
        command: String::new(),
        svc_id: String::new(),
        svcname: String::new(),
        queued_at: None,
        earlier_ret: None,
    };
    assert_eq!(first, &bare(1));
    assert_eq!(
        second,
        &QueuedAction {
            status: RowStatus::Sent,
            command: "last".to_owned(),
            svc_id: "i".to_owned(),
            svcname: "s".to_owned(),
            queued_at: Some("20261121T08:16:23".to_owned()),
            earlier_ret: Some(-9),
            ..bare(2)
        }
    );
    assert_eq!(third, &bare(3));
}

#[test]
fn zero_dates_are_no_dates() {
    for date in
        ["<nil/>", "<string>0000-00-00 00:00:00</string>", "<dateTime.iso8601>00010101T00:00:00</dateTime.iso8601>"]
    {
        let batch = rows(&[&(member("id", "<int>1</int>") + &member("date_queued", date))]);
        assert_eq!(batch.actions[0].queued_at, None);
    }
}

#[test]
fn odd_rows_block_nobody() {
    let value = "<value><array><data><value><int>1</int></value><value>x</value><value><nil/></value>\
                 <value><array><data><value/></data></array></value><value><struct></struct></value>\
                 <value><struct><member><name>id</name><value><int>5</int></value></member><member><name>command</name>\
                 <value><boolean>1</boolean></value></member></struct></value></data></array></value>";
    let batch = decode_fetch(answer(value).as_bytes()).unwrap();
    assert_eq!(
        batch.unusable,
        [
            "row 1 of the answer: it is a scalar, not a row",
            "row 2 of the answer: it is text, not a row",
            "row 3 of the answer: it is nil, not a row",
            "row 4 of the answer: it is an array, not a row",
            "row 5 of the answer: its id is nothing, not an integer",
        ]
    );
    assert_eq!(batch.malformed[0].reason, "command is true or false, not text");
}

#[test]
fn faults_are_told_apart_by_their_words() {
    let of = |kind, text: &str| (kind, text.to_owned());
    assert_eq!(
        fault("&lt;class 'Exception'&gt;:agent n1 not registered"),
        of(FaultKind::NotRegistered, "agent n1 not registered")
    );
    assert_eq!(fault("x:agent authentication error"), of(FaultKind::BadUuid, "agent authentication error"));
    assert_eq!(
        fault("<string>x:method \"y\" is not supported</string>"),
        of(FaultKind::UnknownMethod, "method \"y\" is not supported")
    );
    assert_eq!(fault("x: a: b\nc"), of(FaultKind::Other, "a: b c"));
    assert_eq!(fault("no colon"), of(FaultKind::Other, "no colon"));
    assert_eq!(fault("<nil/>"), of(FaultKind::Other, "a fault without words"));
    assert!(fault(&"x".repeat(9999)).1.len() < 1100);
}

#[test]
fn what_is_no_answer_is_an_error_with_its_place() {
    assert_eq!(fails(""), "line 1, column 0: the answer ends early");
    assert_eq!(fails("<html>\n<p>"), "line 1, column 6: expected <methodResponse>, found <html>");
    assert_eq!(fails("<methodResponse/>"), "line 1, column 17: the answer is empty");
    assert_eq!(
        fails("\n\n<methodResponse></x>"),
        "line 3, column 16: ill-formed document: expected `</methodResponse>`, but `</x>` was found"
    );
    assert!(fails(&answer("<value><nil/></value>")).ends_with("expected <array>, found <nil>"));
    assert!(fails(&answer("")).ends_with("expected <value>, found the end of its parent"));
    let list = answer("<value><array><data></data></array></value>");
    assert!(decode_fetch(list.as_bytes()).is_ok());
    for end in 0..list.len() {
        assert!(fails(&list[..end]).len() < 300, "{end}");
    }
    assert!(decode_fetch(format!("{list}\n <!-- --> ").as_bytes()).is_ok());
    assert!(fails(&format!("{list}<x/>")).ends_with("there is more behind the answer"));
    assert!(fails(&format!("{list}x")).ends_with("there is more behind the answer"));
    assert!(fails(&"<x>".repeat(9999)).len() < 300);
    assert!(fails(&format!("<{}>", "x".repeat(9999))).len() < 300);
}

#[test]
fn what_xml_could_do_to_a_reader_is_refused() {
    let refused = |body: &str, what: &str| assert!(fails(body).ends_with(what), "{}", fails(body));
    refused("<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>", "a document type is refused");
    refused("<methodResponse>&lol;</methodResponse>", "the reference &lol; is unknown here");
    refused("<methodResponse>&#xD800;</methodResponse>", "the reference &#xD800; is unknown here");
    refused("<methodResponse>&</methodResponse>", "`;` not found before end of input");
    refused("<?xml version='1.0' encoding='utf-16'?><methodResponse/>", "the encoding is not UTF-8");
    let deep = format!("<value>{}{}</value>", "<array>".repeat(40), "</array>".repeat(40));
    refused(&answer(&format!("<value><array><data>{deep}</data></array></value>")), "elements nest more than 32 deep");
    let declared = answer("<value><array><data></data></array></value>").replace("?>", " encoding=\"UTF-8\"?>");
    assert!(decode_fetch(declared.as_bytes()).is_ok());
    assert!(decode_fetch(format!("\u{feff}{declared}").as_bytes()).is_ok());
}

#[test]
fn an_acknowledgement_is_anything_but_a_fault() {
    for body in [
        answer("<value><nil/></value>"),
        answer("<value>x</value>"),
        "<methodResponse><params/></methodResponse>".to_owned(),
    ] {
        assert_eq!(decode_done(body.as_bytes()), Ok(()));
    }
    for body in ["", "<html></html>", "<methodResponse><params>", "<methodResponse></methodResponse>", "{}"] {
        assert!(matches!(decode_done(body.as_bytes()), Err(RpcError::Decode(_))), "{body}");
    }
}

#[test]
fn results_are_escaped_for_xml() {
    let report = Report {
        id: ActionId(1),
        ret: -1,
        stdout: "a<b>&\"'\r\n\t\u{e9}".to_owned(),
        stderr: "\0\u{7}\u{ffff}".to_owned(),
        ended_at: Timestamp { seconds: 0, nanos: 0 },
    };
    let xml = String::from_utf8(encode(&Call::Update(&[report]), "n&", "<u>")).unwrap();
    assert!(
        xml.contains("<value><int>-1</int></value>\n<value><string>a&lt;b&gt;&amp;\"'&#13;\n\té</string></value>\n")
    );
    assert!(xml.contains("<value><string>\u{fffd}\u{fffd}\u{fffd}</string></value>\n"));
    assert!(xml.contains("<value><string>&lt;u&gt;</string></value>\n<value><string>n&amp;</string></value>\n"));
}

#[test]
fn the_list_of_methods_is_read_and_bounded() {
    let list = |names: &str| answer(&format!("<value><array><data>{names}</data></array></value>"));
    let names = "<value><string>a</string></value><value>b</value><value><int>1</int></value><value><nil/></value>";
    assert_eq!(decode_methods(list(names).as_bytes()).unwrap(), ["a", "b"]);
    let many = list(&"<value>x</value>".repeat(10_001));
    assert!(decode_methods(many.as_bytes()).unwrap_err().to_string().ends_with("more than 10000 methods"));
    let long = list(&format!("<value>{}</value>", "x".repeat(9999)));
    assert!(decode_methods(long.as_bytes()).unwrap()[0].len() < 300);
}

#[test]
fn rows_are_counted() {
    let many = answer(&format!("<value><array><data>{}</data></array></value>", "<value/>".repeat(1_000_001)));
    assert!(fails(&many).ends_with("more than 1000000 rows"));
}

#[test]
fn trouble_of_the_collector_is_told_apart() {
    for said in [
        "&lt;type 'exceptions.IOError'&gt;:[Errno socket error] [Errno 111] Connection refused",
        "&lt;class '_mysql_exceptions.OperationalError'&gt;:(2006, 'server has gone away')",
        "&lt;type 'exceptions.Exception'&gt;:MySQL server has gone away",
        "x:try restarting transaction",
        "x:Bad Gateway",
        "x:retry",
    ] {
        assert_eq!(fault(said).0, FaultKind::Trouble, "{said}");
    }
    assert_eq!(fault("&lt;type 'exceptions.ValueError'&gt;:need more than 3 values to unpack").0, FaultKind::Other);
}

#[test]
fn a_result_weighs_at_least_what_it_adds_to_a_call() {
    for text in ["", "a\n", "<&>\r\"\\", "\0\u{1}\u{1f}", "\u{fffe}é€", &"&".repeat(65_535)] {
        let report = Report {
            id: ActionId(i64::MAX),
            ret: i32::MIN,
            stdout: text.to_owned(),
            stderr: text.to_owned(),
            ended_at: Timestamp { seconds: 0, nanos: 0 },
        };
        let empty = encode(&Call::Update(&[]), "n", "u").len();
        let two = encode(&Call::Update(&[report.clone(), report.clone()]), "n", "u").len();
        assert!(two - empty <= 2 * weight(&report), "{text:.9}");
    }
}
