//! In which order do rows run, and which need not run at all?
//!
//! The first reading of the input notes a few numbers for each row; when it is known what is done already, they become the
//! order in which the second reading takes the rows. Bodies are not held.

use std::cell::Cell;
use std::cmp::Reverse;
use std::num::NonZeroUsize;

use super::key::WorkTag;
use super::line::ParsedLine;
use super::prefix::Prefix;
use crate::request::{Request, Task};

/// In which order rows are handed to the engine.
///
/// No order changes an answer: it decides how often the prefix cache holds what a prompt begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanPolicy {
    /// Over the whole file, rows whose prompts begin alike follow each other: first those with the same first message, or
    /// the same beginning of a text, and among them those that have more in common. Among rows with the same first message,
    /// those that may have the longest answers come first, so that none of them is left over at the end. Apart from that,
    /// the order is that of the file.
    #[default]
    Prefix,
    /// As in the file.
    Fifo,
}

/// What the plan knows of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Equal for rows that have the same answer.
    pub(super) work: WorkTag,
    pub(super) prefix: Prefix,
    /// The most tokens that may be generated for it.
    pub(super) max_tokens: u32,
    pub(super) priority: i32,
}

impl Facts {
    /// Those of a line. A line that is no request costs nothing and is like no other.
    pub(super) fn of(line: &ParsedLine) -> Self {
        let Ok(parsed) = &line.result else { return Self::default() };
        let Some(first) = parsed.requests.first() else { return Self::default() };
        let is_repeatable = parsed.requests.iter().all(is_repeatable);
        Self {
            work: if is_repeatable { line.work } else { WorkTag::NONE },
            prefix: Prefix::of(first),
            max_tokens: parsed.requests.iter().fold(0, |sum, request| sum.saturating_add(max_tokens(request))),
            priority: first.priority,
        }
    }
}

/// Whether the answer depends on nothing but the body: without a seed, random numbers depend on the row's name.
fn is_repeatable(request: &Request) -> bool {
    match &request.task {
        Task::Generate(params) => params.is_greedy() || params.seed.is_some(),
        Task::Embed(_) | Task::Score(_) => true,
    }
}

fn max_tokens(request: &Request) -> u32 {
    let Some(params) = request.sampling_params() else { return 0 };
    params.max_tokens.unwrap_or(u32::MAX).saturating_mul(params.num_generated())
}

/// The facts of all lines, by index of the line.
#[derive(Debug, Default)]
pub(super) struct Draft {
    works: Vec<WorkTag>,
    prefixes: Vec<Prefix>,
    max_tokens: Vec<u32>,
    priorities: Vec<i32>,
}

/// A row among others: the first fields count most.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Likeness {
    priority: i32,
    prefix: Prefix,
    max_tokens: Reverse<u32>,
    work: WorkTag,
    line: usize,
}

/// How to make a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlanOptions {
    pub(super) policy: PlanPolicy,
    pub(super) deduplicate: bool,
}

impl Draft {
    /// Adds the next line.
    pub(super) fn push(&mut self, facts: Facts) {
        self.works.push(facts.work);
        self.prefixes.push(facts.prefix);
        self.max_tokens.push(facts.max_tokens);
        self.priorities.push(facts.priority);
    }

    /// Lets a line be like no other.
    pub(super) fn set_unlike(&mut self, line: usize) {
        self.works[line] = WorkTag::NONE;
    }

    /// Plans the lines for which `is_open` holds.
    pub(super) fn plan(mut self, options: PlanOptions, is_open: impl Fn(usize) -> bool) -> Plan {
        let mut order: Vec<_> = (0..self.works.len()).filter(|line| is_open(*line)).collect();
        let mut next_same = Vec::new();
        if options != (PlanOptions { policy: PlanPolicy::Fifo, deduplicate: false }) {
            order.sort_unstable_by_key(|line| self.likeness(*line));
        }
        if options.deduplicate {
            next_same = self.link_same(&mut order);
        }
        match options.policy {
            PlanPolicy::Prefix => self.arrange(&mut order),
            PlanPolicy::Fifo => order.sort_unstable(),
        }
        Plan { order, next_same }
    }

