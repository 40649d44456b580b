//! The fields of a mail's header (RFC 5322, section 2.2), unfolded.

/// Returns the values of all fields with this name, topmost first.
pub(super) fn fields(mail: &[u8], name: &str) -> Vec<String> {
    let all = all_fields(mail).into_iter();
    all.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// Returns the names and values of all fields, topmost first.
pub(super) fn all_fields(mail: &[u8]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in mail.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = all.last_mut() {
                value.push(' ');
                value.push_str(text.trim());
            }
            continue;
        }
        let (key, value) = text.split_once(':').unwrap_or((&text, ""));
        all.push((key.trim_end().to_owned(), value.trim().to_owned()));
    }
    all
}

/// Returns a text without its comments, which may be nested.
pub(super) fn without_comments(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut depth = 0_usize;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if depth > 0 => {
                characters.next();
            }
            '(' => depth += 1,
            ')' if depth > 0 => {
                depth -= 1;
                bare.push(' ');
            }
            _ if depth == 0 => bare.push(character),
            _ => {}
        }
    }
    bare
}
