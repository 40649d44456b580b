//! The keys `week_start` and `year_start` of report definitions.

use jiff::civil::Weekday;
use mailqos_core::config::{FromToml, Node};

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];
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

/// Whether a word is a name, or its first three letters.
fn is_called(name: &str, word: &str) -> bool {
    name == word || word.len() == 3 && name.starts_with(word)
}

/// The first day of a week.
pub(super) struct FirstDay(pub(super) Weekday);

impl FromToml for FirstDay {
    fn expected() -> String {
        "a day of the week such as \"monday\" or \"sun\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        let word = text.trim().to_ascii_lowercase();
        DAYS.iter()
            .find(|(name, _)| is_called(name, &word))
            .map(|(_, day)| Self(*day))
            .ok_or_else(|| format!("{text:?} is not {}", Self::expected()))
    }
}

/// The first month of a year, 1 to 12.
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
        month
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not {}", Self::expected()))
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_core::config::{Problems, parse};

    #[test]
    fn days_and_months_are_read_as_people_write_them() {
        let read = |text: &str| {
            let mut problems = Problems::default();
            let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
            let day = table.get("week_start", &mut problems).map(|FirstDay(day)| day);
            let month = table.get("year_start", &mut problems).map(|FirstMonth(month)| month);
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
            "year_start = 0",
            "year_start = \"4.\"",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
