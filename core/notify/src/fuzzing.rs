//! Entry for the fuzz target of webhooks' templates. Not part of what the crate offers.

use serde_json::Value;

use crate::webhook;

/// A user's template of a webhook: it makes JSON, or the error names the template.
pub fn webhook_template(text: &str, context: &Value) {
    if let Err(error) = webhook::fill("own.json", text, context) {
        assert!(error.contains("own.json"), "{error}");
    }
}
