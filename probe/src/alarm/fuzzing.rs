//! Entry for the fuzz target of webhooks' templates. Not part of what the probe offers.

use std::sync::LazyLock;

use mailqos_base::fuzzing::in_file;
use mailqos_config as config;
use serde_json::Value;

use super::{actions::webhook, message::Telling};

/// What templates are given: an alarm, a recovery, many at once.
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let config = in_file("mailqos.toml", b"site = \"here\"\n", config::load).expect("a configuration");
    let examples = Telling::examples(&config).into_iter();
    examples.map(|(_, telling)| telling.context).collect()
});

/// A user's template of a webhook: it makes JSON, or it is said what is wrong with it.
pub fn webhook_template(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    for context in EXAMPLES.iter() {
        if let Err(error) = webhook::fill("own.json", text, context) {
            assert!(error.contains("own.json"), "{error}");
        }
    }
}
