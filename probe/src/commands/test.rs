//! `mailqos-probe test`: runs one test of a monitor now and shows its timeline.

use std::{fmt::Write as _, io::Write as _, process::ExitCode, sync::Arc};

use mailqos_config::{Config, Kind, Monitor, nearest};
use mailqos_lake::transcripts::Transcript;
use mailqos_model::{Micros, Outcome, RoundTrip};

use super::{Failure, Global, run::stop_signal, terminal, write_out};
use crate::{
    record::{RecordError, Recorder},
    tester::{Arrival, Part, Phase, TestResult, Tester, Timeline},
    verdict::{verdict, what_to_do},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the monitor.
    monitor: String,
    /// Don't record a sample in the lake.
    #[arg(long)]
    no_record: bool,
    /// Also show the transcript.
    #[arg(long)]
    transcript: bool,
}

impl Args {
    /// Returns the options of a test that leaves no sample.
    pub(super) fn once(monitor: String) -> Self {
        Self { monitor, no_record: true, transcript: false }
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = Arc::new(global.config()?);
    let monitor = find(&config, &args.monitor)?;
    let mut stop = stop_signal().map_err(Failure::work)?;
    let recorder = if args.no_record { None } else { recorder(&config).await? };
    let tester = Tester::new(Arc::clone(&config), recorder.clone()).await.map_err(Failure::work)?;
    tester.attend();
    let mut notes = std::io::stderr();
    let _ = writeln!(notes, "{}: {}", monitor.id, monitor.kind.plan());
    let testing = tester.test(monitor);
    tokio::pin!(testing);
    let result = tokio::select! {
        result = &mut testing => result,
        _ = stop.wait_for(|told| *told) => {
            tester.shutdown().await;
            testing.await
        }
    };
    tester.shutdown().await;
    if let Some(recorder) = recorder {
        recorder.close().await.map_err(Failure::work)?;
    }
    let mut text = draw(&result, &monitor.kind, width(), terminal::is_coloured());
    if let Some(remedy) =
        what_to_do(&monitor.kind, result.sample.stage, result.sample.error.as_deref())
    {
        let _ = writeln!(text, "  {remedy}");
    }
    for note in &result.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    if args.transcript {
        let transcript = Transcript::new(&config.site, &result.sample, result.conversations);
        let _ = write!(text, "\n{}", transcript.render(&config.timezone));
    }
    write_out(text.as_bytes())?;
    Ok(if result.sample.outcome == Outcome::Ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn find<'config>(
    config: &'config Config,
    id: &str,
) -> Result<&'config Monitor, Failure> {
    config.monitors.values().find(|monitor| monitor.id.as_str() == id).ok_or_else(|| {
        let known = config.monitors.keys().map(mailqos_model::MonitorId::as_str);
        let hint = match nearest(id, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        Failure::Usage(format!("no monitor is named {id:?}; {hint}"))
    })
}

/// Opens the recorder, unless a running probe, as the only writer, holds the lake.
async fn recorder(config: &Config) -> Result<Option<Recorder>, Failure> {
    match Recorder::open(config).await {
        Ok(recorder) => Ok(Some(recorder)),
        Err(RecordError::Locked { holder, .. }) => {
            let _ = writeln!(
                std::io::stderr(),
                "sample not recorded: {holder} is writing the lake; use --no-record to hide this note"
            );
            Ok(None)
        }
        Err(error @ (RecordError::Remote(_) | RecordError::Secret(_))) => {
            Err(Failure::Usage(error.to_string()))
        }
        Err(error) => Err(Failure::work(error)),
    }
}

fn width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(100)
        .clamp(60, 160)
}

/// Draws the timeline: each phase as a bar at its position in time with its milliseconds, then the
/// outcome.
fn draw(result: &TestResult, kind: &Kind, width: usize, colour: bool) -> String {
    const LABELS: usize = 22;
    const VALUES: usize = 26;
    let TestResult { sample, timeline, .. } = result;
    let paint = |text: &str, code: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let end = end_of(timeline);
    let cells = width - LABELS - VALUES;
    let mut text = String::new();
    let mut last = None;
    for phase in &timeline.phases {
        let part = match phase.part {
            Part::Smtp => "SMTP",
            Part::Transit => "Mail",
            Part::Pickup => "Pick-up",
        };
        let shown = if last == Some(phase.part) { "" } else { part };
        last = Some(phase.part);
        let value = match (phase.part, RoundTrip::of(sample)) {
            (Part::Transit, Some(round_trip)) => round_trip.to_string(),
            _ => milliseconds(phase.took),
        };
        let (before, bar) = place_bar(phase, end, cells);
        let code = match phase.part {
            Part::Smtp => "34",
            Part::Transit => "36",
            Part::Pickup => "35",
        };
        let after = cells - before - bar.chars().count();
        let _ = writeln!(
            text,
            "{shown:<9}{:<13}{:before$}{}{:after$}{value:>VALUES$}",
            phase.name,
            "",
            paint(&bar, code),
            "",
        );
    }
    if !timeline.phases.is_empty() {
        text.push('\n');
    }
    let (mark, code) = if sample.outcome == Outcome::Ok { ("✓", "32") } else { ("✗", "31") };
    let _ = writeln!(text, "{}", paint(&format!("{mark} {}", verdict(sample, kind)), code));
    let is_calibrated =
        |known: &RoundTrip| known.likely_error.is_some_and(|likely| Some(likely) < known.error);
    let round_trip = RoundTrip::of(sample).filter(is_calibrated);
    if let Some(bounds) = round_trip.and_then(RoundTrip::bounds) {
        let _ = writeln!(text, "  guaranteed {bounds}; the interval above covers 99 %");
    }
    if let Some(arrival) = &timeline.arrival {
        let _ = writeln!(text, "  {}", explanation(arrival, sample.round_trip_error));
    }
    text
}

/// Explains the error of a round trip by the observations between which the mail arrived. `error` is
/// the half-width of the guaranteed interval.
fn explanation(arrival: &Arrival, error: Option<Micros>) -> String {
    let mut text = match arrival.pickups {
        1 => "1 pick-up: ".to_owned(),
        pickups => format!("{pickups} pick-ups: "),
    };
    let shown = milliseconds(arrival.shown);
    let _ = match arrival.not_shown {
        Some(before) => write!(
            text,
            "the mail was not in the mailbox {} after sending, and was there after {shown}",
            milliseconds(before)
        ),
        None => write!(
            text,
            "the mail was in the mailbox {shown} after sending, and may have arrived at any time \
             before"
        ),
    };
    if let Some(announced) = arrival.announced {
        let _ = write!(text, "; the server announced it after {}", milliseconds(announced));
    }
    let gap = arrival.shown - arrival.not_shown.unwrap_or(Micros::ZERO);
    // Half a millisecond needs no explanation.
    if error.is_some_and(|error| error.0.saturating_mul(2) + 500 < gap.0) {
        text.push_str("; the servers' timestamps narrow this down");
    }
    text
}

fn end_of(timeline: &Timeline) -> Micros {
    timeline
        .phases
        .iter()
        .map(|phase| phase.begin + phase.took)
        .max()
        .unwrap_or(Micros(1))
        .max(Micros(1))
}

/// Returns the start of a phase's bar in cells, and the bar, which is never empty and never extends
/// beyond the end.
fn place_bar(phase: &Phase, end: Micros, cells: usize) -> (usize, String) {
    let eighths =
        |at: Micros| (at.0.max(0) as f64 / end.0 as f64 * cells as f64 * 8.0).round() as usize;
    let from = (eighths(phase.begin) / 8).min(cells.saturating_sub(1));
    let to = eighths(phase.begin + phase.took).min(cells * 8).max(from * 8 + 1);
    let (full, rest) = ((to - from * 8) / 8, (to - from * 8) % 8);
    let mut bar = "█".repeat(full);
    if rest > 0 {
        bar.push(['▏', '▎', '▍', '▌', '▋', '▊', '▉'][rest - 1]);
    }
    (from, bar)
}

/// Formats milliseconds with a suitable number of digits.
fn milliseconds(duration: Micros) -> String {
    let ms = duration.0 as f64 / 1000.0;
    match ms.abs() {
        ms_abs if ms_abs < 10.0 => format!("{ms:.2} ms"),
        ms_abs if ms_abs < 100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use mailqos_model::{Sample, Stage, UtcMicros};
    use proptest::prelude::*;

    use super::*;

    fn sample(outcome: Outcome) -> Sample {
        Sample::new("mail-hq".parse().expect("an id"), UtcMicros(0), outcome)
    }

    fn kind() -> Kind {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[object.o]\naddress = \"mail.example.com\"\n[monitor.m]\nobject = \"o\"\nmax_round_trip = \"30s\"\n\
                    from = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = { port = 587, tls = \"starttls\", account = \"a\" }\n\
                    pickup = { protocol = \"imap\", tls = \"implicit\", account = \"a\" }\n\
                    [account.a]\nuser = \"a\"\npassword = { env = \"NONE\" }\n";
        std::fs::write(&path, text).expect("written");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        config.monitors["m"].kind.clone()
    }

    fn phase(part: Part, name: &'static str, begin: i64, took: i64) -> Phase {
        Phase { part, name, begin: Micros(begin), took: Micros(took) }
    }

    #[test]
    fn each_phase_is_a_bar_with_its_milliseconds() {
        let mut sample = sample(Outcome::Ok);
        sample.round_trip = Some(Micros(2_034_000));
        sample.round_trip_error = Some(Micros(1_501_200));
        sample.round_trip_likely_error = Some(Micros(210_000));
        let timeline = Timeline {
            phases: vec![
                phase(Part::Smtp, "connect", 0, 1_234),
                phase(Part::Smtp, "TLS", 1_234, 40_000),
                phase(Part::Smtp, "data", 41_234, 120_000),
                phase(Part::Transit, "round trip", 41_500, 2_034_000),
                phase(Part::Pickup, "connect", 2_500_000, 900),
                phase(Part::Pickup, "login", 2_500_900, 30_000),
                phase(Part::Pickup, "receive", 2_530_900, 9_000),
            ],
            arrival: Some(Arrival {
                not_shown: Some(Micros(1_612_000)),
                announced: None,
                shown: Micros(2_541_000),
                pickups: 9,
            }),
        };
        let text = draw(
            &TestResult { notes: Vec::new(), sample, timeline, conversations: Vec::new() },
            &kind(),
            90,
            false,
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_failure_names_its_stage_and_cause() {
        let mut sample = sample(Outcome::SmtpFailed);
        sample.stage = Some(Stage::SmtpAuth);
        sample.error = Some("535 5.7.8 refused".into());
        let timeline = Timeline::default();
        let text = draw(
            &TestResult { notes: Vec::new(), sample, timeline, conversations: Vec::new() },
            &kind(),
            90,
            false,
        );
        assert_eq!(
            text,
            "✗ smtp_failed at smtp_auth (mail.example.com:587 STARTTLS): 535 5.7.8 refused\n"
        );
    }

    #[test]
    fn the_error_is_explained_by_the_observations() {
        let arrival = Arrival {
            not_shown: None,
            announced: Some(Micros(330_000)),
            shown: Micros(361_000),
            pickups: 1,
        };
        assert_eq!(
            explanation(&arrival, Some(Micros(180_500))),
            "1 pick-up: the mail was in the mailbox 361 ms after sending, and may have arrived at any time \
             before; the server announced it after 330 ms"
        );
        let arrival = Arrival { not_shown: Some(Micros(50_400)), announced: None, ..arrival };
        let text = explanation(&arrival, Some(Micros(3_000)));
        assert_eq!(
            text,
            "1 pick-up: the mail was not in the mailbox 50.4 ms after sending, and was there after 361 ms; \
             the servers' timestamps narrow this down"
        );
    }

    proptest! {
        #[test]
        fn a_bar_is_visible_and_stays_within_its_cells(begin in 0i64..10_000_000, took in 0i64..10_000_000, more in 0i64..10_000_000, cells in 12usize..120) {
            let phase = phase(Part::Smtp, "data", begin, took);
            let end = Micros((begin + took + more).max(1));
            let (from, bar) = place_bar(&phase, end, cells);
            let length = bar.chars().count();
            prop_assert!(length >= 1);
            prop_assert!(from + length <= cells);
        }
    }
}
