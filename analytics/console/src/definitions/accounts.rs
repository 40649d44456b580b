//! Accounts: which there are, what uses them, and new passwords. A password is stored in a file that
//! only its owner can read, and is never shown.

use std::collections::BTreeSet;

use mailqos_base::SecretSource;
use mailqos_config::{
    Config, Login,
    edit::{Edit, inline, store_secret},
};
use toml_edit::{Item, TableLike, Value};

use super::{
    Failed,
    problems::FieldProblem,
    save::{self, Author},
    scope::Scope,
    t, words,
};
use crate::app::{App, Refusal};

/// Deepest table that is searched for references.
const MAX_DEPTH: usize = 8;
/// Longest password, in bytes.
const MAX_PASSWORD: usize = 4_096;

/// An account.
#[derive(Debug)]
pub(crate) struct AccountEntry {
    /// Name.
    pub(crate) name: String,
    /// User name at the server.
    pub(crate) user: String,
    /// Ids of the monitors that the user sees and that log in with it.
    pub(crate) monitors: Vec<String>,
    /// Whether a new password can be stored here.
    pub(crate) is_changeable: bool,
    /// Where its password comes from: `file`, `environment`, `credential`, `command`, `tokens` or
    /// `configuration`.
    pub(crate) source: &'static str,
}

fn source(login: &Login) -> &'static str {
    match login {
        Login::OAuth(_) => "tokens",
        Login::Password(SecretSource::File(_)) => "file",
        Login::Password(SecretSource::Env(_)) => "environment",
        Login::Password(SecretSource::Credential(_)) => "credential",
        Login::Password(SecretSource::Command(_)) => "command",
        Login::Password(SecretSource::Literal(_)) => "configuration",
    }
}

/// Returns the accounts that a user sees. Passwords from elsewhere, such as a vault, are changed
/// there; a restricted user changes only accounts that nothing of others uses.
pub(crate) fn list(config: &Config, scope: &Scope, edits: &[Edit]) -> Vec<AccountEntry> {
    let seen = scope.names("account");
    let accounts = config.accounts.iter().filter(|(name, _)| seen.contains(name.as_str()));
    accounts
        .map(|(name, account)| {
            let uses = uses(edits, name.as_str());
            let is_own = |path: &String| {
                let id = path.strip_prefix("monitor.").and_then(|rest| rest.split('.').next());
                id.is_some_and(|id| scope.monitors.contains(id))
            };
            let source = source(&account.login);
            let is_known = matches!(source, "file" | "configuration");
            AccountEntry {
                name: name.to_string(),
                user: account.user.clone(),
                monitors: logins(config, name.as_str())
                    .filter(|id| scope.monitors.contains(id))
                    .collect(),
                is_changeable: is_known && (scope.is_all() || uses.iter().all(is_own)),
                source,
            }
        })
        .collect()
}

/// Returns the monitors that log in with an account.
fn logins<'a>(config: &'a Config, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let all = config.monitors.values().filter(move |monitor| {
        let smtp = monitor.kind.smtp().and_then(|smtp| smtp.account.as_ref());
        let pickup = monitor.kind.pickup().and_then(|pickup| pickup.endpoint.account);
        let is_smtp = smtp.is_some_and(|account| account.as_str() == name);
        is_smtp || pickup.is_some_and(|account| account.as_str() == name)
    });
    all.map(|monitor| monitor.id.to_string())
}

/// Returns the paths of all keys `account` with this name, such as `monitor.m1.smtp`.
fn uses(edits: &[Edit], name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for edit in edits {
        search(edit.document.as_table(), (name, ""), 0, &mut found);
    }
    found
}

