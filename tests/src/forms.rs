//! Forms of pages, filled in as a browser without script does.

use crate::console::{Answer, Client};

/// The fields of the form for definitions on a page, with the values that a browser would send.
#[derive(Debug, Clone)]
pub struct Form(Vec<(String, String)>);

fn unescape(text: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&#x2F;", "/"),
        ("&#47;", "/"),
    ];
    let mut text = text.to_owned();
    for (escaped, plain) in pairs {
        text = text.replace(escaped, plain);
    }
    text.replace("&amp;", "&")
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    Some(unescape(rest.split('"').next()?))
}

impl Form {
    /// Reads the form of a page.
    ///
    /// # Panics
    /// There is none.
    pub fn of(page: &Answer) -> Self {
        let (_, rest) = page.body.split_once("<form class=\"definition\"").expect("a form");
        let form = rest.split("</form>").next().expect("its end");
        let mut fields = Vec::new();
        for piece in form.split('<').skip(1) {
            let tag = piece.split('>').next().unwrap_or_default();
            let name = attribute(tag, "name");
            match (tag.split_whitespace().next(), name) {
                (Some("input" | "select"), Some(name)) => {
                    fields.push((name, attribute(tag, "value").unwrap_or_default()));
                }
                (Some("textarea"), Some(name)) => {
                    let text = piece.split_once('>').map_or("", |(_, text)| text);
                    fields.push((name, unescape(text.strip_prefix('\n').unwrap_or(text))));
                }
                (Some("option"), _) if tag.ends_with(" selected") => {
                    if let Some(field) = fields.last_mut() {
                        field.1 = attribute(tag, "value").unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
        Self(fields)
    }

    /// Returns a value.
    ///
    /// # Panics
    /// There is no such field.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map_or_else(|| panic!("no field {name}"), |(_, value)| value)
    }

    /// Returns whether there is such a field.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// Fills in a field.
    ///
    /// # Panics
    /// There is no such field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let found = self.0.iter_mut().find(|(field, _)| field == name);
        let field = found.unwrap_or_else(|| panic!("no field {name}"));
        value.clone_into(&mut field.1);
        self
    }

    /// Adds a field, such as the name of the button that was pressed.
    #[must_use]
    pub fn with_new(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Fills in several fields.
    #[must_use]
    pub fn with_all(self, values: &[(&str, &str)]) -> Self {
        values.iter().fold(self, |form, (name, value)| form.with(name, value))
    }

    /// Sends the form.
    pub fn send(&self, client: &mut Client, path: &str) -> Answer {
        let pairs: Vec<(&str, &str)> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.post(path, &pairs)
    }
}

/// The names of the fields that a page marks as wrong.
pub fn wrong_fields(page: &Answer) -> Vec<String> {
    let tags = page.body.split('<').map(|piece| piece.split('>').next().unwrap_or_default());
    let wrong = tags.filter(|tag| tag.contains("aria-invalid=\"true\""));
    wrong.filter_map(|tag| attribute(tag, "name")).collect()
}
