//! Reads report templates and report definitions from TOML files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jiff::{civil::Weekday, tz::TimeZone};
use mailqos_config::{
    Config, Problem, Problems, Table, did_you_mean,
    key::{Defaulted, Optional, Required, Word, key},
    keys, parse,
    reference::{Key, ValueKind},
    word,
};
use mailqos_model::Name;

use super::{
    calendar_keys::{FirstDay, FirstMonth, LanguageTag, PeriodName},
    definition::{CHAPTERS_IN_A_PDF, CHAPTERS_ON_A_PAGE, Definition, Format, Grouping, Template},
    definition_file::read_file,
    deliveries::{self, FORMATS, formats_of},
    facts::Selection,
    media, schedule_keys,
    sections::{self, SECTIONS, strings},
    theme,
};

keys! {
    DEFINITION: DefinitionKeys {
        /// The template; the definition's own sections follow it.
        template: Optional<String> = key().otherwise("only sections");
        /// The report's title; required without a template.
        title: Optional<String> = key().otherwise("the template's");
        /// IDs, globs, `SITE/ID`, `tag:NAME`, `object:NAME`.
        monitors: Optional<Vec<String>> = key().otherwise("all");
        /// Only these sites.
        sites: Optional<Vec<String>> = key().otherwise("all");
        /// `last-month`, `current-week`, `last-7d`, `2026-03` …; required with a schedule.
        period: Optional<PeriodName> = key().otherwise("the previous month");
        /// The time zone of its days and times.
        timezone: Optional<TimeZone> = key().otherwise("the configuration's");
        /// The first day of the week.
        week_start: Defaulted<FirstDay> = key().default("\"monday\"");
        /// The first month of the year, for example of a fiscal year; quarters follow it.
        year_start: Defaulted<FirstMonth> = key().default("1");
        /// `en`, `de` or `sv`.
        language: Optional<LanguageTag> = key().otherwise("the theme's, or `en`");
        /// One report for all monitors, or a separate one for each monitor, object, tag or site.
        each: Word<Grouping> = word!(Grouping::WORDS).default("\"all\"");
        /// Which files are generated.
        formats: Key = Key::new("", ValueKind::SomeOf(FORMATS), "").default("[\"html\", \"pdf\"]");
        /// The maximum number of chapters on one page; a longer report with the format `html`
        /// becomes a `zip` with a page for each chapter.
        chapters_on_a_page: Defaulted<u32> = key().default("150");
        /// The maximum number of chapters about single monitors in a PDF; a longer report omits
        /// them, and notes that. The archive contains them.
        chapters_in_a_pdf: Defaulted<u32> = key().default("250");
        /// The folder for its files.
        output: Optional<PathBuf> = key().otherwise("the current folder; for scheduled reports one in the state folder");
        /// When it is generated automatically.
        schedule: Key = Key::table(&["schedule"]);
        /// Where it is delivered: names of targets, or tables.
        deliver: Key = Key::new("", ValueKind::NamesOrTables(&["deliver"]), "");
    }
}

keys! {
    LAYOUT: LayoutKeys {
        /// The name of custom layouts in the folder of templates.
        layout: Optional<Name> = key();
        /// What it displays, in order.
        section: Key = Key::tables(SECTIONS);
    }
}

keys! {
    TEMPLATE: TemplateKeys {
        /// The title of reports based on it.
        title: Required<String> = key();
        /// Its purpose, in one sentence.
        description: Defaulted<String> = key().default("\"\"");
    }
}

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../templates/", $name, ".toml")))),+]
    };
}
/// Names and texts of the built-in templates.
const BUILT_IN: &[(&str, &str)] = built_in![
    "capacity",
    "deliverability",
    "executive-summary",
    "incident-review",
    "monthly-operations",
    "service-level",
    "site-comparison",
    "top-bottom",
    "trend"
];

/// Returns the names of all templates, custom and built-in.
pub fn template_names(config: Option<&Config>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    if let Some(config) = config
        && let Ok(entries) = std::fs::read_dir(&config.templates)
    {
        names.extend(entries.flatten().filter_map(|entry| {
            let path = entry.path();
            (path.extension()? == "toml")
                .then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
        }));
    }
    names
}

