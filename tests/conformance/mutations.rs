//! Answers that nobody recorded: whatever arrives, a decoder answers with rows or with words.

use crate::bytes::{names, read};
use opensvc_actions::action::argv::{Agent, argv};
use opensvc_actions::collector::oc3;
use opensvc_actions::collector::rpc::{json, xml};
use proptest::prelude::*;
use std::sync::LazyLock;

static RECORDINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let bodies = |name: &String| {
        let bytes = read(name);
        let start =
            [&b"<?xml"[..], b"{\""].iter().find_map(|start| bytes.windows(start.len()).rposition(|w| w == *start));
        bytes[start.unwrap_or(0)..].to_vec()
    };
    names("oc3").iter().chain(&names("rpc")).map(bodies).collect()
});

fn decode(body: &[u8]) {
    let words = [
        oc3::decode_actions(body).map_err(|error| error.to_string()),
        xml::decode_fetch(body).map_err(|error| error.to_string()),
        json::decode_fetch(1, body).map_err(|error| error.to_string()),
    ];
    for batch in words {
        match batch {
            Ok(batch) => batch.actions.iter().for_each(|action| drop(argv(action, &Agent::Om("om".into())))),
            Err(words) => assert!(words.len() < 2000 && !words.contains('\n'), "{words}"),
        }
    }
    drop(xml::decode_done(body));
    drop(xml::decode_methods(body));
    drop(json::decode_done(1, body));
    drop(json::error_text(body));
    drop(oc3::error_text(body));
}

/// What makes a parser change its mind.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "<",
        ">",
        "&",
        ";",
        "</value>",
        "<value>",
        "<struct>",
        "<nil/>",
        "<!--",
        "<![CDATA[",
        "]]>",
        "<?",
        "<!DOCTYPE a>",
        "&#0;",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1e999",
        "-",
        "\\ud800",
        "\\",
        "99999999999999999999",
    ]);
    prop_oneof![token.prop_map(|token| token.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..4),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn decoders_survive_any_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
        decode(&body);
    }

    #[test]
    fn decoders_survive_scraps(scraps in prop::collection::vec(scrap(), 0..60)) {
        decode(&scraps.concat());
    }

    #[test]
    fn decoders_survive_changed_recordings(
        recording: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, scrap()), 1..6),
    ) {
        let mut body = recording.get(&RECORDINGS).clone();
        for (at, length, scrap) in changes {
            let at = at.index(body.len() + 1);
            let end = (at + length).min(body.len());
            body.splice(at..end, scrap);
        }
        decode(&body);
    }

    #[test]
    fn decoders_survive_cut_recordings(recording: prop::sample::Index, at: prop::sample::Index) {
        let body = recording.get(&RECORDINGS);
        decode(&body[..at.index(body.len() + 1)]);
    }
}
