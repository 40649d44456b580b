//! Report definitions: their list, and the page of each with its form, schedule and text.

use std::path::PathBuf;

use mailqos_config::Config;
use mailqos_delivery::{
    describe,
    outbox::{Line, Outbox},
};
use mailqos_figures::{Calendar, Period};
use mailqos_model::UtcMicros;
use mailqos_report::{
    definition::{Definition, Format},
    definitions,
    locale::{DASH, Locale},
};
use serde_json::{Value, json};

use super::{choose, gallery, own};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    definitions::scope::Scope,
    http::{fields::Fields, request::Ask, respond},
    language::{LANGUAGES, text},
    render::{Values, values},
    reports::{
        jobs::JobError,
        order::{Order, Span, Subject},
        sections::{self, Control, Place},
        store::{self, SaveError, Stored, Wish},
    },
};

/// Number of runs to show.
const RUNS: usize = 5;
/// Deliveries that are shown on the page of a definition.
const MAX_DELIVERIES: usize = 20;
/// Longest field of the form, in bytes.
const MAX_FIELD: usize = 4_000;
/// Calendar rules of the form.
const RULES: [&str; 7] = ["", "day", "week", "month", "quarter", "year", "cron"];

/// Messages of a page.
#[derive(Debug, Default)]
struct Outcome<'a> {
    /// Problem at the top.
    problem: &'a str,
    /// Problems of the text, with their lines.
    details: String,
    /// Lines of the file and of the text that was not saved.
    difference: Vec<(char, String)>,
    /// Fields as typed.
    typed: Option<Wish>,
    /// Text as typed.
    text: Option<String>,
}

fn io(error: std::io::Error) -> Refusal {
    Refusal::Internal(format!("the report definitions: {error}"))
}

/// Finds the definition of an address, if the user sees it.
fn find(app: &App, ask: &Ask, viewer: &Viewer) -> Result<Stored, Refusal> {
    named(app, viewer, ask.part("name"))
}

/// Finds a definition by its name, if the user sees it.
///
/// # Errors
/// There is none, or the files can't be read.
pub(crate) fn named(app: &App, viewer: &Viewer, name: &str) -> Result<Stored, Refusal> {
    let stored = store::find(&app.config(), name).map_err(io)?;
    stored.filter(|stored| own::sees(app, viewer, stored)).ok_or(Refusal::NotFound)
}

/// Returns the user of a page about definitions; a visitor with a link has none.
pub(crate) fn reader(app: &App, ask: &Ask) -> Result<Viewer, Refusal> {
    let viewer = app.require(ask)?;
    if viewer.is_visitor { Err(Refusal::NotFound) } else { Ok(viewer) }
}

/// Returns the address of a definition.
pub(super) fn address(slug: &str) -> String {
    let slug: String = form_urlencoded::byte_serialize(slug.as_bytes()).collect();
    format!("/reports/definitions/{}", slug.replace('+', "%20"))
}

/// Returns the next runs of a definition.
pub(crate) fn runs(
    definition: &Definition,
    config: &Config,
) -> impl Iterator<Item = UtcMicros> + use<> {
    let zone = definition.calendar(Some(config)).timezone;
    let schedule = definition.schedule.clone();
    let next = move |after: UtcMicros| schedule.as_ref()?.rule.next(after, &zone);
    std::iter::successors(next(UtcMicros::now()), move |at| next(*at))
}

/// Returns the next runs of a definition in words, in its time zone.
fn next_runs(definition: &Definition, config: &Config, tag: &str, count: usize) -> Vec<String> {
    let zone = definition.calendar(Some(config)).timezone;
    let Some(locale) = Locale::new(tag, zone) else {
        return Vec::new();
    };
    runs(definition, config).take(count).map(|at| locale.moment(at)).collect()
}