fn search(
    table: &dyn TableLike,
    (name, before): (&str, &str),
    depth: usize,
    found: &mut BTreeSet<String>,
) {
    for (key, item) in table.iter() {
        if key == "account" && item.as_str() == Some(name) {
            found.insert(before.trim_end_matches('.').to_owned());
        }
        let path = format!("{before}{key}.");
        if depth >= MAX_DEPTH {
            // What is not searched may be anyone's.
            found.insert(path);
            continue;
        }
        if let Some(inner) = item.as_table_like() {
            search(inner, (name, &path), depth + 1, found);
        }
        for inner in item.as_array_of_tables().into_iter().flatten() {
            search(inner, (name, &path), depth + 1, found);
        }
        for inner in item.as_array().into_iter().flatten().filter_map(Value::as_inline_table) {
            search(inner, (name, &path), depth + 1, found);
        }
    }
}

/// Stores a new password of an account. Returns the word for the notice of the next page.
///
/// # Errors
/// The password can't be used, comes from elsewhere, or can't be stored. Nothing has changed then.
pub(crate) fn set_password(
    app: &App,
    author: &Author<'_>,
    (name, password): (&str, &str),
) -> Result<&'static str, Failed> {
    let config = app.config();
    let main = config.file.clone();
    let scope = Scope::of(&config, author.viewer);
    let edits = Edit::all(&main)?;
    let all = list(&config, &scope, &edits);
    let entry = all.into_iter().find(|entry| entry.name == name).ok_or(Failed::Gone)?;
    if !entry.is_changeable {
        return Err(Failed::Refusal(Refusal::Forbidden));
    }
    let wrong = |text: &'static str| {
        let problem = FieldProblem::new("password", words(author.tag, text, &[]));
        Err(Failed::Problems(vec![problem]))
    };
    if password.is_empty() {
        return wrong(t("Enter a value."));
    }
    if password.contains(['\r', '\n', '\0']) {
        return wrong(t("A password can't contain line breaks."));
    }
    if password.len() > MAX_PASSWORD {
        return wrong(t("The password is too long."));
    }
    let old = match config.accounts.iter().find(|(known, _)| known.as_str() == name) {
        Some((_, account)) => match &account.login {
            Login::Password(SecretSource::File(path)) => Some(path.clone()),
            _ => None,
        },
        None => return Err(Failed::Gone),
    };
    // A new file: until the configuration names it, tests log in with the old password.
    let file = store_secret(&main, name, password)?;
    let changed = save::change(app, author, ("account_password_changed", name), |edits| {
        let found = edits.iter_mut().find_map(|edit| edit.entry_mut("account", name));
        let table = found.and_then(Item::as_table_like_mut).ok_or(Failed::Gone)?;
        let mut value = inline([("file", file.relative.as_str().into())]);
        if let Some(old) = table.get("password").and_then(Item::as_value) {
            *value.decor_mut() = old.decor().clone();
        }
        table.insert("password", Item::Value(value));
        Ok(())
    });
    match changed {
        Ok(done) => {
            if let Some(old) = old {
                forget(&app.config(), &main, &old);
            }
            Ok(done)
        }
        Err(failed) => {
            file.forget();
            Err(failed)
        }
    }
}

/// Removes the file of the old password, if it is one of the folder `secrets` and nothing else uses
/// it.
fn forget(config: &Config, main: &std::path::Path, old: &std::path::Path) {
    let folder = main.parent().unwrap_or(std::path::Path::new("")).join("secrets");
    let is_used = config.accounts.values().any(|account| {
        matches!(&account.login, Login::Password(SecretSource::File(path)) if path == old)
    });
    let same = |one: Option<&std::path::Path>| {
        one.and_then(|one| one.canonicalize().ok()) == folder.canonicalize().ok()
    };
    if is_used || !same(old.parent()) {
        return;
    }
    // Something else of the configuration may name it.
    let name = old.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let texts = Edit::all(main).unwrap_or_default();
    let is_in = |edit: &Edit| {
        let text = edit.document.to_string();
        ['"', '\''].iter().any(|quote| text.contains(&format!("secrets/{name}{quote}")))
    };
    let is_named = texts.is_empty() || texts.iter().any(is_in);
    if !is_named && let Err(error) = std::fs::remove_file(old) {
        tracing::warn!(path = %old.display(), %error, "console: an old password's file stays");
    }
}