/// Returns whether a template is built in and not overridden by a custom one.
pub fn is_built_in(config: Option<&Config>, name: &str) -> bool {
    BUILT_IN.iter().any(|(known, _)| *known == name)
        && !config.is_some_and(|config| config.templates.join(format!("{name}.toml")).is_file())
}

/// Returns the path and text of a template; a custom template overrides a built-in one.
///
/// # Errors
/// There is no template of that name, or it can't be read.
pub fn template_text(config: Option<&Config>, name: &str) -> Result<(PathBuf, String), Problem> {
    if let Some(config) = config {
        let file = config.templates.join(format!("{name}.toml"));
        if file.is_file() && Path::new(name).components().count() == 1 {
            return read_file(&file).map(|text| (file, text));
        }
    }
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((PathBuf::from(format!("templates/{name}.toml")), (*text).to_owned()));
    }
    let names = template_names(config);
    let known = || names.iter().map(String::as_str);
    let help = did_you_mean(name, known(), || {
        format!("available: {}", known().collect::<Vec<_>>().join(", "))
    });
    Err(Problem::error(format!("unknown report template {name:?}")).help(help))
}

/// Reads a template by name.
pub fn template(config: Option<&Config>, name: &str, problems: &mut Problems) -> Option<Template> {
    let (file, text) = match template_text(config, name) {
        Ok(found) => found,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    template_of(config, &file, text, problems)
}

/// Reads the text of a template.
fn template_of(
    config: Option<&Config>,
    file: &Path,
    text: String,
    problems: &mut Problems,
) -> Option<Template> {
    let mut table = parse(file, text, problems)?;
    let title =
        table.require(&TEMPLATE.title, "the title of reports based on this template", problems);
    let description = table.read(&TEMPLATE.description, problems);
    let sections = sections::read_all(&mut table, &LAYOUT.section, problems);
    if sections.is_empty() {
        problems.push(table.missing(&LAYOUT.section, "the sections to display, as [[section]]"));
    }
    let layout = read_layout(config, &mut table, problems);
    let theme = table
        .node(&theme::STYLE.theme)
        .is_some()
        .then(|| theme::read(config, &mut table, problems));
    table.finish(problems);
    Some(Template { title: title?, description, sections, layout, theme })
}

/// Returns the definition of a report based on a template, without a definition file.
pub fn of_template(config: Option<&Config>, name: &str) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let template = template(config, name, &mut problems);
    complete(config, name, template, problems)
}

/// Returns the definition of a report based on a template that is part of a program.
///
/// # Errors
/// All problems of the template and of the house style.
pub fn of_text(config: Option<&Config>, name: &str, text: &str) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let file = PathBuf::from(format!("{name}.toml"));
    let template = template_of(config, &file, text.to_owned(), &mut problems);
    complete(config, name, template, problems)
}

/// Completes a template without a definition file.
fn complete(
    config: Option<&Config>,
    name: &str,
    template: Option<Template>,
    mut problems: Problems,
) -> Result<Definition, Problems> {
    match template {
        Some(mut template) if !problems.has_errors() => {
            let theme = match template.theme.take() {
                Some(theme) => theme,
                None => theme::house(config, &mut problems),
            };
            if problems.has_errors() {
                return Err(problems);
            }
            Ok(Definition {
                slug: name.to_owned(),
                template,
                selection: Selection::default(),
                period: None,
                timezone: None,
                week_start: Weekday::Monday,
                year_start: 1,
                language: theme.language.clone().unwrap_or_else(|| "en".to_owned()),
                each: Grouping::All,
                formats: Format::USUAL.into(),
                chapters_on_a_page: CHAPTERS_ON_A_PAGE,
                chapters_in_a_pdf: CHAPTERS_IN_A_PDF,
                output: None,
                theme,
                schedule: None,
                deliveries: Vec::new(),
            })
        }
        _ => Err(problems),
    }
}

