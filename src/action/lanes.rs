//! Which actions may run side by side: each service is a lane, in which one action runs after the other; an action of
//! the node is a barrier, which waits for everything before it, and nothing behind it starts before it has ended.
//!
//! A pure structure: it is told what waits, what runs and what has ended, and says what comes next. Each step takes
//! logarithmic time, however much waits.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// What an action takes for itself while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The whole node.
    Node,
    /// One service: its path in full, however the collector writes it.
    Service(String),
    /// The start of one external action, by its name. What it has started takes nothing.
    External(String),
}

impl Lane {
    /// The lane of a service. `a`, `svc/a` and `root/svc/a` are one object to the agents.
    #[must_use]
    pub fn of_service(name: &str) -> Self {
        Self::Service(match name.matches('/').count() {
            0 => format!("root/svc/{name}"),
            1 => format!("root/{name}"),
            _ => name.to_owned(),
        })
    }
}

/// The order in which actions start.
#[derive(Debug)]
pub struct Lanes<T> {
    limit: usize,
    /// How many run in each lane: more than one only of those that ran before this began.
    running: HashMap<Lane, usize>,
    /// How many run in all.
    count: usize,
    /// What may start before the next barrier, by lane, each with its place in the order.
    open: HashMap<Lane, VecDeque<(u64, T)>>,
    /// The first of each of these lanes in which nothing runs.
    ready: BTreeMap<u64, Lane>,
    /// The next barrier, and everything behind it.
    behind: VecDeque<(Lane, T)>,
    places: u64,
    waiting: usize,
}

