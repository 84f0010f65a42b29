//! External actions: the words of a row, and what a check command prints.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::external::{Order, Report, named_by, wrong_name};

fuzz_target!(|input: (&str, &str)| {
    let (command, printed) = input;
    match Order::read(command) {
        None => {}
        Some(Err(why)) => assert!(!why.contains(['\n', '\r', '\0']), "{why:?}"),
        Some(Ok(order)) => {
            assert_eq!(wrong_name(&order.name), None);
            // The policy judges what is started: its words mean the same order.
            let words = order.words();
            assert_eq!(named_by(&words), Some(2));
            let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', r#"'"'"'"#))).collect();
            assert_eq!(Order::read(&quoted.join(" ")), Some(Ok(order)));
        }
    }
    if let Err(why) = Report::read(printed) {
        assert!(why.len() < 2000, "{} bytes", why.len());
        assert!(!why.contains(['\n', '\r', '\0']), "{why:?}");
    }
});
