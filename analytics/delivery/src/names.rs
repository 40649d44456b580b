//! Makes names that every target accepts: not reserved, not too long, and never outside the
//! target's folder.

use std::collections::BTreeSet;

use super::DeliveryError;

/// Naming rules of a kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Folders of Unix, SFTP, FTP.
    Unix,
    /// Network shares: names that Windows can open.
    Windows,
    /// Object stores.
    Keys,
}

/// Longest name in bytes, or in UTF-16 units on Windows. The temporary name needs the rest of the
/// 255.
const MAX_LENGTH: usize = 230;
/// Longest extension that is kept when a name is shortened.
const ENDING: usize = 16;

/// Returns a safe name, with `_` for each character that the target does not accept.
pub(super) fn safe(name: &str, rules: Rules) -> String {
    let mut safe: String = name
        .chars()
        .map(|c| match c {
            '/' | '\\' => '_',
            c if c.is_control() => '_',
            '<' | '>' | ':' | '"' | '|' | '?' | '*' if rules == Rules::Windows => '_',
            c => c,
        })
        .collect();
    if rules == Rules::Windows {
        safe = unended(&safe);
        if is_device(&safe) {
            safe.insert(0, '_');
        }
    }
    // Many FTP servers lose a leading space, and a leading `-` looks like an option to other
    // programs.
    if safe.starts_with([' ', '-', '~']) {
        safe.replace_range(..1, "_");
    }
    if safe.is_empty() || safe == "." || safe == ".." {
        return format!("_{safe}");
    }
    shorten(&safe, rules)
}

/// Returns whether Windows reserves a name for a device, with or without an extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or("").trim_end().to_ascii_uppercase();
    let numbered = |word: &str| {
        stem.strip_prefix(word).is_some_and(|rest| {
            matches!(
                rest,
                "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

fn length(text: &str, rules: Rules) -> usize {
    if rules == Rules::Windows { text.encode_utf16().count() } else { text.len() }
}

/// Shortens a name that is too long, and keeps its extension.
fn shorten(name: &str, rules: Rules) -> String {
    if length(name, rules) <= MAX_LENGTH {
        return name.to_owned();
    }
    let (stem, ending) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= ENDING => name.split_at(dot),
        _ => (name, ""),
    };
    let room = MAX_LENGTH - length(ending, rules);
    let mut used = 0;
    let stem: String = stem
        .chars()
        .take_while(|c| {
            used += if rules == Rules::Windows { c.len_utf16() } else { c.len_utf8() };
            used <= room
        })
        .collect();
    let cut = format!("{stem}{ending}");
    if rules == Rules::Windows { unended(&cut) } else { cut }
}

/// Returns a name without trailing dots and spaces, which Windows drops.
fn unended(name: &str) -> String {
    let kept = name.trim_end_matches(['.', ' ']).len();
    format!("{}{}", &name[..kept], "_".repeat(name.len() - kept))
}

/// Returns unique safe names; on a share, names that differ only in case count as equal.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>, rules: Rules) -> Vec<String> {
    let mut taken = BTreeSet::new();
    names
        .map(|name| {
            let first = safe(name, rules);
            let mut chosen = first.clone();
            let mut number = 2;
            while !taken.insert(chosen.to_lowercase()) {
                let (stem, ending) = first.rsplit_once('.').unwrap_or((&first, ""));
                let dot = if ending.is_empty() { "" } else { "." };
                chosen = format!("{stem}-{number}{dot}{ending}");
                number += 1;
            }
            chosen
        })
        .collect()
}

/// Returns the safe parts of a folder's path; none of them leads upward.
pub(super) fn parts(folder: &str, rules: Rules) -> Result<Vec<String>, DeliveryError> {
    folder
        .split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| {
            if part == ".." || part.contains('\0') {
                Err(DeliveryError::Outside(folder.to_owned()))
            } else {
                Ok(safe(part, rules))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_target_gets_names_that_it_accepts() {
        for (name, unix, windows) in [
            ("Bericht ö 2026-10.pdf", "Bericht ö 2026-10.pdf", "Bericht ö 2026-10.pdf"),
            ("a/b\\c.pdf", "a_b_c.pdf", "a_b_c.pdf"),
            ("12:30 <late>?.pdf", "12:30 <late>?.pdf", "12_30 _late__.pdf"),
            ("con.pdf", "con.pdf", "_con.pdf"),
            ("LPT1", "LPT1", "_LPT1"),
            ("column.pdf", "column.pdf", "column.pdf"),
            ("end. ", "end. ", "end__"),
            ("-rf", "_rf", "_rf"),
            ("x\r\nDELE y", "x__DELE y", "x__DELE y"),
            ("..", "_..", "__"),
            ("", "_", "_"),
        ] {
            assert_eq!(safe(name, Rules::Unix), unix);
            assert_eq!(safe(name, Rules::Windows), windows);
        }
        let long = format!("{}.pdf", "ö".repeat(300));
        let cut = safe(&long, Rules::Unix);
        assert!(cut.len() <= MAX_LENGTH && cut.ends_with("ö.pdf"), "{cut}");
        let names = distinct(["a?.pdf", "a*.pdf", "A_.pdf"].into_iter(), Rules::Windows);
        assert_eq!(names, ["a_.pdf", "a_-2.pdf", "A_-3.pdf"]);
    }

    #[test]
    fn no_folder_leads_outside_the_target() {
        assert_eq!(parts("2026/10 ök/", Rules::Unix).expect("fine"), ["2026", "10 ök"]);
        assert_eq!(parts("a:b/nul", Rules::Windows).expect("fine"), ["a_b", "_nul"]);
        for folder in ["a/../../b", "a\\..\\b", ".."] {
            assert!(matches!(parts(folder, Rules::Windows), Err(DeliveryError::Outside(_))));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_input_becomes_one_name(name in "\\PC{0,400}|.{0,20}", which in 0_usize..3) {
            let rules = [Rules::Unix, Rules::Windows, Rules::Keys][which];
            let safe = safe(&name, rules);
            prop_assert!(!safe.is_empty() && safe != "." && safe != "..");
            prop_assert!(!safe.contains(['/', '\\', '\0', '\r', '\n']));
            prop_assert!(length(&safe, rules) <= MAX_LENGTH + 1, "{}", safe.len());
            prop_assert_eq!(super::safe(&safe, rules), safe);
        }
    }
}
