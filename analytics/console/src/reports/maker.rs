//! The process that generates a report. It limits itself, and ends with the console.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, Read as _, Write as _},
    process::ExitCode,
};

use mailqos_config::Config;
use mailqos_figures::Period;
use mailqos_lake_tables::Lake;
use mailqos_model::UtcMicros;
use mailqos_report::{
    definition::{Definition, Format},
    definitions,
    facts::Selection,
    generate::{self, Source},
};

use super::order::{Composed, Line, MadeFile, Order, Span, Subject};

/// Hidden argument that starts the process.
pub const ARGUMENT: &str = "make-report";
/// Longest order, in bytes: ten thousand monitors take half a megabyte.
const MAX_ORDER: u64 = 16 << 20;
/// Maximum memory, in bytes.
#[cfg(unix)]
const MAX_MEMORY: u64 = 3 << 30;
/// Maximum processor time, in seconds.
#[cfg(unix)]
const MAX_PROCESSOR: u64 = 900;
/// Maximum size of a file, in bytes.
#[cfg(unix)]
const MAX_FILE: u64 = 512 << 20;
/// Reports of one order: a definition may generate one for each monitor.
const MAX_REPORTS: usize = 200;

/// Runs as the process: reads an order and generates its report.
pub fn make_report() -> ExitCode {
    limit();
    let mut line = String::new();
    let mut input = io::BufReader::new(io::stdin());
    let read = (&mut input).take(MAX_ORDER).read_line(&mut line);
    let order: Order = match read.map_err(|error| error.to_string()).and_then(|_| {
        serde_json::from_str(&line).map_err(|error| format!("the order is not valid: {error}"))
    }) {
        Ok(order) => order,
        Err(error) => return fail(error),
    };
    // The console holds the other end open while it wants the report.
    std::thread::spawn(move || {
        let _ = io::copy(&mut input, &mut io::sink());
        std::process::exit(3);
    });
    match make(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn fail(error: String) -> ExitCode {
    let _ = say(&Line::Failed(error));
    ExitCode::FAILURE
}

fn say(line: &Line) -> Result<(), String> {
    let mut text = serde_json::to_vec(line).map_err(|error| error.to_string())?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

#[cfg(unix)]
fn limit() {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let set = |resource, limit| {
        // On systems without this limit, the deadline of the console remains.
        let _ = setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    };
    set(Resource::Data, MAX_MEMORY);
    set(Resource::Cpu, MAX_PROCESSOR);
    set(Resource::Fsize, MAX_FILE);
    set(Resource::Core, 0);
    // Tests, alarms and pages come first.
    let _ = nice(10);
}

#[cfg(not(unix))]
fn limit() {}

fn make(order: &Order) -> Result<(), String> {
    let mut config =
        mailqos_config::load(&order.config).map_err(|problems| problems.render(false))?;
    if let Some(only) = &order.only {
        restrict(&mut config, only);
    }
    let mut definition = definition(order, &config)?;
    let now = UtcMicros::now();
    let calendar = definition.calendar(Some(&config));
    let period = match &order.period {
        Some(Span::Named(name)) => Period::named(name, now, calendar),
        Some(Span::Between(from, to)) => Period::between(from, to, calendar),
        None => Period::named(definition.period.as_deref().unwrap_or("last-month"), now, calendar),
    };
    let period = period.map_err(|error| error.to_string())?;
    if let Some(language) = &order.language {
        definition.language.clone_from(language);
    }
    let lake = Lake::open(&order.lake).map_err(|error| error.to_string())?.skip_corrupt(true);
    let source = Source { lake: &lake, config: Some(&config), now, made_at: None };
    let reports =
        generate::documents(&definition, source, &period).map_err(|error| error.to_string())?;
    if reports.len() > MAX_REPORTS {
        return Err(format!(
            "this definition generates {} reports; at most {MAX_REPORTS} can be viewed together",
            reports.len()
        ));
    }
    for report in &reports {
        let document = &report.document;
        say(&Line::Report(Composed {
            title: document.title.clone(),
            period: document.period.clone(),
            headline: document.headline.clone(),
        }))?;
    }
    // The page first: it can be read while the other files are written.
    for format in formats(order) {
        for report in &reports {
            let wanted = BTreeSet::from([format]);
            let files = generate::write(report, &wanted, &order.folder, Some(&config.templates))
                .map_err(|error| error.to_string())?;
            for (format, path) in files {
                let bytes = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                say(&Line::File(MadeFile {
                    name: name.unwrap_or_default(),
                    format: format.extension().to_owned(),
                    bytes,
                }))?;
            }
        }
    }
    say(&Line::Done)
}

fn formats(order: &Order) -> Vec<Format> {
    let known = Format::ALL.iter().filter(|(name, format)| {
        format.is_built_in() && order.formats.iter().any(|wanted| wanted == name)
    });
    known.map(|(_, format)| *format).collect()
}

fn definition(order: &Order, config: &Config) -> Result<Definition, String> {
    let found = match &order.subject {
        Subject::Template(name) if order.only.is_some() => {
            // Channels of notifications are named after other people's affairs.
            let (_, text) = definitions::template_text(Some(config), name)
                .map_err(|problem| problem.to_string())?;
            let text = text.replace("kind = \"alarms\"", "kind = \"alarms\"\nchannels = false");
            definitions::of_text(Some(config), name, &text)
        }
        Subject::Template(name) => definitions::of_template(Some(config), name),
        Subject::Definition(file) => definitions::load(Some(config), file),
    };
    let mut definition = found.map_err(|problems| problems.render(false))?;
    if let Some(monitors) = &order.monitors {
        definition.selection = Selection { monitors: monitors.clone(), sites: Vec::new() };
    }
    if order.only.is_some() {
        let selects = definition.template.sections.iter().any(|placed| placed.selection.is_some());
        if selects || order.monitors.is_none() {
            return Err("this report selects monitors itself".to_owned());
        }
    }
    Ok(definition)
}

/// Removes everything about other monitors from a configuration.
fn restrict(config: &mut Config, only: &BTreeSet<String>) {
    let is_seen = |monitor: &&mailqos_config::Monitor| only.contains(monitor.id.as_str());
    // What is judged together with hidden monitors would get another verdict.
    let mut levels = std::mem::take(&mut config.service_levels);
    levels.retain(|_, level| {
        let all = config.monitors.values();
        let mut own = all.filter(|monitor| {
            level.monitors.is_empty()
                || level.monitors.iter().any(|pattern| monitor.is_selected(pattern))
        });
        if level.together { own.all(|monitor| is_seen(&monitor)) } else { own.any(|m| is_seen(&m)) }
    });
    config.monitors.retain(|id, _| only.contains(id.as_str()));
    let monitors = &config.monitors;
    for level in levels.values_mut() {
        level
            .monitors
            .retain(|pattern| monitors.values().any(|monitor| monitor.is_selected(pattern)));
    }
    config.service_levels = levels;
    config.objects.retain(|id, _| monitors.values().any(|monitor| monitor.object == *id));
    config.maintenance.clear();
}
