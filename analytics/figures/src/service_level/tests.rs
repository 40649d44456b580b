//! Judgements of generated series.

use jiff::tz::TimeZone;
use mailqos_model::{Exclusion, Outcome};

use mailqos_lake_tables::Series;

use super::*;

const ZONE: &str = "Europe/Berlin";

fn level(text: &str) -> ServiceLevel {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mailqos.toml");
    std::fs::write(
        &path,
        format!("site = \"x\"\ntimezone = \"{ZONE}\"\n[service_level.gold]\n{text}"),
    )
    .expect("written");
    let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    config.service_levels["gold"].clone()
}

fn month() -> Period {
    Period::named("2026-10", UtcMicros(0), Calendar::new(TimeZone::get(ZONE).expect("a zone")))
        .expect("a month")
}

/// Returns a test every five minutes over a period; `fate` returns the result of the nth, `None`
/// for no test.
fn series(period: &Period, until: UtcMicros, fate: impl Fn(usize) -> Fate) -> Series {
    let mut series = Series { site: "x".into(), monitor: "m".into(), ..Series::default() };
    let mut trips = Vec::new();
    let mut at = period.from;
    let mut n = 0;
    while at < until {
        if let Some((outcome, trip, excluded)) = fate(n) {
            series.started_at.push(at.0);
            series.outcome.push(outcome);
            series.excluded.push(excluded.then_some(Exclusion::Maintenance));
            trips.push(matches!(outcome, Outcome::Ok | Outcome::Late).then_some(Micros(trip)));
        }
        at = at + Micros::from_secs(300);
        n += 1;
    }
    series.test_interval = vec![Some(Micros::from_secs(300)); trips.len()].into_iter().collect();
    series.metrics[Metric::RoundTrip as usize] = trips.into_iter().collect();
    series.inside = 0..series.len();
    series
}

fn judged(level: &ServiceLevel, period: &Period, until: UtcMicros, series: &Series) -> Entry {
    let service = Service::of(level, period, until);
    let passed = period.until(until).expect("something");
    Evidence::of(series, level, &passed, &service, None).entry(level, until >= period.to)
}

/// Outcome of a test, its round trip, and whether it was in maintenance; `None` for no test.
type Fate = Option<(Outcome, i64, bool)>;

type Case = (fn(usize) -> Fate, Verdict);

const GOOD: Fate = Some((Outcome::Ok, 4_000_000, false));
const BAD: Fate = Some((Outcome::Lost, 0, false));

#[test]
fn a_month_that_kept_its_promise() {
    let level = level(
        "availability = \"99.9%\"\nuptime = \"99.9%\"\ndelivered_within = { \"30s\" = \"99%\" }",
    );
    let period = month();
    // October in Berlin has 31 days and an hour: 8,940 tests, of which six fail in a row: half an
    // hour.
    let series = series(&period, period.to, |n| if (100..106).contains(&n) { BAD } else { GOOD });
    let entry = judged(&level, &period, period.to, &series);
    assert_eq!(entry.tests, 8_940);
    assert_eq!(entry.service, Micros::from_secs((31 * 24 + 1) * 3_600));
    let [availability, uptime, within] = &entry.targets[..] else { panic!("three targets") };
    assert_eq!(availability.verdict, Verdict::Met);
    assert!(!availability.is_certain, "six failures of 8,940 are within chance of nine");
    let tests = availability.tests.expect("a budget");
    assert!((tests.whole - 8.94).abs() < 1e-6 && tests.spent == 6.0);
    let time = uptime.time.expect("a budget");
    assert!((time.whole / 60e6 - 44.7).abs() < 1e-6, "{time:?}");
    assert!((time.spent / 60e6 - 30.0).abs() < 1e-6, "{time:?}");
    assert!((uptime.spent().expect("a share") - 30.0 / 44.7).abs() < 1e-9);
    assert_eq!(uptime.verdict, Verdict::Met);
    assert_eq!((within.verdict, within.is_certain), (Verdict::Met, true));
    assert!(within.forecast.is_none(), "it is over");
}