    /// Sorting by this makes neighbours of like rows, and of those that are the same.
    fn likeness(&self, line: usize) -> Likeness {
        Likeness {
            priority: self.priorities[line],
            prefix: self.prefixes[line],
            max_tokens: Reverse(self.max_tokens[line]),
            work: self.works[line],
            line,
        }
    }

    /// Takes all but the first of rows that are the same out of the order; each gets a link to the next one.
    fn link_same(&self, order: &mut Vec<usize>) -> Vec<Option<NonZeroUsize>> {
        let is_same = |one: usize, other: usize| {
            let likeness = |line: usize| Likeness { line: 0, ..self.likeness(line) };
            self.works[one] != WorkTag::NONE && likeness(one) == likeness(other)
        };
        if !order.windows(2).any(|pair| is_same(pair[0], pair[1])) {
            return Vec::new();
        }
        let mut next_same = vec![None; self.works.len()];
        let mut last = None;
        order.retain(|line| {
            let before = last.replace(*line).filter(|last| is_same(*last, *line));
            if let Some(before) = before {
                next_same[before] = NonZeroUsize::new(*line);
            }
            before.is_none()
        });
        next_same
    }

    /// From the order of hashes to that of the file, as far as neighbours stay neighbours. Prefixes are lost.
    fn arrange(&mut self, order: &mut [usize]) {
        let (priorities, max_tokens) = (&self.priorities, &self.max_tokens);
        let prefixes = Cell::from_mut(self.prefixes.as_mut_slice()).as_slice_of_cells();
        let prefix = |line: usize| prefixes[line].get();
        let head = |line: usize| (priorities[line], prefix(line).head());
        for group in order.chunk_by(|one, other| head(*one) == head(*other)) {
            let first = group.iter().min().copied().unwrap_or_default();
            for unit in group.chunk_by(|one, other| prefix(*one).after_head() == prefix(*other).after_head()) {
                let longest = unit.iter().map(|line| max_tokens[*line]).max().unwrap_or_default();
                let place = Prefix::place(first, longest, unit.iter().min().copied().unwrap_or_default());
                for line in unit {
                    prefixes[*line].set(place);
                }
            }
        }
        order.sort_by_key(|line| (priorities[*line], prefix(*line)));
    }
}

/// The order in which rows run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Indices of lines.
    pub(super) order: Vec<usize>,
    /// By index of the line, the next one with the same work, which is not in the order. Empty if there are none.
    next_same: Vec<Option<NonZeroUsize>>,
}

