//! Entry point for the fuzz target of webhook templates. Not part of the public interface.

use std::sync::LazyLock;

use mailqos_base::fuzzing::in_file;
use mailqos_config as config;
use mailqos_notify::Notification;
use serde_json::Value;

use super::message;

/// Example data for templates: an alarm, a recovery, many alarms together.
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let config =
        in_file("mailqos.toml", b"site = \"here\"\n", config::load).expect("a configuration");
    let mut contexts = vec![Notification::example_notice(&config).context];
    contexts.extend(message::examples(&config).into_iter().map(|(_, example)| example.context));
    contexts
});

/// Fills in a user's webhook template: the result is JSON or a description of the error.
pub fn webhook_template(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    for context in EXAMPLES.iter() {
        mailqos_notify::fuzzing::webhook_template(text, context);
    }
}