/// Shows the list.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = reader(app, ask)?;
    let config = app.config();
    let locale = app.locale(ask, Some(&viewer));
    let mut rows = Vec::new();
    for stored in store::all(&config).map_err(io)? {
        if !own::sees(app, &viewer, &stored) {
            continue;
        }
        let (title, next, targets) = match &stored.definition {
            Ok(definition) => {
                let next = next_runs(definition, &config, locale.tag(), 1).pop();
                let targets = definition.deliveries.iter().map(|one| one.target.as_str());
                (
                    gallery::words(&locale, &definition.template.title),
                    next.unwrap_or_else(|| DASH.to_owned()),
                    // Names of targets may be those of others.
                    if viewer.sees_all() {
                        targets.collect::<Vec<_>>().join(", ")
                    } else {
                        String::new()
                    },
                )
            }
            Err(_) => (String::new(), DASH.to_owned(), String::new()),
        };
        rows.push(json!({
            "href": address(&stored.slug), "slug": stored.slug, "title": title, "next": next,
            "targets": targets, "is_wrong": stored.definition.is_err(),
        }));
    }
    let found = values([
        ("active", json!("reports")),
        ("part", json!("definitions")),
        ("definitions", json!(rows)),
        ("folder", json!(viewer.sees_all().then(|| config.reports.display().to_string()))),
        ("may_edit", json!(viewer.edits_reports())),
    ]);
    Ok(respond::html(200, app.page("report-definitions", ask, Some(&viewer), &found)?))
}

/// Shows a definition.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = reader(app, ask)?;
    let stored = find(app, ask, &viewer)?;
    page(app, ask, &viewer, Some(&stored), Outcome::default())
}

/// Shows the form of a new definition, filled in by the address.
pub(crate) fn show_new(app: &App, ask: &Ask) -> Answer {
    let viewer = require_editor(app.require(ask)?)?;
    let typed = wish(&ask.query)?;
    page(app, ask, &viewer, None, Outcome { typed: Some(typed), ..Outcome::default() })
}

fn require_editor(viewer: Viewer) -> Result<Viewer, Refusal> {
    if viewer.edits_reports() { Ok(viewer) } else { Err(Refusal::NotFound) }
}

/// Reads the fields of the form.
fn wish(fields: &Fields) -> Result<Wish, Refusal> {
    let field = |name: &str| {
        let text = fields.text(name).trim();
        let is_fine = text.len() <= MAX_FIELD
            && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\r');
        if is_fine {
            Ok(text.to_owned())
        } else {
            Err(Refusal::Invalid("A field is too long or has control characters."))
        }
    };
    let list = |name: &str| -> Result<Vec<String>, Refusal> {
        let all = fields.all(name).flat_map(|text| text.split([',', '\n', '\r']));
        let mut list = Vec::new();
        for text in all.map(str::trim).filter(|text| !text.is_empty()) {
            if text.len() > MAX_FIELD || text.chars().any(char::is_control) {
                return Err(Refusal::Invalid("A field is too long or has control characters."));
            }
            list.push(text.to_owned());
        }
        Ok(list)
    };
    let every = field("every")?;
    Ok(Wish {
        template: field("template")?,
        title: field("title")?,
        monitors: list("monitor")?,
        period: field("period")?,
        language: field("language")?,
        formats: list("format")?,
        on: field("on")?,
        at: field("at")?,
        cron: field("cron")?,
        every: if RULES.contains(&every.as_str()) { every } else { String::new() },
        targets: list("target")?,
    })
}

