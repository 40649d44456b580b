//! Language of a report, and its formats of numbers, durations, shares and dates.

use jiff::{
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use mailqos_charts::{ChartLocale, locale::unit_of};
use mailqos_config::{Hours, Span};
use mailqos_figures::{
    Calendar, Period,
    rounding::{decimals_apart, exact_span},
};
use mailqos_model::{Micros, UtcMicros};

use super::languages::LANGUAGES;
pub use super::languages::Language;

pub use mailqos_charts::locale::DASH;
pub(crate) use mailqos_charts::locale::is_nothing;

/// No-break space between a number and its unit.
const JOIN: char = '\u{a0}';

/// A language with formats and a time zone.
#[derive(Debug, Clone)]
pub struct Locale {
    language: &'static Language,
    zone: TimeZone,
    formats: Formats,
    promises: Vec<f64>,
}

/// Custom formats of dates and numbers, which override those of the language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formats {
    /// Format of dates.
    pub dates: Dates,
    /// Whether times are written as 2:05 pm instead of 14:05.
    pub twelve_hours: bool,
    /// Decimal sign.
    pub decimal: Option<char>,
    /// Separator of thousands; may be empty.
    pub thousands: Option<String>,
}

/// Format of dates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dates {
    /// That of the language: `3 October 2026`.
    #[default]
    Language,
    /// A `strftime` format, such as `%d.%m.%Y`.
    Form(String),
}

impl Dates {
    /// Parses `language`, `iso` or a `strftime` format.
    ///
    /// # Errors
    /// The reason why the format is invalid.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "language" => Ok(Self::Language),
            "iso" => Ok(Self::Form("%Y-%m-%d".to_owned())),
            _ => {
                let form = text;
                let day = jiff::civil::date(2026, 10, 3);
                let shown =
                    jiff::fmt::strtime::format(form, day).map_err(|error| error.to_string())?;
                if shown.chars().count() > 40
                    || !["3", "10"].iter().all(|part| shown.contains(part))
                {
                    return Err("it must show day and month in figures".to_owned());
                }
                Ok(Self::Form(form.to_owned()))
            }
        }
    }

    fn of(&self, day: Date) -> Option<String> {
        match self {
            Self::Language => None,
            // The format was tested when it was parsed.
            Self::Form(form) => {
                Some(jiff::fmt::strtime::format(form, day).unwrap_or_else(|_| day.to_string()))
            }
        }
    }
}

impl Locale {
    /// Returns the locale for a language tag (`en`, `en-GB`, `en_GB.UTF-8`) and a time zone; `None`
    /// if the language is not available.
    pub fn new(tag: &str, zone: TimeZone) -> Option<Self> {
        let wanted = tag.trim().split(['-', '_', '.', '@']).next().unwrap_or(tag);
        let language =
            LANGUAGES.iter().find(|language| language.tag.eq_ignore_ascii_case(wanted))?;
        Some(Self { language, zone, formats: Formats::default(), promises: Vec::new() })
    }

    /// Sets the shares of objectives, so that no other share is rounded to the same text as one of
    /// them.
    #[must_use]
    pub fn beside(mut self, promises: Vec<f64>) -> Self {
        self.promises = promises;
        self
    }

    /// Sets custom formats of dates and numbers.
    #[must_use]
    pub fn with(mut self, formats: Formats) -> Self {
        self.formats = formats;
        self
    }

    /// Decimal sign.
    pub fn decimal(&self) -> char {
        self.formats.decimal.unwrap_or(self.language.decimal)
    }

    /// Returns the separator of thousands, if any; never the decimal sign, which would make 1,234
    /// ambiguous.
    fn thousands(&self) -> Option<char> {
        let sign = match &self.formats.thousands {
            Some(own) => own.chars().next(),
            None => Some(self.language.thousands),
        };
        sign.filter(|sign| *sign != self.decimal())
    }

