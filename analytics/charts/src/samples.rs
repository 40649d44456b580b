//! Data for the tests of charts, and images of all charts for visual inspection.

use jiff::{civil::date, tz::TimeZone};
use mailqos_model::UtcMicros;

use super::{
    Chart, English, Figure, Measure, WIDTH,
    axis::TimeSpan,
    budget::{Budget, Budgets},
    distribution::Distribution,
    dumbbell::{self, Dumbbell},
    heat_map::HeatMap,
    lines::{self, Lines},
    phases::{self, Phases},
    round_trip::{Bucket, Failure, Kind, RoundTrip, Shift},
    small_multiples::{self, SmallMultiples},
    sparkline::Sparkline,
    strip::{Cell, Row, Strip},
};

pub(super) const NAMES: [&str; 5] = [
    "<script>alert('x')</script>",
    "💌 büro → Köln & \"Bonn\"",
    "דואר אלקטרוני ירושלים",
    concat!(
        "long long long long long long long long long long ",
        "long long long long long long long long long long ",
        "long long long long long long long long long long ",
        "long long long long long long long long long long "
    ),
    "東京メールサーバー",
];

const CITIES: [&str; 8] =
    ["Lyon", "Paris", "Marseille", "Lille", "Brest", "Nantes", "Nice", "Strasbourg"];

const HOUR: i64 = 3_600_000_000;

pub(super) fn paris() -> English {
    English(TimeZone::get("Europe/Paris").expect("a zone"))
}

/// Returns the drawing and all texts of a chart, for snapshots.
pub(super) fn shown(chart: &Chart) -> String {
    let cells =
        |row: Vec<Figure<'_>>| row.iter().map(|cell| cell.text).collect::<Vec<_>>().join(" | ");
    let rows: Vec<String> = chart.data.rows().map(cells).collect();
    format!(
        "{}\n{}\n{}\n{}×{}\n{}\n{}\n{}",
        chart.title,
        chart.subtitle,
        chart.alternative,
        chart.width,
        chart.height,
        chart.data.heads.join(" | "),
        rows.join("\n"),
        chart.svg
    )
}

/// Pseudo-random numbers from 0 to 1, the same in each run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn throw(&mut self) -> f64 {
        // xorshift64*: Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub(super) fn span(from: jiff::civil::Date, days: i64) -> TimeSpan {
    let zone = paris().0;
    let moment = |date: jiff::civil::Date| -> UtcMicros {
        date.to_zoned_datetime(zone.clone()).expect("a date").timestamp().into()
    };
    TimeSpan {
        from: moment(from),
        to: moment(from.checked_add(jiff::Span::new().days(days)).expect("a date")),
    }
}

fn round_trip(period: TimeSpan, bucket: i64, level: impl Fn(f64) -> f64) -> RoundTrip {
    let mut dice = Random::new(7);
    let mut buckets = Vec::new();
    let mut start = period.from.0;
    while start < period.to.0 {
        let share = (start - period.from.0) as f64 / (period.to.0 - period.from.0) as f64;
        let median = level(share) * (0.93 + 0.14 * dice.throw());
        let spread =
            [median * (0.72 - 0.1 * dice.throw()), median, median * (1.3 + 0.5 * dice.throw())];
        buckets.push(Bucket {
            start,
            end: start + bucket,
            count: 60,
            spread: Some(spread),
            points: Vec::new(),
        });
        start += bucket;
    }
    RoundTrip {
        title: String::new(),
        metric: "round trip".into(),
        width: WIDTH,
        period,
        median: Some(level(0.5)),
        buckets,
        limit: Some(30e6),
        failures: Vec::new(),
        maintenance: Vec::new(),
        alarms: Vec::new(),
        shifts: Vec::new(),
    }
}

