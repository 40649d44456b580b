//! Entry point for the fuzz target of webhook templates. Not part of the public interface.

use serde_json::Value;

use crate::webhook;

/// Fills in a user's webhook template: the result is JSON, or the error names the template.
pub fn webhook_template(text: &str, context: &Value) {
    if let Err(error) = webhook::fill("own.json", text, context) {
        assert!(error.contains("own.json"), "{error}");
    }
}
