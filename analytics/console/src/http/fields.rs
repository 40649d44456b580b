//! Fields of queries and forms.

/// Number of fields that are read.
const MAX_FIELDS: usize = 1_000;

/// Fields of a query or of a form, in order; a name may occur several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses `application/x-www-form-urlencoded` (WHATWG URL, section 5).
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(bytes).take(MAX_FIELDS);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Returns the first field of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns all fields of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first field of a name, or an empty text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_any_bytes_are_accepted() {
        let fields = Fields::parse(b"q=a+b%20%C3%A5&state=ok&state=alarm&empty&%ff=%zz");
        assert_eq!(fields.get("q"), Some("a b å"));
        assert_eq!(fields.all("state").collect::<Vec<_>>(), ["ok", "alarm"]);
        assert_eq!((fields.get("empty"), fields.get("none")), (Some(""), None));
        assert_eq!(fields.text("none"), "");
    }
}
