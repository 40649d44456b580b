//! The audit log.

use serde_json::{Value, json};

use crate::{
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::text,
    render::values,
};

/// Entries on the page.
const MAX_ENTRIES: usize = 300;

/// Returns the words for an action.
fn action<'a>(tag: &str, action: &'a str) -> &'a str {
    match action {
        "signed_in" => text(tag, "Signed in"),
        "signed_out_everywhere" => text(tag, "Signed out everywhere"),
        "password_set" => text(tag, "Set the password"),
        "password_changed" => text(tag, "Changed the password"),
        "token_added" => text(tag, "Added a token"),
        "token_removed" => text(tag, "Removed a token"),
        "user_added" => text(tag, "Added a user"),
        "user_changed" => text(tag, "Changed a user"),
        "user_removed" => text(tag, "Removed a user"),
        "view_link_added" => text(tag, "Added a link"),
        "view_link_revoked" => text(tag, "Revoked a link"),
        "monitor_added" => text(tag, "Added a monitor"),
        "monitor_changed" => text(tag, "Changed a monitor"),
        "monitor_removed" => text(tag, "Removed a monitor"),
        "monitor_enabled" => text(tag, "Enabled a monitor"),
        "monitor_disabled" => text(tag, "Disabled a monitor"),
        "monitor_tried" => text(tag, "Tried a monitor"),
        "account_password_changed" => text(tag, "Changed an account's password"),
        "object_added" => text(tag, "Added an object"),
        "object_changed" => text(tag, "Changed an object"),
        "object_removed" => text(tag, "Removed an object"),
        "alarm_acknowledged" => text(tag, "Acknowledged an alarm"),
        "acknowledgement_withdrawn" => text(tag, "Withdrew an acknowledgement"),
        "maintenance_planned" => text(tag, "Planned maintenance"),
        "maintenance_declared" => text(tag, "Declared maintenance"),
        "maintenance_ended" => text(tag, "Ended maintenance"),
        "maintenance_withdrawn" => text(tag, "Withdrew a declaration"),
        "simulation_started" => text(tag, "Simulated a failure"),
        "simulation_ended" => text(tag, "Ended a simulation"),
        "action_list_tried" => text(tag, "Tried an action list"),
        "change_failed" => text(tag, "The change failed"),
        "definition_saved" => text(tag, "Saved a report definition"),
        "definition_removed" => text(tag, "Removed a report definition"),
        "target_tried" => text(tag, "Tried a target"),
        "delivery_repeated" => text(tag, "Sent a delivery again"),
        "delivery_retried" => text(tag, "Retried a delivery"),
        "delivery_dropped" => text(tag, "Removed a delivery"),
        "archive_downloaded" => text(tag, "Downloaded an archived report"),
        "link_issued" => text(tag, "Issued a one-time link"),
        other => other,
    }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    if !viewer.manages_users() {
        return Err(Refusal::NotFound);
    }
    let locale = app.locale(ask, Some(&viewer));
    let latest = app.audit.latest(MAX_ENTRIES);
    let latest = latest.map_err(|error| Refusal::Internal(format!("the audit log: {error}")))?;
    let entries: Vec<Value> = latest
        .iter()
        .map(|entry| {
            json!({
                "at": locale.moment_in_period(entry.at.into()), "iso": entry.at.to_string(),
                "by": entry.by, "from": entry.from, "action": action(locale.tag(), &entry.action),
                "subject": entry.subject, "detail": entry.detail,
            })
        })
        .collect();
    let found = values([("active", json!("audit")), ("entries", json!(entries))]);
    Ok(respond::html(200, app.page("audit", ask, Some(&viewer), &found)?))
}
