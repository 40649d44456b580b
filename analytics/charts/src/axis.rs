//! Axes: ticks at round durations and at round local times, with labels that never overlap.

use jiff::{
    Span, ToSpan, ZonedDateTime,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use mailqos_model::UtcMicros;

use super::{
    canvas::{text_width, widest},
    locale::ChartLocale,
};

/// Maximum number of labels on an axis.
pub const MAX: usize = 7;

/// Scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances represent equal differences.
    Linear,
    /// Equal distances represent equal ratios.
    Log,
}

/// A tick on a value axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Value of the tick.
    pub value: f64,
    /// Label of the tick.
    pub label: String,
}

/// A value axis for durations in microseconds or shares.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Scale of the axis.
    pub scale: Scale,
    /// Lowest value shown.
    pub low: f64,
    /// Highest value shown.
    pub high: f64,
    /// Ticks between `low` and `high`, in ascending order.
    pub ticks: Vec<Tick>,
}

/// Units of a linear axis: microseconds per unit, its name, and its round steps in addition to 1, 2
/// and 5.
const UNITS: [(f64, &str, &[f64]); 5] = [
    (1.0, "µs", &[]),
    (1e3, "ms", &[]),
    (1e6, "s", &[15.0, 30.0]),
    (60e6, "min", &[15.0, 30.0]),
    (3_600e6, "h", &[3.0, 6.0, 12.0, 24.0]),
];

/// Round values on a logarithmic axis, in microseconds.
const ROUND: [f64; 23] = [
    1.0, 10.0, 100.0, 1e3, 2e3, 5e3, 10e3, 20e3, 50e3, 100e3, 200e3, 500e3, 1e6, 2e6, 5e6, 10e6,
    30e6, 60e6, 300e6, 900e6, 3_600e6, 14_400e6, 86_400e6,
];
/// Further round values, for axes that contain few of the others.
const ROUND_TOO: [f64; 14] = [
    2.0, 5.0, 20.0, 50.0, 200.0, 500.0, 20e6, 120e6, 600e6, 1_800e6, 7_200e6, 28_800e6, 43_200e6,
    172_800e6,
];

impl Axis {
    /// Returns an axis from zero to slightly above the highest value, in a single unit.
    pub fn from_zero(greatest: f64, most: usize, locale: &dyn ChartLocale) -> Self {
        let greatest =
            if greatest.is_finite() && greatest > 0.0 { greatest.min(1e15) } else { 1e3 };
        let most = most.clamp(2, MAX);
        let (size, unit, own) =
            UNITS.into_iter().rev().find(|(size, ..)| greatest >= 1.5 * size).unwrap_or(UNITS[0]);
        let steps =
            (-1..16).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let mut steps: Vec<f64> = if own.is_empty() {
            steps.collect()
        } else {
            // Units of sixty have different round numbers.
            steps
                .filter(|step| *step < 15.0 || *step > 60.0)
                .chain(own.iter().copied())
                .chain([60.0])
                .collect()
        };
        steps.sort_by(f64::total_cmp);
        let top = greatest / size;
        let step =
            steps.into_iter().find(|step| ((top / step).ceil() as usize) < most).unwrap_or(top);
        let count = (top / step).ceil().max(1.0) as usize;
        let decimals = usize::from(step < 1.0);
        let ticks = (0..=count)
            .map(|n| {
                let value = n as f64 * step;
                let number = locale.number(value, if n == 0 { 0 } else { decimals });
                // The unit appears only at the topmost label, where reading starts.
                let label = if n == count { format!("{number}\u{a0}{unit}") } else { number };
                Tick { value: value * size, label }
            })
            .collect();
        Self { scale: Scale::Linear, low: 0.0, high: count as f64 * step * size, ticks }
    }

