//! The grammar of `Authentication-Results` (RFC 8601, section 2.2) and `Received-SPF` (RFC 7208,
//! section 9.1): nested comments, quoted strings, pairs of names and values.

/// Maximum number of pairs to read of a result.
const MAX_PAIRS: usize = 64;

/// One part of a field, between two semicolons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Words that are not a pair, in order.
    pub(super) words: Vec<String>,
    /// Pairs of names in lower case and values.
    pub(super) pairs: Vec<(String, String)>,
    /// Whether a word precedes the first pair.
    begins_with_word: bool,
}

impl Statement {
    /// Returns a value by its name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// Returns the word before all pairs.
    pub(super) fn leading_word(&self) -> Option<&str> {
        self.words.first().filter(|_| self.begins_with_word).map(|word| &**word)
    }
}

/// Parses a field's statements, without comments.
pub(super) fn statements(value: &str) -> Vec<Statement> {
    let mut statements = vec![Statement::default()];
    let mut rest = value;
    // The name that may be followed by an equals sign.
    let mut pending: Option<String> = None;
    loop {
        rest = skip(rest);
        let Some(statement) = statements.last_mut() else {
            break;
        };
        let Some(first) = rest.chars().next() else {
            statement.push_word(pending.take());
            break;
        };
        match first {
            ';' => {
                statement.push_word(pending.take());
                statements.push(Statement::default());
                rest = &rest[1..];
            }
            '=' if pending.is_some() => {
                let (value, after) = text(skip(&rest[1..]), true);
                let name = pending.take().unwrap_or_default().to_ascii_lowercase();
                if statement.pairs.len() < MAX_PAIRS {
                    statement.pairs.push((name, value));
                }
                rest = after;
            }
            _ => {
                statement.push_word(pending.take());
                let (word, after) = text(rest, false);
                if after.len() == rest.len() {
                    // An equals sign without a name.
                    rest = &rest[first.len_utf8()..];
                } else {
                    pending = Some(word);
                    rest = after;
                }
            }
        }
    }
    statements
}

impl Statement {
    fn push_word(&mut self, word: Option<String>) {
        if let Some(word) = word
            && self.words.len() < MAX_PAIRS
        {
            self.begins_with_word |= self.pairs.is_empty();
            self.words.push(word);
        }
    }
}

/// Skips spaces and comments. An unclosed parenthesis is not a comment.
fn skip(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with('(')
        && let Some(end) = comment(rest)
    {
        rest = rest[end..].trim_start();
    }
    rest
}

/// Returns the end of the comment that begins here.
fn comment(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns a quoted string without its quotation marks, or the text before the next space,
/// semicolon or comment; for a name also before an equals sign.
fn text(rest: &str, is_value: bool) -> (String, &str) {
    if rest.starts_with('"')
        && let Some(quoted) = quoted(rest)
    {
        return quoted;
    }
    let ends = |(at, character): (usize, char)| {
        character.is_whitespace()
            || character == ';'
            || (character == '=' && !is_value)
            || (character == '(' && at > 0 && comment(&rest[at..]).is_some())
    };
    let end = rest.char_indices().find(|place| ends(*place)).map_or(rest.len(), |(at, _)| at);
    (rest[..end].to_owned(), &rest[end..])
}

fn quoted(rest: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((content, &rest[at + 1..])),
            '\\' => content.extend(characters.next().map(|(_, next)| next)),
            other => content.push(other),
        }
    }
    // Unclosed, so an ordinary character.
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_and_quoted_strings_are_distinguished() {
        let read = statements(
            "mx.example.com (a (nested; one\\)) spf=fail) 1; dkim = fail reason=\"signature (rsa; \\\"x\\\"\" header.b=a/b=; spf=pass smtp.mailfrom=a@b",
        );
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].words, ["mx.example.com", "1"]);
        assert_eq!(read[1].get("reason"), Some("signature (rsa; \"x\""));
        assert_eq!(read[1].get("header.b"), Some("a/b="));
        assert_eq!(read[2].pairs[0], ("spf".to_owned(), "pass".to_owned()));
        // An unclosed comment or string does not consume the rest.
        assert_eq!(statements("x; spf=pass (oops; dmarc=pass").len(), 3);
        assert_eq!(statements("x; spf=\"pass; dmarc=pass").len(), 3);
        assert_eq!(
            statements("a.example from=b.example; x=y")[0].leading_word(),
            Some("a.example")
        );
        assert_eq!(statements("spf=pass (x)\t smtp.mailfrom=b; x=y")[0].leading_word(), None);
    }

    proptest! {
        #[test]
        fn every_text_is_parsed_completely(text in "[a-z=;()\"\\\\ .]{0,60}", other in "\\PC{0,80}") {
            let _ = statements(&text);
            let _ = statements(&other);
        }
    }
}
