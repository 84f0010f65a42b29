//! What has become of a unit that an action was started in: from the manager's properties and the journal's entries to one
//! verdict.
//!
//! `systemctl is-active` knows two answers and takes everything but "active" for an end: a unit that is still starting,
//! waits for its next attempt, or was never started at all. Here an end is believed only where something proves it.

use serde::{Deserialize, Serialize};

/// `CLD_EXITED` of sigaction(2): the main process exited by itself.
const EXITED: u64 = 1;

/// "Unit … deactivated successfully": `SD_MESSAGE_UNIT_SUCCESS`.
const SUCCEEDED: &str = "7ad2d189f7e94e70a38c781354912448";

/// "Unit … failed with result …": `SD_MESSAGE_UNIT_FAILURE_RESULT`.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// A unit, as its manager describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `LoadState`: `loaded`, `not-found`, `masked` …
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `Result` of the service.
    pub result: String,
    /// `Type` of the service.
    pub kind: String,
    /// `InvocationID` in hexadecimal digits; empty: it has not run since it was loaded.
    pub invocation: String,
    /// A job about it waits or runs.
    pub has_job: bool,
    /// `ExecMainCode`: how the main process ended, as in sigaction(2); 0: it has not, or there is none.
    pub main_code: u64,
    /// `ExecMainStatus`: its exit status, or the signal.
    pub main_status: u64,
    /// When the main process ended, in microseconds of the monotonic clock; 0: never.
    pub main_exited_at: u64,
    /// When it last ceased to be active, in the same way.
    pub active_exited_at: u64,
    /// When it last ceased to be inactive; 0: not since it was loaded.
    pub left_inactive_at: u64,
    /// The unit file says that some other end of the main process than exit status 0 is a success.
    pub has_own_successes: bool,
    /// Its last start was given up since a condition of it did not hold.
    pub condition_failed: bool,
}

/// What is known of the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The boot of the machine.
    pub boot_id: String,
    /// The invocation, once it is known.
    pub invocation: Option<String>,
}

/// What the journal tells about a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Somebody asked the manager to stop it.
    pub stopped: bool,
    /// The manager saw it end well.
    pub succeeded: bool,
    /// The manager saw it fail: with which result.
    pub failed: Option<String>,
}

/// An entry of the journal, of which only these fields matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The kind of message.
    #[serde(rename = "MESSAGE_ID")]
    pub id: Option<String>,
    /// What kind of job it is about.
    #[serde(rename = "JOB_TYPE")]
    pub job: Option<String>,
    /// The result of a unit.
    #[serde(rename = "UNIT_RESULT")]
    pub result: Option<String>,
    /// The invocation that the system's manager speaks of.
    #[serde(rename = "INVOCATION_ID")]
    pub invocation: Option<String>,
    /// The invocation that a user's manager speaks of.
    #[serde(rename = "USER_INVOCATION_ID")]
    pub user_invocation: Option<String>,
}

/// What is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs, or is about to.
    Running,
    /// It did what it was for.
    Finished,
    /// It did not: why, and with which exit status its main process ended, if it ended by itself.
    Failed(String, Option<u64>),
}

impl Evidence {
    /// Takes one entry into account, if it is about this invocation; without one, whatever it is about.
    pub fn take(&mut self, entry: &Entry, invocation: Option<&str>) {
        let about = entry.invocation.as_deref().or(entry.user_invocation.as_deref());
        if about.is_some() && invocation.is_some() && about != invocation {
            return;
        }
        self.stopped |= entry.job.as_deref() == Some("stop");
        match entry.id.as_deref() {
            Some(SUCCEEDED) => self.succeeded = true,
            Some(FAILED) => self.failed = Some(entry.result.clone().unwrap_or_else(|| "unknown".to_owned())),
            _ => {}
        }
    }
}

impl Unit {
    /// Whether it runs or is about to: nothing else needs to be looked at then.
    #[must_use]
    pub fn is_going_on(&self) -> bool {
        match self.active.as_str() {
            "inactive" | "failed" => self.has_job,
            "active" => self.sub != "exited",
            _ => true, // on its way from one to the other
        }
    }

