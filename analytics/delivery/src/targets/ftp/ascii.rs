//! Converts file names to ASCII for servers that would garble other characters.

use unicode_normalization::UnicodeNormalization as _;

/// Longest name in bytes.
const MAX_LENGTH: usize = 230;

/// Returns a readable name in ASCII: letters without diacritics, `ae` for `ä`, and `_65e5` for a
/// character without an equivalent, so that different names stay different.
pub(super) fn spelled(name: &str) -> String {
    let mut text = String::new();
    for c in name.nfc() {
        match c {
            c if c.is_ascii() => text.push(c),
            'ä' | 'æ' => text.push_str("ae"),
            'ö' | 'ø' | 'œ' => text.push_str("oe"),
            'ü' => text.push_str("ue"),
            'Ä' | 'Æ' => text.push_str("Ae"),
            'Ö' | 'Ø' | 'Œ' => text.push_str("Oe"),
            'Ü' => text.push_str("Ue"),
            'ß' => text.push_str("ss"),
            'ẞ' => text.push_str("SS"),
            'å' => text.push_str("aa"),
            'Å' => text.push_str("Aa"),
            'ł' => text.push('l'),
            'Ł' => text.push('L'),
            'đ' | 'ð' => text.push('d'),
            'Đ' | 'Ð' => text.push('D'),
            'þ' => text.push_str("th"),
            'Þ' => text.push_str("Th"),
            'ı' => text.push('i'),
            '\u{2010}'..='\u{2015}' => text.push('-'),
            '\u{2018}'..='\u{201b}' => text.push('\''),
            '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' => text.push(' '),
            '\u{2026}' => text.push_str("..."),
            c => match c.nfd().next().filter(char::is_ascii_alphanumeric) {
                Some(base) => text.push(base),
                None => text.push_str(&format!("_{:x}", u32::from(c))),
            },
        }
    }
    shortened(text, name)
}

/// Shortens a name that became too long before its extension, and adds a checksum of the removed
/// part.
fn shortened(text: String, name: &str) -> String {
    if text.len() <= MAX_LENGTH {
        return text;
    }
    let dot = text.rfind('.').filter(|dot| *dot > 0 && text.len() - dot <= 16);
    let ending = dot.map_or("", |dot| &text[dot..]);
    let sum = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let room = MAX_LENGTH - ending.len() - 17;
    format!("{}-{sum:016x}{ending}", &text[..room])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ascii_names_stay_recognizable_and_distinct() {
        for (name, ascii) in [
            (
                "Verfügbarkeit Österreich – März 2026.pdf",
                "Verfuegbarkeit Oesterreich - Maerz 2026.pdf",
            ),
            ("Résumé à Łódź.pdf", "Resume a Lodz.pdf"),
            ("u\u{308}ber.pdf", "ueber.pdf"),
            ("日報.pdf", "_65e5_5831.pdf"),
            ("月報.pdf", "_6708_5831.pdf"),
            ("plain.pdf", "plain.pdf"),
        ] {
            assert_eq!(spelled(name), ascii);
        }
        let long = |end: &str| spelled(&format!("{}{end}.pdf", "日".repeat(80)));
        assert!(long("1").len() <= MAX_LENGTH && long("1").ends_with(".pdf"));
        assert_ne!(long("1"), long("2"));
    }

    proptest! {
        #[test]
        fn arbitrary_input_becomes_ascii_that_fits(name in "\\PC{1,120}") {
            let ascii = spelled(&name);
            prop_assert!(ascii.is_ascii() && !ascii.is_empty() && ascii.len() <= MAX_LENGTH);
            prop_assert!(!ascii.contains(['/', '\\']) || name.contains(['/', '\\']));
        }
    }
}