impl Plan {
    /// The line that has its answer from this one, and in its turn may have one after it.
    pub(super) fn next_same(&self, line: usize) -> Option<usize> {
        self.next_same.get(line).copied().flatten().map(NonZeroUsize::get)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::batch::key::Keyer;
    use crate::request::{Message, Request};

    /// A row as a test says it: system prompt, text, most tokens, priority, and which work it is.
    type Sketch = (u8, u8, u32, i32, Option<u8>);

    fn facts(&(system, text, max_tokens, priority, work): &Sketch) -> Facts {
        // Texts differ from the first byte on, or only far behind the last cut.
        let text = if text < 2 { "x".repeat(5000) + &text.to_string() } else { text.to_string().repeat(400) };
        let messages = vec![Message::system(format!("system {system}")), Message::user(text)];
        let body = serde_json::Map::from_iter([("work".to_owned(), work.into())]);
        let work = work.map_or(WorkTag::NONE, |_| Keyer::new("").request("", "", &body).1);
        Facts { work, prefix: Prefix::of(&Request::new("", messages)), max_tokens, priority }
    }

    fn plan(rows: &[Sketch], policy: PlanPolicy, deduplicate: bool) -> Plan {
        let mut draft = Draft::default();
        for row in rows {
            draft.push(facts(row));
        }
        draft.plan(PlanOptions { policy, deduplicate }, |_| true)
    }

    #[test]
    fn the_order_is_that_of_the_file_as_far_as_neighbours_have_things_in_common() {
        let rows = [
            (1, 2, 8, 0, None),
            (2, 3, 8, 0, None),
            (1, 4, 8, 0, None),
            (2, 0, 8, 0, None),
            (1, 5, 90, 0, None),
            (2, 5, 8, 0, None),
            (1, 6, 8, 0, None),
            (2, 1, 9, 0, None),
            (3, 1, 9, -1, None),
        ];
        // First by priority; then system 1 with its longest answer first, then system 2, where lines 3 and 7 begin alike.
        assert_eq!(plan(&rows, PlanPolicy::Prefix, true).order, [8, 4, 0, 2, 6, 7, 3, 1, 5]);
        assert_eq!(plan(&rows, PlanPolicy::Fifo, true).order, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn rows_that_are_the_same_are_linked_in_the_order_of_the_file() {
        let same = (1, 2, 8, 0, Some(1));
        let rows =
            [same, (1, 2, 8, 0, Some(2)), same, (1, 2, 8, 5, Some(1)), (1, 2, 8, 0, None), same, (1, 2, 8, 0, None)];
        for policy in [PlanPolicy::Prefix, PlanPolicy::Fifo] {
            let plan = plan(&rows, policy, true);
            let links: Vec<_> = (0..rows.len()).map(|line| plan.next_same(line)).collect();
            assert_eq!(links, [Some(2), None, Some(5), None, None, None, None]);
            let mut order = plan.order;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 3, 4, 6]);
        }
        let plan = plan(&rows, PlanPolicy::Fifo, false);
        assert_eq!((plan.order.len(), plan.next_same(0)), (7, None));
    }

    #[test]
    fn lines_that_are_done_are_left_out() {
        let mut draft = Draft::default();
        for _ in 0..4 {
            draft.push(facts(&(1, 2, 8, 0, Some(1))));
        }
        draft.set_unlike(3);
        let options = PlanOptions { policy: PlanPolicy::Prefix, deduplicate: true };
        let plan = draft.plan(options, |line| line != 0);
        assert_eq!((plan.order.clone(), plan.next_same(0), plan.next_same(1)), (vec![3, 1], None, Some(2)));
    }

    fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
        let row = (0..4_u8, 0..6_u8, 1..5_u32, -1..2_i32, prop::option::of(0..3_u8));
        // Rows that are the same have the same text and length.
        let consistent = |row: Sketch| row.4.map_or(row, |work| (row.0, work, 1, row.3, Some(work)));
        prop::collection::vec(row.prop_map(consistent), 0..60)
    }

    proptest! {
        #[test]
        fn every_row_runs_or_follows_one_that_is_the_same(rows in sketches(), is_fifo: bool, deduplicate: bool) {
            let policy = if is_fifo { PlanPolicy::Fifo } else { PlanPolicy::Prefix };
            let made = plan(&rows, policy, deduplicate);
            prop_assert_eq!(&made, &plan(&rows, policy, deduplicate));
            let mut found = Vec::new();
            for line in made.order.iter().copied() {
                let chain: Vec<_> = std::iter::successors(Some(line), |line| made.next_same(*line)).collect();
                prop_assert!(chain.windows(2).all(|pair| facts(&rows[pair[0]]) == facts(&rows[pair[1]])));
                prop_assert!(chain.len() == 1 || (deduplicate && rows[line].4.is_some()));
                found.extend(chain);
            }
            found.sort_unstable();
            prop_assert_eq!(found, (0..rows.len()).collect::<Vec<_>>());
        }

        #[test]
        fn rows_with_the_same_first_message_are_neighbours(rows in sketches()) {
            let made = plan(&rows, PlanPolicy::Prefix, true);
            let group = |line: &usize| (rows[*line].3, rows[*line].0);
            let mut last = BTreeMap::new();
            for (place, line) in made.order.iter().enumerate() {
                if let Some(before) = last.insert(group(line), place) {
                    prop_assert_eq!(before + 1, place);
                }
            }
            prop_assert!(made.order.is_sorted_by_key(|line| rows[*line].3));
            // Within them, those that begin alike, too.
            let mut last = BTreeMap::new();
            for (place, line) in made.order.iter().enumerate().filter(|(_, line)| rows[**line].1 < 2) {
                if let Some(before) = last.insert(group(line), place) {
                    prop_assert_eq!(before + 1, place);
                }
            }
        }
    }
}
