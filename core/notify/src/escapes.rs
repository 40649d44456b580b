//! Filters of templates, which make text safe and short enough for a service.
//!
//! Notifications quote replies of the tested servers, so anyone may have written parts of them. No
//! service may interpret these as markup.

use std::borrow::Cow;

use tera::{Kwargs, State, Tera};

/// Registers the filters with Tera.
pub(crate) fn register(tera: &mut Tera) {
    tera.register_filter("json", |value: &tera::Value, _: Kwargs, _: &State<'_>| {
        if value.is_undefined() {
            return Err(tera::Error::message("missing or unknown value"));
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
    tera.register_filter("markdown", |text: &str, options: Kwargs, _: &State<'_>| {
        let length: Option<usize> = options.get("length")?;
        Ok::<_, tera::Error>(markdown(text, length.unwrap_or(usize::MAX)))
    });
    tera.register_filter("telegram", |text: &str, options: Kwargs, _: &State<'_>| {
        let length: Option<usize> = options.get("length")?;
        Ok::<_, tera::Error>(telegram(text, length.unwrap_or(usize::MAX)))
    });
    tera.register_filter("html", |text: &str, options: Kwargs, _: &State<'_>| {
        let length: Option<usize> = options.get("length")?;
        Ok::<_, tera::Error>(html(text, length.unwrap_or(usize::MAX)))
    });
    tera.register_filter("gsm", |text: &str, options: Kwargs, _: &State<'_>| {
        let length: Option<usize> = options.get("length")?;
        Ok::<_, tera::Error>(gsm(text, length.unwrap_or(usize::MAX)))
    });
    tera.register_filter("unlinked", |text: &str, _: Kwargs, _: &State<'_>| unlinked(text));
    tera.register_filter("shorten", |text: &str, options: Kwargs, _: &State<'_>| {
        let (length, bytes): (Option<usize>, Option<usize>) =
            (options.get("length")?, options.get("bytes")?);
        match (length, bytes) {
            (Some(length), None) => Ok(in_characters(text, length)),
            (None, Some(bytes)) => Ok(in_bytes(text, bytes)),
            _ => Err(tera::Error::message(
                "shorten requires either length=CHARACTERS or bytes=BYTES",
            )),
        }
    });
}

/// Shortens a text to at most this many characters.
fn in_characters(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

/// Shortens a text to at most this many bytes of UTF-8 without splitting a character.
fn in_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    match most.checked_sub('…'.len_utf8()) {
        Some(room) => format!("{}…", &text[..text.floor_char_boundary(room)]),
        None => text[..text.floor_char_boundary(most)].to_owned(),
    }
}

/// Escapes a text character by character, up to a limit, without splitting an escape. `size`
/// returns how much an escaped character counts towards the limit.
fn escaped(
    text: &str,
    most: usize,
    dots: &str,
    word: impl Fn(char) -> Cow<'static, str>,
    size: impl Fn(char, &str) -> usize,
) -> String {
    let mut whole = String::with_capacity(text.len());
    let (mut count, mut cut) = (0, 0);
    let room = most.saturating_sub(dots.chars().map(|dot| size(dot, &word(dot))).sum());
    for character in text.chars() {
        let written = word(character);
        count += size(character, &written);
        if count > most {
            whole.truncate(cut);
            if most > 0 {
                dots.chars().for_each(|dot| whole.push_str(&word(dot)));
            }
            return whole;
        }
        whole.push_str(&written);
        // Leave room for the dots.
        if count <= room {
            cut = whole.len();
        }
    }
    whole
}

fn as_it_is(character: char) -> Cow<'static, str> {
    character.to_string().into()
}

/// Counts the escaped characters, as most services do.
fn characters(_: char, written: &str) -> usize {
    written.chars().count()
}

/// Escapes a text for Slack (<https://docs.slack.dev/messaging/formatting-message-text>), in at
/// most this many characters.
fn slack(text: &str, most: usize) -> String {
    let word = |character| match character {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        other => as_it_is(other),
    };
    escaped(text, most, "…", word, characters)
}

/// Escapes a text for Markdown (CommonMark, section 2.4): Mattermost, Discord, Rocket.Chat, Zulip
/// and others. Also stops their apps from turning addresses into links and mentions into
/// notifications. These services count the escaped characters.
fn markdown(text: &str, most: usize) -> String {
    let word = |character: char| match character {
        '@' => "@\u{200b}".into(),
        // Addresses contain `://`.
        ':' => ":\u{200b}".into(),
        '.' | ',' | ';' | '?' | '%' | '/' | '"' | '\'' => as_it_is(character),
        mark if mark.is_ascii_punctuation() => format!("\\{mark}").into(),
        other => as_it_is(other),
    };
    // Other colons need nothing after them.
    let plain = |text: String| {
        text.replace(":\u{200b}//", ":\u{0}//")
            .replace(":\u{200b}", ":")
            .replace('\u{0}', "\u{200b}")
    };
    plain(escaped(&text.replace('\0', " "), most, "…", word, characters))
}

