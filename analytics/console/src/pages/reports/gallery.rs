//! The gallery of templates, with the reports that the user asked for lately.

use mailqos_config::{Config, Problems};
use mailqos_report::{
    definition::Template,
    definitions,
    locale::{DASH, Locale},
};
use serde_json::{Value, json};

use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    assets::ASSETS,
    http::{request::Ask, respond},
    language::text,
    render::values,
    reports::jobs::{Job, State},
};

/// Returns the names of the templates that a viewer may use. Titles and texts of custom templates
/// may name other customers, so a restricted viewer uses the built-in ones.
pub(crate) fn names(config: &Config, viewer: &Viewer) -> Vec<String> {
    let all = definitions::template_names(Some(config)).into_iter();
    all.filter(|name| viewer.sees_all() || definitions::is_built_in(Some(config), name)).collect()
}

/// Returns a template that a viewer may use; `None` inside if it has errors.
pub(crate) fn find(
    config: &Config,
    viewer: &Viewer,
    name: &str,
) -> Result<Result<Template, Problems>, Refusal> {
    if !names(config, viewer).iter().any(|known| known == name) {
        return Err(Refusal::NotFound);
    }
    let mut problems = Problems::default();
    let template = definitions::template(Some(config), name, &mut problems);
    Ok(template.filter(|_| !problems.has_errors()).ok_or(problems))
}

/// Returns the text of a template in a language: of its title or description.
pub(crate) fn words(locale: &Locale, english: &str) -> String {
    let own = text(locale.tag(), english);
    if own == english { locale.text(english) } else { own.to_owned() }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let config = app.config();
    let locale = app.locale(ask, Some(&viewer));
    let mut templates = Vec::new();
    for name in names(&config, &viewer) {
        let href = address(&name);
        templates.push(match find(&config, &viewer, &name)? {
            Ok(template) => json!({
                "name": name, "href": href, "title": words(&locale, &template.title),
                "about": words(&locale, &template.description), "picture": ASSETS.picture(&name),
            }),
            Err(_) => json!({
                "name": name, "title": name,
                "about": text(locale.tag(), "This template has errors: see mailqos-analytics templates check."),
            }),
        });
    }
    let recent: Vec<Value> = app
        .reports
        .of(&viewer.owner())
        .iter()
        .map(|(id, job)| {
            json!({
                "href": format!("/reports/made/{id}"), "title": title(job),
                "period": job.reports.first().map_or(DASH, |report| &report.period),
                "state": state(locale.tag(), &job.state),
            })
        })
        .collect();
    let found = values([
        ("active", json!("reports")),
        ("part", json!("gallery")),
        ("templates", json!(templates)),
        ("recent", json!(recent)),
    ]);
    Ok(respond::html(200, app.page("reports", ask, Some(&viewer), &found)?))
}

/// Returns the address of a template's form.
pub(crate) fn address(name: &str) -> String {
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/reports/templates/{}", name.replace('+', "%20"))
}

/// Returns the title of a report.
pub(crate) fn title(job: &Job) -> &str {
    job.reports.first().map_or(&job.title, |report| &report.title)
}

/// Returns the word for a state.
pub(crate) fn state(tag: &str, state: &State) -> &'static str {
    match state {
        State::Waiting => text(tag, "Waiting for other reports"),
        State::Reading => text(tag, "Reading samples and drawing charts"),
        State::Writing => text(tag, "Writing the files"),
        State::Done => text(tag, "Complete"),
        State::Failed(_) => text(tag, "Failed"),
        State::Cancelled => text(tag, "Cancelled"),
    }
}
