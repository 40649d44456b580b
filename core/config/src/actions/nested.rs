//! Expands nested action lists to their steps.

use std::collections::BTreeMap;

use mailqos_model::Name;

use super::{ActionList, On, Step};
use crate::{Problem, Problems};

/// Maximum number of actions in a list, including those of nested lists.
const MAX_STEPS: usize = 200;

/// An entry of an action list: an action, or another list with a problem at its name.
pub(super) enum Entry {
    Step(Step),
    List(Step, Name, Box<Problem>),
}

/// Expands all nested lists.
pub(super) fn expand(
    entries: &BTreeMap<Name, Vec<Entry>>,
    problems: &mut Problems,
) -> BTreeMap<Name, ActionList> {
    let expanded = entries.keys().map(|name| {
        let mut expansion =
            Expansion { entries, path: vec![name.clone()], room: MAX_STEPS, steps: Vec::new() };
        expansion.add(name, None, problems);
        (name.clone(), ActionList { steps: expansion.steps })
    });
    expanded.collect()
}

/// A list that is being expanded.
struct Expansion<'a> {
    entries: &'a BTreeMap<Name, Vec<Entry>>,
    /// The names of the lists that contain the current one, and its own.
    path: Vec<Name>,
    /// Number of further entries that are allowed.
    room: usize,
    steps: Vec<Step>,
}

impl Expansion<'_> {
    /// Adds the steps of a list; `above` has the conditions of the list that names it.
    fn add(&mut self, name: &Name, above: Option<&Step>, problems: &mut Problems) {
        for entry in self.entries.get(name).into_iter().flatten() {
            if self.room == 0 {
                return;
            }
            self.room -= 1;
            let combined = |step: &Step| match above {
                Some(above) => within(step, above),
                None => step.clone(),
            };
            match entry {
                Entry::Step(step) => self.steps.push(combined(step)),
                Entry::List(_, inner, problem) if self.path.contains(inner) => {
                    if let Some(problem) = self.cycle(inner, problem) {
                        problems.push(problem);
                    }
                }
                Entry::List(step, inner, problem) => {
                    self.path.push(inner.clone());
                    self.add(inner, Some(&combined(step)), problems);
                    self.path.pop();
                    if self.room == 0 {
                        let mut problem = (**problem).clone();
                        problem.message =
                            format!("the action list expands to more than {MAX_STEPS} actions");
                        problems.push(problem.help("nested lists multiply; remove some of them"));
                        return;
                    }
                }
            }
        }
    }

    /// Returns the problem of a cycle that a name closes, once for each cycle: at the list that
    /// closes it in the order of names.
    fn cycle(&self, inner: &Name, problem: &Problem) -> Option<Problem> {
        if self.path.first() != Some(inner) || self.path.iter().min() != Some(inner) {
            return None;
        }
        let mut circle: Vec<&str> = self.path.iter().map(AsRef::as_ref).collect();
        circle.push(inner.as_ref());
        let mut problem = problem.clone();
        problem.message =
            format!("action lists refer to each other in a cycle: {}", circle.join(" → "));
        Some(problem.help("remove one of these references"))
    }
}

/// Returns a step of a nested list with the conditions of both lists.
fn within(step: &Step, above: &Step) -> Step {
    Step {
        at_failure: step.at_failure.max(above.at_failure),
        after: step.after + above.after,
        repeat: step.repeat.or(above.repeat),
        on: match (step.on, above.on) {
            (On::Both, other) | (other, On::Both) => other,
            (own, _) => own,
        },
        hours: step.hours.iter().chain(&above.hours).cloned().collect(),
        ..step.clone()
    }
}