/// Returns eight buckets of a day, with a gap, a bucket of individual values, and all marks.
pub(super) fn round_trip_small() -> (RoundTrip, English) {
    let period = span(date(2026, 10, 25), 1);
    let mut data = round_trip(period, 3 * HOUR, |share| 1.2e6 + 0.6e6 * share);
    data.buckets.remove(4);
    data.buckets[2].spread = None;
    data.buckets[2].count = 3;
    data.buckets[2].points = (0..3)
        .map(|n| (UtcMicros(data.buckets[2].start + n * HOUR), 1e6 + n as f64 * 4e5))
        .collect();
    let at = |hours: i64| UtcMicros(period.from.0 + hours * HOUR);
    data.failures =
        vec![Failure { at: at(13), kind: Kind::Lost }, Failure { at: at(14), kind: Kind::Late }];
    data.maintenance = vec![TimeSpan { from: at(12), to: at(15) }];
    data.alarms = vec![(at(16), "Lyon failed 3 times".into())];
    data.shifts = vec![Shift { at: at(18), before: 1.3e6, after: 1.7e6 }];
    data.limit = Some(2.5e6);
    (data, paris())
}

/// Returns a month by hour, with all marks.
pub(super) fn round_trip_month() -> (RoundTrip, English) {
    let period = span(date(2026, 10, 1), 31);
    let mut data = round_trip(period, 2 * HOUR, |share| {
        let day = (share * 31.0).fract();
        let office = if (0.35..0.75).contains(&day) { 1.35 } else { 1.0 };
        let level = if share > 0.62 { 1.9e6 } else { 1.2e6 };
        level * office
    });
    data.buckets.retain(|bucket| {
        let share = (bucket.start - period.from.0) as f64 / (period.to.0 - period.from.0) as f64;
        !(0.41..0.46).contains(&share) && !(0.2..0.205).contains(&share)
    });
    let at = |share: f64| {
        UtcMicros(period.from.0 + ((period.to.0 - period.from.0) as f64 * share) as i64)
    };
    let mut dice = Random::new(3);
    for _ in 0..9 {
        data.failures.push(Failure { at: at(dice.throw()), kind: Kind::Late });
    }
    for n in 0..9 {
        data.failures.push(Failure { at: at(0.701 + 0.0004 * f64::from(n)), kind: Kind::Lost });
    }
    data.failures.push(Failure { at: at(0.33), kind: Kind::NotSent });
    data.maintenance =
        vec![TimeSpan { from: at(0.2), to: at(0.205) }, TimeSpan { from: at(0.855), to: at(0.9) }];
    data.alarms = vec![(at(0.705), "Lyon → Paris failed 3 times".into())];
    data.shifts = vec![Shift { at: at(0.62), before: 1.31e6, after: 2.08e6 }];
    data.limit = Some(4e6);
    (data, paris())
}

/// Returns a year by hour with one peak.
pub(super) fn round_trip_many() -> (RoundTrip, English) {
    let period = span(date(2026, 1, 1), 417);
    let mut data = round_trip(period, HOUR, |share| 0.8e6 + 0.3e6 * (share * 40.0).sin());
    if let Some(spread) = data.buckets.get_mut(7_777).and_then(|bucket| bucket.spread.as_mut()) {
        spread[2] = 9.87e6;
    }
    (data, paris())
}

fn strip(
    names: &[String],
    period: TimeSpan,
    cell: i64,
    state: impl Fn(usize, usize, &mut Random) -> (u64, u64, bool),
) -> Strip {
    let mut dice = Random::new(11);
    let rows = names
        .iter()
        .enumerate()
        .map(|(row, name)| {
            let mut cells = Vec::new();
            let mut from = period.from.0;
            while from < period.to.0 {
                // The additional hour in autumn belongs to the last cell.
                let to =
                    if from + cell + 2 * HOUR > period.to.0 { period.to.0 } else { from + cell };
                let (tests, failed, maintenance) = state(row, cells.len(), &mut dice);
                cells.push(Cell {
                    span: TimeSpan { from: UtcMicros(from), to: UtcMicros(to) },
                    tests,
                    failed,
                    maintenance,
                });
                from = to;
            }
            let (tests, failed) =
                cells.iter().fold((0, 0), |sum, cell| (sum.0 + cell.tests, sum.1 + cell.failed));
            let figure = if tests == 0 {
                "–".into()
            } else {
                format!("{:.2}\u{202f}%", 100.0 - failed as f64 * 100.0 / tests as f64)
            };
            Row { name: name.clone(), figure, cells }
        })
        .collect();
    Strip { title: String::new(), width: WIDTH, period, rows }
}