    /// Returns a logarithmic axis around the values; each label has its unit.
    pub fn log(least: f64, greatest: f64, most: usize, locale: &dyn ChartLocale) -> Self {
        let least = if least.is_finite() { least.clamp(1.0, 1e13) } else { 1.0 };
        let greatest = if greatest.is_finite() { greatest.clamp(least, 1e14) } else { least };
        let (low, high) = (least / 1.15, (greatest * 1.15).max(least * 4.0));
        let mut within: Vec<f64> =
            ROUND.into_iter().filter(|value| (low..=high).contains(value)).collect();
        if within.len() < 2 {
            within.extend(ROUND_TOO.into_iter().filter(|value| (low..=high).contains(value)));
            within.sort_by(f64::total_cmp);
        }
        let every = within.len().div_ceil(most.clamp(2, MAX)).max(1);
        let ticks = within
            .iter()
            // Powers of ten are the roundest: keep them if not all labels fit.
            .filter(|value| every == 1 || every > 3 || roundness(**value) >= every)
            .copied()
            .collect::<Vec<_>>();
        let every = ticks.len().div_ceil(most.clamp(2, MAX)).max(1);
        let ticks = ticks
            .into_iter()
            .step_by(every)
            .map(|value| Tick { value, label: locale.duration(value) })
            .collect();
        Self { scale: Scale::Log, low, high, ticks }
    }

    /// Returns an axis for shares from about the lowest value, or from zero if that is close, to
    /// about the highest.
    pub fn share(least: f64, greatest: f64, most: usize, locale: &dyn ChartLocale) -> Self {
        let bound = |value: f64| {
            if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
        };
        let greatest = match bound(greatest) {
            some if some > 0.0 => some.max(1e-6),
            // All values are zero, so any range will do.
            _ => 1.0,
        };
        let least = bound(least).min(greatest);
        let most = most.clamp(3, MAX);
        let least = if least < greatest * 0.5 || greatest <= 1e-6 { 0.0 } else { least };
        let room = if least < greatest {
            (greatest - least) * 100.0
        } else {
            // All values are equal, so any range will do.
            greatest * 0.1
        };
        let step = (-7..3)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .find(|step| (room / step).ceil() as usize + 2 <= most)
            .unwrap_or(50.0);
        let first = (least * 100.0 / step + 1e-6).floor().max(0.0);
        let last = (greatest * 100.0 / step - 1e-6).ceil();
        // An axis needs a length, and no share exceeds 100 %.
        let (first, last) = if last > first {
            (first, last)
        } else if first > 0.0 {
            (first - 1.0, first)
        } else {
            (first, first + 1.0)
        };
        let decimals = (-step.log10().floor()).clamp(0.0, 7.0) as usize;
        let ticks = (0..=(last - first) as usize)
            .map(|n| (first + n as f64) * step)
            .map(|percent| Tick {
                value: percent / 100.0,
                label: locale.percent(percent, decimals),
            })
            .collect();
        Self { scale: Scale::Linear, low: first * step / 100.0, high: last * step / 100.0, ticks }
    }

    /// Returns the axis without ticks above the highest value, for small plots.
    #[must_use]
    pub(super) fn snug(mut self, greatest: f64) -> Self {
        let high = greatest * 1.05;
        if self.scale == Scale::Log || !high.is_finite() || high <= self.low || high >= self.high {
            return self;
        }
        let unit = self
            .ticks
            .last()
            .and_then(|tick| tick.label.split_once('\u{a0}'))
            .map(|(_, unit)| unit.to_owned());
        self.ticks.retain(|tick| tick.value <= high);
        if let (Some(tick), Some(unit)) =
            (self.ticks.last_mut().filter(|tick| !tick.label.contains('\u{a0}')), unit)
        {
            tick.label = format!("{}\u{a0}{unit}", tick.label);
        }
        self.high = high;
        self
    }

    /// Returns whether the axis does not start at zero, which the subtitle must mention.
    pub fn is_cut(&self) -> bool {
        self.low != 0.0
    }

