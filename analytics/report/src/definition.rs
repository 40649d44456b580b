//! Report templates (what to display, without monitors) and report definitions (a template or sections of their own, for
//! particular monitors, with schedule and delivery), as TOML files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jiff::{
    civil::{Time, Weekday},
    tz::TimeZone,
};
use mailqos_config::{
    Config, Cron, DateText, FromToml as _, Problem, Problems, Table, did_you_mean, parse, time_of_day,
};
use mailqos_model::{Micros, Name};

use super::{
    calendar_keys::{FirstDay, FirstMonth, LanguageTag, PeriodName},
    definition_file::read_file,
    deliveries,
    facts::Selection,
    media,
    sections::{self, Placed, strings},
    theme::{self, ThemeOptions},
};

/// What to display.
#[derive(Debug, Default)]
pub struct Template {
    /// What reports made of it are called.
    pub title: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// Its sections, in order.
    pub sections: Vec<Placed>,
    /// The name of its layouts, where it has its own.
    pub layout: Option<String>,
    /// Its house style, where it says one.
    pub theme: Option<ThemeOptions>,
}

/// A report: what to display, of which monitors, when, and where it goes.
#[derive(Debug)]
pub struct Definition {
    /// The stem of its files' names.
    pub slug: String,
    /// Title, description and sections.
    pub template: Template,
    /// Which monitors.
    pub selection: Selection,
    /// The name of the period, such as `last-month`.
    pub period: Option<String>,
    /// The zone of its dates; the configuration's unless said otherwise.
    pub timezone: Option<TimeZone>,
    /// The first day of its weeks; Monday by default.
    pub week_start: Weekday,
    /// The first month of its years, 1 to 12; quarters follow it.
    pub year_start: i8,
    /// The language tag.
    pub language: String,
    /// One report for all monitors, or one each.
    pub each: Each,
    /// Which files are made.
    pub formats: BTreeSet<Format>,
    /// A report of more chapters is an archive rather than one page of HTML.
    pub chapters_on_a_page: usize,
    /// The PDF of a report with more chapters about single monitors leaves those out, and says so.
    pub chapters_in_a_pdf: usize,
    /// Folder of the files; the current one unless said otherwise.
    pub output: Option<PathBuf>,
    /// House style.
    pub theme: ThemeOptions,
    /// When it is made, if by itself.
    pub schedule: Option<Schedule>,
    /// Where it goes.
    pub deliveries: Vec<Delivery>,
}

/// Chapters that one page of HTML has at most unless the definition says so: at about 50 kB each, a page of that many is still
/// quick to open and small enough to send.
pub const CHAPTERS_ON_A_PAGE: usize = 150;
/// Chapters about single monitors that a PDF has at most unless the definition says so: each takes two pages and several
/// megabytes of memory while it is set, and nobody turns a thousand pages.
pub const CHAPTERS_IN_A_PDF: usize = 250;

/// One report for all, or one each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Each {
    /// All monitors in one report.
    #[default]
    All,
    /// A report for each monitor.
    Monitor,
    /// A report for each object.
    Object,
    /// A report for each tag.
    Tag,
    /// A report for each site.
    Site,
}

impl Each {
    /// The words of a definition and of the command line.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("monitor", Self::Monitor),
        ("object", Self::Object),
        ("tag", Self::Tag),
        ("site", Self::Site),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, each)| *each == self)
            .map_or("", |(word, _)| word)
    }

    /// The names of the groups that a monitor belongs to.
    pub fn names(self, monitor: &super::facts::Monitor) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Monitor => vec![monitor.name.clone()],
            Self::Object => monitor.object.iter().cloned().collect(),
            Self::Tag => monitor.tags.iter().cloned().collect(),
            Self::Site => vec![monitor.site.clone()],
        }
    }
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// One self-contained page; of a report of very many chapters, pages in an archive.
    Html,
    /// Pages in an archive: one for each chapter, and one that leads to them.
    Zip,
    /// Paginated.
    Pdf,
    /// A workbook of every figure shown.
    Xlsx,
    /// A flat table of every figure shown.
    Csv,
    /// Every figure shown, for programs.
    Json,
}