impl<T> Lanes<T> {
    /// At most `limit` (at least 1) actions are started side by side.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            running: HashMap::new(),
            count: 0,
            open: HashMap::new(),
            ready: BTreeMap::new(),
            behind: VecDeque::new(),
            places: 0,
            waiting: 0,
        }
    }

    /// One runs already, whatever the limit is.
    pub fn occupy(&mut self, lane: Lane) {
        if let Some((place, _)) = self.open.get(&lane).and_then(VecDeque::front) {
            self.ready.remove(place);
        }
        *self.running.entry(lane).or_default() += 1;
        self.count += 1;
    }

    /// One more waits, behind all others.
    pub fn push(&mut self, lane: Lane, action: T) {
        self.waiting += 1;
        if self.behind.is_empty() && lane != Lane::Node {
            self.line_up(lane, action);
        } else {
            self.behind.push_back((lane, action));
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether anything could start if its lane were free.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting > 0 && self.count < self.limit && !self.running.contains_key(&Lane::Node)
    }

    /// Whether an action of a free lane could start at once if there were one more.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        self.behind.is_empty() && self.count < self.limit && !self.running.contains_key(&Lane::Node)
    }

    /// Takes the next action that may start now. It runs from here on, until [`Self::ended`].
    pub fn start_next(&mut self) -> Option<(Lane, T)> {
        if !self.has_room() {
            return None;
        }
        if self.open.is_empty() {
            self.open_next();
        }
        let started = if let Some((_, lane)) = self.ready.pop_first() {
            let queue = self.open.get_mut(&lane)?;
            let (_, action) = queue.pop_front()?;
            if queue.is_empty() {
                self.open.remove(&lane);
            }
            (lane, action)
        } else if self.open.is_empty() && self.count == 0 {
            self.behind.pop_front()? // a barrier
        } else {
            return None;
        };
        self.waiting -= 1;
        self.occupy(started.0.clone());
        Some(started)
    }

    /// One that ran has ended.
    pub fn ended(&mut self, lane: &Lane) {
        let Some(running) = self.running.get_mut(lane) else { return };
        self.count -= 1;
        *running -= 1;
        if *running == 0 {
            self.running.remove(lane);
            if let Some((place, _)) = self.open.get(lane).and_then(VecDeque::front) {
                self.ready.insert(*place, lane.clone());
            }
        }
    }

    /// Lines up what is before the next barrier.
    fn open_next(&mut self) {
        while self.behind.front().is_some_and(|(lane, _)| *lane != Lane::Node) {
            if let Some((lane, action)) = self.behind.pop_front() {
                self.line_up(lane, action);
            }
        }
    }

    fn line_up(&mut self, lane: Lane, action: T) {
        self.places += 1;
        let is_free = !self.running.contains_key(&lane);
        let queue = self.open.entry(lane.clone()).or_default();
        queue.push_back((self.places, action));
        if is_free && queue.len() == 1 {
            self.ready.insert(self.places, lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `n` is the node, any other letter a service.
    fn lane(letter: char) -> Lane {
        if letter == 'n' { Lane::Node } else { Lane::of_service(&letter.to_string()) }
    }

    fn lanes(limit: usize, letters: &str) -> Lanes<usize> {
        let mut lanes = Lanes::new(limit);
        letters.chars().enumerate().for_each(|(number, letter)| lanes.push(lane(letter), number));
        lanes
    }

    fn start_all(lanes: &mut Lanes<usize>) -> Vec<usize> {
        std::iter::from_fn(|| lanes.start_next()).map(|(_, number)| number).collect()
    }

    #[test]
    fn services_run_side_by_side_and_one_service_in_order() {
        let mut lanes = lanes(3, "aabcd");
        assert_eq!(start_all(&mut lanes), [0, 2, 3]);
        lanes.ended(&lane('b'));
        assert_eq!(start_all(&mut lanes), [4]);
        lanes.ended(&lane('a'));
        assert_eq!(start_all(&mut lanes), [1]);
        assert_eq!(lanes.waiting(), 0);
    }

    #[test]
    fn a_node_action_waits_for_all_before_it_and_all_behind_it_wait() {
        let mut lanes = lanes(8, "abna");
        assert_eq!(start_all(&mut lanes), [0, 1]);
        lanes.ended(&lane('a'));
        assert_eq!(start_all(&mut lanes), [0; 0]);
        lanes.ended(&lane('b'));
        assert_eq!(start_all(&mut lanes), [2]);
        assert_eq!(start_all(&mut lanes), [0; 0]);
        lanes.ended(&lane('n'));
        assert_eq!(start_all(&mut lanes), [3]);
    }

    #[test]
    fn more_is_of_use_while_there_is_room_and_no_barrier() {
        assert!(lanes(1, "").takes_more());
        let mut lanes = lanes(2, "aabn");
        assert_eq!(start_all(&mut lanes), [0, 2]);
        assert!(!lanes.takes_more());
        lanes.ended(&lane('b'));
        assert!(!lanes.takes_more(), "a barrier waits");
        lanes.ended(&lane('a'));
        assert_eq!(start_all(&mut lanes), [1]);
        lanes.ended(&lane('a'));
        assert_eq!(start_all(&mut lanes), [3]);
        assert!(!lanes.takes_more(), "a barrier runs");
        lanes.ended(&lane('n'));
        assert!(lanes.takes_more());
    }

    #[test]
    fn what_ran_before_keeps_its_lane_and_its_place_whatever_the_limit() {
        let mut lanes = lanes(1, "ab");
        lanes.occupy(lane('a'));
        lanes.occupy(lane('a'));
        lanes.occupy(lane('c'));
        assert_eq!(start_all(&mut lanes), [0; 0]);
        for (ended, expected) in [('c', &[][..]), ('a', &[]), ('a', &[0]), ('a', &[1])] {
            lanes.ended(&lane(ended));
            assert_eq!(start_all(&mut lanes), expected);
        }
        let mut lanes = self::lanes(8, "a");
        lanes.occupy(Lane::Node);
        assert_eq!(start_all(&mut lanes), [0; 0]);
        lanes.ended(&Lane::Node);
        assert_eq!(start_all(&mut lanes), [0]);
    }

    #[test]
    fn however_a_service_is_written_it_is_one_lane() {
        for name in ["a", "svc/a", "root/svc/a"] {
            assert_eq!(Lane::of_service(name), Lane::Service("root/svc/a".to_owned()));
        }
        assert_ne!(Lane::of_service("vol/a"), Lane::of_service("a"));
        assert_ne!(Lane::of_service("ns/svc/a"), Lane::of_service("a"));
    }

    proptest! {
        #[test]
        fn whatever_waits_and_ends_in_whatever_order(
            letters in "[nabcd]{0,30}",
            before in "[nabcd]{0,3}",
            limit in 1usize..5,
            choices in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let kinds: Vec<char> = letters.chars().collect();
            let mut lanes = lanes(limit, &letters);
            let mut running: Vec<(char, Option<usize>)> = before.chars().map(|letter| (letter, None)).collect();
            before.chars().for_each(|letter| lanes.occupy(lane(letter)));
            let mut begun = vec![false; kinds.len()];
            let mut ended = vec![false; kinds.len()];
            let mut order = Vec::new();
            for choice in choices {
                while let Some((started, number)) = lanes.start_next() {
                    let letter = kinds[number];
                    prop_assert_eq!(&started, &lane(letter));
                    prop_assert!(!begun[number]);
                    prop_assert!(running.len() < limit, "more than {} at once", limit);
                    prop_assert!(running.iter().all(|(other, _)| *other != letter), "two of one lane");
                    let barrier = letter == 'n';
                    prop_assert!(running.iter().all(|(other, _)| *other != 'n') && (!barrier || running.is_empty()));
                    for earlier in 0..number {
                        let in_the_way = barrier || kinds[earlier] == 'n' || kinds[earlier] == letter;
                        prop_assert!(!in_the_way || ended[earlier], "{} started before {} ended", number, earlier);
                    }
                    begun[number] = true;
                    order.push(number);
                    running.push((letter, Some(number)));
                }
                prop_assert_eq!(lanes.waiting(), begun.iter().filter(|begun| !**begun).count());
                if running.is_empty() {
                    break;
                }
                // Nothing that may start is held back while there is room.
                if running.len() < limit && running.iter().all(|(letter, _)| *letter != 'n') {
                    let next = (0..kinds.len()).find(|number| !begun[*number] && (0..*number).all(|earlier| {
                        let in_the_way = [kinds[*number], kinds[earlier]].contains(&'n')
                            || kinds[earlier] == kinds[*number];
                        !in_the_way || ended[earlier]
                    }) && running.iter().all(|(letter, _)| {
                        *letter != kinds[*number] && kinds[*number] != 'n'
                    }));
                    prop_assert_eq!(next, None);
                }
                let (letter, number) = running.swap_remove(choice.index(running.len()));
                lanes.ended(&lane(letter));
                if let Some(number) = number {
                    ended[number] = true;
                }
            }
            prop_assert!(begun.iter().all(|begun| *begun), "{:?} never started", begun);
            if limit == 1 {
                prop_assert!(order.is_sorted(), "alone, each has its turn: {:?}", order);
            }
        }
    }
}