#[test]
fn a_promise_about_the_inbox_is_judged_by_known_folders() {
    use mailqos_lake_tables::Receipt;
    use mailqos_model::Placement::{Inbox, Junk};
    let level = level("inbox_placement = \"99%\"\ndkim_pass_rate = \"99%\"");
    let period = month();
    for (junk, verdict) in [(89, Verdict::Met), (90, Verdict::Missed)] {
        let mut series = series(&period, period.to, |_| GOOD);
        series.receipts = (0..series.len())
            .map(|row| Receipt {
                placement: Some(if row < junk { Junk } else { Inbox }),
                ..Receipt::default()
            })
            .collect();
        let entry = judged(&level, &period, period.to, &series);
        let [placement, dkim] = &entry.targets[..] else { panic!("two targets") };
        assert_eq!(placement.verdict, verdict, "{junk} of 8,940 in the junk folder");
        assert!(matches!(dkim.verdict, Verdict::NotDecidable(_)), "no result is known");
    }
}

#[test]
fn one_more_failure_than_the_budget_misses() {
    let level = level("availability = \"99.9%\"");
    let period = month();
    for (failures, verdict) in [(8, Verdict::Met), (9, Verdict::Missed)] {
        let series = series(&period, period.to, |n| if n < failures { BAD } else { GOOD });
        let entry = judged(&level, &period, period.to, &series);
        assert_eq!(entry.verdict(), verdict, "{failures} failures");
    }
}

#[test]
fn a_budget_that_is_spent_to_the_last_test_is_not_overspent() {
    // 207 of 1,440 tests may be bad; in floating point that is a little less.
    let level = level("availability = \"85.625%\"");
    let period = Period::between("2026-10-01", "2026-10-06", month().calendar).expect("five days");
    let until = period.from + Micros::from_secs(4 * 86_400);
    for (failures, verdict) in [(207, Verdict::Open), (208, Verdict::Missed)] {
        let series = series(&period, until, |n| if n < failures { BAD } else { GOOD });
        let entry = judged(&level, &period, until, &series);
        assert_eq!(entry.verdict(), verdict, "{failures} failures");
        let spent = entry.targets[0].spent().expect("a share");
        assert_eq!(spent > 1.0, verdict == Verdict::Missed, "{failures} failures: {spent}");
    }
}

#[test]
fn only_service_hours_count_and_maintenance_does_not() {
    let level = level("availability = \"99%\"\nuptime = \"99%\"\nhours = \"Mon-Fri 07:00-19:00\"");
    let period = month();
    let of_week = |n: usize| {
        let at = period.from + Micros::from_secs(300 * n as i64);
        period.calendar.zoned(at)
    };
    // All nights fail, and a Monday morning of maintenance, too.
    let series = series(&period, period.to, |n| {
        let local = of_week(n);
        match (local.hour(), local.day()) {
            (7..19, 5) if local.hour() < 9 => Some((Outcome::SmtpFailed, 0, true)),
            (7..19, _) => GOOD,
            _ => BAD,
        }
    });
    let entry = judged(&level, &period, period.to, &series);
    // 22 working days of twelve hours, two hours of maintenance.
    assert_eq!(entry.service, Micros::from_secs(22 * 12 * 3_600));
    assert_eq!(entry.maintenance, Micros::from_secs(2 * 3_600));
    assert_eq!(entry.down, Micros::ZERO);
    assert_eq!(entry.tests, 22 * 144 - 24);
    assert_eq!(entry.verdict(), Verdict::Met);
}

#[test]
fn too_little_is_not_decided() {
    let level = level("availability = \"99.9%\"");
    let period = month();
    let cases: [Case; 5] = [
        // One test an hour would be too few even without a failure.
        (
            |n| if n % 300 == 0 { GOOD } else { None },
            Verdict::NotDecidable(UndecidedReason::Coverage),
        ),
        (|_| None, Verdict::NotDecidable(UndecidedReason::NoTests)),
        (|n| if n < 6_000 { GOOD } else { None }, Verdict::NotDecidable(UndecidedReason::Coverage)),
        // Half is unknown, but the known half already misses the objective.
        (
            |n| {
                if n < 400 {
                    BAD
                } else if n < 4_000 {
                    GOOD
                } else {
                    None
                }
            },
            Verdict::Missed,
        ),
        (|n| if n < 8_800 { GOOD } else { None }, Verdict::Met),
    ];
    for (index, (fate, verdict)) in cases.into_iter().enumerate() {
        let series = series(&period, period.to, fate);
        let entry = judged(&level, &period, period.to, &series);
        assert_eq!(entry.verdict(), verdict, "case {index}");
    }
}