impl Format {
    /// All of them, by the word in a definition, which is also the file's extension.
    pub const ALL: [(&'static str, Self); 6] = [
        ("html", Self::Html),
        ("zip", Self::Zip),
        ("pdf", Self::Pdf),
        ("xlsx", Self::Xlsx),
        ("csv", Self::Csv),
        ("json", Self::Json),
    ];

    /// What is made unless said otherwise: what people read.
    pub const USUAL: [Self; 2] = [Self::Html, Self::Pdf];

    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Zip => "zip",
            Self::Pdf => "pdf",
            Self::Xlsx => "xlsx",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Zip => "application/zip",
            Self::Pdf => "application/pdf",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// When a report is made by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The rule.
    pub rule: Rule,
    /// What happens to runs that fell due while nobody could make them.
    pub catch_up: CatchUp,
    /// How long after its time a report waits for the lake to cover its period.
    pub grace: Micros,
}

/// A calendar rule, in the report's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every day.
    Daily(Time),
    /// On a day of each week.
    Weekly(Weekday, Time),
    /// On a day of each month.
    Monthly(MonthDay, Time),
    /// On a day of the first month of each quarter.
    Quarterly(MonthDay, Time),
    /// On a day of January.
    Yearly(MonthDay, Time),
    /// A cron expression: minute, hour, day of month, month, day of week.
    Cron(Box<Cron>),
}

/// A day of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonthDay {
    /// The nth; the last where the month is shorter.
    Day(i8),
    /// The last.
    Last,
    /// The first such weekday.
    First(Weekday),
    /// The last such weekday.
    LastOf(Weekday),
}

/// What happens to runs that fell due while nobody could make them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// All are made, each with the period that it would have had.
    All,
    /// The latest is made.
    #[default]
    Latest,
    /// None.
    None,
}

/// Where a report goes.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The target's name in the configuration.
    pub target: Name,
    /// Folder at the target, as a Tera template; may be empty.
    pub path: String,
    /// Name of the files, as a Tera template without the ending; that of the report's own files if empty.
    pub name: String,
    /// Only these formats; all if empty.
    pub formats: BTreeSet<Format>,
    /// Runs may share a name: the newest report replaces the one before.
    pub overwrite: bool,
}

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../templates/", $name, ".toml")))),+]
    };
}
/// Templates that are always there: name and text.
const BUILT_IN: &[(&str, &str)] = built_in![
    "capacity",
    "executive-summary",
    "incident-review",
    "monthly-operations",
    "service-level",
    "site-comparison",
    "top-bottom",
    "trend"
];

/// The names of the templates: the user's own and those that are always there.
pub fn template_names(config: Option<&Config>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    if let Some(config) = config
        && let Ok(entries) = std::fs::read_dir(&config.templates)
    {
        names.extend(entries.flatten().filter_map(|entry| {
            let path = entry.path();
            (path.extension()? == "toml").then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
        }));
    }
    names
}

/// The file and text of a template; the user's own goes before the one that is always there.
///
/// # Errors
/// There is none of that name, or it can't be read.
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
        format!("there are {}", known().collect::<Vec<_>>().join(", "))
    });
    Err(Problem::error(format!("there is no report template {name:?}")).help(help))
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
    let mut table = parse(&file, text, problems)?;
    let title = table.require("title", "is what reports made of it are called", problems);
    let description = table.get("description", problems).unwrap_or_default();
    let sections = sections::read_all(&mut table, "section", problems);
    if sections.is_empty() {
        problems.push(table.missing("section", "are what it displays, as [[section]]"));
    }
    let layout = read_layout(config, &mut table, problems);
    let theme = table
        .node("theme")
        .is_some()
        .then(|| theme::read(config, &mut table, problems));
    table.finish(problems);
    Some(Template {
        title: title?,
        description,
        sections,
        layout,
        theme,
    })
}