    /// Returns the position of a value from 0 (lowest) to 1 (highest), clamped.
    pub fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(1e-3) / self.low).ln() / (self.high / self.low).ln(),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Returns the width of the widest label, in pixels.
    pub(super) fn label_width(&self, size: f64) -> f64 {
        widest(self.ticks.iter().map(|tick| tick.label.as_str()), size)
    }
}

/// Returns how round a value is: 3 for powers of ten and whole minutes, 2 for fives and thirties, 1
/// for the rest.
fn roundness(value: f64) -> usize {
    let mantissa = value / 10_f64.powf(value.log10().floor());
    if (mantissa - 1.0).abs() < 1e-9 || value >= 60e6 {
        3
    } else {
        2 - usize::from((mantissa - 2.0).abs() < 1e-9)
    }
}

/// A time span along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    /// Start of the span.
    pub from: UtcMicros,
    /// End of the span.
    pub to: UtcMicros,
}

/// A tick on a time axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeTick {
    /// Time of the tick.
    pub at: UtcMicros,
    /// Label of the tick.
    pub label: String,
}

/// A distance between ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Seconds(i64),
    Minutes(i64),
    Hours(i64),
    Days(i64),
    Mondays,
    Months(i64),
    Years(i64),
}

/// Steps from fine to coarse, with the approximate seconds between two ticks.
const STEPS: [(Step, i64); 26] = [
    (Step::Seconds(1), 1),
    (Step::Seconds(5), 5),
    (Step::Seconds(15), 15),
    (Step::Seconds(30), 30),
    (Step::Minutes(1), 60),
    (Step::Minutes(2), 120),
    (Step::Minutes(5), 300),
    (Step::Minutes(10), 600),
    (Step::Minutes(15), 900),
    (Step::Minutes(30), 1_800),
    (Step::Hours(1), 3_600),
    (Step::Hours(2), 7_200),
    (Step::Hours(3), 10_800),
    (Step::Hours(6), 21_600),
    (Step::Hours(12), 43_200),
    (Step::Days(1), 86_400),
    (Step::Days(2), 172_800),
    (Step::Mondays, 604_800),
    (Step::Months(1), 2_629_746),
    (Step::Months(2), 5_259_492),
    (Step::Months(3), 7_889_238),
    (Step::Months(6), 15_778_476),
    (Step::Years(1), 31_556_952),
    (Step::Years(2), 63_113_904),
    (Step::Years(5), 157_784_760),
    (Step::Years(20), 631_139_040),
];

/// Returns ticks at round local times within a half-open span, in ascending order, as many as fit
/// into the width.
pub fn time_ticks(
    span: TimeSpan,
    width: f64,
    size: f64,
    locale: &dyn ChartLocale,
) -> Vec<TimeTick> {
    let ticks = finest(span, width, size, locale, true);
    if ticks.len() >= 2 {
        return ticks;
    }
    // If only one label would fit, days are shown without their weekday.
    let short = finest(span, width, size, locale, false);
    if short.len() > ticks.len() { short } else { ticks }
}

fn finest(
    span: TimeSpan,
    width: f64,
    size: f64,
    locale: &dyn ChartLocale,
    weekdays: bool,
) -> Vec<TimeTick> {
    if span.to <= span.from {
        return Vec::new();
    }
    let seconds = span.to.0.saturating_sub(span.from.0) / 1_000_000;
    for (step, between) in STEPS {
        if seconds / between > MAX as i64 {
            continue;
        }
        let ticks = moments(step, span, locale.zone());
        if ticks.len() > MAX {
            continue;
        }
        let ticks = labelled(&ticks, step, locale, weekdays);
        if fits(&ticks, span, width, size) {
            return ticks;
        }
    }
    Vec::new()
}

/// Returns the position of a time within a span, from 0 to 1.
pub(super) fn place(span: TimeSpan, at: UtcMicros) -> f64 {
    let whole = span.to.0.saturating_sub(span.from.0).max(1) as f64;
    (at.0.saturating_sub(span.from.0) as f64 / whole).clamp(0.0, 1.0)
}

