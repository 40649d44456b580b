//! Lists within action lists: each is expanded to the steps that it comes to.

use std::collections::BTreeMap;

use mailqos_model::Name;

use super::{ActionList, On, Step};
use crate::{Problem, Problems};

/// A list that comes to more actions than this, with those of the lists in it, is refused.
const MAX_STEPS: usize = 200;

/// An entry of an action list: an action, or another list with a problem at its name.
pub(super) enum Entry {
    Step(Step),
    List(Step, Name, Box<Problem>),
}

/// Puts the lists within lists in their places.
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
    /// How many more entries there may be.
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

/// A step of a list that is itself a step: what both ask for must be so.
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
