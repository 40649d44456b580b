//! What the API's changes of definitions share: versions, problems, tags.

use std::collections::BTreeMap;

use axum::response::Response;
use hyper::header;
use mailqos_config::edit::Edit;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    access::{users::Role, viewer::Viewer},
    app::{App, Refusal},
    definitions::Failed,
    http::{request::Ask, respond},
};

/// Language of problems in the API.
pub(crate) const LANGUAGE: &str = "en";

/// A value that can't be used.
#[derive(Debug, Serialize, ToSchema)]
struct ValueProblem {
    /// Path of the key, such as `smtp.port`; empty for the definition as a whole.
    field: String,
    /// What is wrong.
    error: String,
    /// What to do.
    help: Option<String>,
}

/// A definition was not changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DefinitionProblem {
    /// The reason, for people.
    error: String,
    /// All values that can't be used.
    problems: Vec<ValueProblem>,
    /// The definition as it is now, if someone else has changed it in the meantime.
    #[schema(value_type = Option<Object>)]
    current: Option<Value>,
}

impl DefinitionProblem {
    /// Returns a problem that is not about values.
    pub(crate) fn of(error: String) -> Self {
        Self { error, problems: Vec::new(), current: None }
    }
}

/// Answers why nothing was changed; `current` is the definition as it is now, if there is one.
pub(crate) fn refused(app: &App, ask: &Ask, failed: Failed, current: Option<Value>) -> Response {
    let (status, error, problems, current) = match failed {
        Failed::Refusal(refusal) => return app.refuse(ask, &refusal),
        Failed::Gone => return app.refuse(ask, &Refusal::NotFound),
        Failed::Problems(problems) => (422, "some values can't be used".to_owned(), problems, None),
        Failed::Broken(reason) => {
            let error = format!("the configuration files have errors: {reason}");
            (409, error, Vec::new(), None)
        }
        Failed::Conflict => {
            let is_condition = ask.header(header::IF_MATCH).is_some();
            let error = "someone else has changed this definition in the meantime".to_owned();
            (if is_condition { 412 } else { 409 }, error, Vec::new(), current)
        }
    };
    let problems = problems.into_iter().map(|problem| ValueProblem {
        field: problem.field,
        error: problem.text,
        help: problem.help,
    });
    respond::json(status, &DefinitionProblem { error, problems: problems.collect(), current })
}

/// Returns the user of a request about definitions, who must be an administrator.
pub(crate) fn administrator(viewer: Viewer) -> Result<Viewer, Refusal> {
    if viewer.role == Role::Administrator { Ok(viewer) } else { Err(Refusal::Forbidden) }
}

/// Reads the JSON of a request.
pub(crate) fn read<T: DeserializeOwned>(ask: &Ask) -> Result<T, Box<Response>> {
    let invalid = |error: String| {
        let problem = DefinitionProblem::of(error);
        Box::new(respond::json(400, &problem))
    };
    if ask.json.is_empty() {
        let text = "send JSON with Content-Type: application/json";
        return Err(invalid(text.to_owned()));
    }
    serde_json::from_slice(&ask.json).map_err(|error| {
        // The message must not quote what may be a password.
        let text = format!("the body is not a valid request (line {})", error.line());
        let is_about_keys = error.is_data() && !error.to_string().contains("invalid ");
        invalid(if is_about_keys { format!("{text}: {error}") } else { text })
    })
}

/// Returns the version that a change is based on: that of `If-Match` (RFC 9110, section 13.1.1), or
/// of the body. `None` if the request names none.
pub(crate) fn known_version(ask: &Ask, body: Option<&str>, current: &str) -> Option<String> {
    let Some(condition) = ask.header(header::IF_MATCH) else {
        return body.map(str::to_owned);
    };
    let mut tags = condition.split(',').map(|tag| tag.trim().trim_matches('"'));
    let first = tags.clone().next().unwrap_or_default().to_owned();
    // One of several that matches is enough.
    let matching = tags.find(|tag| *tag == "*" || *tag == current);
    Some(matching.map_or(first, |_| current.to_owned()))
}

/// Answers a change that does not say what it is based on (RFC 6585, section 3).
pub(crate) fn without_version() -> Response {
    let error = "send the version that you have read, as If-Match or version".to_owned();
    respond::json(428, &DefinitionProblem::of(error))
}

/// Adds the version as an entity tag.
pub(crate) fn tagged(mut response: Response, version: &str) -> Response {
    if let Ok(value) = header::HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// Answers a new definition with its address.
pub(crate) fn created<T: Serialize>(answer: &T, version: &str, path: &str) -> Response {
    let mut response = tagged(respond::json(201, answer), version);
    if let Ok(value) = header::HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Reads the files.
pub(crate) fn files(app: &App, viewer: &Viewer) -> Result<Vec<Edit>, Refusal> {
    let unreadable = |error: mailqos_config::edit::EditError| {
        let reason = if viewer.sees_all() { error.to_string() } else { String::new() };
        Refusal::Unavailable(reason)
    };
    Edit::all(&app.config().file).map_err(unreadable)
}

/// A removed definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedAnswer {
    /// Its id.
    pub(crate) id: String,
    /// `applied`, `saved` or `refused`, as for changes.
    pub(crate) probe: &'static str,
}

/// Removes the tags of a definition that a restricted user does not have.
pub(crate) fn hide_tags(viewer: &Viewer, definition: &mut Map<String, Value>) {
    if let (Some(own), Some(Value::Array(tags))) = (&viewer.tags, definition.get_mut("tags")) {
        tags.retain(|tag| tag.as_str().is_some_and(|tag| own.contains(tag)));
    }
}

/// Keeps the tags that a restricted user does not see; `before` are those of the files, one a line.
pub(crate) fn keep_tags(viewer: &Viewer, before: &str, values: &mut BTreeMap<String, String>) {
    let (Some(own), Some(tags)) = (&viewer.tags, values.get_mut("tags")) else { return };
    for hidden in before.lines().map(str::trim).filter(|tag| !own.contains(*tag)) {
        if !tags.lines().any(|tag| tag.trim() == hidden) {
            tags.push_str(&format!("\n{hidden}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::users::User;

    #[test]
    fn tags_of_others_are_neither_shown_nor_lost() {
        let user = User::new(Role::Administrator, Some(["a".to_owned()].into()));
        let viewer = Viewer::new("akim".to_owned(), &user, None);
        let mut definition = Map::new();
        definition.insert("tags".to_owned(), serde_json::json!(["a", "b"]));
        hide_tags(&viewer, &mut definition);
        assert_eq!(definition["tags"], serde_json::json!(["a"]));
        let mut values = BTreeMap::from([("tags".to_owned(), "a\nc".to_owned())]);
        keep_tags(&viewer, "a\nb", &mut values);
        assert_eq!(values["tags"], "a\nc\nb");
    }
}
