//! Schedules: whatever the text, each moment gets an answer, and what is said to be next is allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::civil::Civil;
use opensvc_actions::action::schedule::Schedule;
use opensvc_actions::action::time::Timestamp;

fuzz_target!(|input: (u32, Option<i32>, &str)| {
    let (now, since, text) = input;
    // From 1970 to 2106, and a last run up to 68 years before or after that.
    let at = |seconds: i64| Civil::at_offset(Timestamp { seconds, nanos: 0 }, 0);
    let last = since.map(|since| at(i64::from(now) - i64::from(since)));
    let (schedule, _) = Schedule::parse(text);
    for schedule in [schedule.for_timer("n1.example.com"), schedule] {
        let allowed = schedule.allows(at(now.into()), last).is_allowed();
        assert!(!(allowed && schedule.is_never()));
        match schedule.next(at(now.into()), last) {
            Some(next) => assert!(schedule.allows(next, last).is_allowed(), "{next:?}"),
            None => assert!(!allowed),
        }
    }
});