    /// Returns the tags of the available languages.
    pub fn tags() -> impl Iterator<Item = &'static str> {
        LANGUAGES.iter().map(|language| language.tag.as_str())
    }

    /// Returns the tag of the language.
    pub fn tag(&self) -> &'static str {
        &self.language.tag
    }

    /// Returns the time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns the IANA name of the time zone.
    pub fn zone_name(&self) -> String {
        match self.zone.iana_name() {
            None | Some("Etc/UTC") => "UTC".to_owned(),
            Some(name) => name.to_owned(),
        }
    }

    /// Translates a text to the report's language; returns the English text if there is no
    /// translation.
    pub fn t(&self, english: &'static str) -> &'static str {
        match self.translation(english) {
            Some(text) => text,
            None => {
                if self.language.tag != "en" {
                    tracing::debug!("not translated to {}: {english:?}", self.language.tag);
                }
                english
            }
        }
    }

    fn translation(&self, english: &str) -> Option<&'static str> {
        self.language.texts.get(english).map(String::as_str)
    }

    /// Translates a text of a definition if it is a built-in one, such as the title of a built-in
    /// template.
    pub fn text(&self, text: &str) -> String {
        self.translation(text).unwrap_or(text).to_owned()
    }

    /// Returns a name as written within a sentence: `round trip`, `SMTP connection`.
    pub fn inline(&self, name: &str) -> String {
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some(first), Some(second))
                if !self.language.capital_nouns && second.is_lowercase() =>
            {
                first.to_lowercase().chain(name.chars().skip(1)).collect()
            }
            _ => name.to_owned(),
        }
    }

    /// Translates a text and fills its placeholders `{0}`, `{1}` ….
    pub fn fill(&self, english: &'static str, values: &[&str]) -> String {
        (self as &dyn ChartLocale).fill(english, values)
    }

    /// Selects the singular or plural form of a text and fills `{0}` with the count.
    pub fn count(&self, count: u64, one: &'static str, several: &'static str) -> String {
        let form = if count == 1 { one } else { several };
        self.fill(form, &[&self.integer(count)])
    }

    /// Formats a whole number, with its digits in groups of three.
    pub fn integer(&self, number: u64) -> String {
        (self as &dyn ChartLocale).count(number)
    }

    /// Formats a number with the given decimals; a dash if it is not finite.
    pub fn number(&self, number: f64, decimals: usize) -> String {
        (self as &dyn ChartLocale).number(number, decimals)
    }

    /// Formats a duration in microseconds with three significant digits and its unit: `1.34 s`,
    /// `240 ms`, `42 min`.
    pub fn duration(&self, micros: f64) -> String {
        (self as &dyn ChartLocale).duration(micros)
    }

    /// Formats a time span in common units: `42 min`, `3 h 10 min`, `2 d 4 h`.
    pub fn span(&self, span: Micros) -> String {
        let seconds = span.0.unsigned_abs() / 1_000_000;
        let two = |a: u64, a_unit: &str, b: u64, b_unit: &str| {
            if b == 0 {
                format!("{a}{JOIN}{a_unit}")
            } else {
                format!("{a}{JOIN}{a_unit}{JOIN}{b}{JOIN}{b_unit}")
            }
        };
        match seconds {
            0 if span.0 == 0 => format!("0{JOIN}min"),
            0..=59 if span.0 % 1_000_000 == 0 => format!("{seconds}{JOIN}s"),
            0..=59 => self.duration(span.0 as f64),
            60..=3_599 => {
                two(seconds / 60, "min", if seconds < 600 { seconds % 60 } else { 0 }, "s")
            }
            3_600..=86_399 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
            _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
        }
    }

    /// Formats a share next to its objective, with at least `least` decimals and as many as needed
    /// to show whether the objective was met.
    pub fn share_beside(&self, share: f64, goal: f64, least: usize) -> String {
        let decimals = decimals_apart(share * 100.0, goal * 100.0, least);
        self.percent(share, decimals)
    }

    /// Formats a duration in microseconds next to its limit, with as many decimals as needed to
    /// show on which side of the limit it is.
    pub fn duration_beside(&self, micros: f64, limit: f64) -> String {
        let (unit, divisor) = unit_of(limit);
        let short = self.duration(micros);
        let decimals = decimals_apart(micros / divisor, limit / divisor, 0);
        // Other durations have three significant digits.
        let usual = match (micros / divisor).abs() {
            _ if divisor == 1.0 => 0,
            value if value >= 99.95 => 0,
            value if value >= 9.995 => 1,
            _ => 2,
        };
        if decimals <= usual {
            return short;
        }
        format!("{}{JOIN}{unit}", self.number(micros / divisor, decimals))
    }

    /// Formats a measured and an allowed time span in common units or, if needed to show which is
    /// longer, more exactly.
    pub fn spans_beside(&self, spent: f64, whole: f64) -> (String, String) {
        // From ten minutes on, seconds are irrelevant.
        let plain = |micros: f64| {
            let unit = if micros > 600e6 { 60e6 } else { 1e6 };
            self.span(Micros(((micros / unit).round() * unit) as i64))
        };
        let (short, limit) = (plain(spent), plain(whole));
        let is_seen = short != limit || (spent - whole).abs() < 1.0;
        if is_seen && (spent <= whole || spent > whole + 60e6) {
            return (short, limit);
        }
        let decimals = decimals_apart(spent / 1e6, whole / 1e6, 0);
        let exact = |micros: f64| {
            exact_span(micros, decimals, JOIN, &|value, decimals| self.number(value, decimals))
        };
        (exact(spent), exact(whole))
    }

    /// Formats a time span that is only as exact as the test interval; without seconds from two
    /// minutes on.
    pub fn about(&self, span: Micros) -> String {
        const MINUTE: i64 = 60_000_000;
        if span.0.unsigned_abs() < 2 * MINUTE.unsigned_abs() {
            return self.span(span);
        }
        self.span(Micros(span.0.saturating_add(MINUTE / 2).div_euclid(MINUTE) * MINUTE))
    }

    /// Returns the unit for a column of durations, chosen by their median, and the microseconds in
    /// one unit. Medians up to ten minutes are shown in seconds or less, because in minutes the
    /// short durations of the column would all be zero.
    pub fn unit_for(values: impl Iterator<Item = f64>) -> (&'static str, f64) {
        let mut values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len() / 2).copied().unwrap_or(1_000.0);
        match unit_of(median) {
            ("min", _) if median < 600e6 => ("s", 1e6),
            unit => unit,
        }
    }

    /// Formats a duration without its unit; the unit determines the decimals, so they are equal
    /// within a column.
    pub fn bare(&self, micros: f64, per: f64) -> String {
        self.number(micros / per, if per < 1e6 { usize::from(per > 1.0) } else { 2 })
    }

    /// Formats a share of counted tests as a percentage, with as many decimals as the number of
    /// tests supports, and never rounded to 100 % or 0 %.
    pub fn share(&self, part: u64, whole: u64) -> String {
        if whole == 0 {
            return DASH.to_owned();
        }
        self.percent(part as f64 / whole as f64, decimals_for(whole))
    }

    /// Formats a share of counted tests for sentences and key figures, with two decimals unless
    /// more are needed to show the nines.
    pub fn share_text(&self, part: u64, whole: u64) -> String {
        if part == 0 && whole > 0 {
            return format!("0{}", self.language.percent);
        }
        let missing = whole.saturating_sub(part);
        let plain = missing == 0 || missing.saturating_mul(10_000) >= whole.saturating_mul(2);
        if whole == 0 || decimals_for(whole) <= 2 || !plain {
            return self.share(part, whole);
        }
        self.percent(part as f64 / whole as f64, 2)
    }

    /// Formats a share of counted tests as a percentage, without the percent sign.
    pub fn share_bare(&self, part: u64, whole: u64, decimals: usize) -> String {
        if whole == 0 {
            return DASH.to_owned();
        }
        self.percent_bare(part as f64 / whole as f64, decimals)
    }

    /// Formats any other share, such as a coverage, as a percentage.
    pub fn percent(&self, share: f64, decimals: usize) -> String {
        let chart_locale = self as &dyn ChartLocale;
        let decimals = chart_locale.decimals_apart(share, decimals);
        chart_locale.percent(truncated(share, decimals), decimals)
    }

    /// Formats any other share as a percentage, without the percent sign.
    pub fn percent_bare(&self, share: f64, decimals: usize) -> String {
        let decimals = (self as &dyn ChartLocale).decimals_apart(share, decimals);
        self.number(truncated(share, decimals), decimals)
    }

    /// Formats a relative change: `+12 %`.
    pub fn change(&self, share: f64) -> String {
        format!("{}{}", self.signed(share * 100.0, 0), self.language.percent)
    }

    /// Formats a difference of shares in percentage points, as charts do.
    pub fn points(&self, difference: f64) -> String {
        (self as &dyn ChartLocale).points(difference)
    }

    /// Formats a number with its sign; without a sign if it rounds to zero.
    fn signed(&self, number: f64, decimals: usize) -> String {
        (self as &dyn ChartLocale).signed(number, decimals)
    }

    /// Formats a date: `3 October 2026`.
    pub fn date(&self, moment: UtcMicros) -> String {
        let local = self.local(moment);
        if let Some(text) = self.formats.dates.of(local.date()) {
            return text;
        }
        format!("{}{JOIN}{} {}", self.nth(local.day()), self.month(local.month()), local.year())
    }

    /// Formats a date and time without seconds: `3 Oct 2026, 14:05`.
    pub fn moment(&self, moment: UtcMicros) -> String {
        let local = self.local(moment);
        let time = self.time(local.time(), false);
        if let Some(date) = self.formats.dates.of(local.date()) {
            return format!("{date}, {time}");
        }
        format!(
            "{}{JOIN}{} {}, {time}",
            self.nth(local.day()),
            self.short_month(local.month()),
            local.year(),
        )
    }

    /// Formats a date and time with seconds, without the year: `3 Oct, 14:05:09`.
    pub fn moment_in_period(&self, moment: UtcMicros) -> String {
        let local = self.local(moment);
        let time = self.time(local.time(), true);
        if let Some(date) = self.formats.dates.of(local.date()) {
            return format!("{date}, {time}");
        }
        format!("{}{JOIN}{}, {time}", self.nth(local.day()), self.short_month(local.month()),)
    }

    /// Formats a day with its weekday: `Sat 3 Oct`.
    pub fn day(&self, moment: UtcMicros) -> String {
        let local = self.local(moment);
        let weekday = &self.language.weekdays[local.weekday().to_monday_zero_offset() as usize];
        if let Some(date) = self.formats.dates.of(local.date()) {
            return format!("{weekday}{JOIN}{date}");
        }
        format!("{weekday}{JOIN}{}{JOIN}{}", self.nth(local.day()), self.short_month(local.month()))
    }

    /// Returns a recurring weekday within a sentence, 1 for Monday: `Mondays`, in German `montags`.
    pub fn recurring_weekday(&self, day: i8) -> &'static str {
        let index = usize::try_from(day - 1).unwrap_or(0).min(6);
        &self.language.recurring_weekdays[index]
    }

    /// Formats weekly hours: `Mon–Fri 07:00–19:00`, or without days for every day.
    pub fn hours(&self, hours: &Hours) -> String {
        let clock = |time: Time| self.time(time, false);
        let end = |span: &Span| match span.to {
            to if to == Time::midnight() && !self.formats.twelve_hours => "24:00".to_owned(),
            to => clock(to),
        };
        let spans = hours.spans.iter().map(|span| format!("{}–{}", clock(span.from), end(span)));
        let spans = spans.collect::<Vec<_>>().join(", ");
        if hours.weekdays.is_empty() {
            return spans;
        }
        format!("{} {spans}", self.weekday_list(&hours.weekdays))
    }

    /// Formats weekdays, with runs of three or more as ranges: `Mon–Fri`, `Sat, Sun`.
    fn weekday_list(&self, weekdays: &[Weekday]) -> String {
        let mut runs: Vec<(i8, i8)> = Vec::new();
        for day in weekdays.iter().map(|day| day.to_monday_one_offset()) {
            match runs.last_mut() {
                Some((_, last)) if day == *last % 7 + 1 => *last = day,
                _ => runs.push((day, day)),
            }
        }
        let name = |day: i8| self.weekday(day);
        let runs = runs.into_iter().map(|(first, last)| match (last - first).rem_euclid(7) {
            0 => name(first),
            1 => format!("{}, {}", name(first), name(last)),
            _ => format!("{}–{}", name(first), name(last)),
        });
        runs.collect::<Vec<_>>().join(", ")
    }

    /// Formats a period in its shortest common form: `October 2026`, `3–9 October 2026`, `2026`.
    pub fn period(&self, period: &Period) -> String {
        let (from, to) = (self.local(period.from), self.local(UtcMicros(period.to.0 - 1)));
        let midnight = |moment: UtcMicros| {
            let calendar = Calendar::new(self.zone.clone());
            calendar.midnight(self.zone.to_datetime(moment.timestamp()).date()) == moment
        };
        if !(midnight(period.from) && midnight(period.to)) {
            return format!("{} – {}", self.moment(period.from), self.moment(period.to));
        }
        let (first, last) = (from.date(), to.date());
        if first == last {
            return self.date(period.from);
        }
        if first.day() == 1 && last == last.last_of_month() {
            if first.month() == 1 && last.month() == 12 && first.year() == last.year() {
                return first.year().to_string();
            }
            if (first.year(), first.month()) == (last.year(), last.month()) {
                return format!("{} {}", self.month(first.month()), first.year());
            }
            if first.year() == last.year() {
                return format!(
                    "{} – {} {}",
                    self.month(first.month()),
                    self.month(last.month()),
                    first.year()
                );
            }
        }
        if first.year() != last.year() || self.formats.dates != Dates::Language {
            return format!(
                "{} – {}",
                self.date(period.from),
                self.date(UtcMicros(period.to.0 - 1))
            );
        }
        if first.month() != last.month() {
            return format!(
                "{}{JOIN}{} – {}",
                self.nth(first.day()),
                self.month(first.month()),
                self.date(UtcMicros(period.to.0 - 1))
            );
        }
        format!(
            "{}–{}{JOIN}{} {}",
            self.nth(first.day()),
            self.nth(last.day()),
            self.month(last.month()),
            last.year()
        )
    }

    fn local(&self, moment: UtcMicros) -> jiff::civil::DateTime {
        self.zone.to_datetime(moment.timestamp())
    }

    fn time(&self, time: Time, seconds: bool) -> String {
        let (hour, half) = match time.hour() {
            hour if !self.formats.twelve_hours => (format!("{hour:02}"), ""),
            0 => ("12".to_owned(), "\u{a0}am"),
            hour @ 1..12 => (hour.to_string(), "\u{a0}am"),
            12 => ("12".to_owned(), "\u{a0}pm"),
            hour => ((hour - 12).to_string(), "\u{a0}pm"),
        };
        let seconds = if seconds { format!(":{:02}", time.second()) } else { String::new() };
        format!("{hour}:{:02}{seconds}{half}", time.minute())
    }

    fn nth(&self, day: i8) -> String {
        format!("{day}{}", self.language.after_day)
    }

    fn month(&self, month: i8) -> &'static str {
        &self.language.months[usize::try_from(month - 1).unwrap_or(0).min(11)]
    }

    fn short_month(&self, month: i8) -> &'static str {
        let name = self.month(month);
        name.char_indices().nth(3).map_or(name, |(end, _)| &name[..end])
    }
}

