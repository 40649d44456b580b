//! Planted patterns are found, and noise is not.

use jiff::tz::TimeZone;
use mailqos_lake_tables::{Durations, HopDelay, Metric, Series};
use mailqos_model::Micros;

use super::{
    super::{Calendar, random::SplitMix64},
    *,
};

/// Six weeks with a clock change, in a zone with an offset of 5:45 h, or one that changes by half
/// an hour.
fn weeks(zone: &str) -> Period {
    Period::between("2026-09-14", "2026-10-26", Calendar::new(TimeZone::get(zone).expect("a zone")))
        .expect("six weeks")
}

struct Test {
    day: f64,
    hour: i8,
    weekday: i8,
    outcome: Outcome,
    metrics: [f64; 6],
}

/// A test every twenty minutes with pure noise, which `plant` may change.
fn series(period: &Period, seed: u64, plant: impl Fn(&mut Test)) -> Series {
    let mut random = SplitMix64(seed);
    // The sum of twelve uniform variables is nearly normal.
    let mut normal =
        || (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
    let mut series = Series { site: "x".into(), monitor: "m".into(), ..Series::default() };
    let mut columns: [Vec<Option<i64>>; 6] = Default::default();
    let mut at = period.from;
    while at < period.to {
        let local = period.calendar.zoned(at);
        let mut test = Test {
            day: (at - period.from).0 as f64 / 86_400e6,
            hour: local.hour(),
            weekday: local.weekday().to_monday_one_offset(),
            outcome: if normal() > 2.9 { Outcome::Lost } else { Outcome::Ok },
            metrics: std::array::from_fn(|_| (normal() * 0.3).exp() * 1e6),
        };
        plant(&mut test);
        series.started_at.push(at.0);
        series.outcome.push(test.outcome);
        for (column, value) in columns.iter_mut().zip(test.metrics) {
            column.push(Some(value as i64));
        }
        at = at + mailqos_model::Micros::from_secs(1_200);
    }
    for (metric, column) in Metric::CONTRACT.iter().zip(columns) {
        let durations: Durations =
            column.into_iter().map(|value| value.map(mailqos_model::Micros)).collect();
        series.metrics[*metric as usize] = durations;
    }
    series.excluded = vec![None; series.started_at.len()];
    series.inside = 0..series.len();
    series
}

fn found(period: &Period, series: &Series) -> Vec<Pattern> {
    find(vec![ask(series, period)]).into_iter().map(|found| found.pattern).collect()
}

#[test]
fn of_noise_at_most_one_run_in_twenty_claims_anything() {
    let period = weeks("Europe/Berlin");
    let runs = 100;
    let claims = (0..runs)
        .filter(|seed| !found(&period, &series(&period, 1_000 + seed, |_| ())).is_empty())
        .count();
    assert!(claims <= 5, "{claims} of {runs} runs claim something");
}

#[test]
fn a_planted_slope_is_found_with_its_figure() {
    let period = weeks("Asia/Kathmandu");
    // From 1 s, rising by 1 % of that per day.
    let series = series(&period, 1, |test| test.metrics[0] *= 1.0 + 0.01 * test.day);
    let found = found(&period, &series);
    let [Pattern::Trend { metric, per_day, interval, from, to, days }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((*metric, *days), (Metric::RoundTrip, 42));
    assert!((per_day - 10_000.0).abs() < 1_500.0, "{per_day} µs a day");
    assert!(interval.0 < 10_000.0 && 10_000.0 < interval.1, "{interval:?}");
    assert!((to / from - 1.41).abs() < 0.06, "{from} to {to}");
}

#[test]
fn a_planted_step_is_found_on_its_day() {
    let period = weeks("Australia/Lord_Howe");
    let series = series(&period, 2, |test| {
        if test.day >= 17.0 {
            test.metrics[4] *= 1.5;
        }
    });
    let found = found(&period, &series);
    let [Pattern::Shift { metric, at, before, after }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*metric, Metric::PickupLogin);
    assert_eq!(period.calendar.zoned(*at).date(), jiff::civil::date(2026, 10, 1));
    assert!((after / before - 1.5).abs() < 0.05, "{before} to {after}");
}

#[test]
fn a_planted_weekday_is_found() {
    let period = weeks("Europe/Berlin");
    let series = series(&period, 3, |test| {
        if test.weekday == 2 {
            test.metrics[0] *= 1.4;
        }
    });
    let found = found(&period, &series);
    let [Pattern::Weekday { day, value, others, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*day, 2);
    // Six noisy Tuesdays: their median is accurate to about 3 %.
    assert!((value / others - 1.4).abs() < 0.1, "{value} against {others}");
}

#[test]
fn a_planted_hour_is_found_in_local_time() {
    for zone in ["Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Berlin"] {
        let period = weeks(zone);
        let series = series(&period, 4, |test| {
            if test.hour == 9 {
                test.metrics[0] *= 1.6;
            }
        });
        // The other metrics are noise, in which one run in twenty may find something.
        let mut found = found(&period, &series);
        found.retain(|pattern| pattern.metric() == Some(Metric::RoundTrip));
        let [Pattern::Hours { slowest, slow, .. }] = &found[..] else {
            panic!("{zone}: {found:?}")
        };
        assert_eq!(*slowest, 9, "{zone}");
        assert!((slow / 1.6e6 - 1.0).abs() < 0.05, "{zone}: {slow}");
    }
}

#[test]
fn a_planted_correlation_is_found() {
    let period = weeks("Europe/Berlin");
    let series = series(&period, 5, |test| test.metrics[0] *= (test.metrics[4] / 1e6).powf(1.5));
    let found = found(&period, &series);
    let [Pattern::Correlation { with, rho, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*with, Metric::PickupLogin);
    // Each is a median of three values: less than the 0.8 of single tests.
    assert!((0.6..0.85).contains(rho), "{rho}");
}

#[test]
fn failures_that_begin_at_night_are_found() {
    let period = weeks("Europe/Berlin");
    let series = series(&period, 6, |test| {
        test.outcome = if test.hour == 3 && test.day as i64 % 3 == 0 {
            Outcome::SmtpFailed
        } else {
            Outcome::Ok
        };
    });
    let found = found(&period, &series);
    assert!(
        matches!(&found[..], [Pattern::FailureHour { hour: 3, events: 14, of: 14, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_planted_day_is_found() {
    let period = weeks("Asia/Kathmandu");
    let series = series(&period, 9, |test| {
        if test.day.floor() == 20.0 {
            test.metrics[1] *= 1.8;
        }
    });
    let found = found(&period, &series);
    let [Pattern::Day { metric, at, value, expected, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(*metric, Metric::CONTRACT[1]);
    assert_eq!(period.calendar.zoned(*at).date(), jiff::civil::date(2026, 10, 4));
    assert!((value / expected - 1.8).abs() < 0.2, "{value} against {expected}");
}

#[test]
fn the_station_where_mail_waits_is_found() {
    let period = weeks("Europe/Berlin");
    let mut series = series(&period, 10, |_| ());
    let hop = |by: &str, seconds| HopDelay {
        by: Some(by.into()),
        delay: Some(Micros::from_secs(seconds)),
        clock_suspect: false,
    };
    series.hops = (0..series.len())
        // Four of five mails wait at the filter, the fifth at the store.
        .map(|row| if row % 5 == 0 { (1, 3) } else { (3, 1) })
        .map(|(filter, store)| {
            Some([hop("filter", filter), hop("store", store), hop("edge", 0)].into())
        })
        .collect();
    let found = found(&period, &series);
    let [Pattern::Hop { by, longest, delay, way }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(&**by, "filter");
    assert!((longest.value - 0.8).abs() < 0.001, "{longest:?}");
    assert_eq!((*delay, *way), (3e6, 4e6));
    // All hops alike, in seconds: ties are not evidence.
    series.hops.fill(Some([hop("filter", 1), hop("store", 1)].into()));
    assert_eq!(super::tests::found(&period, &series), []);
}

/// Every 97th test fails alone, 32 in all; `of` decides at which stage and with which reply.
fn failing(seed: u64, of: impl Fn(usize) -> (Option<Stage>, Option<i32>)) -> (Period, Series) {
    let period = weeks("Europe/Berlin");
    let mut series = series(&period, seed, |test| test.outcome = Outcome::Ok);
    series.stage = vec![None; series.len()];
    series.smtp_reply_code = vec![Some(250); series.len()];
    // A step without a common factor with the tests of a day: no particular hour or weekday.
    for (event, row) in (7..series.len()).step_by(97).enumerate() {
        series.outcome[row] = Outcome::SmtpFailed;
        (series.stage[row], series.smtp_reply_code[row]) = of(event);
    }
    (period, series)
}

#[test]
fn the_stage_at_which_most_failures_begin_is_found() {
    let (period, series) = failing(11, |event| {
        let stage = if event % 10 == 0 { Stage::SmtpConnect } else { Stage::SmtpAuth };
        (Some(stage), None)
    });
    let found = found(&period, &series);
    let [Pattern::FailureKind { outcome, stage, share }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*outcome, *stage), (Outcome::SmtpFailed, Some(Stage::SmtpAuth)));
    assert_eq!((share.part, share.whole), (28, 32));
    // Half is not a majority.
    let (period, series) = failing(11, |event| {
        let stage = if event % 2 == 0 { Stage::SmtpConnect } else { Stage::SmtpAuth };
        (Some(stage), None)
    });
    assert_eq!(super::tests::found(&period, &series), []);
}

#[test]
fn the_reply_that_goes_with_failures_is_found() {
    let (period, series) = failing(12, |event| {
        let stage = if event % 2 == 0 { Stage::SmtpRcpt } else { Stage::SmtpData };
        (Some(stage), Some(if event % 4 == 0 { 421 } else { 451 }))
    });
    let found = found(&period, &series);
    let [Pattern::FailureReply { code, share, good }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*code, *good), (451, 0.0));
    assert!((share.value - 0.75).abs() < 0.03, "{share:?}");
}

#[test]
fn tiny_files_yield_no_conclusion() {
    let period = weeks("Europe/Berlin");
    let whole = series(&period, 7, |_| ());
    for rows in [0..0_u32, 0..1, 0..40] {
        let few = whole.select(&rows.collect::<Vec<_>>());
        assert_eq!(found(&period, &few), []);
    }
    let lost = series(&period, 8, |test| test.outcome = Outcome::Lost);
    assert!(found(&period, &lost).iter().all(|pattern| pattern.effect().is_finite()));
}