/// Returns the path of a definition, given as a path or as a name in the configured folder of
/// reports.
pub fn find(config: Option<&Config>, name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    if path.is_file() {
        return path;
    }
    if let Some(config) = config {
        for candidate in [config.reports.join(name), config.reports.join(format!("{name}.toml"))] {
            if candidate.is_file() {
                return candidate;
            }
        }
    }
    path
}

/// Returns the paths of all definitions in the configured folder of reports.
///
/// # Errors
/// The folder can't be listed.
pub fn files(config: &Config) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(&config.reports) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a definition.
///
/// # Errors
/// All problems of the file.
pub fn load(config: Option<&Config>, file: &Path) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let text = match read_file(file) {
        Ok(text) => text,
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    of_definition(config, file, text)
}

/// Reads the text of a definition; `file` is the path that problems and its name refer to.
///
/// # Errors
/// All problems of the text.
pub fn of_definition(
    config: Option<&Config>,
    file: &Path,
    text: String,
) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let definition =
        parse(file, text, &mut problems).and_then(|table| read(config, file, table, &mut problems));
    match definition {
        Some(definition) if !problems.has_errors() => Ok(definition),
        _ => Err(problems),
    }
}

fn read(
    config: Option<&Config>,
    file: &Path,
    mut table: Table,
    problems: &mut Problems,
) -> Option<Definition> {
    let slug = file.file_stem().map_or_else(|| "report".into(), |stem| stem.to_string_lossy());
    let title = table.read(&DEFINITION.title, problems);
    let named = table.read(&DEFINITION.template, problems);
    let own = sections::read_all(&mut table, &LAYOUT.section, problems);
    let mut template = match &named {
        Some(name) => template(config, name, problems).unwrap_or_default(),
        // Invalid sections count as present.
        None if own.is_empty() && table.node(&LAYOUT.section).is_none() => {
            problems.push(table.missing(
                &DEFINITION.template,
                "the name of a report template; or add sections with [[section]]",
            ));
            Template::default()
        }
        None => Template::default(),
    };
    template.sections.extend(own);
    match title {
        Some(title) => template.title = title,
        None if named.is_none() => {
            problems.push(table.missing(&DEFINITION.title, "the title of the report"))
        }
        None => {}
    }
    let selection = Selection {
        monitors: strings(&mut table, &DEFINITION.monitors, problems),
        sites: strings(&mut table, &DEFINITION.sites, problems),
    };
    let period = table.read(&DEFINITION.period, problems).map(|PeriodName(name)| name);
    let timezone = table.read(&DEFINITION.timezone, problems);
    let FirstDay(week_start) = table.read(&DEFINITION.week_start, problems);
    let FirstMonth(year_start) = table.read(&DEFINITION.year_start, problems);
    let language = table.read(&DEFINITION.language, problems).map(|LanguageTag(tag)| tag);
    let each = table.read(&DEFINITION.each, problems);
    let formats = formats(&mut table, problems);
    let chapters_on_a_page = table.read(&DEFINITION.chapters_on_a_page, problems) as usize;
    let chapters_in_a_pdf = table.read(&DEFINITION.chapters_in_a_pdf, problems) as usize;
    let output = table.read(&DEFINITION.output, problems);
    if let Some(layout) = read_layout(config, &mut table, problems) {
        template.layout = Some(layout);
    }
    let theme = match template.theme.take() {
        Some(theme) if table.node(&theme::STYLE.theme).is_none() => theme,
        _ => theme::read(config, &mut table, problems),
    };
    let language = language.or_else(|| theme.language.clone()).unwrap_or_else(|| "en".to_owned());
    let schedule = table
        .table(&DEFINITION.schedule, problems)
        .and_then(|schedule| schedule_keys::read(schedule, (week_start, year_start), problems));
    if schedule.is_some() && period.is_none() && table.node(&DEFINITION.period).is_none() {
        problems.push(table.missing(
            &DEFINITION.period,
            "the period that a scheduled report covers, such as \"last-month\"",
        ));
    }
    let (deliveries, places) =
        deliveries::read(&mut table, &DEFINITION.deliver, config, each, problems);
    table.finish(problems);
    let definition = Definition {
        slug: slug.into_owned(),
        template,
        selection,
        period,
        timezone,
        week_start,
        year_start,
        language,
        each,
        formats,
        chapters_on_a_page,
        chapters_in_a_pdf,
        output,
        theme,
        schedule,
        deliveries,
    };
    if let Some(config) = config {
        deliveries::check(&definition, &places, config, problems);
    }
    Some(definition)
}

