//! Text for people: one line, of bounded length, without secrets; and bytes as hexadecimal digits.

use crate::{Secret, mask};

/// A text from outside as one line of at most 200 characters: no control characters, no secrets.
pub fn one_line(text: &str, secrets: &[Secret]) -> String {
    const MAX: usize = 200;
    let text = mask::masked(text, secrets);
    let mut line = String::new();
    for word in
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((at, _)) = line.char_indices().nth(MAX) {
        let cut = line.char_indices().nth(MAX - 1).map_or(at, |(at, _)| at);
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// Two hexadecimal digits a byte, as fingerprints are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A name or path as targets compare it that don't distinguish upper and lower case.
pub fn comparable(name: &str) -> String {
    name.trim_matches('/').to_lowercase()
}
