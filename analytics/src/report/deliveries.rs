//! Reads `deliver` of a definition, and finds out whether two runs would write the same file.

use std::collections::BTreeSet;

use mailqos_core::{
    config::{Config, Node, Problem, Problems, Table, did_you_mean, foreign_variable},
    model::Name,
};

use super::{
    definition::{Definition, Delivery, Each, formats_of},
    naming::{Clash, NameError, Writes},
};

/// The deliveries, and where each stands in the file: tables, or the names of targets alone.
pub(super) fn read(
    table: &mut Table,
    config: Option<&Config>,
    each: Each,
    problems: &mut Problems,
) -> (Vec<Delivery>, Vec<Node>) {
    let Some(node) = table.list("deliver") else {
        return (Vec::new(), Vec::new());
    };
    let read = node.as_list().into_iter().filter_map(|item| {
        let delivery = match item.as_table() {
            Some(table) => delivery(table, config, each, problems),
            None => shorthand(&item, config, problems),
        };
        delivery.map(|delivery| (delivery, item))
    });
    read.unzip()
}

/// `deliver = ["people", "archive"]`: the names of targets, where nothing else is to be said.
fn shorthand(node: &Node, config: Option<&Config>, problems: &mut Problems) -> Option<Delivery> {
    let target: Name = node.read(problems)?;
    known(node, &target, config, problems);
    Some(Delivery {
        target,
        path: String::new(),
        name: String::new(),
        formats: BTreeSet::new(),
        overwrite: false,
    })
}

fn delivery(
    mut delivery: Table,
    config: Option<&Config>,
    each: Each,
    problems: &mut Problems,
) -> Option<Delivery> {
    let target: Option<Name> = delivery.require("target", "names a [target.NAME] of the configuration", problems);
    if let (Some(target), Some(node)) = (&target, delivery.node("target")) {
        known(&node, target, config, problems);
    }
    let path: String = delivery.get("path", problems).unwrap_or_default();
    let name: String = delivery.get("name", problems).unwrap_or_default();
    let overwrite = delivery.get("overwrite", problems).unwrap_or(false);
    if path.split(['/', '\\']).any(|part| part.trim() == "..") {
        problems.push(delivery.problem("path", "the folder would lie outside of the target's own", "here"));
    }
    for (key, text) in [("path", &path), ("name", &name)] {
        if let Some(sign) = foreign_variable(text) {
            problems.push(
                delivery
                    .problem(key, format!("{sign} would stand in the name as it is"), "no variable")
                    .help("write variables as in {{ period.year }}-{{ period.month }}: see docs/delivery.md"),
            );
        }
    }
    if !name.is_empty() && each != Each::All && !(name.contains("report.stem") || path.contains("report.stem")) {
        problems.push(
            delivery
                .problem("name", "several reports would have one name", "here")
                .help("write {{ report.stem }} into it, which differs from report to report"),
        );
    }
    let formats = formats_of(&mut delivery, problems);
    delivery.finish(problems);
    Some(Delivery {
        target: target?,
        path,
        name,
        formats,
        overwrite,
    })
}

fn known(node: &Node, target: &Name, config: Option<&Config>, problems: &mut Problems) {
    let Some(config) = config.filter(|config| !config.targets.contains_key(target)) else {
        return;
    };
    let known = config.targets.keys().map(Name::as_str);
    let help = did_you_mean(target.as_str(), known.clone(), || {
        format!("there are: {}", known.collect::<Vec<_>>().join(", "))
    });
    problems.push(
        node.problem(format!("there is no target {:?}", target.as_str()), "not known")
            .help(help),
    );
}

/// Notes names that two runs of the definition would share, and templates of names that are wrong.
pub(super) fn check(definition: &Definition, places: &[Node], config: &Config, problems: &mut Problems) {
    if problems.has_errors() {
        return;
    }
    let at = |number: usize, message: String| match places.get(number) {
        Some(node) => node.problem(message, "here"),
        None => Problem::error(message),
    };
    match Writes::new().add(definition, config) {
        Ok(clashes) => {
            for clash in clashes {
                problems.push(at(clash.delivery, clash.to_string()).help(clash.help()));
            }
        }
        Err(error) => {
            let is_it = |delivery: &Delivery| is_of(&error, delivery);
            let number = definition.deliveries.iter().position(is_it).unwrap_or(0);
            problems.push(at(number, error.to_string()).help("see docs/delivery.md for the variables"));
        }
    }
}

fn is_of(error: &NameError, delivery: &Delivery) -> bool {
    delivery.name == error.template
        || delivery.path == error.template
        || error.key == format!("the path of target.{}", delivery.target)
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            target, file, runs, other, ..
        } = self;
        match other {
            Some(other) => write!(
                f,
                "the run of {} would overwrite {file:?} in the target {target}, which the definition {other} writes too",
                runs.1
            ),
            None => write!(
                f,
                "the run of {} would overwrite {file:?} in the target {target}, which the run of {} has written",
                runs.1, runs.0
            ),
        }
    }
}

impl Clash {
    /// What to do about it.
    pub(super) fn help(&self) -> &'static str {
        match self.other {
            Some(_) => "write {{ report.slug }} into the name or the path, or overwrite = true if that is meant",
            None => {
                "write {{ period.stem }} into the name or the path, which differs from period to period, or overwrite = \
                 true if the newest report is to replace the one before"
            }
        }
    }
}

/// Notes files that two definitions would write to the same target; gives the later of each two with what is wrong.
pub(crate) fn among(definitions: &[Definition], config: &Config) -> Vec<(usize, Problems)> {
    let mut writes = Writes::new();
    let mut wrong = Vec::new();
    for (number, definition) in definitions.iter().enumerate() {
        let clashes = writes.add(definition, config).unwrap_or_default();
        let mut problems = Problems::default();
        for clash in clashes.iter().filter(|clash| clash.other.is_some()) {
            problems.push(Problem::error(format!("{}: {clash}", definition.slug)).help(clash.help()));
        }
        if problems.has_errors() {
            wrong.push((number, problems));
        }
    }
    wrong
}
