//! Snapshots of each kind of section, as HTML and as plain text, from a small simulated lake.
//! Drawings are omitted: charts have their own snapshots.

use std::{collections::BTreeMap, fs, path::Path};

use jiff::tz::TimeZone;
use mailqos_config as config;
use mailqos_config::Config;
use mailqos_figures::{
    AlarmLog, Calendar, Period, Unit,
    service_level::{UndecidedReason, Verdict},
};
use mailqos_lake::DayWriter;
use mailqos_lake_tables::{Lake, Metric};
use mailqos_model::{Event, EventKind, Hop, Micros, Outcome, Placement, Sample, Stage, UtcMicros};

use super::{Ids, kinds};
use crate::{
    definition::Definition,
    definitions,
    digest::{Need, Needs},
    document::{Block, Document, Note, Status},
    facts::{Facts, Selection},
    findings::{self, CombinedFigures},
    generate::{self, Material, SectionFacts, Source},
    locale::Locale,
    media,
};

/// 2026-03-02, a Monday, midnight UTC.
const MONDAY: UtcMicros = UtcMicros(1_772_409_600_000_000);
const HOUR: Micros = Micros::from_secs(3_600);
const DAYS: i64 = 14;

/// Options of kinds that require some.
fn options(kind: &str) -> &'static str {
    match kind {
        "heading" => "text = \"Ours & <b>theirs</b>\"",
        "text" => {
            "markdown = \"*Words* with a [link](https://example.com/?a=1&b=2) and `code`.\\n\\n1. one\\n2. two\""
        }
        "image" => {
            "file = \"house.svg\"\nalternative = \"Our house\"\ncaption = \"From the street\""
        }
        "columns" => {
            "[[section.column]]\n[[section.column.section]]\nkind = \"heading\"\ntext = \"Left\"\n\
             [[section.column]]\n[[section.column.section]]\nkind = \"top\"\nfigure = \"p95\""
        }
        "top" => "figure = \"availability\"",
        "per-monitor" => "[[section.section]]\nkind = \"key-figures\"",
        _ => "",
    }
}

const CONFIGURATION: &str = r#"
site = "here"
data = "data"
timezone = "UTC"
[account.probe]
user = "probe@example.com"
password = { env = "MAILQOS_NO_SUCH_VARIABLE" }
[service_level.office]
name = "Office mail"
availability = "99%"
delivered_within = { "5s" = "95%" }
[object.lyon]
name = "Lyon <plant>"
address = "mail.example.com"
tags = ["plant"]
[monitor.lyon]
name = "Lyon <plant>"
object = "lyon"
kind = "mail-qos"
from = "a@example.com"
to = "a@example.com"
test_interval = "1h"
smtp = { port = 587, account = "probe" }
pickup = { protocol = "imap", account = "probe" }
[object.oslo]
name = "Oslo"
address = "mail.example.net"
tags = ["office"]
[monitor.oslo]
name = "Oslo"
object = "oslo"
kind = "mail-qos"
from = "a@example.net"
to = "a@example.net"
test_interval = "1h"
smtp = { port = 587, account = "probe" }
pickup = { protocol = "imap", account = "probe" }
"#;

