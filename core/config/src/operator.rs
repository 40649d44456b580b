//! Operators: `[operator.NAME]`, and the keys that refer to them as recipients.

use std::collections::{BTreeMap, BTreeSet};

use mailqos_model::Name;

use super::{
    Config, Operator, Problems, Table,
    key::{Optional, key},
    message::Bytes,
    reference::Key,
    table::{Node, did_you_mean},
    value::no_such,
};
use crate::{Person, split_list};

keys! {
    OPERATOR: OperatorKeys {
        /// One or several mail addresses; required unless this is a group.
        email: Optional<Vec<String>> = key();
        /// The operators in a group.
        members: Optional<Vec<Name>> = key();
        /// The display name.
        name: Optional<String> = key().otherwise("the name of the table");
        /// The maximum total size of files in a mail to this operator.
        attachments: Optional<Bytes> = key().otherwise("unlimited");
    }
}

/// Reads all operators and resolves the members of groups.
pub(super) fn operators(
    tables: Vec<(Name, Table)>,
    problems: &mut Problems,
) -> BTreeMap<Name, Operator> {
    let mut read = BTreeMap::new();
    let mut members: BTreeMap<Name, Vec<(Name, Node)>> = BTreeMap::new();
    let names: BTreeSet<Name> = tables.iter().map(|(name, _)| name.clone()).collect();
    for (name, mut table) in tables {
        let display = table.read(&OPERATOR.name, problems).unwrap_or_else(|| name.to_string());
        let mut group = Vec::new();
        for node in table.list(&OPERATOR.members).into_iter().flat_map(|node| node.as_list()) {
            let Some(member) = node.read::<Name>(problems) else {
                continue;
            };
            if names.contains(&member) {
                group.push((member, node));
                continue;
            }
            let known = names.iter().map(AsRef::as_ref);
            problems.push(no_such(&node, "operator", member.as_str(), known));
        }
        let is_group = table.list(&OPERATOR.members).is_some();
        if !is_group && table.list(&OPERATOR.email).is_none() {
            problems.push(table.missing(
                &OPERATOR.email,
                "one or more e-mail addresses; for a group, use members instead",
            ));
        }
        let email = match table.list(&OPERATOR.email) {
            Some(node) => people(&node, problems),
            None => is_group.then(Vec::new),
        };
        let attachments = table.read(&OPERATOR.attachments, problems).map(|size| size.0);
        table.finish(problems);
        let Some(email) = email else {
            problems.note_broken("operator", name.as_ref());
            continue;
        };
        members.insert(name.clone(), group);
        read.insert(name, Operator { name: display, email, attachments });
    }
    let single: BTreeMap<Name, Vec<Person>> =
        read.iter().map(|(name, operator)| (name.clone(), operator.email.clone())).collect();
    for (name, operator) in &mut read {
        let mut seen = BTreeSet::from([name.clone()]);
        let mut open: Vec<&(Name, Node)> = members.get(name).into_iter().flatten().rev().collect();
        while let Some((member, node)) = open.pop() {
            if member == name {
                problems.push(
                    node.problem(format!("the group {name} is a member of itself"), "leads back")
                        .help("remove this member"),
                );
            }
            if seen.insert(member.clone()) {
                for address in single.get(member).into_iter().flatten() {
                    if operator.email.iter().all(|known| known.address != address.address) {
                        operator.email.push(address.clone());
                    }
                }
                open.extend(members.get(member).into_iter().flatten().rev());
            }
        }
    }
    read
}

/// Reads a string with one or several parts, or a list of such strings, each with its location.
fn parts(node: &Node, problems: &mut Problems) -> Vec<(String, Node)> {
    let mut parts = Vec::new();
    for item in node.as_list() {
        if let Some(text) = item.read::<String>(problems) {
            parts.extend(split_list(&text).into_iter().map(|part| (part, item.clone())));
        }
    }
    parts
}

fn person(text: &str, node: &Node, problems: &mut Problems) -> Option<Person> {
    match text.parse() {
        Ok(person) => Some(person),
        Err(error) => {
            let error: crate::PersonError = error;
            problems.push(
                node.problem(error.to_string(), "this address")
                    .help("use \"anna@example.com\" or \"Anna Berg <anna@example.com>\""),
            );
            None
        }
    }
}

/// Reads people, each an address with or without a display name. Returns `None` if one of them is
/// invalid.
pub(super) fn people(node: &Node, problems: &mut Problems) -> Option<Vec<Person>> {
    let parts = parts(node, problems);
    if parts.is_empty() {
        return None;
    }
    parts.iter().map(|(text, node)| person(text, node, problems)).collect()
}

/// Reads recipients, each a mail address with or without a display name, or the name of an
/// operator.
pub(super) fn recipients(
    table: &mut Table,
    key: &Key,
    config: &Config,
    problems: &mut Problems,
) -> Vec<Person> {
    let mut all: Vec<Person> = Vec::new();
    let Some(node) = table.node(key) else {
        return all;
    };
    for (text, node) in parts(&node, problems) {
        if text.contains('@') {
            all.extend(person(&text, &node, problems));
        } else if let Some(operator) = config.operators.get(text.as_str()) {
            all.extend(operator.email.iter().cloned());
        } else if !problems.broken("operator").any(|broken| broken == text) {
            let names = config.operators.keys().map(AsRef::as_ref);
            let help = did_you_mean(&text, names.chain(problems.broken("operator")), || {
                format!("use an e-mail address, or add [operator.{text}]")
            });
            problems
                .push(node.problem(format!("unknown operator {text:?}"), "not known").help(help));
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|person| seen.insert(person.address.clone()));
    all
}

/// Reads recipients and requires at least one; operators may be groups without an address.
pub(super) fn some_recipients(
    table: &mut Table,
    key: &Key,
    config: &Config,
    problems: &mut Problems,
) -> Vec<Person> {
    let addresses = recipients(table, key, config, problems);
    let all_known = |node: &Node| {
        let parts = parts(node, &mut Problems::default());
        parts.iter().all(|(name, _)| config.operators.contains_key(name.as_str()))
    };
    if addresses.is_empty() && table.node(key).as_ref().is_some_and(all_known) {
        problems.push(
            table
                .problem(key, "this mail has no recipients", "empty")
                .help("add operators or e-mail addresses"),
        );
    }
    addresses
}
