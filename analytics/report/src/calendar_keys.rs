//! The keys `period`, `language`, `week_start` and `year_start` of report definitions.

use jiff::{civil::Weekday, tz::TimeZone};
use mailqos_config::{DateText, FromToml, Node, nearest, weekday};
use mailqos_figures::{Calendar, Period, period_like};
use mailqos_model::UtcMicros;

use super::locale::Locale;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Returns whether a word is a name or its first three letters.
fn is_called(name: &str, word: &str) -> bool {
    name == word || word.len() == 3 && name.starts_with(word)
}

/// Reads the name of a period, such as `last-month`.
pub(super) struct PeriodName(pub(super) String);

/// A time at which every named period lies within the range of the calendar.
const SOME_DAY: UtcMicros = UtcMicros(1_798_761_600_000_000);

impl FromToml for PeriodName {
    fn expected() -> String {
        "a period such as \"last-month\", \"current-week\", \"last-7d\" or \"2026-03\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        // `period = 2026` and `period = 2026-03-31`.
        let text =
            DateText::from_toml(node).map(|date| date.0).or_else(|_| String::from_toml(node))?;
        match Period::named(&text, SOME_DAY, Calendar::new(TimeZone::UTC)) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(match period_like(&text) {
                Some(like) => format!("{text:?} is not a period; did you mean {like:?}?"),
                None => format!("{text:?} is not a period"),
            }),
        }
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "type": ["string", "integer"] }, DateText::schema()] })
    }
}

/// Reads the tag of an available language, such as `de`.
pub(super) struct LanguageTag(pub(super) String);

/// Other spellings of languages, by tag.
const LANGUAGES: [(&str, &[&str]); 3] = [
    ("en", &["english", "eng", "englisch", "engelska", "uk", "us"]),
    ("de", &["german", "deutsch", "ger", "deu", "tyska", "at", "ch"]),
    ("sv", &["swedish", "svenska", "swe", "schwedisch", "se"]),
];

/// Returns the tag that a text probably means.
pub(super) fn language_like(text: &str) -> Option<&'static str> {
    let word = text.trim().to_lowercase();
    let exact = LANGUAGES.iter().find(|(_, names)| names.contains(&word.as_str()));
    let like = || {
        let names = LANGUAGES.iter().flat_map(|(_, names)| names.iter().copied());
        let near = nearest(&word, names.filter(|name| name.len() > 3))?;
        LANGUAGES.iter().find(|(_, names)| names.contains(&near))
    };
    exact.or_else(like).map(|(tag, _)| *tag)
}

impl FromToml for LanguageTag {
    fn expected() -> String {
        let tags: Vec<String> = Locale::tags().map(|tag| format!("\"{tag}\"")).collect();
        format!("the tag of a language: {}", tags.join(", "))
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        match (Locale::new(&text, TimeZone::UTC), language_like(&text)) {
            (Some(_), _) => Ok(Self(text)),
            (None, Some(tag)) => {
                Err(format!("the language {text:?} is not available; did you mean {tag:?}?"))
            }
            (None, None) => Err(format!("the language {text:?} is not available")),
        }
    }
}

/// Reads the first day of the week.
pub(super) struct FirstDay(pub(super) Weekday);

impl FromToml for FirstDay {
    fn expected() -> String {
        "a weekday such as \"monday\" or \"sun\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        weekday(text.trim())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not {}", Self::expected()))
    }
}

/// Reads the first month of the year, 1 to 12.
pub(super) struct FirstMonth(pub(super) i8);

impl FromToml for FirstMonth {
    fn expected() -> String {
        "a month, from 1 to 12 or such as \"april\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        let word = text.trim().to_ascii_lowercase();
        let month = MONTHS
            .iter()
            .zip(1..)
            .find(|(name, _)| is_called(name, &word))
            .map(|(_, month)| month)
            .or_else(|| word.parse().ok().filter(|month| (1..=12).contains(month)));
        month.map(Self).ok_or_else(|| {
            // Such as `6 April` or `04-06`.
            let is_day =
                word.split([' ', '-', '.', '/']).filter(|part| !part.is_empty()).count() > 1;
            let rest = if is_day { "; a year begins on the first day of a month" } else { "" };
            format!("{text:?} is not {}{rest}", Self::expected())
        })
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests {
    use mailqos_config::key::{Optional, key};

    use super::*;

    const PERIOD: Optional<PeriodName> = key().named("period", "");
    const LANGUAGE: Optional<LanguageTag> = key().named("language", "");
    const WEEK_START: Optional<FirstDay> = key().named("week_start", "");
    const YEAR_START: Optional<FirstMonth> = key().named("year_start", "");
    use mailqos_config::{Problems, parse};

    #[test]
    fn periods_and_languages_are_read_as_people_write_them() {
        let said = |text: &str| {
            let mut problems = Problems::default();
            let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
            let _ = table.read(&PERIOD, &mut problems);
            let _ = table.read(&LANGUAGE, &mut problems);
            problems.to_string()
        };
        for fine in [
            "period = \"Last-Month\"",
            "period = \"last_month\"",
            "period = 2026",
            "period = 2026-03-31",
            "period = \"2026-q1\"",
            "language = \"EN\"",
            "language = \"de-DE\"",
            "language = \"de_DE.UTF-8\"",
            "language = \"sv_SE@euro\"",
            "language = \" de \"",
        ] {
            assert_eq!(said(fine), "", "{fine}");
        }
        for (wrong, answer) in [
            ("period = \"last-mnth\"", "did you mean \"last-month\"?"),
            ("period = \"monthly\"", "did you mean \"last-month\"?"),
            ("period = \"??\"", "write a period such as \"last-month\""),
            ("period = 13.5", "expected a period such as"),
            ("language = \"German\"", "did you mean \"de\"?"),
            ("language = \"Deutsch\"", "did you mean \"de\"?"),
            ("language = \"svensk\"", "did you mean \"sv\"?"),
            ("language = \"fr\"", "write the tag of a language: \"en\", \"de\", \"sv\""),
        ] {
            let told = said(wrong);
            assert!(told.contains(answer), "{wrong}: {told}");
        }
    }

    #[test]
    fn days_and_months_are_read_as_people_write_them() {
        let read = |text: &str| {
            let mut problems = Problems::default();
            let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
            let day = table.read(&WEEK_START, &mut problems).map(|FirstDay(day)| day);
            let month = table.read(&YEAR_START, &mut problems).map(|FirstMonth(month)| month);
            problems.is_empty().then_some((day, month))
        };
        assert_eq!(
            read("week_start = \"Sunday\"\nyear_start = 4"),
            Some((Some(Weekday::Sunday), Some(4)))
        );
        assert_eq!(
            read("week_start = \"sat\"\nyear_start = \"July\""),
            Some((Some(Weekday::Saturday), Some(7)))
        );
        assert_eq!(read("year_start = \"10\""), Some((None, Some(10))));
        for wrong in [
            "week_start = 8",
            "week_start = \"funday\"",
            "year_start = 13",
            "year_start = \"6 April\"",
            "year_start = 0",
            "year_start = \"4.\"",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
