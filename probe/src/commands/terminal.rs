//! Text on a terminal: its width in columns, truncation, padding and colours.

use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns the number of columns of a text: a Chinese character takes two.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts a text to a number of columns; an ellipsis marks the cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut room = columns.saturating_sub(1);
    for character in text.chars() {
        let takes = character.width().unwrap_or(0);
        if takes > room {
            break;
        }
        room -= takes;
        kept.push(character);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Removes control characters, which could steer the terminal: the text may come from a server or a
/// third party.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Fits the text into exactly this many columns: cut or padded.
pub(super) fn column(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    let missing = columns.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Wraps words to lines of this many columns; if there are more than `most` lines, the last one is
/// cut.
pub(super) fn lines(text: &str, columns: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if lines_up(line, word, columns) => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.push(rest);
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn lines_up(line: &str, word: &str, columns: usize) -> bool {
    width(line) + 1 + width(word) <= columns
}

/// Returns the columns and lines of the terminal on standard output, or `None` if it is not a
/// terminal.
pub(super) fn size() -> Option<(usize, usize)> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (columns, lines) = crossterm::terminal::size().ok()?;
    (columns > 0 && lines > 0).then(|| (usize::from(columns), usize::from(lines)))
}

/// Returns whether standard output is coloured (<https://no-color.org>).
pub(super) fn is_coloured() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Formats rows of a table under their headings. Each column is as wide as its content, and the
/// last one is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| width(cell)).fold(head.get(at).map_or(0, |cell| width(cell)), usize::max)
    };
    let widths: Vec<usize> = (0..head.len()).map(widest).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| column(cell, *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_counted_by_display_width() {
        assert_eq!(column("東京", 6), "東京  ");
        assert_eq!(column("東京メール", 6), "東京… ");
        assert_eq!(cut("Göteborg", 8), "Göteborg");
        assert_eq!(cut("Göteborg", 5), "Göte…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(plain("Göte\x1b[2J\u{9b}\r\nborg"), "Göte [2J   borg");
    }

    #[test]
    fn words_are_wrapped_and_excess_lines_are_cut() {
        assert_eq!(lines("a bb ccc dddd", 6, 3), ["a bb", "ccc", "dddd"]);
        assert_eq!(lines("a bb ccc dddd", 6, 2), ["a bb", "ccc d…"]);
        assert_eq!(lines("abcdefgh", 6, 2), ["abcde…"]);
    }

    proptest! {
        #[test]
        fn a_column_has_exactly_the_required_width(text in "[a-zö東京 🙂]{0,30}", columns in 0usize..20) {
            prop_assert_eq!(width(&column(&text, columns)), columns);
        }
    }
}