/// Returns five rows of a week in which each day has a different state.
pub(super) fn strip_small() -> (Strip, English) {
    let names: Vec<String> =
        ["Lyon", "Paris", "Marseille", "Lille", "Brest"].map(String::from).into();
    let data = strip(&names, span(date(2026, 10, 5), 7), 24 * HOUR, |row, cell, _| {
        match (row + cell) % 5 {
            0 | 1 => (288, 0, false),
            2 => (288, 40, false),
            3 if row < 2 => (288, 288, false),
            3 => (0, 0, true),
            _ if row > 2 => (0, 0, false),
            _ => (288, 0, true),
        }
    });
    (data, paris())
}

/// Returns `count` monitors over a month by day.
pub(super) fn strip_month(count: usize) -> (Strip, English) {
    let names: Vec<String> =
        (0..count).map(|n| format!("{} → mailbox {}", CITIES[n % 8], n / 8 + 1)).collect();
    let data = strip(&names, span(date(2026, 10, 1), 31), 24 * HOUR, |row, cell, dice| {
        let thrown = dice.throw();
        match (row, cell) {
            (2, 9) => (288, 288, false),
            (2, 10) => (288, 120, false),
            (4, 20..) => (0, 0, false),
            (_, 17) if row % 7 == 1 => (0, 0, true),
            _ if thrown > 0.985 => (288, (dice.throw() * 60.0) as u64, false),
            _ => (288, 0, false),
        }
    });
    (data, paris())
}

/// Returns two monitors over a year by hour, with one failed hour each.
pub(super) fn strip_year_of_hours() -> (Strip, English) {
    let names = vec!["Lyon".to_owned(), "Paris".to_owned()];
    let data = strip(&names, span(date(2026, 1, 1), 365), HOUR, |row, cell, _| {
        (12, u64::from(cell == 4_000 + row * 1_000) * 12, false)
    });
    (data, paris())
}

/// Returns monitors with six phases each.
pub(super) fn phases(count: usize) -> (Phases, English) {
    let names = ["connect", "TLS", "login and send", "transit", "pickup login", "fetch"];
    let usual = [12e3, 38e3, 160e3, 900e3, 210e3, 90e3];
    let mut dice = Random::new(5);
    let rows = (0..count)
        .map(|n| phases::Row {
            name: format!("{} → mailbox {}", CITIES[n % 8], n / 8 + 1),
            parts: usual.iter().map(|part| Some(part * (0.5 + dice.throw()))).collect(),
        })
        .collect();
    let data = Phases {
        title: String::new(),
        measure: "mean of each phase".into(),
        width: WIDTH,
        period: span(date(2026, 10, 1), 31),
        phases: names.map(String::from).into(),
        rows,
    };
    (data, paris())
}

/// Returns monitors in two periods.
pub(super) fn dumbbell(count: usize) -> (Dumbbell, English) {
    let mut dice = Random::new(9);
    let rows = (0..count)
        .map(|n| {
            let before = 0.8e6 + 1.5e6 * dice.throw();
            dumbbell::Row {
                name: format!("{} → mailbox {}", CITIES[n % 8], n / 8 + 1),
                before: (n != 3).then_some(before),
                after: Some(before * (0.7 + 0.7 * dice.throw())),
                by_chance: false,
            }
        })
        .collect();
    let data = Dumbbell {
        title: String::new(),
        metric: "median round trip".into(),
        measure: Measure::Duration,
        less_is_better: true,
        width: WIDTH,
        before: "September 2026".into(),
        after: "October 2026".into(),
        rows,
    };
    (data, paris())
}

