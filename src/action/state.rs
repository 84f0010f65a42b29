//! Where an action stands here, and what comes next for one that was started.

/// Where a generation of an action stands, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Recorded here; its command has not started.
    Received,
    /// Its command was about to start, or has.
    Started,
    /// It has a result; the collector has not accepted it yet.
    Finished,
    /// The collector accepted its result.
    Reported,
    /// A newer generation took its place: it will not run, and its result is not posted any more.
    Superseded,
    /// No collector accepted its result in time, and it is not posted any more.
    Expired,
}

impl State {
    /// Every state, in the order of an action's life.
    pub const ALL: [Self; 6] =
        [Self::Received, Self::Started, Self::Finished, Self::Reported, Self::Superseded, Self::Expired];

    /// The spelling in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Reported => "reported",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }

    /// The reverse of [`Self::as_str`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What the disk proves about the run of an action that was started, where there is no record of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Somebody lives who runs it, or still may.
    Lives,
    /// Nobody lives who runs it, and its command never began.
    NeverBegan,
    /// Nobody lives who runs it; its command may have begun, in this boot of the machine.
    Lost,
    /// It belongs to another boot, or there is nothing of it: nothing is proven. After a power cut the absence of a
    /// file means nothing.
    Nothing,
}

/// What comes next for an action that was started and has no record of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for its end.
    Attach,
    /// It waits again, as if it had not been started.
    StartAgain,
    /// Its end was not seen, and it is never run again by itself. What is left of its processes is to be killed.
    KillAndGiveUp,
    /// Its end was not seen, and it is never run again by itself.
    GiveUp,
}

impl Trace {
    /// The next step, for a handler that has just found an action and for one that has watched it alike.
    #[must_use]
    pub const fn next(self) -> Next {
        match self {
            Self::Lives => Next::Attach,
            Self::NeverBegan => Next::StartAgain,
            Self::Lost => Next::KillAndGiveUp,
            Self::Nothing => Next::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_as_it_is_spelled() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(state));
        }
        assert_eq!(State::from_name("Received"), None);
    }
}