fn formats(table: &mut Table, problems: &mut Problems) -> BTreeSet<Format> {
    let said = formats_of(table, &DEFINITION.formats, problems);
    if said.is_empty() { Format::USUAL.into() } else { said }
}

/// Reads the name of custom layouts, which are files in the folders of the media.
fn read_layout(
    config: Option<&Config>,
    table: &mut Table,
    problems: &mut Problems,
) -> Option<String> {
    let name: Name = table.read(&LAYOUT.layout, problems)?;
    let folder =
        config.map_or_else(|| PathBuf::from("templates"), |config| config.templates.clone());
    let files = media::layout_files(&folder, name.as_str());
    if files.iter().any(|file| file.is_file()) {
        return Some(name.to_string());
    }
    let places: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    problems.push(
        table
            .problem(&LAYOUT.layout, format!("unknown layout {:?}", name.as_str()), "unknown")
            .help(format!(
                "a layout consists of one or more of the files {}; create one with `templates new NAME \
                 --layout`",
                places.join(", ")
            )),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_templates_are_right() {
        for (name, _) in BUILT_IN {
            if let Err(problems) = of_template(None, name) {
                panic!("{name}: {problems}");
            }
        }
    }

    #[test]
    fn the_example_definitions_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect("reports") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                if let Err(problems) = load(None, &path) {
                    panic!("{problems}");
                }
                count += 1;
            }
        }
        assert!(count >= 2, "{count} definitions");
    }

    #[test]
    fn what_a_schedule_would_ignore_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("often.toml");
        for (lines, refused) in [
            ("every = \"day\"\nat = \"08:00\"", &[][..]),
            ("every = \"week\"\non = \"friday\"", &[]),
            ("cron = \"0 7 * * *\"", &[]),
            ("every = \"day\"\non = \"monday\"", &["7:6: on has no effect with every = \"day\""]),
            (
                "cron = \"0 7 * * *\"\non = \"1\"\nat = \"08:00\"",
                &["7:6: on has no effect with cron", "8:6: at has no effect with cron"],
            ),
        ] {
            let text = format!(
                "title = \"x\"\nperiod = \"yesterday\"\n[[section]]\nkind = \"phases\"\n[schedule]\n{lines}\n"
            );
            std::fs::write(&file, text).expect("written");
            let said =
                load(None, &file).map_or_else(|problems| problems.to_string(), |_| String::new());
            let found = said.matches("has no effect").count();
            assert_eq!((found, said.is_empty()), (refused.len(), refused.is_empty()), "{said}");
            assert!(refused.iter().all(|words| said.contains(words)), "{said}");
        }
    }

    #[test]
    fn what_a_section_within_another_can_not_have_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("within.toml");
        let text = "title = \"x\"\n[[section]]\nkind = \"per-monitor\"\n[[section.section]]\nkind = \"outages\"\nperiod = \"last-year\"\n";
        std::fs::write(&file, text).expect("written");
        let problems = load(None, &file).expect_err("it would be ignored").to_string();
        assert!(problems.contains("a nested section cannot have its own period"), "{problems}");
        std::fs::write(&file, text.replace("period = \"last-year\"", "limit = 3"))
            .expect("written");
        assert!(load(None, &file).is_ok());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("broken.toml");
        std::fs::write(
            &file,
            r#"
titel = "x"
template = "monthly-operation"
language = "xx"
formats = ["docx"]
[schedule]
every = "month"
on = "first-moonday"
cron = "at seven"
[[deliver]]
to = "x"
[[section]]
kind = "outage"
[[section]]
kind = "text"
"#,
        )
        .expect("written");
        let problems = load(None, &file).expect_err("wrong");
        let text = problems.to_string().replace(&format!("{}/", folder.path().display()), "");
        insta::assert_snapshot!(text);
    }
}