/// Takes what is sent for a definition.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if viewer.is_visitor {
        return Err(Refusal::NotFound);
    }
    let config = app.config();
    let stored = find(app, ask, &viewer)?;
    match ask.form.text("action") {
        "view" => {
            let back = address(&stored.slug);
            let id = begin(app, &viewer, (&config, &stored), choose::formats(), back)?;
            Ok(respond::redirect(&format!("/reports/made/{id}")))
        }
        "save" => {
            if !own::edits(&viewer) {
                return Err(Refusal::NotFound);
            }
            save(app, ask, &viewer, Some(&stored))
        }
        "save-text" => {
            let viewer = require_editor(viewer)?;
            // Browsers send CRLF (WHATWG HTML, section 4.10.22.7).
            let typed = ask.form.text("text").replace("\r\n", "\n");
            let outcome = Outcome { text: Some(typed.clone()), ..Outcome::default() };
            keep(app, ask, (&viewer, Some(&stored)), (&stored.slug, &typed), outcome)
        }
        action if action.starts_with("section") => {
            let viewer = require_editor(viewer)?;
            change_sections(app, ask, &viewer, &stored)
        }
        "remove" => {
            let viewer = require_editor(viewer)?;
            app.audit(ask, &viewer.name, ("definition_removed", &stored.slug, ""))?;
            match store::remove(&config, &stored.slug, ask.form.text("version")) {
                Ok(()) => Ok(respond::redirect("/reports/definitions")),
                Err(SaveError::Changed(_)) => {
                    let locale = app.locale(ask, Some(&viewer));
                    let problem = text_of_conflict(locale.tag());
                    page(
                        app,
                        ask,
                        &viewer,
                        Some(&stored),
                        Outcome { problem, ..Outcome::default() },
                    )
                }
                Err(error) => Err(Refusal::Internal(error.to_string())),
            }
        }
        _ => Err(Refusal::Invalid("This form is not known.")),
    }
}

/// Saves a new definition.
pub(crate) fn send_new(app: &App, ask: &Ask) -> Answer {
    let viewer = require_editor(app.require_form(ask)?)?;
    save(app, ask, &viewer, None)
}

/// Saves what the form says.
fn save(app: &App, ask: &Ask, viewer: &Viewer, stored: Option<&Stored>) -> Answer {
    let typed = wish(&ask.form)?;
    let typed = match stored {
        Some(stored) if !viewer.sees_all() => own::confined(typed, &stored.text),
        _ => typed,
    };
    let locale = app.locale(ask, Some(viewer));
    let before = match stored {
        // The text that the form was made from: only then the form's changes are those of the user.
        Some(stored) if stored.version() == ask.form.text("version") => stored.text.as_str(),
        Some(stored) => {
            let after = typed.apply(&stored.text).unwrap_or_default();
            let problem = text(
                locale.tag(),
                "Someone else has changed this definition in the meantime. Check the difference, then save again.",
            );
            // The text also contains what a restricted user must not see.
            let difference = viewer.sees_all().then(|| store::difference(&stored.text, &after));
            let difference = difference.unwrap_or_default();
            let outcome = Outcome { problem, difference, typed: Some(typed), ..Outcome::default() };
            return page(app, ask, viewer, Some(stored), outcome);
        }
        None => "",
    };
    let outcome = Outcome { typed: Some(typed.clone()), ..Outcome::default() };
    let Ok(after) = typed.apply(before) else {
        let problem = text(locale.tag(), "The file is not valid TOML: correct its text first.");
        return page(app, ask, viewer, stored, Outcome { problem, ..outcome });
    };
    let slug = stored.map_or_else(|| ask.form.text("name").trim(), |stored| &stored.slug);
    if let Some(stored) = stored.filter(|_| !viewer.sees_all()) {
        let config = app.config();
        let read = definitions::of_definition(Some(&config), &stored.path, after.clone());
        if !read.is_ok_and(|definition| own::concerns(app, viewer, &definition)) {
            let problem = text(
                locale.tag(),
                "Check the values. A definition needs monitors of yours: ids, tag:NAME with one of your tags, or object:NAME.",
            );
            return page(app, ask, viewer, Some(stored), Outcome { problem, ..outcome });
        }
    }
    keep(app, ask, (viewer, stored), (slug, &after), outcome)
}

