//! Rendering of pages by Tera. Every text is escaped; the templates are part of the program.

use std::collections::HashMap;

use mailqos_model::UtcMicros;
use mailqos_report::locale::Locale;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tera::{Context, Kwargs, State, Tera};

use crate::{
    access::{users::Role, viewer::Viewer},
    assets::ASSETS,
    language::{self, LANGUAGES},
};

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        [$((concat!($name, ".html"), include_str!(concat!("../../../templates/console/", $name, ".html")))),+]
    };
}

/// Templates of all pages.
const TEMPLATES: [(&str, &str); 39] = templates![
    "layout",
    "overview",
    "sections",
    "tiles",
    "table",
    "wall",
    "monitor",
    "sign-in",
    "welcome",
    "account",
    "accounts",
    "users",
    "audit",
    "problem",
    "reports",
    "report-fields",
    "report-parts",
    "report-definitions",
    "report-definition",
    "report-targets",
    "report-archive",
    "report-deliveries",
    "report-again",
    "report-form",
    "report",
    "links",
    "onward",
    "objects",
    "object",
    "new-monitor",
    "definition",
    "differences",
    "field",
    "confirm",
    "trial",
    "tried",
    "alarms",
    "explain",
    "maintenance",
];

/// A page can't be rendered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RenderError(String);

/// The templates, once for each language.
pub(crate) struct Pages(HashMap<&'static str, Tera>);

/// Values of a page.
pub(crate) type Values = Map<String, Value>;

impl Pages {
    /// Parses the templates.
    ///
    /// # Errors
    /// A template is invalid.
    pub(crate) fn new() -> Result<Self, RenderError> {
        let mut all = HashMap::new();
        for (tag, _) in LANGUAGES {
            let mut tera = Tera::new();
            tera.set_escape_fn(tera::escape_html);
            tera.autoescape_on([".html"]);
            tera.register_filter("t", move |text: &str, values: Kwargs, _: &State<'_>| {
                let values: Option<Vec<String>> = values.get("v")?;
                let values = values.unwrap_or_default();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                Ok::<_, tera::Error>(language::fill(tag, text, &values))
            });
            tera.add_raw_templates(TEMPLATES).map_err(|error| RenderError(error.to_string()))?;
            all.insert(tag, tera);
        }
        Ok(Self(all))
    }

    /// Renders a page with the values that all pages have.
    ///
    /// # Errors
    /// The template can't be rendered with these values.
    pub(crate) fn page(
        &self,
        name: &str,
        locale: &Locale,
        viewer: Option<&Viewer>,
        values: &Values,
    ) -> Result<String, RenderError> {
        let tag = locale.tag();
        let tera = self.0.get(tag).ok_or_else(|| RenderError(format!("no language {tag}")))?;
        let mut context = Context::new();
        let mut insert = |name: &str, value: &Value| {
            context.insert_value(name.to_owned(), tera::Value::from_serializable(value));
        };
        insert("lang", &tag.into());
        insert("zone", &locale.zone_name().into());
        insert("now", &locale.moment(UtcMicros::now()).into());
        insert("version", &env!("CARGO_PKG_VERSION").into());
        insert("style", &ASSETS.style.as_str().into());
        insert("script", &ASSETS.script.as_str().into());
        insert("icon", &ASSETS.icon.as_str().into());
        insert("viewer", &viewer.map_or(Value::Null, describe));
        let look = viewer.and_then(|viewer| viewer.look.clone()).unwrap_or_default();
        insert("look", &look.into());
        insert("refresh", &Value::Null);
        for (name, value) in values {
            insert(name, value);
        }
        tera.render(&format!("{name}.html"), &context).map_err(|error| RenderError(explain(&error)))
    }
}

impl Pages {
    /// Renders a part of a page.
    ///
    /// # Errors
    /// The template can't be rendered with these values.
    pub(crate) fn part(
        &self,
        name: &str,
        tag: &str,
        values: &Values,
    ) -> Result<String, RenderError> {
        let tera = self.0.get(tag).ok_or_else(|| RenderError(format!("no language {tag}")))?;
        let mut context = Context::new();
        for (name, value) in values {
            context.insert_value(name.clone(), tera::Value::from_serializable(value));
        }
        tera.render(&format!("{name}.html"), &context).map_err(|error| RenderError(explain(&error)))
    }
}

fn explain(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn describe(viewer: &Viewer) -> Value {
    json!({
        "name": viewer.name,
        "display": viewer.display,
        "role": viewer.role.as_str(),
        "csrf": viewer.csrf,
        "is_visitor": viewer.is_visitor,
        "manages_users": viewer.manages_users(),
        "is_operator": viewer.role >= Role::Operator,
        "sees_all": viewer.sees_all(),
    })
}

/// Collects the values of a page.
pub(crate) fn values<const N: usize>(pairs: [(&str, Value); N]) -> Values {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Converts a value of a page.
pub(crate) fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_templates_are_valid() {
        Pages::new().map(|_| ()).expect("valid templates");
    }
}