/// Hourly tests of two monitors over two weeks: Lyon is slower from the second week on and has an
/// outage of three hours.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (monitor, base) in [("lyon", 1_800), ("oslo", 900)] {
        for hour in -DAYS * 24..DAYS * 24 {
            let at = MONDAY + Micros(HOUR.0 * hour + 60_000_000);
            let mut sample = Sample::new(monitor.parse().expect("an id"), at, Outcome::Ok);
            // Variation without random numbers: the hours of a day, and a step.
            let spread = (hour * 7_919).rem_euclid(97) * 11;
            let step = if monitor == "lyon" && hour >= 7 * 24 { 900 } else { 0 };
            let part = |share: i64| Some(Micros((base + spread + step) * share));
            sample.test_interval = Some(HOUR);
            sample.max_round_trip = Some(Micros::from_secs(30));
            sample.settled = Some(true);
            if monitor == "lyon" && (58..61).contains(&hour) {
                sample.outcome = Outcome::SmtpFailed;
                sample.stage = Some(Stage::SmtpConnect);
                sample.error = Some("connection refused <here>".into());
                samples.push(sample);
                continue;
            }
            (sample.smtp_connect, sample.smtp_send) = (part(20), part(120));
            (sample.pickup_connect, sample.pickup_login, sample.pickup_receive) =
                (part(30), part(60), part(10));
            (sample.round_trip, sample.round_trip_error) = (part(1_000), Some(Micros(120_000)));
            let is_signed = monitor != "lyon" || hour < 7 * 24;
            sample.dkim = Some(if is_signed { "pass" } else { "none" }.into());
            (sample.spf, sample.smtp_attempts) = (Some("pass".into()), Some(1));
            sample.placement = (monitor == "oslo").then_some(Placement::Inbox);
            sample.smtp_tls_version = Some("TLSv1.3".into());
            sample.smtp_tls_cipher = Some("TLS13_AES_256_GCM_SHA384".into());
            sample.smtp_certificate_expires_at = Some(MONDAY + Micros(HOUR.0 * 24 * 365));
            sample.hops = Some(
                [("mx.example.com", 200), ("store.example.com", 500)]
                    .map(|(by, share)| Hop {
                        by: Some(by.into()),
                        from: None,
                        at: None,
                        delay: part(share),
                        clock_suspect: false,
                    })
                    .into(),
            );
            if hour.rem_euclid(101) == 13 {
                (sample.outcome, sample.round_trip) = (Outcome::Late, Some(Micros::from_secs(90)));
            }
            samples.push(sample);
        }
    }
    samples
}

fn events() -> Vec<Event> {
    let event = |hour: i64, kind| {
        Event::new("lyon".parse().ok(), MONDAY + Micros(HOUR.0 * hour + 90_000_000), kind)
    };
    vec![
        event(60, EventKind::AlarmRaised).text("3 tests failed in a row"),
        event(61, EventKind::AlarmCleared),
    ]
}

fn lake(folder: &Path) -> Config {
    lake_of(folder, samples())
}

fn lake_of(folder: &Path, samples: Vec<Sample>) -> Config {
    let site = "here".parse().expect("a site");
    let data = folder.join("data");
    let mut days: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        days.entry(sample.started_at.utc_date()).or_default().push(sample);
    }
    for (day, samples) in days {
        let mut file = DayWriter::create(&data, &site, day).expect("a file");
        for sample in samples {
            file.push(sample).expect("in order");
        }
        file.publish(None).expect("published");
    }
    let events = events();
    let mut file =
        DayWriter::<Event>::create(&data, &site, events[0].at.utc_date()).expect("a file");
    for event in events {
        file.push(event).expect("in order");
    }
    file.publish(None).expect("published");
    let house = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 2 1\"><rect width=\"2\" height=\"1\"/></svg>";
    fs::write(folder.join("house.svg"), house).expect("written");
    fs::write(folder.join("mailqos.toml"), CONFIGURATION).expect("written");
    config::load(&folder.join("mailqos.toml")).expect("the configuration is right")
}

/// All figures that sections of these tests may need.
fn everything() -> Needs {
    let trips = Metric::RoundTrip;
    let metrics = Metric::ALL.iter().copied().map(Need::Figures);
    let others = [
        Need::Values(trips),
        Need::Values(Metric::RoundTripError),
        Need::Spread(trips),
        Need::WholeSpread(trips),
        Need::Line(trips),
        Need::Tests(None),
        Need::Tests(Some(Unit::Hour)),
        Need::Tests(Some(Unit::Day)),
        Need::Sparks,
        Need::Week(trips),
        Need::PassedServers,
        Need::Patterns,
        Need::Mails,
    ];
    metrics.chain(others).collect()
}

/// Inputs of all sections, read once.
struct Made {
    config: Config,
    lake: Lake,
    facts: Facts,
}

impl Made {
    fn new(folder: &Path, config: Config) -> Self {
        let lake = Lake::open(&folder.join("data")).expect("the lake");
        let to = MONDAY + Micros(HOUR.0 * 24 * DAYS);
        let period = Period::new(MONDAY, to, Calendar::new(TimeZone::UTC)).expect("a period");
        let source = Source { lake: &lake, config: Some(&config), now: to + HOUR, made_at: None };
        let facts =
            Facts::load(source, &Selection::default(), &period, &everything()).expect("facts");
        Self { config, lake, facts }
    }