/// Returns `count` round trips.
pub(super) fn distribution(count: usize) -> (Distribution, English) {
    let mut dice = Random::new(13);
    let values: Vec<f64> = (0..count)
        .map(|_| {
            let bell: f64 = (0..6).map(|_| dice.throw()).sum::<f64>() / 6.0;
            let slow = if dice.throw() > 0.97 { 25.0 } else { 1.0 };
            1.3e6 * (4.0 * (bell - 0.5)).exp() * slow
        })
        .collect();
    let data = Distribution {
        title: String::new(),
        metric: "round trip".into(),
        width: WIDTH,
        period: span(date(2026, 10, 1), 31),
        tests: count as u64 + u64::from(count > 1_000) * 12,
        values,
        thresholds: vec![10e6, 30e6, 60e6, 300e6],
    };
    (data, paris())
}

/// Returns a week at an office, with one hour without tests.
pub(super) fn heat_map() -> (HeatMap, English) {
    let mut dice = Random::new(17);
    let mut cells = [[None; 24]; 7];
    for (day, hours) in cells.iter_mut().enumerate() {
        for (hour, cell) in hours.iter_mut().enumerate() {
            let office = if day < 5 && (8..18).contains(&hour) { 1.7 } else { 1.0 };
            *cell = (hour != 3 || day != 6).then(|| 1.1e6 * office * (0.9 + 0.2 * dice.throw()));
        }
    }
    let data = HeatMap {
        title: String::new(),
        metric: "median round trip".into(),
        measure: Measure::Duration,
        width: WIDTH,
        period: span(date(2026, 10, 1), 31),
        cells,
        first_day: 1,
    };
    (data, paris())
}

/// Returns `count` monitors over a week.
pub(super) fn small_multiples(count: usize) -> (SmallMultiples, English) {
    let period = span(date(2026, 10, 5), 7);
    let panels = (0..count)
        .map(|n| {
            let level = 0.7e6 + 1.2e6 * Random::new(n as u64 + 3).throw();
            let one = round_trip(period, 2 * HOUR, |share| {
                level * (1.0 + 0.2 * (share * 44.0 + n as f64).sin())
            });
            let mut failures = Vec::new();
            if n % 4 == 1 {
                let at = UtcMicros(period.from.0 + (n as i64 * 7 % 160) * HOUR);
                failures.push(Failure { at, kind: Kind::Lost });
            }
            small_multiples::Panel {
                name: format!("{} → mailbox {}", CITIES[n % 8], n / 8 + 1),
                figure: format!("{:.2}\u{a0}s", level / 1e6),
                typical: Some([level, level * 2.0]),
                buckets: one.buckets,
                failures,
            }
        })
        .collect();
    let data = SmallMultiples {
        title: String::new(),
        metric: "round trip".into(),
        width: WIDTH,
        period,
        panels,
    };
    (data, paris())
}

/// Returns `count` monitors over a week, as lines.
pub(super) fn lines(count: usize) -> (Lines, English) {
    let (multiples, locale) = small_multiples(count);
    let lines = multiples
        .panels
        .into_iter()
        .map(|panel| lines::Line {
            median: panel.buckets.first().and_then(|bucket| bucket.spread).map(|spread| spread[1]),
            name: panel.name,
            buckets: panel.buckets,
        })
        .collect();
    let data = Lines {
        title: String::new(),
        metric: multiples.metric,
        width: WIDTH,
        period: multiples.period,
        lines,
    };
    (data, locale)
}

/// Returns round trips as a sparkline.
pub(super) fn sparkline(values: &[Option<f64>]) -> Sparkline {
    Sparkline {
        metric: "round trip".into(),
        measure: Measure::Duration,
        width: 90,
        height: 22,
        values: values.to_vec(),
        marked: None,
    }
}

/// Returns budgets that are met, at risk, overspent and unknown.
pub(super) fn budgets() -> (Budgets, English) {
    let row = |name: &str, amount: &str, spent: Option<f64>, forecast: Option<f64>| Budget {
        name: name.into(),
        promise: "99.9\u{202f}% available".into(),
        amount: amount.into(),
        spent,
        forecast,
    };
    let data = Budgets {
        title: String::new(),
        width: WIDTH,
        period: span(date(2026, 10, 1), 31),
        passed: 0.45,
        rows: vec![
            row("Lyon", "9 of 43 min", Some(0.21), Some(0.47)),
            row("Paris", "27 of 43 min", Some(0.63), Some(1.4)),
            row("Marseille", "52 of 43 min", Some(1.21), None),
            row("Lille", "", None, None),
        ],
        beyond: (0, 0),
    };
    (data, paris())
}