fn fits(ticks: &[TimeTick], span: TimeSpan, width: f64, size: f64) -> bool {
    ticks.windows(2).all(|pair| {
        let distance = (place(span, pair[1].at) - place(span, pair[0].at)) * width;
        let needed = (text_width(&pair[0].label, size) + text_width(&pair[1].label, size)) / 2.0
            + size * 0.8;
        distance >= needed
    })
}

/// Returns the ticks of a step within a span, without local times that the zone skips and without
/// repeating any.
fn moments(step: Step, span: TimeSpan, zone: &TimeZone) -> Vec<UtcMicros> {
    let civil = |moment: UtcMicros| zone.to_datetime(moment.timestamp());
    let (first, last) = (civil(span.from), civil(span.to));
    let mut found: Vec<UtcMicros> = Vec::new();
    let mut push = |at: DateTime| {
        let Ok(zoned) = at.to_zoned_datetime(zone.clone()) else {
            return;
        };
        let moment = UtcMicros::from(zoned.timestamp());
        let kept = zoned.datetime() == at || at.time() == Time::midnight();
        if kept
            && moment >= span.from
            && moment < span.to
            && found.last().is_none_or(|last| *last < moment)
        {
            found.push(moment);
        }
    };
    let start = |date: Date| date.to_datetime(Time::midnight());
    let next = |at: DateTime, by: Span| at.checked_add(by).ok();
    // A start that is a multiple of the step and not after the start of the span, and the distance
    // to the next tick.
    let (mut at, by) = match step {
        Step::Seconds(n) | Step::Minutes(n) | Step::Hours(n) => {
            let by = match step {
                Step::Seconds(_) => n.seconds(),
                Step::Minutes(_) => n.minutes(),
                _ => n.hours(),
            };
            (start(first.date()), by)
        }
        Step::Days(n) => (start(first.date()), n.days()),
        Step::Mondays => {
            let back = i64::from(first.weekday().to_monday_zero_offset());
            (start(first.date().saturating_sub(back.days())), 1.week())
        }
        Step::Months(n) => {
            let month = (i64::from(first.month()) - 1) / n * n + 1;
            let begin = i8::try_from(month)
                .ok()
                .and_then(|month| Date::new(first.year(), month, 1).ok())
                .unwrap_or_else(|| first.date().first_of_month());
            (start(begin), n.months())
        }
        Step::Years(n) => {
            let year = i64::from(first.year()).div_euclid(n) * n;
            let begin = i16::try_from(year)
                .ok()
                .and_then(|year| Date::new(year, 1, 1).ok())
                .unwrap_or(Date::MIN);
            (start(begin), n.years())
        }
    };
    // Jumps close to the start instead of iterating over a day in seconds.
    if let Step::Seconds(n) | Step::Minutes(n) = step {
        let unit = if matches!(step, Step::Seconds(_)) { n } else { n * 60 };
        let passed = i64::from(first.hour()) * 3_600
            + i64::from(first.minute()) * 60
            + i64::from(first.second());
        at = next(at, (passed / unit * unit).seconds()).unwrap_or(at);
    }
    // When clocks are set back, local times repeat, so look one hour further.
    let beyond = last.checked_add(2.hours()).unwrap_or(last);
    for _ in 0..400 {
        if at > beyond {
            break;
        }
        push(at);
        match next(at, by) {
            Some(later) if later > at => at = later,
            _ => break,
        }
    }
    found
}