/// Writes a text, or shows why it is not written.
fn keep(
    app: &App,
    ask: &Ask,
    (viewer, stored): (&Viewer, Option<&Stored>),
    (slug, after): (&str, &str),
    outcome: Outcome<'_>,
) -> Answer {
    let config = app.config();
    let tag = app.locale(ask, Some(viewer)).tag();
    let edited = stored.map(|_| ask.form.text("version"));
    let problem = match store::save(&config, slug, after, edited) {
        Ok(()) => {
            app.audit(ask, &viewer.name, ("definition_saved", slug, ""))?;
            return Ok(respond::redirect(&address(slug)));
        }
        Err(SaveError::Io(error)) => return Err(io(error)),
        Err(SaveError::Name) => {
            text(tag, "Enter a name that consists of letters, digits, - and _.")
        }
        Err(SaveError::Exists) => text(tag, "A definition with this name already exists."),
        Err(SaveError::Changed(now)) => {
            let problem = text(
                tag,
                "Someone else has changed this definition in the meantime. Check the difference, then save again.",
            );
            let difference = viewer.sees_all().then(|| store::difference(&now, after));
            let difference = difference.unwrap_or_default();
            let fresh = store::find(&config, slug).map_err(io)?;
            let outcome = Outcome { problem, difference, ..outcome };
            return page(app, ask, viewer, fresh.as_ref(), outcome);
        }
        Err(SaveError::Invalid(details)) => {
            let problem = text(tag, "This is not a valid definition:");
            // Problems may name what belongs to others.
            let details = if viewer.sees_all() { details } else { String::new() };
            return page(app, ask, viewer, stored, Outcome { problem, details, ..outcome });
        }
    };
    page(app, ask, viewer, stored, Outcome { problem, ..outcome })
}

/// Begins the report of a definition by its name, and returns its id.
///
/// # Errors
/// The user does not see it, it has errors, or too many reports are being made.
pub(crate) fn start(app: &App, viewer: &Viewer, name: &str) -> Result<String, Refusal> {
    let config = app.config();
    let stored = named(app, viewer, name)?;
    let back = address(&stored.slug);
    begin(app, viewer, (&config, &stored), choose::formats(), back)
}

/// Begins the report of a definition, and returns its id.
fn begin(
    app: &App,
    viewer: &Viewer,
    (config, stored): (&Config, &Stored),
    formats: Vec<String>,
    back: String,
) -> Result<String, Refusal> {
    let definition =
        stored.definition.as_ref().map_err(|_| Refusal::Invalid("This definition has errors."))?;
    let is_all = viewer.sees_all();
    let subject = match Wish::of(&stored.text).template {
        // Templates are made without the channels of notifications, which are those of others.
        name if !is_all && may_be_viewed(stored) => Subject::Template(name),
        _ if !is_all => return Err(Refusal::NotFound),
        _ => Subject::Definition(stored.path.clone()),
    };
    let scope = Scope::of(config, viewer);
    let period = definition.period.clone().filter(|_| !is_all);
    let order = Order {
        config: config.file.clone(),
        lake: app.keeper.folder().map_err(Refusal::Unavailable)?,
        subject,
        monitors: (!is_all).then(|| own::keys(app, viewer, definition)),
        only: (!is_all).then(|| scope.monitors.clone()),
        period: period.map(Span::Named),
        language: (!is_all).then(|| definition.language.clone()),
        formats,
        folder: PathBuf::new(),
    };
    let title = &definition.template.title;
    app.reports.start(order, viewer.owner(), title, back).map_err(|error| match error {
        JobError::TooManyOfUser | JobError::TooMany => Refusal::Unavailable(error.to_string()),
        error => Refusal::Internal(format!("can't start generating a report: {error}")),
    })
}

/// Whether a restricted user can view the report: it is that of a template, without own sections.
fn may_be_viewed(stored: &Stored) -> bool {
    !Wish::of(&stored.text).template.is_empty() && sections::list(&stored.text).is_empty()
}

/// Begins a preview. It takes the place of earlier ones of this definition, which show a state that
/// no longer exists.
fn begin_preview(
    app: &App,
    viewer: &Viewer,
    (config, stored): (&Config, &Stored),
) -> Result<String, Refusal> {
    let back = format!("{}#sections", address(&stored.slug));
    let owner = viewer.owner();
    for (id, job) in app.reports.of(&owner) {
        if job.again == back && !job.state.is_over() {
            app.reports.cancel(&id, &owner);
        }
    }
    begin(app, viewer, (config, stored), vec!["html".to_owned()], back)
}

