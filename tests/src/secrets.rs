//! Recognisable secrets: creates files with them, and searches everything that programs have
//! written for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Writes a secret into a file that only its owner can read, as the programs require.
///
/// # Panics
/// The file can't be written.
pub fn secret_file(path: &Path, secret: &str) {
    fs::write(path, secret).expect("a file");
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("only for its owner");
}

/// Returns the forms in which a secret may appear: plain, quoted, in the encodings used for these
/// users, escaped for a URL, and truncated.
pub fn shapes(secret: &str, users: &[&str]) -> Vec<String> {
    let mut shapes = vec![
        secret.to_owned(),
        format!("{secret:?}").trim_matches('"').to_owned(),
        STANDARD.encode(secret),
    ];
    for user in users {
        shapes.push(STANDARD.encode(format!("\0{user}\0{secret}")));
    }
    let escaped = secret.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    shapes.push(escaped.collect());
    // The remainder if the end is truncated.
    shapes.push(secret.chars().take(16).collect());
    shapes
}

/// Result of a search.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Files that were read.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
    /// Texts that were found, with their files.
    pub found: Vec<(String, PathBuf)>,
}

/// Searches every file of a folder, at any depth, for texts; each is reported once per file.
pub fn search(folder: &Path, texts: &[String]) -> Search {
    let mut search = Search::default();
    let mut heads = vec![false; 1 << 16];
    for text in texts {
        heads[head(text.as_bytes()).expect("texts of two bytes or more")] = true;
    }
    look(folder, texts, &heads, &mut search);
    search
}

/// Returns the first two bytes: few positions of a file match those of a text.
fn head(bytes: &[u8]) -> Option<usize> {
    let [first, second] = *bytes.first_chunk::<2>()?;
    Some(usize::from(first) << 8 | usize::from(second))
}

fn look(folder: &Path, texts: &[String], heads: &[bool], search: &mut Search) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            look(&path, texts, heads, search);
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        search.files += 1;
        search.bytes += bytes.len() as u64;
        let mut found = vec![false; texts.len()];
        for at in 0..bytes.len() {
            if head(&bytes[at..]).is_some_and(|head| heads[head]) {
                for (number, text) in texts.iter().enumerate() {
                    found[number] |= bytes[at..].starts_with(text.as_bytes());
                }
            }
        }
        let there = texts.iter().zip(found).filter(|(_, found)| *found);
        search.found.extend(there.map(|(text, _)| (text.clone(), path.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_of_its_shapes() {
        let texts = shapes("Geheimnis-7Qz\"4-und-mehr", &["anna"]);
        for text in &texts {
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir(folder.path().join("deep")).expect("a folder");
            fs::write(folder.path().join("deep/file"), format!("x {text} y")).expect("a file");
            let search = search(folder.path(), &texts);
            assert!(search.found.iter().any(|(found, _)| found == text), "{text}");
            assert_eq!(search.files, 1);
        }
        assert!(
            search(Path::new(env!("CARGO_MANIFEST_DIR")), &[format!("Geheimnis-{}", "8")])
                .found
                .is_empty()
        );
    }
}
