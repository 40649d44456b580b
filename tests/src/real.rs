//! The real servers that the scripts in `tests/real/` start: their addresses and accounts.

use std::{collections::BTreeMap, path::PathBuf};

/// Values that one script published: `mail`, `ftp`, `share` or `sftp`.
#[derive(Debug, Clone, Default)]
pub struct RealServer(BTreeMap<String, String>);

impl RealServer {
    /// Returns the server, if `MAILQOS_REAL_SERVERS` names the folder of the scripts. Otherwise
    /// prints a note on standard error, so that no one believes that something was tested.
    ///
    /// # Panics
    /// The variable is set but the server is missing: a requested server may not be skipped.
    pub fn find(name: &str) -> Option<Self> {
        let Some(folder) = std::env::var_os("MAILQOS_REAL_SERVERS") else {
            eprintln!(
                "SKIPPED: needs the real servers; tests/real/{name}.sh start, then set MAILQOS_REAL_SERVERS"
            );
            return None;
        };
        let file = PathBuf::from(folder).join(format!("{name}.env"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; run tests/real/{name}.sh start", file.display())
        });
        let pair = |line: &str| {
            line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Some(Self(text.lines().filter_map(pair).collect()))
    }

    /// Returns one of the published values.
    ///
    /// # Panics
    /// The scripts set no value of that name.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("no {key} among {:?}", self.0.keys()))
    }

    /// Returns whether a value of that name was published.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns a published port.
    ///
    /// # Panics
    /// The value is not a number.
    pub fn port(&self, key: &str) -> u16 {
        self.get(key).parse().expect("a port number")
    }
}