#[test]
fn a_period_that_runs_is_forecast() {
    let level = level("availability = \"99%\"");
    let period = month();
    let until = period.calendar.midnight(jiff::civil::date(2026, 10, 16));
    // One failure in 200: half the budget, evenly spread.
    let even = series(&period, until, |n| if n % 200 == 0 { BAD } else { GOOD });
    let entry = judged(&level, &period, until, &even);
    let judgement = &entry.targets[0];
    assert_eq!(judgement.verdict, Verdict::Open);
    let forecast = judgement.forecast.expect("a forecast");
    assert!((forecast.spent - 0.5).abs() < 0.02, "{forecast:?}");
    assert!((judgement.burn_rate.expect("a rate") - 0.5).abs() < 0.02);
    assert_eq!(forecast.chance, Some(1.0));
    let (low, high) = forecast.interval.expect("an interval");
    assert!(low <= forecast.spent && forecast.spent <= high, "{forecast:?}");
    // One day of 15 in which a third fails: the forecast is far less certain.
    let bunch = series(&period, until, |n| if (288..384).contains(&n) { BAD } else { GOOD });
    let bunch = judged(&level, &period, until, &bunch);
    assert_eq!(bunch.verdict(), Verdict::Missed, "96 of 89 that may fail");
    let (low, high) = bunch.targets[0].forecast.expect("a forecast").interval.expect("one");
    assert!(low < 1.2 && high > 3.0, "{low} to {high}");
}

#[test]
fn of_a_period_that_runs_without_tests_nothing_is_known() {
    let level = level("availability = \"99%\"\nuptime = \"99%\"");
    let period = month();
    let until = period.calendar.midnight(jiff::civil::date(2026, 10, 16));
    let entry = judged(&level, &period, until, &series(&period, until, |_| None));
    for judgement in &entry.targets {
        assert_eq!(judgement.verdict, Verdict::NotDecidable(UndecidedReason::NoTests));
        assert_eq!((judgement.value, judgement.spent()), (Value::Unknown, None));
    }
}

#[test]
fn a_percentile_counts_lost_mail_as_slow() {
    let level = level("percentile = { round_trip = { p95 = \"10s\" } }");
    let period = month();
    let slow = Some((Outcome::Ok, 11_000_000, false));
    for (share, verdict) in [(25, Verdict::Met), (15, Verdict::Missed)] {
        for bad in [BAD, slow] {
            let series = series(&period, period.to, |n| if n % share == 0 { bad } else { GOOD });
            let entry = judged(&level, &period, period.to, &series);
            assert_eq!(entry.verdict(), verdict, "one in {share}");
            let spent = entry.targets[0].spent().expect("a share");
            assert!((spent - 20.0 / share as f64).abs() < 0.01, "{spent}");
        }
    }
}

#[test]
fn periods_end_where_the_question_does() {
    let calendar = Calendar::new(TimeZone::get(ZONE).expect("a zone"));
    let asked = Period::between("2026-09-28", "2026-10-05", calendar.clone()).expect("a week");
    let now = calendar.midnight(jiff::civil::date(2026, 12, 1));
    let monthly = level("availability = \"99%\"");
    let found = periods(&monthly, &asked, now);
    let said: Vec<String> = found.iter().map(|(period, _)| period.to_string()).collect();
    assert_eq!(
        said,
        ["2026-09-01 to 2026-10-01 (Europe/Berlin)", "2026-10-01 to 2026-11-01 (Europe/Berlin)"]
    );
    assert_eq!((found[0].1, found[1].1), (found[0].0.to, asked.to));
    let rolling = level("availability = \"99%\"\nperiod = \"30d\"");
    let found = periods(&rolling, &asked, now);
    assert_eq!(found[0].0.to_string(), "2026-09-05 to 2026-10-05 (Europe/Berlin)");
    assert_eq!(found[0].1, asked.to);
}

#[test]
fn monitors_judged_together_share_one_budget() {
    let level = level("availability = \"99.9%\"\njudge = \"together\"");
    let period = month();
    let service = Service::of(&level, &period, period.to);
    let of = |failures: usize| {
        let series = series(&period, period.to, |n| if n < failures { BAD } else { GOOD });
        Evidence::of(&series, &level, &period, &service, None)
    };
    let mut both = of(12);
    both.add(of(0));
    let entry = both.entry(&level, true);
    assert_eq!((entry.tests, entry.monitors), (2 * 8_940, 2));
    assert_eq!(entry.verdict(), Verdict::Met);
    assert_eq!(of(12).entry(&level, true).verdict(), Verdict::Missed);
}
