//! Text for display: a single line of limited length, without secrets. Also formats bytes as
//! hexadecimal digits.

use crate::{Secret, mask};

/// Returns a text from outside as one line of at most 200 characters, without control characters
/// and secrets.
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

/// Formats bytes as two hexadecimal digits each, as used for fingerprints.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns a name or path in the form in which targets that ignore case compare it.
pub fn comparable(name: &str) -> String {
    name.trim_matches('/').to_lowercase()
}
