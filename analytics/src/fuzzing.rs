//! Entry points for the fuzz targets: the inputs of reports and figures. Not part of the public
//! interface.

use std::sync::LazyLock;

use jiff::tz::TimeZone;
use mailqos_base::fuzzing::in_file;
use mailqos_figures::{Calendar, Period};
use mailqos_lake_tables::import::{self, Mapping, Plan};
use mailqos_lake_tables::{Column, Lake, Metric, SeriesQuery};
use mailqos_model::UtcMicros;
use mailqos_report::{
    definitions,
    document::{Block, Document},
    generate::{self, Source},
    media::html,
};

/// A function to fuzz with bytes from outside; it panics if an invariant is violated.
pub type Target = fn(&[u8]);

/// Fuzz targets by name, which is also the name of the folder with their seeds.
pub const TARGETS: [(&str, Target); 4] = [
    ("import", import),
    ("lake", lake),
    ("report_definition", report_definition),
    ("report_template", report_template),
];

/// Separator between the mapping and the file.
const FILE: &str = "=== file ===\n";

/// Imports a table: a mapping of columns and outcomes, one per line, and the table after `=== file
/// ===`.
pub fn import(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (said, at) = match text.find(FILE) {
        Some(at) => (&text[..at], at + FILE.len()),
        None => ("", 0),
    };
    let mut plan = Plan {
        site: "here".parse().expect("a name"),
        monitor: None,
        mappings: Vec::new(),
        outcomes: [("up".to_owned(), "ok".to_owned())].into(),
        outcome: None,
        delimiter: None,
        time_format: None,
        timezone: TimeZone::get("Europe/Stockholm").unwrap_or(TimeZone::UTC),
        skip_duplicates: said.contains("skip"),
        preset: None,
        missing: Vec::new(),
        missing_outcome: None,
        decimal_mark: None,
    };
    for line in said.lines() {
        match (line.strip_prefix("monitor "), line.parse::<Mapping>()) {
            (Some(name), _) => plan.monitor = name.parse().ok(),
            (None, Ok(mapping)) => plan.mappings.push(mapping),
            (None, Err(error)) => assert!(!error.is_empty()),
        }
    }
    in_file("table.csv", text[at..].as_bytes(), |file| {
        let data = file.with_file_name("data");
        match import::import(&data, file, &plan, false) {
            Ok(imported) => assert_eq!(imported.rows, imported.new + imported.duplicates),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert!(!data.exists(), "only looked at");
    });
}

/// The day of the file in [`lake`].
static DAY: LazyLock<Period> = LazyLock::new(|| {
    Period::between("2026-11-01", "2026-12-01", Calendar::new(TimeZone::UTC)).expect("a period")
});

/// Reads a day file as the figures do.
pub fn lake(bytes: &[u8]) {
    in_file("samples/site=here/date=2026-11-24/samples.parquet", bytes, |file| {
        let data = file.ancestors().nth(4).expect("the data folder");
        for skip in [false, true] {
            let lake = Lake::open(data).expect("a lake").skip_corrupt(skip);
            let query = SeriesQuery::new(DAY.clone())
                .metrics(&[Metric::RoundTrip, Metric::SmtpSend])
                .columns(&[Column::Stage, Column::Error])
                .for_outages();
            let counted = lake.count(&query);
            let read = lake.map(&query, |series| series.len());
            assert!(!skip || (counted.is_ok() && read.is_ok()), "{counted:?} {read:?}");
            assert!(!skip || lake.monitors(Some((&*DAY).into())).is_ok());
        }
    });
}

/// Parses the definition of a report, or a report template.
pub fn report_definition(text: &[u8]) {
    in_file("report.toml", text, |file| match definitions::load(None, file) {
        Ok(definition) => {
            assert!(!definition.template.title.is_empty() || definition.slug == "report")
        }
        Err(problems) => assert!(problems.has_errors() && !problems.render(false).is_empty()),
    });
}

/// A report to render.
static REPORT: LazyLock<Document> = LazyLock::new(|| {
    let definition = definitions::of_template(None, "executive-summary").expect("a template");
    let mut document = in_file("samples/none", b"", |file| {
        let lake = Lake::open(file.ancestors().nth(2).expect("the data folder")).expect("a lake");
        let source = Source {
            lake: &lake,
            config: None,
            now: UtcMicros(1_795_456_800_000_000),
            made_at: None,
        };
        let mut reports = generate::documents(&definition, source, &DAY).expect("a report");
        reports.remove(0).document
    });
    document.blocks.push(Block::paragraph("Words & <b>more</b>"));
    document
});

/// Renders a page with a user's Tera partial, or reports its errors.
pub fn report_template(text: &[u8]) {
    in_file("html/paragraph.html", text, |file| {
        let own = file.ancestors().nth(2).expect("a folder");
        if let Err(error) = html::render(&REPORT, Some(own)) {
            assert!(!error.to_string().is_empty());
        }
    });
}