/// Adds, moves, removes or changes a section, and begins a preview.
fn change_sections(app: &App, ask: &Ask, viewer: &Viewer, stored: &Stored) -> Answer {
    let config = app.config();
    let place = Place::parse(ask.form.text("section"));
    let found = sections::list(&stored.text);
    let known = place.as_ref().and_then(|place| found.iter().find(|it| it.place == *place));
    let kind = known.map_or_else(|| ask.form.text("kind"), |section| &section.kind);
    let values: Vec<(String, String)> = sections::fields(kind)
        .iter()
        .filter_map(|field| {
            let text = ask.form.get(&format!("o-{}", field.key.name))?;
            Some((field.key.name.to_owned(), text.to_owned()))
        })
        .collect();
    let text = &stored.text;
    let parent = Place::parse(ask.form.text("parent"));
    let at = || place.as_ref().ok_or(sections::NoSection);
    let after = match ask.form.text("action") {
        "section-add" => sections::add(text, parent.as_ref(), (ask.form.text("kind"), &values)),
        "section-set" => at().and_then(|place| sections::set(text, place, &values)),
        "section-up" => at().and_then(|place| sections::shift(text, place, true)),
        "section-down" => at().and_then(|place| sections::shift(text, place, false)),
        "section-remove" => at().and_then(|place| sections::remove(text, place)),
        "sections-own" => {
            let name = Wish::of(text).template;
            let (_, template) =
                definitions::template_text(Some(&config), &name).map_err(|_| Refusal::NotFound)?;
            let title = stored.definition.as_ref().map(|it| it.template.title.clone());
            sections::own(text, &template, &title.unwrap_or_default())
        }
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    // The numbers of sections are those of the text that the page showed.
    let is_current = stored.version() == ask.form.text("version");
    let after = after.map_err(|_| Refusal::NotFound);
    let (true, Ok(after)) = (is_current, &after) else {
        let tag = app.locale(ask, Some(viewer)).tag();
        let problem = text_of_conflict(tag);
        let outcome = Outcome { problem, ..Outcome::default() };
        return page(app, ask, viewer, Some(stored), outcome);
    };
    let response =
        keep(app, ask, (viewer, Some(stored)), (&stored.slug, after), Outcome::default())?;
    if response.status() != hyper::StatusCode::SEE_OTHER {
        return Ok(response);
    }
    let fresh = store::find(&config, &stored.slug).map_err(io)?.ok_or(Refusal::NotFound)?;
    let to = address(&stored.slug);
    // Without a preview, the change is saved all the same.
    match begin_preview(app, viewer, (&config, &fresh)) {
        Ok(id) => Ok(respond::redirect(&format!("{to}?preview={id}#sections"))),
        Err(_) => Ok(respond::redirect(&format!("{to}#sections"))),
    }
}

fn text_of_conflict(tag: &str) -> &'static str {
    text(tag, "Someone else has changed this definition in the meantime. Check it, then try again.")
}

/// Returns the sections of a definition, with the fields of each.
fn section_values(stored: &Stored, (add, parent): (&str, &str)) -> Values {
    let describe = |kind: &str, values: &[(String, String)]| -> Vec<Value> {
        sections::fields(kind)
            .iter()
            .map(|field| {
                let typed = values.iter().find(|(key, _)| key == field.key.name);
                let usual = field.key.default.map(|text| text.trim_matches('"'));
                let (control, words) = match field.control {
                    Control::Text => ("text", &[][..]),
                    Control::LongText => ("long", &[][..]),
                    Control::List => ("list", &[][..]),
                    Control::Number => ("number", &[][..]),
                    Control::Switch => ("words", &["true", "false"][..]),
                    Control::Words(words) => ("words", words),
                };
                json!({
                    "name": field.key.name, "about": field.key.about, "control": control,
                    "words": words, "typed": typed.map(|(_, text)| text),
                    "usual": usual.or(field.key.otherwise), "required": field.key.required,
                })
            })
            .collect()
    };
    let kinds: Vec<(&str, &str)> = mailqos_report::sections::kinds().collect();
    let about = |kind: &str| kinds.iter().find(|(word, _)| *word == kind).map(|(_, about)| *about);
    let found = sections::list(&stored.text);
    let rows: Vec<Value> = found
        .iter()
        .map(|section| {
            json!({
                "place": section.place.to_string(), "depth": section.place.depth(),
                "kind": section.kind, "about": about(&section.kind), "holds": section.holds,
                "is_nested": section.is_nested, "is_first": section.is_first,
                "is_last": section.is_last, "fields": describe(&section.kind, &section.values),
            })
        })
        .collect();
    let adding = about(add).map(|about| {
        json!({
            "kind": add, "about": about, "fields": describe(add, &[]), "parent": parent,
        })
    });
    let all: Vec<Value> =
        kinds.iter().map(|(word, about)| json!({"word": word, "about": about})).collect();
    values([
        ("sections", json!(rows)),
        ("kinds", json!(all)),
        ("adding", json!(adding)),
        ("has_template", json!(!Wish::of(&stored.text).template.is_empty())),
    ])
}