    /// Returns a definition with one section.
    fn definition(&self, folder: &Path, kind: &str, options: &str) -> Definition {
        let file = folder.join("one.toml");
        let text = format!("title = \"One\"\n[[section]]\nkind = {kind:?}\n{options}\n");
        fs::write(&file, text).expect("written");
        definitions::load(Some(&self.config), &file)
            .unwrap_or_else(|problems| panic!("{kind}: {problems}"))
    }

    fn source(&self) -> Source<'_> {
        Source {
            lake: &self.lake,
            config: Some(&self.config),
            now: self.facts.period.to + HOUR,
            made_at: None,
        }
    }

    fn document(&self, folder: &Path, kind: &str) -> Document {
        self.document_with(folder, kind, options(kind))
    }

    fn document_with(&self, folder: &Path, kind: &str, options: &str) -> Document {
        let definition = self.definition(folder, kind, options);
        let source = self.source();
        let locale = Locale::new("en", TimeZone::UTC).expect("English");
        let members = (0..self.facts.monitors.len()).collect();
        let material = Material {
            definition: &definition,
            source,
            facts: &self.facts,
            others: &SectionFacts::new(),
            locale: &locale,
        };
        material.document(None, &members)
    }
}

/// Removes drawings, images and data tables of charts.
fn without_drawings(html: &str) -> String {
    let mut text = html.to_owned();
    for (begin, end, instead) in [
        ("<svg", "</svg>", "<svg/>"),
        ("<details>", "</details>", ""),
        ("<script type=\"application/json\">", "</script>", ""),
        ("src=\"data:", "\"", "src=\"…\""),
    ] {
        let mut rest = text.as_str();
        let mut kept = String::new();
        while let Some(at) = rest.find(begin) {
            kept.push_str(&rest[..at]);
            kept.push_str(instead);
            let inside = &rest[at + begin.len()..];
            rest = inside.find(end).map_or("", |at| &inside[at + end.len()..]);
        }
        kept.push_str(rest);
        text = kept;
    }
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_kind_describes_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Made::new(folder.path(), lake(folder.path()));
    let mut seen = 0;
    for (kind, _) in kinds() {
        let mut document = made.document(folder.path(), kind);
        // The page that starts with a page break or a monitor is included.
        document.blocks.retain(|block| !matches!(block, Block::PageBreak));
        let page = media::html::render(&document, None).expect("a page");
        let (_, main) = page.split_once("<main>").expect("the main part");
        let (main, _) = main.split_once("</main>").expect("its end");
        let text = media::text::render(&document);
        let (_, text) = text.split_once("· times in UTC\n").expect("the cover");
        let shown = format!("{}\n\n==== as plain text\n\n{}", without_drawings(main), text.trim());
        insta::assert_snapshot!(kind, shown);
        seen += 1;
    }
    assert!(seen >= 27, "{seen} kinds");
}

#[test]
fn no_id_is_given_twice() {
    let ids = Ids::default();
    let given = ["Lyon", "lyon", "lyon-2", "lyon"].map(|name| ids.unique(name));
    assert_eq!(given, ["lyon", "lyon-2", "lyon-2-2", "lyon-3"]);
    assert_eq!(Ids::below("x").unique("lyon"), "lyon--x");
}

#[test]
fn a_period_is_judged_by_the_configured_interval_when_it_is_the_one_before_too() {
    let folder = tempfile::tempdir().expect("a folder");
    // The samples have no interval, and only one of six tests took place, so the interval appears
    // to be six hours.
    let kept = samples().into_iter().enumerate().filter_map(|(index, mut sample)| {
        sample.test_interval = None;
        (index % 6 == 0).then_some(sample)
    });
    let made = Made::new(folder.path(), lake_of(folder.path(), kept.collect()));
    let before = made.facts.period.previous();
    let then = Facts::load(made.source(), &Selection::default(), &before, &everything());
    for (then, now) in then.expect("facts").monitors.iter().zip(&made.facts.monitors) {
        assert_eq!(then.id, now.id);
        assert!(then.timeline.coverage() < 0.5, "{}", then.timeline.coverage());
        assert!(now.before.is_none(), "less than half of it is known");
    }
}

