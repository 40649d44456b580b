//! Renders every built-in template from every kind of lake as HTML and PDF, for inspection: the
//! lakes are simulated, the program is the real one.
//!
//! ```text
//! cargo run --release --package mailqos-bench --bin pages -- --output /tmp/pages
//! ```
//!
//! The images in the documentation are generated like this, with `pdftoppm` of Poppler:
//!
//! ```text
//! cargo run --release --package mailqos-bench --bin pages -- --output /tmp/pages --kind ordinary --pictures docs/pictures
//! ```
//!
//! `ordinary` has nineteen months of two sites with outages, late mails, maintenance, shifts and
//! alarms; `empty` has no samples, `awful` only lost mails, `single` one sample, `one` a single
//! monitor, `many` two hundred monitors, or fewer with `--monitors`. `tests/bench/page_fill.py`
//! measures how full the pages are.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use jiff::{
    civil::{Date, date},
    tz::TimeZone,
};
use mailqos_lake::DayWriter;
use mailqos_model::{
    Event, EventKind, Micros, MonitorId, Outcome, Sample, SiteName, Stage, UtcMicros,
};
use mailqos_tests::{
    binaries,
    simulation::{self, Habits},
};

const ZONE: &str = "Europe/Stockholm";
const KINDS: [&str; 6] = ["ordinary", "empty", "awful", "single", "one", "many"];
const TEMPLATES: [&str; 8] = [
    "executive-summary",
    "service-level",
    "monthly-operations",
    "trend",
    "capacity",
    "incident-review",
    "site-comparison",
    "top-bottom",
];

/// Render every built-in template from every kind of lake.
#[derive(Parser)]
struct Arguments {
    /// Folder for lakes and reports; existing lakes are reused.
    #[arg(long)]
    output: PathBuf,
    /// Only these kinds of lakes.
    #[arg(long, value_delimiter = ',', default_values_t = KINDS.map(str::to_owned))]
    kind: Vec<String>,
    /// Only these templates.
    #[arg(long, value_delimiter = ',', default_values_t = TEMPLATES.map(str::to_owned))]
    template: Vec<String>,
    /// Number of monitors in the lake `many`.
    #[arg(long)]
    monitors: Option<usize>,
    /// Period of the reports.
    #[arg(long, default_value = "2025-10")]
    period: String,
    /// Language of the reports.
    #[arg(long, default_value = "en")]
    language: String,
    /// Folder for images of the first page of each template.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// Only create the lakes.
    #[arg(long)]
    lakes: bool,
}

