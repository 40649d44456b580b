//! Entry for the fuzz target of webhooks' templates. Not part of what the probe offers.

use std::sync::LazyLock;

use mailqos_base::fuzzing::in_file;
use mailqos_config as config;
use mailqos_notify::Notification;
use serde_json::Value;

use super::message;

/// What templates are given: an alarm, a recovery, many at once.
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let config =
        in_file("mailqos.toml", b"site = \"here\"\n", config::load).expect("a configuration");
    let mut contexts = vec![Notification::example_notice(&config).context];
    contexts.extend(message::examples(&config).into_iter().map(|(_, example)| example.context));
    contexts
});

/// A user's template of a webhook: it makes JSON, or it is said what is wrong with it.
pub fn webhook_template(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    for context in EXAMPLES.iter() {
        mailqos_notify::fuzzing::webhook_template(text, context);
    }
}