impl ChartLocale for Locale {
    fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn t(&self, english: &'static str) -> &'static str {
        Self::t(self, english)
    }

    fn decimal(&self) -> char {
        Self::decimal(self)
    }

    fn thousands(&self) -> Option<char> {
        Self::thousands(self)
    }

    fn percent_sign(&self) -> &'static str {
        &self.language.percent
    }

    fn promises(&self) -> &[f64] {
        &self.promises
    }

    fn clock(&self, time: Time, seconds: bool) -> String {
        self.time(time, seconds)
    }

    fn own_date(&self, date: Date) -> Option<String> {
        self.formats.dates.of(date)
    }

    fn nth(&self, day: i8) -> String {
        Self::nth(self, day)
    }

    fn month(&self, month: i8) -> String {
        self.short_month(month).to_owned()
    }

    fn weekday(&self, day: i8) -> String {
        let index = usize::try_from(day - 1).unwrap_or(0).min(6);
        self.language.weekdays[index].to_owned()
    }
}

/// Returns the number of decimals of a percentage that a number of tests supports: one test in
/// 10,000 is 0.01 %.
pub fn decimals_for(tests: u64) -> usize {
    match tests {
        0..=199 => 0,
        200..=1_999 => 1,
        2_000..=49_999 => 2,
        _ => 3,
    }
}