fn page(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    stored: Option<&Stored>,
    outcome: Outcome<'_>,
) -> Answer {
    let config = app.config();
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let saved = stored.map(|stored| Wish::of(&stored.text));
    let fields = outcome.typed.clone().or(saved).unwrap_or_default();
    let is_fine = outcome.problem.is_empty();
    let text = outcome.text.as_deref().or(stored.map(|it| it.text.as_str()));
    let mut found = values([
        ("active", json!("reports")),
        ("part", json!("definitions")),
        ("is_new", json!(stored.is_none())),
        ("slug", json!(stored.map_or_else(|| ask.form.text("name"), |stored| &stored.slug))),
        ("here", json!(stored.map_or_else(|| "/reports/new".to_owned(), |it| address(&it.slug)))),
        ("problem", json!(outcome.problem)),
        ("details", json!(outcome.details)),
        (
            "difference",
            outcome
                .difference
                .iter()
                .map(|(sign, line)| json!({"sign": sign.to_string(), "line": line}))
                .collect(),
        ),
        ("text", json!(text.filter(|_| viewer.sees_all()))),
        ("is_text", json!(outcome.text.is_some())),
        ("edited", json!(stored.map(Stored::version))),
        ("may_edit", json!(own::edits(viewer))),
        ("may_edit_all", json!(viewer.edits_reports())),
        ("may_view", json!(viewer.sees_all() || stored.is_some_and(may_be_viewed))),
        ("max_text", json!(store::MAX_TEXT)),
    ]);
    found.extend(form(&config, &fields, &locale));
    if let Some(stored) = stored {
        found.extend(facts(&config, stored, &locale, tag));
        if viewer.sees_all() {
            found.extend(section_values(stored, (ask.query.text("add"), ask.query.text("in"))));
        } else {
            found.extend(values([("deliveries", json!([])), ("targets", json!([]))]));
            found.insert("templates".to_owned(), json!([]));
        }
        found.extend(preview(app, ask, viewer));
    }
    let status = if is_fine { 200 } else { 422 };
    let page = app.page("report-definition", ask, Some(viewer), &found)?;
    Ok(super::made::framing(respond::html(status, page)))
}

