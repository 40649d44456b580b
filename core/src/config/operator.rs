//! Operators: `[operator.NAME]`, and the keys that name them as recipients.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, Operator, Problems, Table, message,
    table::{Node, did_you_mean},
    value::{mail_address, no_such},
};
use crate::model::Name;

/// Reads all operators; the members of groups are put in their places.
pub(super) fn operators(tables: Vec<(Name, Table)>, problems: &mut Problems) -> BTreeMap<Name, Operator> {
    let mut read = BTreeMap::new();
    let mut members: BTreeMap<Name, Vec<(Name, Node)>> = BTreeMap::new();
    let names: BTreeSet<Name> = tables.iter().map(|(name, _)| name.clone()).collect();
    for (name, mut table) in tables {
        let display = table.get("name", problems).unwrap_or_else(|| name.to_string());
        let mut group = Vec::new();
        for node in table.get::<Vec<Node>>("members", problems).unwrap_or_default() {
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
        let email: Option<Vec<String>> = if table.node("members").is_none() {
            table.require(
                "email",
                "the mail address, or several; a group has members instead",
                problems,
            )
        } else {
            Some(table.get("email", problems).unwrap_or_default())
        };
        for address in email.iter().flatten() {
            mail_address(address, "email", &table, problems);
        }
        let attachments = table.get::<message::Bytes>("attachments", problems).map(|size| size.0);
        table.finish(problems);
        let Some(email) = email else {
            problems.note_broken("operator", name.as_ref());
            continue;
        };
        members.insert(name.clone(), group);
        read.insert(
            name,
            Operator {
                name: display,
                email,
                attachments,
            },
        );
    }
    let single: BTreeMap<Name, Vec<String>> = read
        .iter()
        .map(|(name, operator)| (name.clone(), operator.email.clone()))
        .collect();
    for (name, operator) in &mut read {
        let mut seen = BTreeSet::from([name.clone()]);
        let mut open: Vec<&(Name, Node)> = members.get(name).into_iter().flatten().rev().collect();
        while let Some((member, node)) = open.pop() {
            if member == name {
                problems.push(
                    node.problem(format!("the group {name} would be a member of itself"), "leads back")
                        .help("take it out"),
                );
            }
            if seen.insert(member.clone()) {
                for address in single.get(member).into_iter().flatten() {
                    if !operator.email.contains(address) {
                        operator.email.push(address.clone());
                    }
                }
                open.extend(members.get(member).into_iter().flatten().rev());
            }
        }
    }
    read
}

/// Mail addresses, each written plain or as the name of an operator.
pub(super) fn recipients(
    table: &mut Table,
    key: &'static str,
    config: &Config,
    problems: &mut Problems,
) -> Vec<String> {
    let mut addresses = Vec::new();
    for text in table.get::<Vec<String>>(key, problems).unwrap_or_default() {
        if text.contains('@') {
            mail_address(&text, key, table, problems);
            addresses.push(text);
        } else if let Some(operator) = config.operators.get(text.as_str()) {
            addresses.extend(operator.email.iter().cloned());
        } else if !problems.broken("operator").any(|broken| broken == text) {
            let names = config.operators.keys().map(AsRef::as_ref);
            let help = did_you_mean(&text, names.chain(problems.broken("operator")), || {
                format!("write a mail address, or add [operator.{text}]")
            });
            problems.push(
                table
                    .problem(key, format!("there is no operator {text:?}"), "not known")
                    .help(help),
            );
        }
    }
    let mut seen = BTreeSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

/// The same, where there must be somebody; operators may be groups without an address.
pub(super) fn some_recipients(
    table: &mut Table,
    key: &'static str,
    config: &Config,
    problems: &mut Problems,
) -> Vec<String> {
    let addresses = recipients(table, key, config, problems);
    let all_known = |names: Vec<String>| names.iter().all(|name| config.operators.contains_key(name.as_str()));
    if addresses.is_empty() && table.get(key, &mut Problems::default()).is_some_and(all_known) {
        problems.push(
            table
                .problem(key, "nobody gets this mail", "empty")
                .help("name operators or mail addresses"),
        );
    }
    addresses
}
