//! Senders and recipients in common notations: `anna@example.com`, `Anna Berg <anna@example.com>`,
//! `"Berg, Anna" <anna@example.com>` or `anna@example.com (Anna Berg)` (RFC 5322, section 3.4).

use std::{fmt, str::FromStr};

use lettre::Address;

/// Maximum length of a display name in characters.
const MAX_NAME: usize = 200;

/// A mail address with an optional display name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Person {
    /// Name that mail clients display instead of the address, without control characters.
    pub name: Option<String>,
    /// The address alone, such as `anna@example.com`. A domain such as `köln.example` is stored in
    /// the form that every mail server accepts, `xn--kln-sna.example` (RFC 5890).
    pub address: String,
}

/// Reasons why a text is not a valid sender or recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersonError {
    /// The address is invalid.
    #[error("{text:?} is not a valid e-mail address: {reason}")]
    Address {
        /// The address as written.
        text: String,
        /// The reason.
        reason: String,
    },
    /// The display name can't be used in a mail.
    #[error("{0:?} is not a valid display name: {1}")]
    Name(String, &'static str),
    /// Several addresses where one is expected.
    #[error("{0:?} contains several e-mail addresses; write one")]
    Several(String),
}

impl Person {
    /// Creates a person from an address without a display name.
    ///
    /// # Errors
    /// The text is not a mail address.
    pub fn of_address(text: &str) -> Result<Self, PersonError> {
        Ok(Self { name: None, address: address(text)?.to_string() })
    }

    /// Returns the address for an envelope.
    ///
    /// # Errors
    /// The address is invalid, which is possible because the fields are public.
    pub fn mailbox(&self) -> Result<Address, PersonError> {
        address(&self.address)
    }

    /// Returns the part after the `@`.
    pub fn domain(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn address(text: &str) -> Result<Address, PersonError> {
    let wrong = |reason: String| PersonError::Address { text: text.to_owned(), reason };
    let address = Address::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if address.domain().is_ascii() {
        return Ok(address);
    }
    // Servers without SMTPUTF8 (RFC 6531), which most are, reject a domain that is not ASCII.
    let domain = idna::domain_to_ascii(address.domain())
        .map_err(|_| wrong("its domain is not a valid host name".to_owned()))?;
    Address::new(address.user(), domain).map_err(|error| wrong(error.to_string()))
}

impl FromStr for Person {
    type Err = PersonError;

    fn from_str(text: &str) -> Result<Self, PersonError> {
        let text = text.trim();
        if text.chars().any(is_forbidden) {
            return Err(PersonError::Name(text.to_owned(), "it contains control characters"));
        }
        let (name, address_text) = if let Some(before) = text.strip_suffix('>') {
            let Some(open) = before.rfind('<') else {
                return Err(PersonError::Address {
                    text: text.to_owned(),
                    reason: "the '<' before the address is missing".to_owned(),
                });
            };
            (phrase(&before[..open])?, before[open + 1..].trim())
        } else if let Some((address, comment)) = comment(text) {
            (phrase(comment)?, address)
        } else {
            (None, text)
        };
        if name.is_none() && (text.contains([',', ';'])) && text.matches('@').count() > 1 {
            return Err(PersonError::Several(text.to_owned()));
        }
        Ok(Self { name, address: address(address_text)?.to_string() })
    }
}

/// Parses `anna@example.com (Anna Berg)`, the old form with the name as a comment (RFC 5322,
/// section 3.4).
fn comment(text: &str) -> Option<(&str, &str)> {
    let (address, comment) = text.strip_suffix(')')?.split_once('(')?;
    (address.contains('@') && !comment.contains(['(', ')'])).then(|| (address.trim(), comment))
}

/// Parses a display name and removes its quotes. Returns `None` if it is empty.
fn phrase(text: &str) -> Result<Option<String>, PersonError> {
    let text = text.trim();
    let wrong = |reason| PersonError::Name(text.to_owned(), reason);
    let name = if let Some(rest) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut characters = rest.chars();
        loop {
            match characters.next() {
                None => return Err(wrong("the closing quote is missing")),
                Some('"') => break,
                Some('\\') => name.extend(characters.next()),
                Some(character) => name.push(character),
            }
        }
        let rest = characters.as_str().trim();
        // `"Anna" Berg <…>`: a phrase of several words, some of them quoted.
        match rest {
            "" => name,
            rest if rest.contains('"') => {
                return Err(wrong("it contains a quotation mark in the middle"));
            }
            rest => format!("{name} {rest}"),
        }
    } else if text.contains(['<', '>']) {
        return Err(wrong("it contains several addresses"));
    } else {
        text.replace('"', "")
    };
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.chars().count() > MAX_NAME {
        return Err(PersonError::Name(name, "it is longer than 200 characters"));
    }
    Ok((!name.is_empty()).then_some(name))
}

/// Returns whether a character ends a line of a header field, or changes the text direction.
pub fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Formats name and address, with the name in quotes if it contains a comma or another special
/// character.
impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => f.write_str(&self.address),
            Some(name) if name.chars().all(is_plain) => write!(f, "{name} <{}>", self.address),
            Some(name) => {
                let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{escaped}\" <{}>", self.address)
            }
        }
    }
}

/// Returns whether a character needs no quotes in a display name (RFC 5322, section 3.2.3).
pub fn is_plain(character: char) -> bool {
    character.is_alphanumeric()
        || !character.is_ascii()
        || "!#$%&'*+-/=?^_`{|}~ ".contains(character)
}

