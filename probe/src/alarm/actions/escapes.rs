//! The filters of templates: what makes a text safe and short enough for a service.
//!
//! Part of what is told are the words of servers that were tested, and anybody may have written them: no service may read
//! them as markup.

use tera::{Kwargs, State, Tera};

/// Makes the filters known to a template.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json", |value: &tera::Value, _: Kwargs, _: &State<'_>| {
        if value.is_undefined() {
            return Err(tera::Error::message("there is no such value"));
        }
        serde_json::to_string(value).map_err(|error| tera::Error::message(error.to_string()))
    });
    tera.register_filter("slack", |text: &str, options: Kwargs, _: &State<'_>| {
        let length: Option<usize> = options.get("length")?;
        Ok::<_, tera::Error>(slack(text, length.unwrap_or(usize::MAX)))
    });
    tera.register_filter("fenced", |text: &str, _: Kwargs, _: &State<'_>| {
        format!("```\n{}\n```", text.replace("```", "'''"))
    });
    tera.register_filter("markdown", |text: &str, _: Kwargs, _: &State<'_>| markdown(text));
    tera.register_filter("telegram", |text: &str, _: Kwargs, _: &State<'_>| telegram(text));
    tera.register_filter("html", |text: &str, _: Kwargs, _: &State<'_>| html(text));
    tera.register_filter("unlinked", |text: &str, _: Kwargs, _: &State<'_>| unlinked(text));
    tera.register_filter("shorten", |text: &str, options: Kwargs, _: &State<'_>| {
        let (length, bytes): (Option<usize>, Option<usize>) = (options.get("length")?, options.get("bytes")?);
        match (length, bytes) {
            (Some(length), None) => Ok(in_characters(text, length)),
            (None, Some(bytes)) => Ok(in_bytes(text, bytes)),
            _ => Err(tera::Error::message(
                "shorten needs either length=CHARACTERS or bytes=BYTES",
            )),
        }
    });
}

/// At most this many characters.
fn in_characters(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

/// At most this many bytes in UTF-8; no character is cut in two.
fn in_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    match most.checked_sub('…'.len_utf8()) {
        Some(room) => format!("{}…", &text[..text.floor_char_boundary(room)]),
        None => text[..text.floor_char_boundary(most)].to_owned(),
    }
}

/// Slack's escapes (<https://docs.slack.dev/messaging/formatting-message-text>), in at most this many characters; no
/// escape is cut in two.
fn slack(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    let mut count = 0;
    // Where to cut if not everything fits: there must be room for the dots.
    let mut cut = 0;
    for character in text.chars() {
        let (part, length) = match character {
            '&' => ("&amp;", 5),
            '<' => ("&lt;", 4),
            '>' => ("&gt;", 4),
            _ => ("", 1),
        };
        if count + length > most {
            escaped.truncate(cut);
            if most > 0 {
                escaped.push('…');
            }
            return escaped;
        }
        if part.is_empty() {
            escaped.push(character);
        } else {
            escaped.push_str(part);
        }
        count += length;
        if count < most {
            cut = escaped.len();
        }
    }
    escaped
}

/// A text that Markdown shows as it is (CommonMark, section 2.4): for Mattermost, Discord, Rocket.Chat, Zulip and others.
/// What their apps find to be an address is kept from becoming a link, and a mention from reaching anybody.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation()
            && !matches!(character, '.' | ',' | ';' | '?' | '%' | '/' | '"' | '\'' | ':' | '@')
        {
            escaped.push('\\');
        }
        escaped.push(character);
        if character == '@' {
            escaped.push('\u{200b}');
        }
    }
    escaped.replace("://", ":\u{200b}//")
}

/// For Telegram's MarkdownV2 (<https://core.telegram.org/bots/api#markdownv2-style>).
fn telegram(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // "Any character with code between 1 and 126 can be escaped"; these must be.
        if "_*[]()~`>#+-=|{}.!\\".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// For Telegram's HTML, Matrix' `formatted_body` and Microsoft's older cards.
fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// No link of Markdown is left in it, even where an app renders Markdown in places that are documented to be plain.
fn unlinked(text: &str) -> String {
    text.replace("](", "]\u{2060}(")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_escaped_as_their_services_read_them() {
        assert_eq!(slack("<a&b>", usize::MAX), "&lt;a&amp;b&gt;");
        assert_eq!(slack("a<<", 8), "a&lt;…");
        assert_eq!(slack("a<<", 9), "a&lt;&lt;");
        assert_eq!(slack("abc", 3), "abc");
        assert_eq!(slack("abcd", 3), "ab…");
        assert_eq!(
            markdown("[x](https://e.example) *b* @all"),
            "\\[x\\]\\(https:\u{200b}//e.example\\) \\*b\\* @\u{200b}all"
        );
        assert_eq!(telegram("a.b_c!"), "a\\.b\\_c\\!");
        assert_eq!(html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(in_bytes("ЖЖЖ", 5), "Ж…");
        assert_eq!(in_bytes("ЖЖ", 4), "ЖЖ");
        assert_eq!(in_bytes("ЖЖ", 2), "Ж");
        assert_eq!(in_characters("ЖЖЖ", 2), "Ж…");
    }

    proptest! {
        #[test]
        fn no_text_becomes_longer_than_asked(text in ".{0,60}", most in 0_usize..80) {
            prop_assert!(in_bytes(&text, most).len() <= most);
            prop_assert!(in_characters(&text, most).chars().count() <= most.max(1));
            let escaped = slack(&text, most);
            prop_assert!(escaped.chars().count() <= most);
            prop_assert!(!escaped.contains(['<', '>']));
            // Each & begins an escape, whole.
            for (at, _) in escaped.match_indices('&') {
                let rest = &escaped[at..];
                prop_assert!(["&amp;", "&lt;", "&gt;"].iter().any(|escape| rest.starts_with(escape)), "{}", escaped);
            }
        }
    }
}