#[test]
fn a_change_is_shown_only_if_the_previous_period_is_known_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_kept =
        |sample: &Sample| sample.monitor.as_str() == "lyon" || sample.started_at >= MONDAY;
    let kept = samples().into_iter().filter(is_kept).collect();
    let made = Made::new(folder.path(), lake_of(folder.path(), kept));
    let monitors: Vec<_> = made.facts.monitors.iter().collect();
    let compared = CombinedFigures::of(&monitors[..1]).compared.expect("Lyon's");
    assert_eq!(compared.now, monitors[0].counts);
    let together = CombinedFigures::of(&monitors);
    assert!(together.compared.is_none(), "Oslo is new");
    assert_eq!(together.downtime_before, None, "Oslo's is not known");
    // The previous figures of one of two monitors are not those of both.
    let document = made.document(folder.path(), "key-figures");
    let Block::KeyFigures { figures } = &document.blocks[0] else {
        panic!("key figures");
    };
    assert_eq!(figures.iter().map(|figure| &*figure.change).collect::<Vec<_>>(), [""; 4]);
    let locale = Locale::new("en", TimeZone::UTC).expect("English");
    for sentence in findings::sentences(&monitors, &locale) {
        assert!(!sentence.text.contains("period before"), "{}", sentence.text);
    }
}

#[test]
fn nothing_is_stated_about_untested_monitors_or_unobserved_mail() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = samples().into_iter().map(|mut sample| {
        sample.outcome = match sample.monitor.as_str() {
            "lyon" => Outcome::PickupFailed,
            _ => Outcome::NotTested,
        };
        sample.round_trip = None;
        sample
    });
    let made = Made::new(folder.path(), lake_of(folder.path(), broken.collect()));
    let monitors: Vec<_> = made.facts.monitors.iter().collect();
    assert_eq!(monitors.len(), 2);
    let locale = Locale::new("en", TimeZone::UTC).expect("English");
    let headline = findings::headline(&monitors, &locale);
    assert!(!headline.contains("seen to arrive"), "{headline}");
    for sentence in findings::sentences(&monitors, &locale) {
        assert!(!sentence.text.contains("had no failure"), "{}", sentence.text);
    }
}

#[test]
fn no_section_fails_without_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = lake(folder.path());
    fs::remove_dir_all(folder.path().join("data/samples")).expect("removed");
    fs::remove_dir_all(folder.path().join("data/events")).expect("removed");
    let made = Made::new(folder.path(), config);
    for (kind, _) in kinds() {
        let document = made.document(folder.path(), kind);
        let page = media::html::render(&document, None).expect("a page");
        let (_, main) = page.split_once("<main>").expect("the main part");
        let (main, _) = main.split_once("</main>").expect("its end");
        assert!(!main.contains("NaN") && !main.contains(">inf"), "{kind}: {main}");
        assert!(page.contains("Data until –"), "{kind}");
        let json = media::data::json::render(&document).expect("JSON");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert!(json["made"].is_null(), "{}", json["made"]);
    }
}

#[test]
fn a_changed_limit_is_not_shown_for_the_whole_period() {
    let folder = tempfile::tempdir().expect("a folder");
    let changed = samples().into_iter().map(|mut sample| {
        if sample.started_at < MONDAY + HOUR {
            sample.max_round_trip = Some(Micros::from_secs(60));
        }
        sample
    });
    let made = Made::new(folder.path(), lake_of(folder.path(), changed.collect()));
    let monitors: Vec<_> = made.facts.monitors.iter().collect();
    let locale = Locale::new("en", TimeZone::UTC).expect("English");
    let headline = findings::headline(&monitors, &locale);
    assert!(headline.starts_with("Mail was delivered on time in "), "{headline}");
    let is_drawn = |made: &Made| {
        let document = made.document(folder.path(), "metric-chart");
        let mut charts = document.blocks.iter().flat_map(Block::charts);
        charts.any(|block| block.chart.svg.contains("max round trip"))
    };
    assert!(!is_drawn(&made));
    let other = tempfile::tempdir().expect("a folder");
    assert!(is_drawn(&Made::new(other.path(), lake(other.path()))));
}