/// Converts a share to a percentage that is never rounded to 100 % or 0 %: 99.996 % does not become
/// 100.00 %, nor does 100.004 %, and more than zero does not become zero.
fn truncated(share: f64, decimals: usize) -> f64 {
    let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
    let percent = share * 100.0;
    let rounded = (percent * scale).round() / scale;
    // A rounding error of a division is not a difference.
    if (percent - 100.0).abs() < 1e-9 {
        100.0
    } else if percent < 100.0 && rounded >= 100.0 {
        100.0 - 1.0 / scale
    } else if percent > 100.0 && rounded <= 100.0 {
        100.0 + 1.0 / scale
    } else if percent > 0.0 && rounded <= 0.0 {
        1.0 / scale
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_charts::axis::{TimeSpan, time_ticks};
    use proptest::prelude::*;

    fn english(zone: &str) -> Locale {
        Locale::new("en-GB", TimeZone::get(zone).expect("a zone")).expect("English")
    }

    #[test]
    fn a_sentence_begins_with_a_capital_in_every_language() {
        for (tag, expected) in
            [("en", "No login was measured"), ("sv", "Inloggning: inga mätvärden")]
        {
            let locale = Locale::new(tag, TimeZone::UTC).expect("a language");
            let metric = if tag == "sv" { "inloggning" } else { "login" };
            assert_eq!(locale.fill("No {0} was measured", &[metric]), expected);
        }
    }

    #[test]
    fn durations_have_three_digits_and_a_readable_unit() {
        let locale = english("UTC");
        let shown = [0.0, 340.0, 1_340.0, 240_000.0, 1_340_000.0, 61_000_000.0, 2_520e6, 90_000e6]
            .map(|micros| locale.duration(micros).replace(JOIN, " "));
        assert_eq!(
            shown,
            ["0 µs", "340 µs", "1.34 ms", "240 ms", "1.34 s", "61 s", "42 min", "25 h"]
        );
    }

    #[test]
    fn a_column_of_durations_is_in_seconds_up_to_ten_minutes() {
        let unit = |median| Locale::unit_for([0.2e6, median, 700e6].into_iter());
        assert_eq!(unit(0.4e6), ("ms", 1e3));
        assert_eq!(unit(130e6), ("s", 1e6));
        assert_eq!(unit(599e6), ("s", 1e6));
        assert_eq!(unit(600e6), ("min", 60e6));
    }

    #[test]
    fn shares_keep_the_nines_that_the_tests_support() {
        let locale = english("UTC");
        let shown = [
            (0, 0),
            (10, 10),
            (9, 10),
            (8_927, 8_928),
            (8_928, 8_928),
            (99_999, 100_000),
            (1, 100_000),
        ]
        .map(|(part, whole)| locale.share(part, whole).replace('\u{202f}', " "));
        assert_eq!(shown, ["–", "100 %", "90 %", "99.99 %", "100.00 %", "99.999 %", "0.001 %"]);
    }

    #[test]
    fn weekly_hours_are_written_in_the_language() {
        let time = |hour| Time::new(hour, 0, 0, 0).expect("a time");
        let span = |from, to| Span { from: time(from), to: time(to) };
        let hours = |spans, weekdays: &[Weekday]| Hours {
            spans,
            weekdays: weekdays.to_vec(),
            zone: TimeZone::UTC,
        };
        use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
        let week = [Monday, Tuesday, Wednesday, Thursday, Friday];
        let office = hours(vec![span(7, 19)], &week);
        for (tag, text) in [
            ("en", "Mon–Fri 07:00–19:00"),
            ("de", "Mo–Fr 07:00–19:00"),
            ("sv", "mån–fre 07:00–19:00"),
        ] {
            let locale = Locale::new(tag, TimeZone::UTC).expect("a language");
            assert_eq!(locale.hours(&office), text);
        }
        let locale = Locale::new("de", TimeZone::UTC).expect("German");
        let shown = |spans, weekdays: &[Weekday]| locale.hours(&hours(spans, weekdays));
        assert_eq!(shown(vec![span(22, 6)], &[]), "22:00–06:00");
        assert_eq!(shown(vec![span(8, 0)], &[Saturday, Sunday]), "Sa, So 08:00–24:00");
        assert_eq!(
            shown(vec![span(0, 0)], &[Saturday, Sunday, Monday, Wednesday]),
            "Sa–Mo, Mi 00:00–24:00"
        );
        assert_eq!(
            shown(vec![span(8, 12), span(13, 17)], &[Monday]),
            "Mo 08:00–12:00, 13:00–17:00"
        );
    }

    #[test]
    fn periods_are_named_naturally() {
        let locale = english("Europe/Berlin");
        let calendar = Calendar::new(locale.zone().clone());
        let said = |from: &str, to: &str| {
            locale
                .period(&Period::between(from, to, calendar.clone()).expect("a period"))
                .replace(JOIN, " ")
        };
        assert_eq!(said("2026-10-01", "2026-11-01"), "October 2026");
        assert_eq!(said("2026-10-03", "2026-10-04"), "3 October 2026");
        assert_eq!(said("2026-10-03", "2026-10-10"), "3–9 October 2026");
        assert_eq!(said("2026-09-28", "2026-10-05"), "28 September – 4 October 2026");
        assert_eq!(said("2026-01-01", "2027-01-01"), "2026");
        assert_eq!(said("2026-01-01", "2026-04-01"), "January – March 2026");
        assert_eq!(said("2025-12-29", "2026-01-05"), "29 December 2025 – 4 January 2026");
    }

    #[test]
    fn a_house_style_may_set_formats_of_dates_and_numbers() {
        let formats = Formats {
            dates: Dates::parse("%d.%m.%Y").expect("a form"),
            twelve_hours: true,
            decimal: Some(','),
            thousands: Some(String::new()),
        };
        let locale = english("Europe/Berlin").with(formats);
        let moment = UtcMicros(1_791_029_109_000_000);
        assert_eq!(locale.moment(moment), "03.10.2026, 2:05\u{a0}pm");
        assert_eq!(locale.moment_in_period(moment), "03.10.2026, 2:05:09\u{a0}pm");
        assert_eq!(locale.day(moment), "Sat\u{a0}03.10.2026");
        assert_eq!(locale.number(26_784.5, 1), "26784,5");
        let calendar = Calendar::new(locale.zone().clone());
        let period = |from, to| {
            locale.period(&Period::between(from, to, calendar.clone()).expect("a period"))
        };
        assert_eq!(period("2026-10-03", "2026-10-10"), "03.10.2026 – 09.10.2026");
        assert_eq!(period("2026-10-01", "2026-11-01"), "October 2026");
        assert!(Dates::parse("%Q").is_err() && Dates::parse("x").is_err());
    }

    #[test]
    fn a_sign_never_stands_for_both_decimals_and_thousands() {
        let formats = Formats { decimal: Some(','), ..Formats::default() };
        let locale = english("UTC").with(formats);
        assert_eq!(locale.number(1_234_567.8, 1), "1234567,8");
        assert_eq!(locale.integer(1_234_567), "1234567");
    }

    #[test]
    fn charts_write_dates_as_the_language_does() {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let german = Locale::new("de", zone).expect("German");
        let ticks = |from: i64, days: i64| {
            let from = UtcMicros(from);
            let span = TimeSpan { from, to: UtcMicros(from.0 + days * 86_400_000_000) };
            let ticks = time_ticks(span, 600.0, 12.0, &german);
            ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        // From 1 October 2026, midnight in Berlin.
        assert_eq!(ticks(1_790_805_600_000_000, 31), ["5. Okt", "12.", "19.", "26."]);
        assert_eq!(ticks(1_790_805_600_000_000, 2)[1..], ["12:00", "2. Okt", "12:00"]);
    }

    #[test]
    fn charts_write_dates_and_times_as_the_house_does() {
        let formats = Formats {
            dates: Dates::parse("iso").expect("a form"),
            twelve_hours: true,
            ..Formats::default()
        };
        let locale = english("UTC").with(formats);
        // From 1 October 2026, midnight.
        let from = UtcMicros(1_790_812_800_000_000);
        let span = |hours: i64| TimeSpan { from, to: from + Micros::from_secs(3_600 * hours) };
        let labels = |hours: i64| {
            let ticks = time_ticks(span(hours), 600.0, 12.0, &locale);
            ticks.into_iter().map(|tick| tick.label.replace(JOIN, " ")).collect::<Vec<_>>()
        };
        assert_eq!(labels(24), ["12:00 am", "6:00 am", "12:00 pm", "6:00 pm"]);
        assert_eq!(labels(48)[2], "2026-10-02");
        assert_eq!(labels(31 * 24)[0], "2026-10-05");
    }

    #[test]
    fn what_is_rounded_to_nothing_has_no_sign() {
        let locale = english("UTC");
        let shown =
            [0.12, 0.001, -0.001, -0.12].map(|share| locale.change(share).replace('\u{202f}', " "));
        assert_eq!(shown, ["+12 %", "0 %", "0 %", "−12 %"]);
        assert_eq!(locale.points(0.000_004), "0.000\u{a0}pp");
        assert_eq!(locale.points(0.000_01), "+0.001\u{a0}pp");
        assert_eq!(locale.points(-0.001), "\u{2212}0.10\u{a0}pp");
    }

    #[test]
    fn more_than_all_is_not_shown_as_all() {
        let locale = english("UTC");
        let shown =
            [(1.003, 0), (1.000_01, 2), (1.0, 0), (1.0 + 1e-15, 2), (1.0 - 1e-15, 0), (1.57, 0)]
                .map(|(share, decimals)| locale.percent_bare(share, decimals));
        assert_eq!(shown, ["101", "100.01", "100", "100.00", "100", "157"]);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_a_dash() {
        assert_eq!(english("UTC").number(f64::NAN, 1), DASH);
    }

    proptest! {
        #[test]
        fn less_than_all_is_never_shown_as_all(whole in 1_u64..10_000_000, missing in 1_u64..1_000) {
            prop_assume!(missing < whole);
            let text = english("UTC").share(whole - missing, whole);
            prop_assert!(!text.starts_with("100"), "{text}");
            let text = english("UTC").share(missing, whole);
            prop_assert!(text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)), "{text}");
        }
    }
}