    /// Whether it has run, or was about to, since the manager loaded it.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.left_inactive_at > 0
    }

    /// What is to be reported. `boot_id` is this boot's; `start` is missing where nobody has noted it.
    #[must_use]
    pub fn verdict(&self, start: Option<&Start>, boot_id: &str, journal: &Evidence) -> Verdict {
        let failed = |why: String| Verdict::Failed(why, self.exit_status());
        let stopped = || failed("it was stopped before its end".to_owned());
        if start.is_some_and(|start| start.boot_id != boot_id) {
            return Verdict::Failed("the machine has booted since it was started".to_owned(), None);
        }
        if self.is_going_on() {
            return Verdict::Running;
        }
        if self.active == "active" {
            return Verdict::Finished; // RemainAfterExit=yes
        }
        if self.active == "failed" {
            return failed(self.how());
        }
        if !self.has_run() {
            let knows = start.is_some_and(|start| start.invocation.is_some());
            return match journal {
                Evidence { stopped: true, .. } => stopped(),
                Evidence { failed: Some(result), .. } => {
                    Verdict::Failed(format!("it failed with result {result}"), None)
                }
                Evidence { succeeded: true, .. } if knows => Verdict::Finished,
                _ => Verdict::Failed(self.why_unknown(start), None),
            };
        }
        // A service that announces its end leaves "active" before its main process has gone.
        let announces = self.kind.starts_with("notify");
        if journal.stopped || (!announces && self.active_exited_at > 0 && self.main_exited_at > self.active_exited_at) {
            return stopped();
        }
        if let Some(result) = &journal.failed {
            return failed(format!("it failed with result {result}")); // and somebody has reset that
        }
        match (self.main_code, self.main_status) {
            _ if self.result != "success" => failed(self.how()),
            (0, _) | (EXITED, 0) => Verdict::Finished,
            _ if self.has_own_successes => Verdict::Finished,
            _ => failed(self.how()),
        }
    }

    /// Its main process's exit status, other than 0.
    fn exit_status(&self) -> Option<u64> {
        Some(self.main_status).filter(|status| self.main_code == EXITED && *status > 0)
    }

    /// How it ended, in words.
    fn how(&self) -> String {
        let main = match (self.main_code, self.main_status) {
            (0, _) | (EXITED, 0) => String::new(),
            (EXITED, status) => format!("its main process exited with status {status}"),
            (_, signal) => format!("signal {signal} ended its main process"),
        };
        match (self.result.as_str(), main.as_str()) {
            ("success" | "", "") => "it failed".to_owned(),
            ("success" | "", _) => main,
            (result, "") => format!("result {result}"),
            (result, _) => format!("{main} (result {result})"),
        }
    }

    fn why_unknown(&self, start: Option<&Start>) -> String {
        match self.load.as_str() {
            "loaded" | "" if self.condition_failed => {
                "it did not run: a condition of its unit does not hold".to_owned()
            }
            "loaded" | "" if start.is_some() => {
                "it is lost: it never ran, or its manager has forgotten it (was it reset?)".to_owned()
            }
            "loaded" | "" => {
                "it is lost: nothing is known of its start in this boot of the machine; was it started at all?"
                    .to_owned()
            }
            "not-found" => "there is no such unit".to_owned(),
            load => format!("its unit is {load}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "b";

    fn unit(active: &str, sub: &str) -> Unit {
        Unit {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: "success".to_owned(),
            kind: "exec".to_owned(),
            left_inactive_at: 5,
            ..Unit::default()
        }
    }

    fn started() -> Start {
        Start { boot_id: BOOT.to_owned(), invocation: Some("i".to_owned()) }
    }

    fn verdict(unit: &Unit, journal: &Evidence) -> Verdict {
        unit.verdict(Some(&started()), BOOT, journal)
    }

    #[track_caller]
    fn assert_failed(unit: &Unit, journal: &Evidence, why: &str, status: Option<u64>) {
        match verdict(unit, journal) {
            Verdict::Failed(said, exit) if said.contains(why) => assert_eq!(exit, status),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whatever_is_on_its_way_runs() {
        let none = Evidence::default();
        for (active, sub) in [
            ("active", "running"),
            ("reloading", "reload"),
            ("refreshing", "refresh-extensions"),
            ("activating", "start"),
            ("activating", "start-pre"),
            ("activating", "auto-restart"),
            ("deactivating", "stop-sigterm"),
        ] {
            assert_eq!(verdict(&unit(active, sub), &none), Verdict::Running, "{active}/{sub}");
        }
        let queued = Unit { has_job: true, left_inactive_at: 0, ..unit("inactive", "dead") };
        assert_eq!(verdict(&queued, &none), Verdict::Running);
    }

    #[test]
    fn an_end_counts_as_done_only_where_something_proves_it() {
        let none = Evidence::default();
        let exited = Unit { main_code: EXITED, main_exited_at: 7, active_exited_at: 8, ..unit("inactive", "dead") };
        assert_eq!(verdict(&exited, &none), Verdict::Finished);
        assert_eq!(verdict(&unit("active", "exited"), &none), Verdict::Finished);
        let own = Unit { main_status: 3, has_own_successes: true, ..exited.clone() };
        assert_eq!(verdict(&own, &none), Verdict::Finished);
        assert_failed(&Unit { has_own_successes: false, ..own }, &none, "exited with status 3", Some(3));
        assert_failed(&Unit { main_code: 2, main_status: 15, ..exited.clone() }, &none, "signal 15", None);
        // stopped: it left "active" before its main process ended
        let stopped = Unit { main_exited_at: 9, ..exited.clone() };
        assert_failed(&stopped, &none, "stopped", None);
        assert_eq!(verdict(&Unit { kind: "notify".to_owned(), ..stopped }, &none), Verdict::Finished);
        assert_failed(&exited, &Evidence { stopped: true, ..Evidence::default() }, "stopped", None);
        assert_failed(&exited, &Evidence { failed: Some("timeout".to_owned()), ..none }, "timeout", None);
    }

    #[test]
    fn a_failure_says_how() {
        let none = Evidence::default();
        let failed = |result: &str, code, status| Unit {
            result: result.to_owned(),
            main_code: code,
            main_status: status,
            ..unit("failed", "failed")
        };
        assert_failed(&failed("exit-code", EXITED, 203), &none, "status 203 (result exit-code)", Some(203));
        assert_failed(&failed("signal", 2, 9), &none, "signal 9 ended its main process (result signal)", None);
        assert_failed(&failed("start-limit-hit", 0, 0), &none, "result start-limit-hit", None);
    }

    #[test]
    fn what_the_manager_does_not_remember_is_lost_unless_the_journal_saw_it() {
        let none = Evidence::default();
        let gone = Unit { left_inactive_at: 0, ..unit("inactive", "dead") };
        assert_failed(&gone, &none, "lost", None);
        assert_eq!(verdict(&gone, &Evidence { succeeded: true, ..Evidence::default() }), Verdict::Finished);
        assert_failed(&gone, &Evidence { succeeded: true, stopped: true, failed: None }, "stopped", None);
        let nothing = gone.verdict(None, BOOT, &Evidence { succeeded: true, ..Evidence::default() });
        assert!(matches!(nothing, Verdict::Failed(why, None) if why.contains("nothing is known of its start")));
        let booted = unit("active", "running").verdict(Some(&started()), "another", &none);
        assert!(matches!(booted, Verdict::Failed(why, None) if why.contains("booted")));
        assert_failed(&Unit { load: "not-found".to_owned(), ..gone.clone() }, &none, "no such unit", None);
        assert_failed(&Unit { condition_failed: true, ..gone }, &none, "condition", None);
    }

    #[test]
    fn the_journal_is_heard_about_this_invocation_only() {
        let mut evidence = Evidence::default();
        let entry = |id: &str, invocation: &str| Entry {
            id: Some(id.to_owned()),
            result: Some("exit-code".to_owned()),
            invocation: Some(invocation.to_owned()),
            ..Entry::default()
        };
        evidence.take(&entry(FAILED, "other"), Some("i"));
        evidence.take(&Entry { job: Some("stop".to_owned()), ..entry("", "other") }, Some("i"));
        assert_eq!(evidence, Evidence::default());
        evidence.take(&entry(SUCCEEDED, "i"), Some("i"));
        evidence.take(&entry(FAILED, "i"), None);
        assert_eq!(evidence, Evidence { stopped: false, succeeded: true, failed: Some("exit-code".to_owned()) });
    }
}
