//! Adapts responses of stores that differ from what the client library expects.

use std::{
    collections::BTreeSet,
    sync::{Mutex, atomic::AtomicBool},
};

use object_store::path::Path as Key;

/// Placeholder for a missing ETag. The library treats a response to a PUT without one as a failure,
/// although the object was stored.
pub(super) const NO_ETAG: &str = "\"none\"";

/// Known properties of a store, for all requests to it.
#[derive(Debug, Default)]
pub(super) struct Dialect {
    /// Whether objects are sent with their MD5 (RFC 1864). Stores with an object lock refuse
    /// objects without a checksum, and not all of them support newer ones.
    pub(super) digest: AtomicBool,
    /// Keys that the library can't handle (`a//b`, `./a`) and that have been logged.
    said: Mutex<BTreeSet<String>>,
}

impl Dialect {
    /// Removes keys that the library can't handle from a listing: one of them would make it reject
    /// the whole listing.
    pub(super) fn tame(&self, text: &str) -> String {
        let text = &plain_names(text);
        let text = without(text, ("<Contents>", "</Contents>"), ("<Key>", "</Key>"), |key| {
            self.is_tame(key)
        });
        let text =
            without(&text, ("<Blob>", "</Blob>"), ("<Name>", "</Name>"), |key| self.is_tame(key));
        without(
            &text,
            ("<CommonPrefixes>", "</CommonPrefixes>"),
            ("<Prefix>", "</Prefix>"),
            |key| self.is_tame(key),
        )
    }

    fn is_tame(&self, key: &str) -> bool {
        let tame = Key::parse(key).is_ok();
        let first = !tame
            && self
                .said
                .lock()
                .is_ok_and(|mut said| said.len() < 100 && said.insert(key.to_owned()));
        if first {
            let shown = mailqos_base::one_line(key, &[]);
            tracing::warn!(object = ?shown, "object in the store skipped: its name has an empty part, \".\" or \"..\"");
        }
        tame
    }
}

/// Decodes the names of objects in a listing. Some stores URL-encode them without being asked, and
/// declare the encoding.
fn plain_names(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains("<EncodingType>url</EncodingType>") {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("<Key>").or_else(|| rest.find("<Prefix>")) {
        let name = begin + rest[begin..].find('>').map_or(0, |at| at + 1);
        let Some(end) = rest[name..].find('<').map(|at| name + at) else {
            break;
        };
        let decoded = percent_decoded(&rest[name..end]);
        plain.push_str(&rest[..name]);
        plain.push_str(&decoded.replace('&', "&amp;").replace('<', "&lt;"));
        rest = &rest[end..];
    }
    (plain + rest).into()
}

fn percent_decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let code = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Removes the elements with unwanted names from a text.
fn without(
    text: &str,
    element: (&str, &str),
    name: (&str, &str),
    wanted: impl Fn(&str) -> bool,
) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(element.0) {
        let Some(end) = rest[begin..].find(element.1).map(|at| begin + at + element.1.len()) else {
            break;
        };
        let whole = &rest[begin..end];
        let key = whole.split_once(name.0).and_then(|(_, behind)| behind.split_once(name.1));
        kept.push_str(&rest[..begin]);
        if key.is_none_or(|(key, _)| wanted(key)) {
            kept.push_str(whole);
        }
        rest = &rest[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_keys_are_omitted_from_a_listing() {
        let dialect = Dialect::default();
        let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let keys = ["samples/a", "samples//b", "./samples/c", "samples/../d", "samples/e/"];
        let all: String = keys.map(entry).concat();
        let expected: String = ["samples/a", "samples/e/"].map(entry).concat();
        let text = |inner: &str| {
            format!("<ListBucketResult><Prefix>samples/</Prefix>{inner}</ListBucketResult>")
        };
        assert_eq!(dialect.tame(&text(&all)), text(&expected));
        let encoded =
            "<EncodingType>url</EncodingType><Contents><Key>a%2Fsite%3Dx%26y%2525</Key></Contents>";
        assert_eq!(
            dialect.tame(encoded),
            "<EncodingType>url</EncodingType><Contents><Key>a/site=x&amp;y%25</Key></Contents>"
        );
        // A truncated text is left to the library's parser.
        assert_eq!(dialect.tame("<Contents><Key>a//b"), "<Contents><Key>a//b");
    }
}
