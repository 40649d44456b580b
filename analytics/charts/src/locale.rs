//! Language, time zone and formats of charts.

use jiff::{
    civil::{Date, Time},
    tz::TimeZone,
};
use mailqos_figures::rounding::decimals_apart;

/// No-break space between a number and its unit.
const JOIN: char = '\u{a0}';
/// Displayed for missing values.
pub const DASH: &str = "–";

/// Maximum decimals of a percentage: one test in ten billion.
const MAX_DECIMALS: i32 = 8;

const SECOND: f64 = 1e6;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;

/// Language, time zone and formats of a chart. Only the zone is required; the defaults are English.
pub trait ChartLocale: Sync {
    /// Returns the time zone of all times.
    fn zone(&self) -> &TimeZone;

    /// Translates a text to the language of the chart.
    fn t(&self, english: &'static str) -> &'static str {
        english
    }

    /// Returns the decimal sign.
    fn decimal(&self) -> char {
        '.'
    }

    /// Returns the separator of thousands, if any.
    fn thousands(&self) -> Option<char> {
        Some(',')
    }

    /// Returns the percent sign, with the space before it.
    fn percent_sign(&self) -> &'static str {
        "\u{202f}%"
    }

    /// Returns the shares of objectives, from 0 to 1, so that no other share is rounded to the same
    /// text as one of them.
    fn promises(&self) -> &[f64] {
        &[]
    }

    /// Formats a time of day: `14:05`, with seconds `14:05:09`.
    fn clock(&self, time: Time, seconds: bool) -> String {
        let clock = format!("{:02}:{:02}", time.hour(), time.minute());
        if seconds { format!("{clock}:{:02}", time.second()) } else { clock }
    }

    /// Formats a date if a custom format is set.
    fn own_date(&self, _date: Date) -> Option<String> {
        None
    }

    /// Formats the day of the month within a date.
    fn nth(&self, day: i8) -> String {
        day.to_string()
    }

    /// Returns the short name of a month, 1 to 12.
    fn month(&self, month: i8) -> String {
        const NAMES: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        name(&NAMES, month)
    }

    /// Returns the short name of a weekday, 1 for Monday to 7 for Sunday.
    fn weekday(&self, day: i8) -> String {
        const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        name(&NAMES, day)
    }
}

/// English, in a time zone.
#[derive(Debug, Clone)]
pub struct English(pub TimeZone);

impl ChartLocale for English {
    fn zone(&self) -> &TimeZone {
        &self.0
    }
}

/// Returns the most readable unit for a duration in microseconds, and the microseconds in one unit.
pub fn unit_of(micros: f64) -> (&'static str, f64) {
    // Values that would round up to the next unit belong to it: 999.6 ms is 1.00 s.
    match micros.abs() {
        size if size < 999.5 => ("µs", 1.0),
        size if size < 999_500.0 => ("ms", 1e3),
        size if size < 119.5 * SECOND => ("s", SECOND),
        size if size < 119.5 * MINUTE => ("min", MINUTE),
        _ => ("h", HOUR),
    }
}

/// Returns whether a formatted number shows only zeros.
pub fn is_nothing(text: &str) -> bool {
    !text.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
}

/// Prefixes the text of a value with a plus sign if it shows more than zero; negative texts already
/// have a sign.
fn with_sign(value: f64, text: String) -> String {
    if value > 0.0 && !is_nothing(&text) { format!("+{text}") } else { text }
}

fn name(names: &[&str], number: i8) -> String {
    let index = usize::try_from(number).unwrap_or(0).saturating_sub(1);
    names.get(index).copied().unwrap_or(DASH).to_owned()
}

