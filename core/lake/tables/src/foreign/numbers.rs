//! Numbers as people write them. The decimal mark is inferred from a whole column; if that is
//! ambiguous, the user has to state it.

/// The decimal mark of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `1234.5`
    Point,
    /// `1234,5`
    Comma,
}

impl std::str::FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "." | "point" => Ok(Self::Point),
            "," | "comma" => Ok(Self::Comma),
            _ => Err(format!("{text:?} is not a decimal mark; use \".\" or \",\"")),
        }
    }
}

impl Mark {
    fn sign(self) -> char {
        match self {
            Self::Point => '.',
            Self::Comma => ',',
        }
    }

    /// Infers the decimal mark of a column from all its values. `usual` decides if no value has a
    /// mark.
    ///
    /// A value such as `12,5` or `1.234,5` settles it. `1.234` alone does not if `usual` is a
    /// comma: it may be a little over one, or over a thousand.
    ///
    /// # Errors
    /// The value that can be read in two ways, or the two values that contradict each other.
    pub fn of<'a>(values: impl Iterator<Item = &'a str>, usual: Self) -> Result<Self, String> {
        let mut found: Option<(Self, &str)> = None;
        let mut unclear: Option<&str> = None;
        for value in values {
            match shape(value) {
                Shape::Settles(mark) => match found {
                    Some((other, before)) if other != mark => {
                        return Err(format!(
                            "{before:?} and {value:?} have different decimal marks; set --decimal-mark"
                        ));
                    }
                    _ => found = Some((mark, value)),
                },
                Shape::Unclear(mark) if mark != usual => unclear = unclear.or(Some(value)),
                Shape::Unclear(_) | Shape::Neither => {}
            }
        }
        match (found, unclear) {
            (Some((mark, _)), _) => Ok(mark),
            (None, Some(value)) => Err(format!(
                "{value:?} is ambiguous; use --decimal-mark . if it is a fraction, --decimal-mark , if the \
                 mark separates thousands"
            )),
            (None, None) => Ok(usual),
        }
    }

    /// Parses a number; groups of thousands may be separated by blanks, apostrophes or the other
    /// mark.
    pub fn parse(self, text: &str) -> Option<f64> {
        let (whole, fraction) =
            text.split_once(self.sign()).map_or((text, None), |(a, b)| (a, Some(b)));
        let other = match self {
            Self::Point => ',',
            Self::Comma => '.',
        };
        let groups: Vec<&str> =
            whole.split([other, ' ', '\u{a0}', '\u{202f}', '\'', '’']).collect();
        let (first, rest) = groups.split_first()?;
        let digits = first.trim_start_matches(['+', '-']);
        let grouped = rest.is_empty() || (1..=3).contains(&digits.len());
        if !grouped
            || rest
                .iter()
                .any(|group| group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return None;
        }
        let mut plain = groups.concat();
        if let Some(fraction) = fraction {
            plain.push('.');
            plain.push_str(fraction);
        }
        plain.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

/// Microseconds per unit, for the units that other tools append to a time.
const UNITS: [(&str, f64); 27] = [
    ("ns", 1e-3),
    ("µs", 1.0),
    ("μs", 1.0),
    ("us", 1.0),
    ("usec", 1.0),
    ("µsec", 1.0),
    ("ms", 1e3),
    ("msec", 1e3),
    ("msek", 1e3),
    ("millisecond", 1e3),
    ("milliseconds", 1e3),
    ("millisekunden", 1e3),
    ("s", 1e6),
    ("sec", 1e6),
    ("secs", 1e6),
    ("sek", 1e6),
    ("second", 1e6),
    ("seconds", 1e6),
    ("sekunden", 1e6),
    ("min", 6e7),
    ("mins", 6e7),
    ("minute", 6e7),
    ("minutes", 6e7),
    ("minuten", 6e7),
    ("h", 3.6e9),
    ("hour", 3.6e9),
    ("hours", 3.6e9),
];

/// Parses a number with a unit, in microseconds: `12,3 ms`, `1.2s`, `< 1 msec` (at most that).
/// `None` without a unit.
pub(crate) fn with_unit(text: &str) -> Option<(&str, f64)> {
    let text = text.trim().trim_start_matches('<').trim_start();
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (number, unit) = (&text[..end], text[end..].trim());
    let unit = unit.trim_end_matches('.').to_lowercase();
    UNITS.iter().find(|(word, _)| *word == unit).map(|(_, micros)| (number, *micros))
}

/// What a value implies about the decimal mark.
enum Shape {
    Settles(Mark),
    /// With this mark it is a fraction of three digits, with the other one a thousands separator.
    Unclear(Mark),
    Neither,
}

fn shape(value: &str) -> Shape {
    let value = with_unit(value).map_or(value, |(number, _)| number);
    let value = value.trim_start_matches(['+', '-']);
    if !value.chars().all(|c| c.is_ascii_digit() || ".,' \u{a0}\u{202f}’".contains(c)) {
        return Shape::Neither;
    }
    let count = |sign| value.matches(sign).count();
    let (mark, other, tail) = match (value.rfind('.'), value.rfind(',')) {
        (None, None) => return Shape::Neither,
        (Some(at), None) => (Mark::Point, Mark::Comma, &value[at + 1..]),
        (None, Some(at)) => (Mark::Comma, Mark::Point, &value[at + 1..]),
        // The last of two marks separates the fraction: 1.234,5 and 1,234.5.
        (Some(point), Some(comma)) if point > comma => return Shape::Settles(Mark::Point),
        (Some(_), Some(_)) => return Shape::Settles(Mark::Comma),
    };
    let head = &value[..value.len() - tail.len() - 1];
    if count(mark.sign()) > 1 {
        return Shape::Settles(other);
    }
    match tail.len() {
        // 0.123 has no thousands.
        3 if (1..=3).contains(&head.len()) && !head.starts_with('0') => Shape::Unclear(mark),
        _ => Shape::Settles(mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_column_settles_its_mark_or_is_refused() {
        for (values, usual, expected) in [
            (&["1", "2"][..], Mark::Comma, Some(Mark::Comma)),
            (&["12,5", "1.234"], Mark::Comma, Some(Mark::Comma)),
            (&["12.5", "1.234"], Mark::Comma, Some(Mark::Point)),
            (&["1.234"], Mark::Comma, None),
            (&["1.234"], Mark::Point, Some(Mark::Point)),
            (&["1,234"], Mark::Point, None),
            (&["0.234"], Mark::Comma, Some(Mark::Point)),
            (&["1.234.567"], Mark::Point, Some(Mark::Comma)),
            (&["1.234,5"], Mark::Point, Some(Mark::Comma)),
            (&["1.5", "1,5"], Mark::Comma, None),
            (&["1234.567"], Mark::Comma, Some(Mark::Point)),
        ] {
            assert_eq!(Mark::of(values.iter().copied(), usual).ok(), expected, "{values:?}");
        }
    }

    #[test]
    fn numbers_are_read_with_their_mark() {
        for (text, mark, expected) in [
            ("1.234,5", Mark::Comma, Some(1234.5)),
            ("1.234", Mark::Comma, Some(1234.0)),
            ("1 234,5", Mark::Comma, Some(1234.5)),
            ("1'234.5", Mark::Point, Some(1234.5)),
            ("1,234", Mark::Point, Some(1234.0)),
            ("-0.5", Mark::Point, Some(-0.5)),
            ("1e3", Mark::Point, Some(1000.0)),
            ("12,34,5", Mark::Point, None),
            ("1234,567", Mark::Point, None),
            ("", Mark::Point, None),
            ("x", Mark::Point, None),
            ("inf", Mark::Point, None),
        ] {
            assert_eq!(mark.parse(text), expected, "{text}");
        }
    }

    #[test]
    fn units_stand_behind_times() {
        for (text, expected) in [
            ("12.3 ms", Some(("12.3", 1e3))),
            ("1,25 s", Some(("1,25", 1e6))),
            ("456 µs", Some(("456", 1.0))),
            ("< 1 msec", Some(("1", 1e3))),
            ("<1ms", Some(("1", 1e3))),
            ("1.5 mins", Some(("1.5", 6e7))),
            ("2 Sek.", Some(("2", 1e6))),
            ("1.234", None),
            ("95 %", None),
            ("ms", None),
            ("", None),
            ("ok", None),
        ] {
            assert_eq!(with_unit(text), expected, "{text}");
        }
        assert_eq!(Mark::of(["12,5 ms", "1.234 ms"].into_iter(), Mark::Point), Ok(Mark::Comma));
        assert!(Mark::of(["1.234 ms"].into_iter(), Mark::Comma).is_err());
    }

    proptest! {
        #[test]
        fn a_number_written_with_a_mark_is_read_back(value in -1_000_000_000i64..1_000_000_000, comma: bool) {
            let mark = if comma { Mark::Comma } else { Mark::Point };
            let text = format!("{}{}{:02}", value / 100, mark.sign(), value.abs() % 100);
            prop_assume!(value / 100 != 0 || value >= 0);
            prop_assert_eq!(mark.parse(&text), text.replace(',', ".").parse().ok());
            prop_assert_eq!(Mark::of([text.as_str()].into_iter(), Mark::Point), Ok(mark));
        }
    }
}
