//! In which zone and language a chart speaks.

use jiff::{
    civil::{Date, Time},
    tz::TimeZone,
};
use mailqos_figures::rounding::decimals_apart;

/// Keeps a number and its unit on one line.
const JOIN: char = '\u{a0}';
/// What stands for nothing.
pub const DASH: &str = "–";

/// Decimals of a share in per cent at most: one test in ten thousand million.
const MOST_DECIMALS: i32 = 8;

const SECOND: f64 = 1e6;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;

/// Zone and language of a chart. Only the zone must be told; all else is English unless told otherwise.
pub trait Voice: Sync {
    /// The zone of all times.
    fn zone(&self) -> &TimeZone;

    /// A text in the chart's language.
    fn t(&self, english: &'static str) -> &'static str {
        english
    }

    /// The decimal sign.
    fn decimal(&self) -> char {
        '.'
    }

    /// Between the digits of thousands, if anything.
    fn thousands(&self) -> Option<char> {
        Some(',')
    }

    /// What follows a number in per cent.
    fn percent_sign(&self) -> &'static str {
        "\u{202f}%"
    }

    /// Shares that were promised, in [0, 1]: no other share is shown so that it looks like one of them.
    fn promises(&self) -> &[f64] {
        &[]
    }

    /// A time of day: `14:05`, with seconds `14:05:09`.
    fn clock(&self, time: Time, seconds: bool) -> String {
        let clock = format!("{:02}:{:02}", time.hour(), time.minute());
        if seconds {
            format!("{clock}:{:02}", time.second())
        } else {
            clock
        }
    }

    /// A date, where it is not written in the language's way.
    fn own_date(&self, _date: Date) -> Option<String> {
        None
    }

    /// The day of a month as it stands in a date.
    fn nth(&self, day: i8) -> String {
        day.to_string()
    }

    /// Short name of a month, 1 to 12.
    fn month(&self, month: i8) -> String {
        const NAMES: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        name(&NAMES, month)
    }

    /// Short name of a weekday, 1 for Monday to 7 for Sunday.
    fn weekday(&self, day: i8) -> String {
        const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        name(&NAMES, day)
    }
}

/// English in a zone.
#[derive(Debug, Clone)]
pub struct English(pub TimeZone);

impl Voice for English {
    fn zone(&self) -> &TimeZone {
        &self.0
    }
}

/// The unit in which a duration of microseconds reads best, and the microseconds of one.
pub fn unit_of(micros: f64) -> (&'static str, f64) {
    // The half of the last digit belongs to the unit above: 999.6 ms is 1.00 s.
    match micros.abs() {
        size if size < 999.5 => ("µs", 1.0),
        size if size < 999_500.0 => ("ms", 1e3),
        size if size < 119.5 * SECOND => ("s", SECOND),
        size if size < 119.5 * MINUTE => ("min", MINUTE),
        _ => ("h", HOUR),
    }
}

/// Whether a number is nothing as it is written.
pub fn is_nothing(text: &str) -> bool {
    !text.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
}

/// The text of a value, with a plus where it is shown as more than nothing; that of less brings its own sign.
fn with_sign(value: f64, text: String) -> String {
    if value > 0.0 && !is_nothing(&text) {
        format!("+{text}")
    } else {
        text
    }
}

fn name(names: &[&str], number: i8) -> String {
    let index = usize::try_from(number).unwrap_or(0).saturating_sub(1);
    names.get(index).copied().unwrap_or(DASH).to_owned()
}