/// Capitalises the first letter of a text.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Formatting that follows from the language and its formats.
impl dyn ChartLocale + '_ {
    /// Translates a text and fills its placeholders `{0}`, `{1}` ….
    pub fn fill(&self, english: &'static str, values: &[&str]) -> String {
        let mut text = String::new();
        let mut rest = self.t(english);
        // A sentence that starts with a word in English but with a value in the translation still
        // starts with a capital letter.
        let capital =
            rest.starts_with('{') && !english.starts_with(|c: char| c == '{' || c.is_lowercase());
        while let Some(open) = rest.find('{') {
            text.push_str(&rest[..open]);
            let after = &rest[open + 1..];
            let close = after.find('}').unwrap_or(after.len());
            if let Some(value) = after[..close].parse::<usize>().ok().and_then(|n| values.get(n)) {
                text.push_str(value);
            }
            rest = after.get(close + 1..).unwrap_or("");
        }
        text.push_str(rest);
        if capital { capitalised(&text) } else { text }
    }

    /// Formats a number with the given decimals; a dash if it is not finite.
    pub fn number(&self, value: f64, decimals: usize) -> String {
        if !value.is_finite() {
            return DASH.to_owned();
        }
        let plain = format!("{:.decimals$}", value.abs());
        let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
        let mut text = String::new();
        if value < 0.0 && !is_nothing(&plain) {
            text.push('\u{2212}');
        }
        for (index, digit) in whole.chars().enumerate() {
            // English groups digits from four on, languages with other separators from five.
            let grouped = whole.len() > 4 || self.thousands() == Some(',');
            if index > 0 && grouped && (whole.len() - index).is_multiple_of(3) {
                text.extend(self.thousands());
            }
            text.push(digit);
        }
        if !fraction.is_empty() {
            text.push(self.decimal());
            text.push_str(fraction);
        }
        text
    }

    /// Formats a percentage with the given decimals.
    pub fn percent(&self, percent: f64, decimals: usize) -> String {
        format!("{}{}", self.number(percent, decimals), self.percent_sign())
    }

    /// Returns the decimals, at least `least`, needed to show on which side of each objective a
    /// share is.
    pub fn decimals_apart(&self, share: f64, least: usize) -> usize {
        let goals = self.promises().iter();
        goals.map(|goal| decimals_apart(share * 100.0, goal * 100.0, least)).max().unwrap_or(least)
    }

    /// Formats a whole number.
    pub fn count(&self, value: u64) -> String {
        self.number(value as f64, 0)
    }

    /// Formats a duration in microseconds with three significant digits, in the most readable unit.
    pub fn duration(&self, micros: f64) -> String {
        let (unit, divisor) = unit_of(micros);
        let value = micros / divisor;
        let decimals = if divisor == 1.0 || value.abs() >= 99.95 || value == value.trunc() {
            0
        } else if value.abs() >= 9.995 {
            1
        } else {
            2
        };
        format!("{}{JOIN}{unit}", self.number(value, decimals))
    }

    /// Formats a number with its sign; without a sign if it rounds to zero.
    pub fn signed(&self, value: f64, decimals: usize) -> String {
        with_sign(value, self.number(value, decimals))
    }

    /// Formats a difference of shares in percentage points, with its sign; small ones get an extra
    /// decimal.
    pub fn points(&self, difference: f64) -> String {
        let points = difference * 100.0;
        let decimals = if points.abs() < 0.095 { 3 } else { 2 };
        format!("{}{JOIN}{}", self.signed(points, decimals), self.t("pp"))
    }

    /// Formats a difference of durations in microseconds, with its sign.
    pub(super) fn shift(&self, micros: f64) -> String {
        with_sign(micros, self.duration(micros))
    }

    /// Formats a share that may exceed 1 as a whole percentage. Less than everything is never shown
    /// as 100 %, and more than nothing never as 0 %.
    pub(super) fn whole_percent(&self, share: f64) -> String {
        let percent = (share * 100.0).round();
        let percent = if share < 1.0 { percent.min(99.0) } else { percent };
        let percent = if share > 0.0 { percent.max(1.0) } else { percent };
        self.percent(percent, 0)
    }

    /// Formats a share from 0 to 1 as a percentage, with as many decimals as its nines need, never
    /// rounded to 0 or 100 %.
    pub(super) fn share(&self, share: f64) -> String {
        let percent = share * 100.0;
        let decimals = (0..=MAX_DECIMALS)
            .find(|decimals| {
                let scale = 10_f64.powi(*decimals);
                let rounded = (percent * scale).round() / scale;
                let swallowed =
                    (rounded == 100.0 && share < 1.0) || (rounded == 0.0 && share > 0.0);
                let apart = usize::try_from(*decimals)
                    .is_ok_and(|shown| self.decimals_apart(share, shown) <= shown);
                !swallowed && apart && (*decimals >= 1 || share == 1.0 || share == 0.0)
            })
            .unwrap_or(MAX_DECIMALS);
        self.percent(percent, usize::try_from(decimals).unwrap_or(0))
    }
}

/// Kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Durations in microseconds.
    Duration,
    /// Shares from 0 to 1.
    Share,
}

impl Measure {
    /// Formats a value with its unit.
    pub(super) fn text(self, value: f64, locale: &dyn ChartLocale) -> String {
        match self {
            Self::Duration => locale.duration(value),
            Self::Share => locale.share(value),
        }
    }

    /// Formats a difference with its sign, that of shares in percentage points.
    pub(super) fn difference(self, value: f64, locale: &dyn ChartLocale) -> String {
        match self {
            Self::Duration => locale.shift(value),
            Self::Share => locale.points(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_by_locale() {
        let english = English(TimeZone::UTC);
        let locale: &dyn ChartLocale = &english;
        assert_eq!(locale.duration(850.0), "850\u{a0}µs");
        assert_eq!(locale.duration(999_600.0), "1.00\u{a0}s");
        assert_eq!(locale.duration(1_344_000.0), "1.34\u{a0}s");
        assert_eq!(locale.duration(30e6), "30\u{a0}s");
        assert_eq!(locale.duration(300e6), "5\u{a0}min");
        assert_eq!(locale.shift(-1_200.0), "\u{2212}1.20\u{a0}ms");
        assert_eq!(locale.shift(0.3), "0\u{a0}µs");
        let points = |difference| Measure::Share.difference(difference, locale);
        assert_eq!(points(1.0 / 43_200.0 - 1.0 / 44_640.0), "0.000\u{a0}pp");
        assert_eq!(points(0.001), "+0.10\u{a0}pp");
        assert_eq!(locale.share(0.999_96), "99.996\u{202f}%");
        assert_eq!(locale.share(1.0 - 1.0 / 5_356_800.0), "99.99998\u{202f}%");
        assert_eq!(locale.share(1.0 / 5_356_800.0), "0.00002\u{202f}%");
        assert_eq!(locale.share(1.0), "100\u{202f}%");
        assert_eq!(locale.share(0.5), "50.0\u{202f}%");
        let whole =
            [0.0, 0.001, 0.004_5, 0.5, 0.999, 1.0, 1.57].map(|share| locale.whole_percent(share));
        assert_eq!(
            whole,
            ["0", "1", "1", "50", "99", "100", "157"].map(|number| format!("{number}\u{202f}%"))
        );
        assert_eq!(locale.number(26_784.0, 0), "26,784");
        assert_eq!(locale.number(f64::NAN, 0), DASH);
        assert_eq!(locale.number(-0.001, 1), "0.0");
        assert_eq!(locale.fill("{1} of {0}", &["a", "b"]), "b of a");
    }
}
