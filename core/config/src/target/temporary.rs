//! The temporary name of a file at a target until it is complete.

use std::str::FromStr;

/// Number of characters of the content's SHA-256 in `{{ hash }}`.
const HASH: usize = 8;
/// Maximum number of characters that a temporary name adds to the final one. Names are shortened so
/// that this fits.
const LONGER: usize = 24;

/// A pattern for temporary names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryName {
    before: Vec<Piece>,
    after: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hash,
}

impl Default for TemporaryName {
    /// Returns `.{{ name }}.{{ hash }}.part`.
    fn default() -> Self {
        Self {
            before: vec![Piece::Text(".".to_owned())],
            after: vec![Piece::Text(".".to_owned()), Piece::Hash, Piece::Text(".part".to_owned())],
        }
    }
}

impl TemporaryName {
    /// Returns the temporary name of a file, given its final name and the SHA-256 of its content in
    /// hexadecimal.
    pub fn of(&self, name: &str, sha256: &str) -> String {
        let hash = sha256.get(..HASH).unwrap_or(sha256);
        let written = |pieces: &[Piece]| -> String {
            let text = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Hash => hash,
            });
            text.collect()
        };
        format!("{}{name}{}", written(&self.before), written(&self.after))
    }

    /// Returns whether each content has a unique name, so that an existing file can only be a
    /// partial upload of the same content.
    pub fn is_unique(&self) -> bool {
        self.before.contains(&Piece::Hash) || self.after.contains(&Piece::Hash)
    }
}

impl FromStr for TemporaryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut before, mut after, mut named) = (Vec::new(), Vec::new(), false);
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, variable, behind) = match rest.split_once("{{") {
                Some((literal, tail)) => match tail.split_once("}}") {
                    Some((variable, behind)) => (literal, Some(variable.trim()), behind),
                    None => return Err("has {{ without }}".to_owned()),
                },
                None => (rest, None, ""),
            };
            let side = if named { &mut after } else { &mut before };
            if !literal.is_empty() {
                side.push(Piece::Text(literal.to_owned()));
            }
            match variable {
                Some("hash") => side.push(Piece::Hash),
                Some("name") if !named => named = true,
                Some("name") => return Err("has {{ name }} twice".to_owned()),
                Some(other) => {
                    return Err(format!("has {other:?}, which is neither name nor hash"));
                }
                None => {}
            }
            rest = behind;
        }
        let pattern = Self { before, after };
        pattern.check(named)?;
        Ok(pattern)
    }
}

impl TemporaryName {
    fn check(&self, named: bool) -> Result<(), String> {
        if !named {
            return Err("lacks {{ name }}".to_owned());
        }
        let example = self.of("n", "0123456789");
        if example == "n" {
            return Err("is the final name".to_owned());
        }
        if example.encode_utf16().count().max(example.len()) > LONGER + 1 {
            return Err(format!("makes names longer by more than {LONGER} characters"));
        }
        let forbidden = |c: char| {
            c.is_control() || matches!(c, '/' | '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*')
        };
        if example.contains(forbidden) || example.contains(['{', '}']) {
            return Err("has a character that some targets reject in file names".to_owned());
        }
        if example.starts_with([' ', '-', '~']) || example.ends_with([' ', '.']) {
            return Err(
                "begins or ends with a character that servers drop or misinterpret".to_owned()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_names() {
        for (pattern, name, unique) in [
            ("{{ name }}.tmp", "r.pdf.tmp", false),
            ("{{name}}.{{hash}}.filepart", "r.pdf.01234567.filepart", true),
            ("upload_{{ hash }}_{{ name }}", "upload_01234567_r.pdf", true),
        ] {
            let read: TemporaryName = pattern.parse().expect("a pattern");
            assert_eq!(read.of("r.pdf", "0123456789abcdef"), name);
            assert_eq!(read.is_unique(), unique);
        }
        let usual: TemporaryName = ".{{ name }}.{{ hash }}.part".parse().expect("a pattern");
        assert_eq!(usual, TemporaryName::default());
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("part", "lacks"),
            ("{{ name }}", "final name"),
            ("{{ name }}{{ name }}", "twice"),
            ("{{ name }}.{{ date }}", "neither"),
            ("{{ name", "without"),
            ("tmp/{{ name }}", "character"),
            ("..\\{{ name }}", "character"),
            ("~{{ name }}", "begins"),
            ("{{ name }}.", "ends"),
            ("{{ name }}.a-very-long-ending-indeed", "longer"),
        ] {
            let refused = pattern.parse::<TemporaryName>().expect_err(pattern);
            assert!(refused.contains(reason), "{pattern}: {refused}");
        }
    }
}