/// A text with a capital in front.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What every chart says in the voice's way.
impl dyn Voice + '_ {
    /// A text with its placeholders `{0}`, `{1}` … filled.
    pub fn fill(&self, english: &'static str, values: &[&str]) -> String {
        let mut text = String::new();
        let mut rest = self.t(english);
        // A sentence that begins with a word in English and with a value elsewhere still begins with a capital.
        let capital = rest.starts_with('{') && !english.starts_with(|c: char| c == '{' || c.is_lowercase());
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

    /// A number with so many decimals; a dash for what is no number.
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
            // English groups from four digits on, languages with other signs from five.
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

    /// A number in per cent with so many decimals.
    pub fn percent(&self, percent: f64, decimals: usize) -> String {
        format!("{}{}", self.number(percent, decimals), self.percent_sign())
    }

    /// As many decimals, at least so many, as it takes to see on which side of each promise a share is.
    pub fn decimals_apart(&self, share: f64, least: usize) -> usize {
        let goals = self.promises().iter();
        goals
            .map(|goal| decimals_apart(share * 100.0, goal * 100.0, least))
            .max()
            .unwrap_or(least)
    }

    /// A whole number.
    pub fn count(&self, value: u64) -> String {
        self.number(value as f64, 0)
    }

    /// Microseconds with three significant digits, in the unit that reads best.
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

    /// A number with its sign, but for what is rounded to nothing.
    pub fn signed(&self, value: f64, decimals: usize) -> String {
        with_sign(value, self.number(value, decimals))
    }

    /// A difference of shares with its sign, in percentage points; a small one with a decimal more.
    pub fn points(&self, difference: f64) -> String {
        let points = difference * 100.0;
        let decimals = if points.abs() < 0.095 { 3 } else { 2 };
        format!("{}{JOIN}{}", self.signed(points, decimals), self.t("pp"))
    }

    /// A difference with its sign.
    pub(super) fn shift(&self, micros: f64) -> String {
        with_sign(micros, self.duration(micros))
    }

    /// A share that may be more than all, in whole per cent; less than all is never shown as 100 %, nor more than nothing as 0 %.
    pub(super) fn whole_percent(&self, share: f64) -> String {
        let percent = (share * 100.0).round();
        let percent = if share < 1.0 { percent.min(99.0) } else { percent };
        let percent = if share > 0.0 { percent.max(1.0) } else { percent };
        self.percent(percent, 0)
    }

    /// A share of 0 to 1 as per cent; as many nines as there are, never rounded to 0 or 100 %.
    pub(super) fn share(&self, share: f64) -> String {
        let percent = share * 100.0;
        let decimals = (0..=MOST_DECIMALS)
            .find(|decimals| {
                let scale = 10_f64.powi(*decimals);
                let rounded = (percent * scale).round() / scale;
                let swallowed = (rounded == 100.0 && share < 1.0) || (rounded == 0.0 && share > 0.0);
                let apart = usize::try_from(*decimals).is_ok_and(|shown| self.decimals_apart(share, shown) <= shown);
                !swallowed && apart && (*decimals >= 1 || share == 1.0 || share == 0.0)
            })
            .unwrap_or(MOST_DECIMALS);
        self.percent(percent, usize::try_from(decimals).unwrap_or(0))
    }
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Microseconds.
    Duration,
    /// Shares, 0 to 1.
    Share,
}

impl Measure {
    /// A value with its unit.
    pub(super) fn text(self, value: f64, voice: &dyn Voice) -> String {
        match self {
            Self::Duration => voice.duration(value),
            Self::Share => voice.share(value),
        }
    }

    /// A difference with its sign; that of shares in percentage points.
    pub(super) fn difference(self, value: f64, voice: &dyn Voice) -> String {
        match self {
            Self::Duration => voice.shift(value),
            Self::Share => voice.points(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let english = English(TimeZone::UTC);
        let voice: &dyn Voice = &english;
        assert_eq!(voice.duration(850.0), "850\u{a0}µs");
        assert_eq!(voice.duration(999_600.0), "1.00\u{a0}s");
        assert_eq!(voice.duration(1_344_000.0), "1.34\u{a0}s");
        assert_eq!(voice.duration(30e6), "30\u{a0}s");
        assert_eq!(voice.duration(300e6), "5\u{a0}min");
        assert_eq!(voice.shift(-1_200.0), "\u{2212}1.20\u{a0}ms");
        assert_eq!(voice.shift(0.3), "0\u{a0}µs");
        let points = |difference| Measure::Share.difference(difference, voice);
        assert_eq!(points(1.0 / 43_200.0 - 1.0 / 44_640.0), "0.000\u{a0}pp");
        assert_eq!(points(0.001), "+0.10\u{a0}pp");
        assert_eq!(voice.share(0.999_96), "99.996\u{202f}%");
        assert_eq!(voice.share(1.0 - 1.0 / 5_356_800.0), "99.99998\u{202f}%");
        assert_eq!(voice.share(1.0 / 5_356_800.0), "0.00002\u{202f}%");
        assert_eq!(voice.share(1.0), "100\u{202f}%");
        assert_eq!(voice.share(0.5), "50.0\u{202f}%");
        let whole = [0.0, 0.001, 0.004_5, 0.5, 0.999, 1.0, 1.57].map(|share| voice.whole_percent(share));
        assert_eq!(
            whole,
            ["0", "1", "1", "50", "99", "100", "157"].map(|number| format!("{number}\u{202f}%"))
        );
        assert_eq!(voice.number(26_784.0, 0), "26,784");
        assert_eq!(voice.number(f64::NAN, 0), DASH);
        assert_eq!(voice.number(-0.001, 1), "0.0");
        assert_eq!(voice.fill("{1} of {0}", &["a", "b"]), "b of a");
    }
}