type PagesResult<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match make(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(arguments: &Arguments) -> PagesResult<()> {
    for kind in &arguments.kind {
        let folder = arguments.output.join(kind);
        if !folder.exists() {
            // A lake that is incomplete after a failure must not be reused the next time.
            fs::create_dir_all(&arguments.output)?;
            let making = tempfile::Builder::new()
                .prefix(&format!(".{kind}-"))
                .tempdir_in(&arguments.output)?;
            lake(kind, making.path())?;
            fs::rename(making.keep(), &folder)?;
        }
        if arguments.lakes {
            continue;
        }
        for template in &arguments.template {
            let first = arguments.monitors.filter(|_| kind == "many");
            let size = first.map_or_else(String::new, |count| format!("-{count}"));
            let name = format!("{template}-{}{size}", arguments.language);
            let reports = folder.join("reports").join(name);
            let made = Command::new(binaries::binary("mailqos-analytics"))
                .arg("--config")
                .arg(folder.join("mailqos.toml"))
                .args(["report", "--template", template, "--format", "html,pdf"])
                .args(["--period", &arguments.period, "--language", &arguments.language])
                .args(first.map(|count| {
                    let ids: Vec<String> =
                        (0..count).map(|number| format!("m{number:03}")).collect();
                    format!("--monitors={}", ids.join(","))
                }))
                .arg("--output")
                .arg(&reports)
                .status()?;
            if !made.success() {
                return Err(format!("{template} of {kind}: {made}").into());
            }
            if let Some(pictures) = &arguments.pictures {
                fs::create_dir_all(pictures)?;
                let pdf = reports.join(format!("{template}-{}.pdf", arguments.period));
                picture(&pdf, &pictures.join(template))?;
            }
        }
    }
    Ok(())
}

/// Converts the first page to a PNG at this path without its extension.
fn picture(pdf: &Path, picture: &Path) -> PagesResult<()> {
    let drawn = Command::new("pdftoppm")
        .args(["-f", "1", "-singlefile", "-r", "76", "-png"])
        .args([pdf, picture])
        .status()
        .map_err(|error| format!("pdftoppm of Poppler: {error}"))?;
    if drawn.success() {
        Ok(())
    } else {
        Err(format!("pdftoppm {}: {drawn}", pdf.display()).into())
    }
}

/// A monitor: its id, its name, its tag, and the median of its mails in seconds.
struct Place(String, String, &'static str, f64);

fn place(id: &str, name: &str, tag: &'static str, median: f64) -> Place {
    Place(id.into(), name.into(), tag, median)
}

fn midnight(date: Date) -> PagesResult<UtcMicros> {
    let zone = TimeZone::get(ZONE)?;
    Ok(zone.to_timestamp(date.at(0, 0, 0, 0))?.into())
}

fn lake(kind: &str, folder: &Path) -> PagesResult<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let offices = vec![
        place("stockholm", "Stockholm head office", "office", 1.4),
        place("lyon", "Lyon plant", "plant", 2.8),
        place("rotterdam", "Rotterdam harbour", "plant", 1.8),
        place("toronto", "Toronto sales", "office", 3.6),
        place("osaka", "Osaka research", "office", 4.4),
        place("cloud", "Mail in the cloud", "cloud", 2.2),
    ];
    let places = match kind {
        "ordinary" => {
            let (from, to) = (date(2024, 6, 1), date(2026, 1, 1));
            let hosted = &offices[3..];
            write(&data, "stockholm", stories(&offices, (from, to), 20)?)?;
            write(&data, "frankfurt", stories(hosted, (from, to), 21)?)?;
            offices
        }
        "empty" => offices,
        "awful" => {
            let mut samples = stories(&offices, (date(2025, 9, 1), date(2025, 11, 1)), 20)?;
            for sample in &mut samples.0 {
                lose(sample);
            }
            write(&data, "stockholm", samples)?;
            offices
        }
        "single" => {
            let mut samples = stories(&offices[..1], (date(2025, 10, 1), date(2025, 11, 1)), 20)?;
            samples.0.truncate(1);
            samples.1.clear();
            write(&data, "stockholm", samples)?;
            offices.into_iter().take(1).collect()
        }
        "one" => {
            let samples = stories(&offices[1..2], (date(2025, 9, 1), date(2025, 11, 1)), 20)?;
            write(&data, "stockholm", samples)?;
            offices.into_iter().skip(1).take(1).collect()
        }
        "many" => {
            let cities = [
                "Aachen",
                "Bergen",
                "Cádiz",
                "Dresden",
                "Eindhoven",
                "Firenze",
                "Gdańsk",
                "Helsinki",
                "Ioannina",
                "Jönköping",
            ];
            let uses = ["sales", "branch", "warehouse", "service centre"];
            let tags = ["office", "plant", "cloud"];
            let places: Vec<Place> = (0..200)
                .map(|n: usize| {
                    let name = format!("{} {} {}", cities[n % 10], uses[n / 10 % 4], n / 40 + 1);
                    let median = 1.0 + (n * 37 % 100) as f64 / 25.0;
                    place(&format!("m{n:03}"), &name, tags[n % 3], median)
                })
                .collect();
            let (samples, events) = stories(&places, (date(2025, 9, 1), date(2025, 11, 1)), 20)?;
            // A quarter of the tests suffices for inspection.
            let every = |(index, mut sample): (usize, Sample)| {
                sample.test_interval = Some(Micros::from_secs(1_200));
                (index % 4 == 0).then_some(sample)
            };
            let samples = samples.into_iter().enumerate().filter_map(every).collect();
            write(&data, "stockholm", (samples, events))?;
            places
        }
        other => {
            return Err(
                format!("no kind of lake: {other}; write one of {}", KINDS.join(", ")).into()
            );
        }
    };
    fs::write(folder.join("mailqos.toml"), configuration(&places)?)?;
    fs::write(folder.join("password"), "made up\n")?;
    Ok(())
}

type Story = (Vec<Sample>, Vec<Event>);

/// Generates the samples and events of monitors, month by month, with incidents.
fn stories(places: &[Place], (first, last): (Date, Date), seed: u64) -> PagesResult<Story> {
    let zone = TimeZone::get(ZONE)?;
    let (mut samples, mut events) = (Vec::new(), Vec::new());
    for (number, Place(id, _, _, median)) in places.iter().enumerate() {
        let monitor: MonitorId = id.parse()?;
        let mut month = first;
        while month < last {
            let next = month.checked_add(jiff::Span::new().months(1))?;
            let (from, to) = (midnight(month)?, midnight(next)?);
            let age = i64::from(month.year()) * 12 + i64::from(month.month());
            let mut habits = Habits::calm(monitor.clone(), *median);
            let turn = age + number as i64 * 5 + seed as i64 % 3;
            match id.as_str() {
                "lyon" if month == date(2025, 10, 1) => {
                    let text =
                        "connection refused: the server runs, but nothing listens on port 587";
                    habits.outage = Some((9, 9, 42, Outcome::SmtpFailed, Stage::SmtpConnect, text));
                }
                "rotterdam" if month == date(2025, 10, 1) => habits.shift = Some((11, 1.45)),
                "rotterdam" if month > date(2025, 10, 1) => habits.median *= 1.45,
                "toronto" if month == date(2025, 10, 1) => {
                    let text = "the server refused the login: -ERR [SYS/TEMP] Temporary authentication failure";
                    habits.outage =
                        Some((17, 14, 125, Outcome::PickupFailed, Stage::PickupLogin, text));
                }
                "cloud" if month == date(2025, 10, 1) => habits.maintenance = Some((5, 22, 120)),
                "osaka" => (habits.late, habits.lost) = (0.004, 0.001),
                _ if turn % 7 == 0 => {
                    let text = "no answer from the server within 30 s";
                    let (day, hour, minutes) =
                        (2 + turn % 23, (turn % 24) as i8, 20 + turn * 13 % 240);
                    habits.outage =
                        Some((day, hour, minutes, Outcome::SmtpFailed, Stage::SmtpGreeting, text));
                }
                _ if turn % 5 == 0 => {
                    habits.maintenance = Some((1 + turn % 27, (turn * 7 % 24) as i8, 180))
                }
                _ => {}
            }
            if id == "toronto" {
                habits.busy = 1.6;
            }
            let mut some = simulation::samples(&habits, seed + age as u64, &zone, from, to);
            if turn % 11 == 0 {
                // The probe was down for most of a day.
                let hole = from + Micros::from_secs(86_400 * 12 + 9 * 3_600);
                some.retain(|sample| {
                    !(hole..hole + Micros::from_secs(11 * 3_600)).contains(&sample.started_at)
                });
            }
            if turn % 4 == 0 {
                let failed = |sample: &&mut Sample| sample.outcome == Outcome::Ok;
                for sample in some.iter_mut().filter(failed).skip(4_000).take(3) {
                    *sample = Sample {
                        test_interval: sample.test_interval,
                        max_round_trip: sample.max_round_trip,
                        ..Sample::new(monitor.clone(), sample.started_at, Outcome::NotTested)
                    };
                    sample.error = Some("the probe's own network was down".into());
                }
            }
            events.extend(alarms(&monitor, &some));
            samples.extend(some);
            month = next;
        }
    }
    Ok((samples, events))
}

/// Generates the events of a monitor's alarms: they are raised at the third failure in a row and
/// clear at the next good test.
fn alarms(monitor: &MonitorId, samples: &[Sample]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut failed = 0;
    for sample in samples {
        let event = |seconds, kind| {
            Event::new(Some(monitor.clone()), sample.started_at + Micros::from_secs(seconds), kind)
        };
        match sample.outcome {
            Outcome::NotTested => {}
            Outcome::Ok => {
                if failed >= 3 {
                    events.push(event(3, EventKind::AlarmCleared));
                }
                failed = 0;
            }
            _ => {
                failed += 1;
                if failed == 3 {
                    let text = sample
                        .error
                        .clone()
                        .unwrap_or_else(|| "3 tests failed in a row".to_owned());
                    events.push(event(31, EventKind::AlarmRaised).text(text));
                    let mut told = event(34, EventKind::NotificationSent);
                    told.actor = Some("operations".into());
                    told.detail = Some(r#"{"confirmed":true,"why":"alarm"}"#.into());
                    events.push(told);
                }
                if failed == 6 {
                    let mut looked = event(50, EventKind::Acknowledged);
                    looked.actor = Some("M. Lindqvist".into());
                    events.push(looked);
                }
            }
        }
    }
    events
}

fn lose(sample: &mut Sample) {
    sample.outcome = Outcome::Lost;
    sample.stage = None;
    sample.error = Some("not seen within 24h".into());
    (sample.round_trip, sample.round_trip_error, sample.hops) = (None, None, None);
    (sample.pickup_receive, sample.folder) = (None, None);
}

fn write(data: &Path, site: &str, (samples, events): Story) -> PagesResult<()> {
    let site: SiteName = site.parse()?;
    simulation::write(data, &site, samples)?;
    let mut days = std::collections::BTreeMap::<Date, Vec<Event>>::new();
    for event in events {
        days.entry(event.at.utc_date()).or_default().push(event);
    }
    for (day, mut events) in days {
        events.sort_by(|a, b| (&a.monitor, a.at).cmp(&(&b.monitor, b.at)));
        let mut file = DayWriter::<Event>::create(data, &site, day)?;
        for event in events {
            file.push(event)?;
        }
        file.publish(None)?;
    }
    Ok(())
}

fn configuration(places: &[Place]) -> PagesResult<String> {
    let mut text = format!(
        "site = \"stockholm\"\ndata = \"data\"\ntimezone = \"{ZONE}\"\n\n\
         [defaults]\ntest_interval = \"5m\"\nmax_round_trip = \"30s\"\ncheck_interval = \"5s\"\n\n\
         [account.probe]\nuser = \"probe@example.com\"\npassword = {{ file = \"password\" }}\n\n\
         [service_level.offices]\nname = \"Office mail\"\nmonitors = [\"*\"]\navailability = \"99.5%\"\n\
         delivered_within = {{ \"30s\" = \"99%\" }}\nhours = [\"Mon-Fri 07:00-19:00\"]\n\n\
         [service_level.all]\nname = \"All mail\"\navailability = \"99.9%\"\nuptime = \"99.8%\"\njudge = \"together\"\n",
    );
    for Place(id, name, tag, _) in places {
        write!(
            text,
            "\n[object.{id}]\nname = \"{name}\"\naddress = \"mail.{id}.example.com\"\ntags = [\"{tag}\"]\n\n\
             [monitor.{id}]\nname = \"{name}\"\nobject = \"{id}\"\nkind = \"mail-qos\"\nfrom = \"probe@{id}.example.com\"\n\
             to = \"probe@{id}.example.com\"\nsmtp = {{ port = 587, tls = \"starttls\", account = \"probe\" }}\n\
             pickup = {{ protocol = \"imap\", port = 993, tls = \"implicit\", account = \"probe\" }}\n"
        )?;
    }
    Ok(text)
}
