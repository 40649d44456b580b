//! Custom texts of messages: templates in the configuration or in files.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::key::{Optional, key};
use super::{
    FromToml, Node, Problems, Table,
    reference::{Key, ValueKind},
    table::file_text,
};

/// Maximum size of a template, in bytes.
const MAX_TEMPLATE: u64 = 256 * 1024;

/// A template text.
#[derive(Debug, Clone)]
pub struct Template {
    /// Text of the template.
    pub text: String,
    /// Name of its file, or the key in the configuration.
    pub name: String,
    /// Location of the template, if it is in the configuration.
    pub node: Option<Node>,
}

/// Custom texts of a mail. Missing parts use the built-in texts.
#[derive(Debug, Clone, Default)]
pub struct Wording {
    /// Template of the subject.
    pub subject: Option<Template>,
    /// Template of the plain text.
    pub text: Option<Template>,
    /// Template of the HTML version; without it, the mail is plain text only.
    pub html: Option<Template>,
}

impl Wording {
    /// Returns the templates, each with its key.
    pub fn templates(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let all = [("subject", &self.subject), ("text", &self.text), ("html", &self.html)];
        all.into_iter().filter_map(|(key, template)| Some((key, template.as_ref()?)))
    }

    /// Returns whether all texts are built in.
    pub fn is_built_in(&self) -> bool {
        self.templates().next().is_none()
    }

    /// Reads the keys of a table.
    pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Self {
        let mut template = |key: &Optional<Template>| {
            let template = table.read(key, problems)?;
            Some(template.called(key.name))
        };
        Self {
            subject: template(&WORDING.subject),
            text: template(&WORDING.text),
            html: template(&WORDING.html),
        }
    }
}

impl Template {
    /// Reads a template from a file.
    fn of_file(path: &Path, node: &Node) -> Result<Self, String> {
        match file_text(path, MAX_TEMPLATE) {
            Ok(text) => {
                Ok(Self { text, name: path.display().to_string(), node: Some(node.clone()) })
            }
            Err(error) => Err(format!("can't read {}: {error}", path.display())),
        }
    }

    /// Names a template from the configuration by its key.
    fn called(self, key: &str) -> Self {
        if self.name.is_empty() { Self { name: key.to_owned(), ..self } } else { self }
    }
}

/// The key of a template that is in a file.
const FILE: Key = Key::new("file", ValueKind::of::<PathBuf>(), "A file with the template.");

/// A string, or a table that names a file.
impl FromToml for Template {
    fn expected() -> String {
        "a quoted string, or { file = \"PATH\" }".into()
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            String::schema(),
            {
                "type": "object",
                "properties": { "file": PathBuf::schema() },
                "required": ["file"],
                "additionalProperties": false,
            },
        ] })
    }

    fn from_toml(node: &Node) -> Result<Self, String> {
        let Some(mut table) = node.as_table() else {
            return Ok(Self {
                text: String::from_toml(node)?,
                name: String::new(),
                node: Some(node.clone()),
            });
        };
        let file = table.node(&FILE);
        let mut others = Problems::default();
        table.finish(&mut others);
        match file {
            Some(file) if !others.has_errors() => Self::of_file(&PathBuf::from_toml(&file)?, node),
            _ => Err("a template table may only contain the key \"file\"".into()),
        }
    }
}

keys! {
    WORDING: WordingKeys {
        /// Your own subject, a Tera template.
        subject: Optional<Template> = key().otherwise("the built-in one");
        /// Your own text, a Tera template.
        text: Optional<Template> = key().otherwise("the built-in one");
        /// An HTML version in addition to the text, a Tera template; values are escaped.
        html: Optional<Template> = key().otherwise("plain text only");
    }
}

keys! {
    CONTENT: ContentKeys {
        /// A file with the content to send, a Tera template.
        template: Optional<PathBuf> = key();
        /// The content to send, a Tera template.
        body: Optional<String> = key();
    }
}

/// Reads the template of a webhook: `body` in place, or the file `template`.
pub(super) fn webhook_template(table: &mut Table, problems: &mut Problems) -> Option<Template> {
    if let Some(node) = table.node(&CONTENT.body) {
        return Some(Template {
            text: node.read(problems)?,
            name: "body".to_owned(),
            node: Some(node),
        });
    }
    let node = table.node(&CONTENT.template)?;
    let path: PathBuf = node.read(problems)?;
    match Template::of_file(&path, &node) {
        Ok(template) => Some(template),
        Err(error) => {
            problems.push(
                node.problem(error, "this file")
                    .help("name a text file; the path is relative to this file"),
            );
            None
        }
    }
}