/// Writes all charts as images: `MAILQOS_CHARTS=folder cargo test -p mailqos-charts pictures`.
#[test]
fn pictures() {
    let Some(folder) = std::env::var_os("MAILQOS_CHARTS") else {
        return;
    };
    let folder = std::path::Path::new(&folder);
    let draw = |name: &str, chart: Chart| {
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(path, &chart.svg).expect("the folder can be written to");
        let text = format!("{}\n{}\n{}\n", chart.title, chart.subtitle, chart.alternative);
        std::fs::write(folder.join(format!("{name}.txt")), text)
            .expect("the folder can be written to");
    };
    use super::{round_trip, strip};
    let locale = paris();
    let rules = super::palette::dark_rules("figure");
    std::fs::write(folder.join("dark.css"), rules).expect("the folder can be written to");
    draw("round_trip_small", round_trip::chart(&round_trip_small().0, &locale));
    draw("round_trip_month", round_trip::chart(&round_trip_month().0, &locale));
    draw("round_trip_many", round_trip::chart(&round_trip_many().0, &locale));
    let mut half = round_trip_month().0;
    half.width = super::HALF;
    half.limit = Some(30e6);
    draw("round_trip_half", round_trip::chart(&half, &locale));
    let mut log = round_trip_month().0;
    for bucket in log.buckets.iter_mut().skip(200).take(30) {
        bucket.spread = bucket.spread.map(|spread| spread.map(|value| value * 40.0));
    }
    log.limit = Some(60e6);
    draw("round_trip_log", round_trip::chart(&log, &locale));
    for count in [1, 5, 40] {
        draw(&format!("strip_{count}"), strip::chart(&strip_month(count).0, &locale));
    }
    draw("strip_small", strip::chart(&strip_small().0, &locale));
    draw("strip_hours", strip::chart(&strip_year_of_hours().0, &locale));
    let mut names = strip_small().0;
    for (row, name) in names.rows.iter_mut().zip(NAMES) {
        row.name = name.to_owned();
    }
    draw("strip_names", strip::chart(&names, &locale));

    for count in [1, 5, 40] {
        draw(&format!("phases_{count}"), phases::chart(&phases(count).0, &locale));
        draw(&format!("dumbbell_{count}"), dumbbell::chart(&dumbbell(count).0, &locale));
    }
    let mut shares = dumbbell(5).0;
    (shares.measure, shares.less_is_better, shares.metric) =
        (Measure::Share, false, "availability".into());
    for row in &mut shares.rows {
        row.before = row.before.map(|value| 1.0 - value / 4e8);
        row.after = row.after.map(|value| 1.0 - value / 4e8);
    }
    draw("dumbbell_share", dumbbell::chart(&shares, &locale));
    use super::{distribution, heat_map};
    for count in [6, 20_000] {
        draw(
            &format!("distribution_{count}"),
            distribution::chart(&distribution(count).0, &locale),
        );
    }
    draw("heat_map", heat_map::chart(&heat_map().0, &locale));
    let mut half = heat_map().0;
    half.width = super::HALF;
    draw("heat_map_half", heat_map::chart(&half, &locale));
    use super::{budget, sparkline};
    for count in [1, 5, 40] {
        let multiples = small_multiples::chart(&small_multiples(count).0, &locale);
        draw(&format!("multiples_{count}"), multiples);
    }
    use super::{calendar, lines};
    for count in [1, 4, 40] {
        draw(&format!("lines_{count}"), lines::chart(&self::lines(count).0, &locale));
        draw(&format!("calendar_{count}"), calendar::chart(&strip_month(count).0, 1, &locale));
    }
    draw("budgets", budget::chart(&budgets().0, &locale));
    let medians: Vec<Option<f64>> = round_trip_month()
        .0
        .buckets
        .iter()
        .map(|bucket| bucket.spread.map(|spread| spread[1]))
        .collect();
    draw("sparkline", sparkline::chart(&self::sparkline(&medians), &locale));
}