/// Splits a list in common notations: `Anna Berg <anna@example.com>, ben@example.com`, or separated
/// by semicolons as in Outlook. A comma within quotes or angle brackets does not separate, nor does
/// one in an unquoted name (`Berg, Anna <anna@example.com>`), which is recognised because `Berg` is
/// neither an address nor a known name.
pub fn split_list(text: &str) -> Vec<String> {
    let separator = if top_level(text).any(|(_, character)| character == ';') { ';' } else { ',' };
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, character) in top_level(text) {
        if character == separator {
            parts.push(&text[begin..at]);
            begin = at + 1;
        }
    }
    parts.push(&text[begin..]);
    let mut list: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    for part in parts {
        let part = match open.take() {
            Some(before) => format!("{before}{separator}{part}"),
            None => part.trim().to_owned(),
        };
        let is_name_of_ours = part.parse::<mailqos_model::Name>().is_ok();
        if part.is_empty() {
            continue;
        }
        if separator == ',' && !part.contains('@') && !is_name_of_ours {
            open = Some(part);
        } else {
            list.push(part);
        }
    }
    list.extend(open);
    list
}

/// Iterates over the characters outside quotes, angle brackets and comments.
fn top_level(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    text.char_indices().filter(move |(_, character)| {
        if escaped {
            escaped = false;
            return false;
        }
        match character {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' | '(' if !quoted => depth += 1,
            '>' | ')' if !quoted => depth = depth.saturating_sub(1),
            _ => return !quoted && depth == 0,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Option<String>, String) {
        let person: Person = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        (person.name, person.address)
    }

    #[test]
    fn common_notations_of_people_are_accepted() {
        for (text, name, address) in [
            ("anna@example.com", None, "anna@example.com"),
            (" <anna@example.com> ", None, "anna@example.com"),
            ("Anna Berg <anna@example.com>", Some("Anna Berg"), "anna@example.com"),
            ("Anna Berg<anna@example.com>", Some("Anna Berg"), "anna@example.com"),
            ("\"Berg, Anna\" <anna@example.com>", Some("Berg, Anna"), "anna@example.com"),
            ("Berg, Anna <anna@example.com>", Some("Berg, Anna"), "anna@example.com"),
            ("\"a \\\"b\\\" \\\\c\" <x@example.com>", Some("a \"b\" \\c"), "x@example.com"),
            ("\"\" <x@example.com>", None, "x@example.com"),
            ("J. R. Smith <x@example.com>", Some("J. R. Smith"), "x@example.com"),
            ("Jörg Müller <joerg@example.com>", Some("Jörg Müller"), "joerg@example.com"),
            ("山田 太郎 <taro@example.com>", Some("山田 太郎"), "taro@example.com"),
            ("anna@example.com (Anna Berg)", Some("Anna Berg"), "anna@example.com"),
            ("anna@example.com <anna@example.com>", Some("anna@example.com"), "anna@example.com"),
            ("\"Mail\" Team <x@example.com>", Some("Mail Team"), "x@example.com"),
            // curl #4892: a domain has an ASCII form that every server accepts; the part before the
            // @ has none.
            ("Jörg <j@Köln.example>", Some("Jörg"), "j@xn--kln-sna.example"),
            ("x@例え.jp", None, "x@xn--r8jz45g.jp"),
            ("jörg@köln.example", None, "jörg@xn--kln-sna.example"),
            ("jörg@example.com", None, "jörg@example.com"),
        ] {
            assert_eq!(read(text), (name.map(str::to_owned), address.to_owned()), "{text}");
        }
    }

    #[test]
    fn text_that_would_break_a_header_field_is_rejected() {
        for text in [
            "",
            "anna",
            "Anna <anna>",
            "Anna anna@example.com>",
            "Anna\r\nBcc: x@example.com <anna@example.com>",
            "\"Anna\nBcc: <x@example.com>\" <anna@example.com>",
            "Anna\u{2028}Bcc <anna@example.com>",
            "Anna <anna@example.com\r\n>",
            "\"Anna <anna@example.com>",
            "anna@example.com, ben@example.com",
            "a <a@example.com>, b <b@example.com>",
        ] {
            assert!(text.parse::<Person>().is_err(), "{text:?}");
        }
        let long = format!("{} <anna@example.com>", "a".repeat(201));
        assert!(long.parse::<Person>().is_err());
    }

    #[test]
    fn lists_are_split_where_a_mail_client_would() {
        for (text, parts) in [
            ("a@example.com", &["a@example.com"][..]),
            ("a@example.com, b@example.com,", &["a@example.com", "b@example.com"]),
            (
                "\"Berg, Anna\" <anna@example.com>, ben@example.com",
                &["\"Berg, Anna\" <anna@example.com>", "ben@example.com"],
            ),
            (
                "Berg, Anna <anna@example.com>; Roe, Ben <ben@example.com>",
                &["Berg, Anna <anna@example.com>", "Roe, Ben <ben@example.com>"],
            ),
            ("Berg, Anna <anna@example.com>, bosses", &["Berg, Anna <anna@example.com>", "bosses"]),
            ("anna, ben", &["anna", "ben"]),
            ("a@example.com (Berg, Anna)", &["a@example.com (Berg, Anna)"]),
        ] {
            assert_eq!(split_list(text), parts, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_person_is_parsed_again(name in "[ -~äöü東]{0,40}", local in "[a-z]{1,8}") {
            let text = format!("{local}@example.com");
            let name: String = name.split_whitespace().collect::<Vec<_>>().join(" ");
            let person = Person { name: (!name.is_empty()).then_some(name), address: text };
            prop_assert_eq!(person.to_string().parse::<Person>(), Ok(person));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in "\\PC{0,60}|.{0,30}") {
            if let Ok(person) = text.parse::<Person>() {
                prop_assert!(!person.to_string().contains(['\r', '\n']));
            }
            for part in split_list(&text) {
                prop_assert!(!part.is_empty());
            }
        }
    }
}
