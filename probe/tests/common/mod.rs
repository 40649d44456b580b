//! Shared parts of the tests of mail tests: a configuration with one monitor on an embedded server.

use std::{path::Path, sync::Arc};

use mailqos_config::{Config, Monitor};
use mailqos_tests::servers::{MailServer, PASSWORD, PROBE};

/// An account's password, in the file that [`load`] writes.
#[allow(dead_code, reason = "not every test file has a monitor that sends")]
pub(crate) const IN_FILE: &str = "password = { file = \"password\" }";

/// Returns a configuration with the monitor `mail`; `account` is added to its account next to the
/// user, `options` to its lines.
#[allow(dead_code, reason = "not every test file has a monitor that sends")]
pub(crate) fn text(account: &str, options: &str) -> String {
    format!(
        r#"
site = "here"
[account.probe]
user = "{PROBE}"
{account}
[object.server]
address = "localhost"
[monitor.mail]
object = "server"
from = "{PROBE}"
to = "{PROBE}"
{options}
"#
    )
}

/// Writes a configuration with its files into a folder, and reads it.
pub(crate) fn load(folder: &Path, server: &MailServer, text: &str) -> Arc<Config> {
    write(&folder.join("ca.pem"), server.authority().pem());
    write(&folder.join("password"), PASSWORD);
    let path = folder.join("mailqos.toml");
    write(&path, text);
    Arc::new(mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}")))
}

/// Returns the only monitor.
pub(crate) fn monitor(config: &Config) -> &Monitor {
    config.monitors.values().next().expect("monitor")
}

/// Writes a file that only its owner can read.
pub(crate) fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("write");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}
