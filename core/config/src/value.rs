//! Values used in many tables: durations within bounds, secrets, references, addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use mailqos_base::{Secret, SecretSource};
use mailqos_model::{Micros, Name};

use super::{
    FromToml, Problem, Problems, Table,
    key::{Optional, key},
    reference::Key,
    table::{Node, did_you_mean},
};

pub(super) const DAY: Micros = Micros::from_secs(86_400);

keys! {
    SECRET: SecretKeys {
        /// The name of an environment variable.
        env: Optional<String> = key();
        /// A file that only its owner can read.
        file: Optional<PathBuf> = key();
        /// A credential of the service manager (systemd's LoadCredential).
        credential: Optional<Name> = key();
        /// A program and its arguments; its output is the secret.
        command: Optional<Vec<String>> = key();
    }
}

/// Reads the source of a secret; a literal is accepted only if `plaintext` is set.
pub(super) fn secret(
    node: &Node,
    plaintext: bool,
    problems: &mut Problems,
) -> Option<SecretSource> {
    let help = "write { env = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", \"ARGUMENT\"] }";
    let Some(mut table) = node.as_table() else {
        let text: String = node.read(problems)?;
        if plaintext {
            return Some(SecretSource::Literal(Secret::new(text)));
        }
        problems.push(
            node.problem("a secret is set in plaintext in the configuration", "in plaintext")
                .help(format!("{help}; or set allow_plaintext_secrets = true")),
        );
        return None;
    };
    let env = table.read(&SECRET.env, problems).map(SecretSource::Env);
    let file = table.read(&SECRET.file, problems).map(SecretSource::File);
    let credential = table.read(&SECRET.credential, problems);
    let credential = credential.map(|name| SecretSource::Credential(name.to_string()));
    let command = table.read(&SECRET.command, problems);
    if command.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
        problems.push(table.problem(&SECRET.command, "the command is empty", "empty").help(help));
    }
    let command = command.map(SecretSource::Command);
    let mut found = [env, file, credential, command].into_iter().flatten();
    let source = found.next();
    if source.is_none() || found.next().is_some() {
        problems.push(node.problem("a secret must have exactly one source", "here").help(help));
    }
    table.finish(problems);
    source
}

pub(super) fn tags(table: &mut Table, key: &Key, problems: &mut Problems) -> BTreeSet<String> {
    let nodes = table.list(key).map(|node| node.as_names()).unwrap_or_default();
    nodes.iter().filter_map(|node| node.read(problems)).collect()
}

/// Reports a text that is neither a host name nor an IP address.
pub(super) fn host(text: &str, key: &Key, table: &Table, problems: &mut Problems) {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let fine = text.parse::<std::net::IpAddr>().is_ok()
        || (name.len() <= 253 && name.split('.').all(label));
    if fine {
        return;
    }
    let help = if text.contains("://") {
        "remove the protocol; only a host name or IP address is allowed here"
    } else if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        "set the port with the key port, not after the name"
    } else {
        "use a host name such as \"mail.example.com\", or an IP address"
    };
    problems.push(
        table
            .problem(
                key,
                format!("{text:?} is neither a host name nor an IP address"),
                "this address",
            )
            .help(help),
    );
}

/// Reads a reference to an existing entry.
pub(super) fn reference<N, V>(
    table: &mut Table,
    key: &Key,
    what: &str,
    known: &BTreeMap<N, V>,
    problems: &mut Problems,
) -> Option<N>
where
    N: FromToml + Ord + AsRef<str>,
{
    reference_at(&table.node(key)?, what, known, problems)
}

/// Reads a reference from a separate value, such as an element of a list.
pub(super) fn reference_at<N, V>(
    node: &Node,
    what: &str,
    known: &BTreeMap<N, V>,
    problems: &mut Problems,
) -> Option<N>
where
    N: FromToml + Ord + AsRef<str>,
{
    let name: N = node.read(problems)?;
    if !known.contains_key(&name) && !problems.broken(what).any(|broken| broken == name.as_ref()) {
        let names = known.keys().map(AsRef::as_ref).chain(problems.broken(what));
        let problem = no_such(node, what, name.as_ref(), names);
        problems.push(problem);
    }
    Some(name)
}

/// Returns the problem of a reference to a missing entry.
pub(super) fn no_such<'a>(
    node: &Node,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Problem {
    node.problem(format!("unknown {what} {name:?}"), "not known").help(did_you_mean(
        name,
        known,
        || format!("add [{what}.{name}]"),
    ))
}