fn labelled(
    moments: &[UtcMicros],
    step: Step,
    locale: &dyn ChartLocale,
    weekdays: bool,
) -> Vec<TimeTick> {
    let mut before: Option<ZonedDateTime> = None;
    moments
        .iter()
        .map(|at| {
            let zoned = ZonedDateTime::new(at.timestamp(), locale.zone().clone());
            let new_year = before.as_ref().is_none_or(|before| before.year() != zoned.year());
            let new_month =
                new_year || before.as_ref().is_none_or(|before| before.month() != zoned.month());
            let new_day = before.as_ref().is_none_or(|before| before.date() != zoned.date());
            let first = before.is_none();
            let (day, month) = (locale.nth(zoned.day()), locale.month(zoned.month()));
            let weekday = || locale.weekday(zoned.weekday().to_monday_one_offset());
            let date = locale.own_date(zoned.date()).unwrap_or_else(|| format!("{day} {month}"));
            let clock = |seconds| locale.clock(zoned.time(), seconds);
            let label = match step {
                Step::Seconds(_) => clock(true),
                Step::Minutes(_) | Step::Hours(_) if new_day && !first => date,
                Step::Minutes(_) | Step::Hours(_) => clock(false),
                Step::Days(_) if !weekdays && new_month => date,
                Step::Days(_) if !weekdays => day,
                Step::Days(_) if new_month => format!("{} {date}", weekday()),
                Step::Days(_) => format!("{} {day}", weekday()),
                Step::Mondays if new_month => date,
                Step::Mondays => day,
                Step::Months(_) if new_year => format!("{month} {}", zoned.year()),
                Step::Months(_) => month,
                Step::Years(_) => zoned.year().to_string(),
            };
            before = Some(zoned);
            TimeTick { at: *at, label }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::locale::English;

    fn span(from: Date, to: Date, zone: &TimeZone) -> TimeSpan {
        let moment = |date: Date| -> UtcMicros {
            date.to_zoned_datetime(zone.clone()).expect("a date").timestamp().into()
        };
        TimeSpan { from: moment(from), to: moment(to) }
    }

    fn shown(from: Date, to: Date, zone: &str, width: f64) -> Vec<String> {
        let zone = TimeZone::get(zone).expect("a zone");
        time_ticks(span(from, to, &zone), width, 12.0, &English(zone.clone()))
            .into_iter()
            .map(|tick| tick.label)
            .collect()
    }

    #[test]
    fn ticks_are_at_round_local_times() {
        let day = shown(date(2026, 3, 29), date(2026, 3, 30), "Europe/Paris", 600.0);
        assert_eq!(day, ["00:00", "06:00", "12:00", "18:00"]);
        let week = shown(date(2026, 10, 19), date(2026, 10, 26), "Europe/Paris", 600.0);
        assert_eq!(
            week,
            ["Mon 19 Oct", "Tue 20", "Wed 21", "Thu 22", "Fri 23", "Sat 24", "Sun 25"]
        );
        let month = shown(date(2026, 10, 1), date(2026, 11, 1), "Europe/Paris", 600.0);
        assert_eq!(month, ["5 Oct", "12", "19", "26"]);
        let narrow = shown(date(2026, 10, 5), date(2026, 10, 12), "Europe/Paris", 150.0);
        assert_eq!(narrow, ["5 Oct", "7", "9", "11"]);
        let year = shown(date(2026, 1, 1), date(2027, 1, 1), "Asia/Kathmandu", 600.0);
        assert_eq!(year, ["Jan 2026", "Mar", "May", "Jul", "Sep", "Nov"]);
        let years = shown(date(2020, 1, 1), date(2027, 1, 1), "UTC", 600.0);
        assert_eq!(years, ["2020", "2021", "2022", "2023", "2024", "2025", "2026"]);
    }

    #[test]
    fn duration_ticks_are_round_in_a_single_unit() {
        let english = English(TimeZone::UTC);
        let labels = |greatest: f64| -> Vec<String> {
            Axis::from_zero(greatest, 5, &english)
                .ticks
                .into_iter()
                .map(|tick| tick.label)
                .collect()
        };
        assert_eq!(labels(1_240_000.0), ["0", "500", "1,000", "1,500\u{a0}ms"]);
        assert_eq!(labels(28e6), ["0", "10", "20", "30\u{a0}s"]);
        assert_eq!(labels(50e6), ["0", "15", "30", "45", "60\u{a0}s"]);
        assert_eq!(labels(f64::NAN), ["0", "500", "1,000\u{a0}µs"]);
        let log: Vec<String> =
            Axis::log(8e3, 40e6, 6, &english).ticks.into_iter().map(|tick| tick.label).collect();
        assert_eq!(log, ["10\u{a0}ms", "100\u{a0}ms", "1\u{a0}s", "10\u{a0}s"]);
    }

    #[test]
    fn equal_shares_get_an_axis_up_to_100_percent() {
        let english = English(TimeZone::UTC);
        for share in [0.0, 0.000_3, 0.5, 0.995, 1.0] {
            let axis = Axis::share(share, share, 6, &english);
            let (first, last) = (&axis.ticks[0], &axis.ticks[axis.ticks.len() - 1]);
            assert!(last.value <= 1.0 && axis.ticks.len() >= 2, "{axis:?}");
            assert!(first.value <= share + 1e-9 && share <= last.value + 1e-9, "{axis:?}");
            let labels: std::collections::BTreeSet<&str> =
                axis.ticks.iter().map(|tick| &*tick.label).collect();
            assert_eq!(labels.len(), axis.ticks.len(), "{axis:?}");
        }
        for nothing in [0.0, f64::NAN] {
            let axis = Axis::share(nothing, nothing, 6, &english);
            assert!(axis.low == 0.0 && axis.high == 1.0, "{axis:?}");
        }
    }

    #[test]
    fn a_log_axis_has_labels_for_any_range() {
        let english = English(TimeZone::UTC);
        let mut least = 1.0;
        while least < 86_400e6 {
            let axis = Axis::log(least, least * 1.01, 7, &english);
            assert!(!axis.ticks.is_empty(), "{axis:?}");
            least *= 1.1;
        }
        let hours = Axis::log(5.0 * 3_600e6, 15.0 * 3_600e6, 7, &english);
        assert!(hours.ticks.len() >= 2, "{hours:?}");
    }

    fn zones() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "UTC",
            "Europe/Paris",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "America/Santiago",
            "Africa/Cairo",
            "Pacific/Apia",
        ])
    }

    proptest! {
        #[test]
        fn time_ticks_are_ordered_within_the_span_and_apart(
            from in -60_000_000_000_000_000_i64..250_000_000_000_000_000,
            length in 0_u32..56,
            width in 100_f64..1_000.0,
            zone in zones(),
        ) {
            let span = TimeSpan { from: UtcMicros(from), to: UtcMicros(from.saturating_add(1 << length)) };
            let english = English(TimeZone::get(zone).expect("a zone"));
            let ticks = time_ticks(span, width, 12.0, &english);
            prop_assert!(ticks.len() <= MAX);
            prop_assert!(ticks.iter().all(|tick| tick.at >= span.from && tick.at < span.to));
            prop_assert!(ticks.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(fits(&ticks, span, width, 12.0));
        }

        #[test]
        fn time_ticks_exist_for_any_span(from: i64, to: i64) {
            let span = TimeSpan { from: UtcMicros(from), to: UtcMicros(to) };
            prop_assert!(time_ticks(span, 600.0, 12.0, &English(TimeZone::UTC)).len() <= MAX);
        }

        #[test]
        fn value_ticks_are_ordered_and_within_the_axis(least: f64, greatest: f64, most in 0_usize..20) {
            let english = English(TimeZone::UTC);
            for axis in [
                Axis::from_zero(greatest, most, &english),
                Axis::log(least, greatest, most, &english),
                Axis::share(least, greatest, most, &english),
                Axis::share(least.abs().fract(), greatest.abs().fract(), most, &english),
            ] {
                prop_assert!(axis.ticks.len() <= MAX, "{:?}", axis);
                prop_assert!(axis.low < axis.high);
                prop_assert!(axis.ticks.iter().all(|tick| (axis.low..=axis.high * 1.000_001).contains(&tick.value)), "{:?}", axis);
                prop_assert!(axis.ticks.windows(2).all(|pair| pair[0].value < pair[1].value));
                prop_assert!((0.0..=1.0).contains(&axis.place(least)));
            }
        }
    }
}