/// Returns the values of the form's fields.
fn form(config: &Config, fields: &Wish, locale: &Locale) -> Values {
    let tag = locale.tag();
    let templates: Vec<Value> = definitions::template_names(Some(config))
        .into_iter()
        .map(|name| json!({"word": name, "is_on": name == fields.template}))
        .collect();
    let languages: Vec<Value> = LANGUAGES
        .iter()
        .map(|(tag, name)| json!({"word": tag, "text": name, "is_on": *tag == fields.language}))
        .collect();
    let formats: Vec<Value> = Format::ALL
        .iter()
        .filter(|(_, format)| format.is_built_in())
        .map(|(name, _)| {
            let is_on = fields.formats.iter().any(|format| format == name);
            json!({"word": name, "text": name.to_uppercase(), "is_on": is_on})
        })
        .collect();
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            let words = match *rule {
                "day" => text(tag, "Every day"),
                "week" => text(tag, "Every week"),
                "month" => text(tag, "Every month"),
                "quarter" => text(tag, "Every quarter"),
                "year" => text(tag, "Every year"),
                "cron" => text(tag, "By a cron expression"),
                _ => text(tag, "Not automatically"),
            };
            json!({"word": rule, "text": words, "is_on": *rule == fields.every})
        })
        .collect();
    let targets: Vec<Value> = config
        .targets
        .iter()
        .map(|(name, target)| {
            let is_on = fields.targets.iter().any(|target| target == name.as_str());
            json!({"word": name.as_str(), "about": describe(target), "is_on": is_on})
        })
        .collect();
    let mut periods: Vec<&str> = choose::PERIODS.to_vec();
    if !fields.period.is_empty() && !periods.contains(&fields.period.as_str()) {
        periods.push(&fields.period);
    }
    let periods: Vec<Value> = periods
        .iter()
        .map(|word| {
            let words = choose::period_words(tag, word);
            json!({"word": word, "text": words, "is_on": *word == fields.period})
        })
        .collect();
    values([
        ("templates", json!(templates)),
        ("languages", json!(languages)),
        ("formats", json!(formats)),
        ("rules", json!(rules)),
        ("targets", json!(targets)),
        ("periods", json!(periods)),
        ("title_typed", json!(fields.title)),
        ("monitors", json!(fields.monitors.join("\n"))),
        ("on", json!(fields.on)),
        ("at", json!(fields.at)),
        ("cron", json!(fields.cron)),
    ])
}

/// Returns the preview that the address names.
fn preview(app: &App, ask: &Ask, viewer: &Viewer) -> Values {
    let id = ask.query.text("preview");
    let Some(job) = app.reports.get(id, &viewer.owner()) else {
        return Values::new();
    };
    let has_page = job.files.iter().any(|file| file.format == "html");
    let state = gallery::state(app.locale(ask, Some(viewer)).tag(), &job.state);
    values([
        ("preview", json!(has_page.then(|| format!("/reports/made/{id}/view")))),
        ("preview_state", json!((!has_page).then_some(state))),
        ("poll", json!((!job.state.is_over()).then(|| format!("/api/v1/reports/made/{id}")))),
    ])
}

/// Returns what is known about a saved definition.
fn facts(config: &Config, stored: &Stored, locale: &Locale, tag: &str) -> Values {
    let mut found = Values::new();
    match &stored.definition {
        Ok(definition) => {
            let zone = definition.calendar(Some(config));
            let name = definition.period.as_deref().unwrap_or("last-month");
            let period = Period::named(name, UtcMicros::now(), Calendar { ..zone.clone() });
            let matching = config
                .monitors
                .values()
                .filter(|monitor| {
                    let site = config.site.as_str();
                    definition.selection.includes(Some(config), site, monitor.id.as_str())
                })
                .count();
            let zone_name = zone.timezone.iana_name().unwrap_or("UTC").to_owned();
            found.extend(values([
                ("title", json!(gallery::words(locale, &definition.template.title))),
                ("period", json!(period.map(|period| locale.period(&period)).ok())),
                ("matching", json!(locale.integer(matching as u64))),
                ("runs", json!(next_runs(definition, config, tag, RUNS))),
                ("zone_name", json!(zone_name)),
                ("is_scheduled", json!(definition.schedule.is_some())),
            ]));
        }
        Err(problems) => {
            found.insert("wrong".to_owned(), json!(problems.render(false)));
            found.insert("title".to_owned(), json!(stored.slug));
        }
    }
    found.insert("deliveries".to_owned(), deliveries(config, &stored.slug, locale));
    found
}

/// Returns the latest deliveries of a definition.
fn deliveries(config: &Config, slug: &str, locale: &Locale) -> Value {
    let lines = Outbox::open(config).and_then(|outbox| outbox.ledger()).unwrap_or_default();
    let rows = lines.iter().rev().filter_map(|line| match line {
        Line::Delivered(entry) if entry.report == slug => {
            Some(super::deliveries::delivered(entry, locale))
        }
        _ => None,
    });
    rows.take(MAX_DELIVERIES).collect()
}