/// Escapes a text for Telegram's MarkdownV2
/// (<https://core.telegram.org/bots/api#markdownv2-style>). Its limit applies to the displayed
/// text, in UTF-16.
fn telegram(text: &str, most: usize) -> String {
    // "Any character with code between 1 and 126 can be escaped"; these must be.
    let word = |character: char| match character {
        mark if "_*[]()~`>#+-=|{}.!\\".contains(mark) => format!("\\{mark}").into(),
        other => as_it_is(other),
    };
    escaped(text, most, "…", word, |character, _| character.len_utf16())
}

/// Escapes a text for Telegram's HTML, Matrix' `formatted_body` and Microsoft's older cards. Their
/// limits apply to the displayed text, in UTF-16.
fn html(text: &str, most: usize) -> String {
    let word = |character: char| match character {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        other => as_it_is(other),
    };
    escaped(text, most, "…", word, |character, _| character.len_utf16())
}

/// Converts a text to the GSM alphabet (3GPP TS 23.038, section 6.2.1). One character outside it
/// reduces a message from 160 characters to 70. Characters of the extension table count twice.
fn gsm(text: &str, most: usize) -> String {
    const ALPHABET: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
                            abcdefghijklmnopqrstuvwxyzäöñüà";
    const EXTENSION: &str = "^{}\\[~]|€";
    let word = |character: char| -> Cow<'static, str> {
        match character {
            known if ALPHABET.contains(known) || EXTENSION.contains(known) => as_it_is(known),
            '…' => "...".into(),
            '‘' | '’' | '‚' | '`' | '´' => "'".into(),
            '“' | '”' | '„' | '«' | '»' => "\"".into(),
            '–' | '—' | '−' | '‐' | '‑' => "-".into(),
            '→' => "->".into(),
            white if white.is_whitespace() => " ".into(),
            mark if mark.is_control() || ('\u{200b}'..='\u{200f}').contains(&mark) => "".into(),
            'á' | 'â' | 'ã' => "a".into(),
            'ç' | 'ć' | 'č' => "c".into(),
            'ê' | 'ë' | 'ě' | 'ę' => "e".into(),
            'í' | 'î' | 'ï' => "i".into(),
            'ó' | 'ô' | 'õ' => "o".into(),
            'ú' | 'û' => "u".into(),
            _ => "?".into(),
        }
    };
    let size = |_: char, written: &str| {
        written.chars().map(|c| if EXTENSION.contains(c) { 2 } else { 1 }).sum()
    };
    escaped(text, most, "...", word, size)
}

/// Breaks Markdown links, because some apps render Markdown even in fields that are documented as
/// plain text.
fn unlinked(text: &str) -> String {
    text.replace("](", "]\u{2060}(")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Limits that other projects ran into: <https://github.com/grafana/grafana/issues/48812>
    /// (Telegram), <https://github.com/rjstone/discord-webhook-notify/issues/15> (Discord).
    #[test]
    fn texts_are_escaped_as_their_services_read_them() {
        assert_eq!(slack("<a&b>", usize::MAX), "&lt;a&amp;b&gt;");
        assert_eq!(slack("a<<", 8), "a&lt;…");
        assert_eq!(slack("a<<", 9), "a&lt;&lt;");
        assert_eq!(slack("abc", 3), "abc");
        assert_eq!(slack("abcd", 3), "ab…");
        let all = usize::MAX;
        assert_eq!(
            markdown("[x](https://e.example) *b* @all 12:30", all),
            "\\[x\\]\\(https:\u{200b}//e.example\\) \\*b\\* @\u{200b}all 12:30"
        );
        assert_eq!(markdown("a*b*c", 5), "a\\*b…");
        assert_eq!(telegram("a.b_c!", all), "a\\.b\\_c\\!");
        // The displayed text counts, in UTF-16; no escape is split.
        assert_eq!(telegram("....", 3), "\\.\\.…");
        assert_eq!(telegram("😀😀", 4), "😀😀");
        assert_eq!(telegram("😀😀", 3), "😀…");
        assert_eq!(html("<a href=\"x\">&'", all), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(html("<<<", 2), "&lt;…");
        assert_eq!(gsm("Störung – „mail“ …\u{a0}Ж [x]", all), "Störung - \"mail\" ... ? [x]");
        assert_eq!(gsm("[[[", 6), "[[[");
        assert_eq!(gsm("[[[", 5), "[...");
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
            prop_assert!(markdown(&text, most).chars().count() <= most);
            prop_assert!(gsm(&text, most).chars().count() <= most.max(3));
            let shown = telegram(&text, most).replace('\\', "");
            prop_assert!(shown.encode_utf16().count() <= most);
            let escaped = slack(&text, most);
            prop_assert!(escaped.chars().count() <= most);
            prop_assert!(!escaped.contains(['<', '>']));
            // Each `&` begins a complete escape.
            for (at, _) in escaped.match_indices('&') {
                let rest = &escaped[at..];
                prop_assert!(["&amp;", "&lt;", "&gt;"].iter().any(|escape| rest.starts_with(escape)), "{}", escaped);
            }
        }
    }
}
