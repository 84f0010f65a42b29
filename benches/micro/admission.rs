//! A row: what it means beside what is recorded, and what is executed for it.

use opensvc_actions::action::admission::{Evidence, Fingerprint, Known, Seen, State, admit, is_same_action};
use opensvc_actions::action::argv::Agent;
use opensvc_actions::action::limits::GroupLimits;
use opensvc_actions::action::policy::{About, CommandGlobs, Place, Policy, Rule, Verdict};
use opensvc_actions::action::{Queue, QueuedAction};
use opensvc_actions::collector::oc3;

use super::{Work, recorded};

fn rule(number: usize) -> Rule {
    let words = ["compliance".to_owned(), format!("fix{number}*"), "**".to_owned()];
    Rule {
        number,
        place: Place { file: "/etc/opensvc/actions.toml".into(), line: number },
        verdict: Verdict::Deny,
        about: if number % 2 == 0 { Some(About::Node) } else { Some(About::Services("db*".parse().unwrap())) },
        command: Some(CommandGlobs::read(&words).unwrap()),
        timeout: None,
        group: GroupLimits::default(),
        user: None,
        retarget: false,
        ends_boot: None,
    }
}

/// The words of a row, decided about and made a command line.
fn decide(policy: &Policy, rows: &[QueuedAction], agent: &Agent) -> usize {
    let argv = |row| policy.judge(row).command.map(|command| command.argv(agent).args().len());
    rows.iter().filter_map(|row| argv(row).ok()).sum()
}

pub(crate) fn works() -> Vec<Work> {
    let rows = oc3::decode_actions(&recorded::oc3(100)).unwrap().actions;
    let bytes: usize = rows.iter().map(|row| row.command.len()).sum();
    let mut works = Vec::new();
    for rules in [0, 10, 100] {
        let policy = Policy { rules: (1..=rules).map(rule).collect(), ..Policy::default() };
        let (rows, agent) = (rows.clone(), Agent::Om("/usr/bin/om".into()));
        assert!(decide(&policy, &rows, &agent) > 0);
        works.push(Work::new(format!("policy of {rules} rules"), (rows.len(), "row"), bytes, move || {
            decide(&policy, &rows, &agent)
        }));
    }
    let recorded: Vec<_> = rows.iter().map(Evidence::from).collect();
    let shifted = |row: &QueuedAction| {
        let queued_at = row.queued_at.as_ref().map(|date| date.replace("T08", "T10"));
        QueuedAction { queued_at, ..row.clone() }
    };
    for (name, rows) in [("sent again", rows.clone()), ("dates shifted", rows.iter().map(shifted).collect())] {
        let recorded = recorded.clone();
        works.push(Work::new(format!("table, {name}"), (rows.len(), "row"), bytes, move || {
            let verdict = |(row, recorded): (&QueuedAction, &Evidence)| {
                let same = is_same_action(&Evidence::from(row), recorded);
                admit(Seen::new(Queue::Oc3, row, same), Known::Generation(State::Reported))
            };
            rows.iter().zip(&recorded).map(verdict).collect::<Vec<_>>()
        }));
    }
    works.push(Work::new("tombstone", (rows.len(), "row"), bytes, move || {
        let is_of = |evidence: &Evidence| Fingerprint::from(evidence).is_of(evidence);
        recorded.iter().filter(|evidence| is_of(evidence)).count()
    }));
    works
}