/// The definition of a report made of a template without a file.
pub fn of_template(config: Option<&Config>, name: &str) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let template = template(config, name, &mut problems);
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
                each: Each::All,
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

/// The file of a definition: a path, or a name in the configuration's folder of reports.
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

/// The files of all definitions in the configuration's folder of reports.
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
/// All that is wrong with it.
pub fn load(config: Option<&Config>, file: &Path) -> Result<Definition, Problems> {
    let mut problems = Problems::default();
    let text = match read_file(file) {
        Ok(text) => text,
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    let definition = parse(file, text, &mut problems).and_then(|table| read(config, file, table, &mut problems));
    match definition {
        Some(definition) if !problems.has_errors() => Ok(definition),
        _ => Err(problems),
    }
}

fn read(config: Option<&Config>, file: &Path, mut table: Table, problems: &mut Problems) -> Option<Definition> {
    let slug = file
        .file_stem()
        .map_or_else(|| "report".into(), |stem| stem.to_string_lossy());
    let title: Option<String> = table.get("title", problems);
    let named: Option<String> = table.get("template", problems);
    let own = sections::read_all(&mut table, "section", problems);
    let mut template = match &named {
        Some(name) => template(config, name, problems).unwrap_or_default(),
        // Sections that are wrong are there all the same.
        None if own.is_empty() && table.node("section").is_none() => {
            problems.push(table.missing(
                "template",
                "names a report template; or compose the report of [[section]]s",
            ));
            Template::default()
        }
        None => Template::default(),
    };
    template.sections.extend(own);
    match title {
        Some(title) => template.title = title,
        None if named.is_none() => problems.push(table.missing("title", "is what the report is called")),
        None => {}
    }
    let selection = Selection {
        monitors: strings(&mut table, "monitors", problems),
        sites: strings(&mut table, "sites", problems),
    };
    let period = table.get("period", problems).map(|PeriodName(name)| name);
    let timezone = table.get("timezone", problems);
    let week_start = table
        .get("week_start", problems)
        .map_or(Weekday::Monday, |FirstDay(day)| day);
    let year_start = table.get("year_start", problems).map_or(1, |FirstMonth(month)| month);
    let language = table.get("language", problems).map(|LanguageTag(tag)| tag);
    let each = table.word("each", &Each::WORDS, problems).unwrap_or_default();
    let formats = formats(&mut table, problems);
    let chapters: Option<u32> = table.get("chapters_on_a_page", problems);
    let in_a_pdf: Option<u32> = table.get("chapters_in_a_pdf", problems);
    let output = table.get("output", problems);
    if let Some(layout) = read_layout(config, &mut table, problems) {
        template.layout = Some(layout);
    }
    let theme = match template.theme.take() {
        Some(theme) if table.node("theme").is_none() => theme,
        _ => theme::read(config, &mut table, problems),
    };
    let language = language
        .or_else(|| theme.language.clone())
        .unwrap_or_else(|| "en".to_owned());
    let schedule = table
        .table("schedule", problems)
        .and_then(|schedule| read_schedule(schedule, problems));
    if schedule.is_some() && period.is_none() && table.node("period").is_none() {
        problems.push(table.missing("period", "says what a scheduled report covers, such as \"last-month\""));
    }
    let (deliveries, places) = deliveries::read(&mut table, config, each, problems);
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
        chapters_on_a_page: chapters.map_or(CHAPTERS_ON_A_PAGE, |chapters| chapters as usize),
        chapters_in_a_pdf: in_a_pdf.map_or(CHAPTERS_IN_A_PDF, |chapters| chapters as usize),
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
    let said = formats_of(table, problems);
    if said.is_empty() { Format::USUAL.into() } else { said }
}

pub(super) fn formats_of(table: &mut Table, problems: &mut Problems) -> BTreeSet<Format> {
    let words: Vec<String> = strings(table, "formats", problems);
    words
        .iter()
        // `formats = "pdf, html"`.
        .flat_map(|word| word.split(','))
        .filter_map(|word| {
            let word = word.trim().trim_start_matches('.').to_lowercase();
            let meant = match word.as_str() {
                "excel" | "xls" | "workbook" => Some("xlsx"),
                "htm" | "web" => Some("html"),
                _ => None,
            };
            let known = Format::ALL.iter().find(|(name, _)| *name == word);
            if known.is_none() {
                let all: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
                problems.push(
                    table
                        .problem("formats", format!("{word:?} is no format"), "not known")
                        .help(match meant {
                            Some(meant) => format!("did you mean {meant:?}?"),
                            None => format!("write some of: {}", all.join(", ")),
                        }),
                );
            }
            known.map(|(_, format)| *format)
        })
        .collect()
}

fn read_schedule(mut table: Table, problems: &mut Problems) -> Option<Schedule> {
    let cron: Option<Cron> = table.get("cron", problems);
    let every = table.word(
        "every",
        &[("day", 0), ("week", 1), ("month", 2), ("quarter", 3), ("year", 4)],
        problems,
    );
    for (key, cron) in [("on", "0 7 1,15 * *"), ("at", "0 7,19 * * *")] {
        if let Some(node) = table.node(key).filter(|node| node.as_list().len() > 1) {
            problems.push(
                node.problem(format!("{key} takes one value"), "several")
                    .help(format!("write one, or instead of every, on and at: cron = \"{cron}\"")),
            );
            return None;
        }
    }
    let on = table.get::<String>("on", problems).map(|on| day_word(&on));
    let at = match table.node("at") {
        // `at = 7` and `at = 07:00:00`.
        Some(node) => DateText::from_toml(&node)
            .map(|text| text.0)
            .or_else(|_| String::from_toml(&node)),
        None => Ok("07:00".to_owned()),
    };
    let at = at.unwrap_or_default();
    let at = match time_of_day(&at) {
        Some(at) => at,
        None => {
            problems.push(
                table
                    .problem("at", format!("{at:?} is no time of day"), "here")
                    .help("write one such as \"07:00\""),
            );
            return None;
        }
    };
    let catch_up = table
        .word(
            "catch_up",
            &[
                ("all", CatchUp::All),
                ("latest", CatchUp::Latest),
                ("none", CatchUp::None),
            ],
            problems,
        )
        .unwrap_or_default();
    let grace = table.get("grace", problems).unwrap_or(Micros::ZERO);
    let month_day = |problems: &mut Problems, table: &Table| -> Option<MonthDay> {
        let text = on.as_deref().unwrap_or("1");
        let day = match text {
            "last" => Some(MonthDay::Last),
            other => match (other.strip_prefix("first-"), other.strip_prefix("last-")) {
                (Some(day), _) => weekday(day).map(MonthDay::First),
                (_, Some(day)) => weekday(day).map(MonthDay::LastOf),
                (None, None) => other
                    .parse()
                    .ok()
                    .filter(|day| (1..=31).contains(day))
                    .map(MonthDay::Day),
            },
        };
        if day.is_none() {
            problems.push(
                table
                    .problem("on", format!("{text:?} is no day of a month"), "here")
                    .help("write \"1\" to \"31\", \"last\", \"first-monday\" or \"last-friday\""),
            );
        }
        day
    };
    // What would be ignored is refused.
    let (with, unused, remedy): (&str, &[&'static str], &str) = match (&cron, every) {
        (Some(_), None) => ("cron", &["on", "at"], "leave it out: the expression says when"),
        (None, Some(0)) => (
            "every = \"day\"",
            &["on"],
            "leave it out; or write every = \"week\", \"month\", \"quarter\" or \"year\"",
        ),
        _ => ("", &[], ""),
    };
    for key in unused {
        if table.node(*key).is_some() {
            let message = format!("{key} means nothing with {with}");
            problems.push(table.problem(*key, message, "here").help(remedy));
        }
    }
    let rule = match (cron, every) {
        (Some(cron), None) => Some(Rule::Cron(Box::new(cron))),
        (Some(_), Some(_)) => {
            problems.push(table.problem("cron", "both cron and every say when", "keep one of them"));
            None
        }
        (None, Some(0)) => Some(Rule::Daily(at)),
        (None, Some(1)) => {
            let text = on.as_deref().unwrap_or("monday");
            let day = weekday(text);
            if day.is_none() {
                problems.push(
                    table
                        .problem("on", format!("{text:?} is no day of a week"), "here")
                        .help("write monday, tuesday, … or sunday"),
                );
            }
            day.map(|day| Rule::Weekly(day, at))
        }
        (None, Some(2)) => month_day(problems, &table).map(|day| Rule::Monthly(day, at)),
        (None, Some(3)) => month_day(problems, &table).map(|day| Rule::Quarterly(day, at)),
        (None, Some(_)) => month_day(problems, &table).map(|day| Rule::Yearly(day, at)),
        (None, None) => {
            if table.node("every").is_none() && table.node("cron").is_none() {
                problems.push(table.missing(
                    "every",
                    "is day, week, month, quarter or year; or write cron = \"0 7 1 * *\"",
                ));
            }
            None
        }
    };
    table.finish(problems);
    Some(Schedule {
        rule: rule?,
        catch_up,
        grace,
    })
}

/// A day as it is read, from what people write: `1st`, `1.`, `Last day`, `first Monday`, `Mondays`.
fn day_word(text: &str) -> String {
    let word = text.trim().to_lowercase().replace([' ', '_'], "-");
    let number = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    match word.as_str() {
        "last-day" => "last".to_owned(),
        "first" | "first-day" => "1".to_owned(),
        other if !number.is_empty() && ["st", "nd", "rd", "th", "."].contains(&&other[number.len()..]) => {
            number.to_owned()
        }
        other => other
            .strip_suffix("days")
            .map_or_else(|| other.to_owned(), |day| format!("{day}day")),
    }
}

/// A weekday by its English name.
pub fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.to_lowercase().as_str() {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// The name of layouts of one's own: files in the folders of the media.
fn read_layout(config: Option<&Config>, table: &mut Table, problems: &mut Problems) -> Option<String> {
    let name: Name = table.get("layout", problems)?;
    let folder = config.map_or_else(|| PathBuf::from("templates"), |config| config.templates.clone());
    let files = media::layout_files(&folder, name.as_str());
    if files.iter().any(|file| file.is_file()) {
        return Some(name.to_string());
    }
    let places: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    problems.push(
        table
            .problem("layout", format!("there is no layout {:?}", name.as_str()), "not known")
            .help(format!(
                "it is one or more of the files {}; `templates new NAME --layout` begins one",
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
            (
                "every = \"day\"\non = \"monday\"",
                &["7:6: on means nothing with every = \"day\""],
            ),
            (
                "cron = \"0 7 * * *\"\non = \"1\"\nat = \"08:00\"",
                &["7:6: on means nothing with cron", "8:6: at means nothing with cron"],
            ),
        ] {
            let text =
                format!("title = \"x\"\nperiod = \"yesterday\"\n[[section]]\nkind = \"phases\"\n[schedule]\n{lines}\n");
            std::fs::write(&file, text).expect("written");
            let said = load(None, &file).map_or_else(|problems| problems.to_string(), |_| String::new());
            let found = said.matches("means nothing").count();
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
        assert!(
            problems.contains("a section within another has no period of its own"),
            "{problems}"
        );
        std::fs::write(&file, text.replace("period = \"last-year\"", "limit = 3")).expect("written");
        assert!(load(None, &file).is_ok());
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
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
        let text = problems
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "");
        insta::assert_snapshot!(text);
    }
}