#[test]
fn a_level_of_which_some_is_not_known_is_not_called_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut made = Made::new(folder.path(), lake(folder.path()));
    let entries = made.facts.levels.iter_mut().flat_map(|level| &mut level.entries);
    for judgement in entries.flat_map(|entry| &mut entry.targets) {
        (judgement.verdict, judgement.forecast) = (Verdict::Open, None);
    }
    let note = |made: &Made| {
        let blocks = made.document(folder.path(), "service-level").blocks;
        blocks.into_iter().find_map(|block| match block {
            Block::Note(Note { status, text, .. }) => Some((status, text)),
            _ => None,
        })
    };
    let (status, _) = note(&made).expect("a note");
    assert_eq!(status, Status::Good);
    made.facts.levels[0].entries[0].targets[0].verdict =
        Verdict::NotDecidable(UndecidedReason::NoTests);
    let (status, text) = note(&made).expect("a note");
    assert_eq!(status, Status::Unknown);
    let expected = "On track: 3 of 4 objectives; there is too little data on the others.";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn provenance_includes_sections_of_other_periods() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Made::new(folder.path(), lake(folder.path()));
    let definition = made.definition(folder.path(), "coverage", "period = \"current-month\"");
    let reports =
        generate::documents(&definition, made.source(), &made.facts.period).expect("a report");
    let titles: Vec<&str> = reports[0].document.notes.iter().map(|note| &*note.title).collect();
    assert_eq!(titles, ["The period of a section has not ended."]);
    assert!(!reports[0].provisional, "no wait settles that");
    let without = made.definition(folder.path(), "coverage", "");
    let reports =
        generate::documents(&without, made.source(), &made.facts.period).expect("a report");
    assert!(reports[0].document.notes.is_empty() && !reports[0].provisional);
    let before = made.facts.period.previous();
    let made_at = |definition: &Definition| {
        let reports = generate::documents(definition, made.source(), &before).expect("a report");
        reports[0].document.made_at
    };
    assert_eq!(Some(made_at(&definition)), made.facts.last_sample);
    assert!(made_at(&without) < before.to);
}

#[test]
fn the_one_of_several_monitors_that_is_known_is_not_called_the_only_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_kept =
        |sample: &Sample| sample.monitor.as_str() == "lyon" || sample.started_at >= MONDAY;
    let kept = samples().into_iter().filter(is_kept).collect();
    let made = Made::new(folder.path(), lake_of(folder.path(), kept));
    let faster = "figure = \"slower\"\nend = \"best\"";
    let text = media::text::render(&made.document_with(folder.path(), "top", faster));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("the only monitor with a known figure did not"), "{text}");
    assert!(text.contains("The figure is unknown for one monitor."), "{text}");
}

#[test]
fn a_mail_that_passes_a_server_twice_is_one_mail_with_a_clock_in_doubt() {
    let folder = tempfile::tempdir().expect("a folder");
    let twice = samples().into_iter().map(|mut sample| {
        for hop in sample.hops.iter_mut().flatten() {
            (hop.by, hop.clock_suspect) = (Some("mx.example.com".into()), true);
        }
        sample
    });
    let made = Made::new(folder.path(), lake_of(folder.path(), twice.collect()));
    let document = made.document(folder.path(), "hops");
    let table = document.blocks.iter().find_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    let cells = &table.expect("a table").rows[0].cells;
    assert_eq!((&*cells[0].text, &cells[1].text), ("mx.example.com", &cells[4].text));
}

#[test]
fn an_alarm_that_may_have_been_open_for_long_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut made = Made::new(folder.path(), lake(folder.path()));
    let unlisted = "more than 31 days before";
    let text = |made: &Made| media::text::render(&made.document(folder.path(), "alarms"));
    assert!(!text(&made).contains(unlisted));
    let later = made.facts.period.to + Micros::from_secs(60 * 86_400);
    let later = Period::new(later, later + HOUR, Calendar::new(TimeZone::UTC)).expect("a period");
    made.facts.log = AlarmLog::load(&made.lake, &later, &|_, _| true).expect("the log");
    let text = text(&made).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("No alarms were raised.") && text.contains(unlisted), "{text}");
}
