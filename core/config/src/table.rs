//! A TOML table that is read key by key. Wrong types are reported with their location, unknown keys
//! are rejected with a suggestion, and reading continues, so that all problems are found together.

use std::{collections::BTreeSet, ops::Range, path::Path, sync::Arc};

use toml_edit::{Document, Item, Value};

use serde_json::Value as Json;

pub use super::problem::Source;
use super::{FromToml, key::Readable, reference::Key};
use mailqos_base::files;

use super::problem::{Problem, Problems};

/// A TOML value and its location.
#[derive(Debug, Clone)]
pub struct Node {
    source: Arc<Source>,
    span: Range<usize>,
    pub(super) data: Data,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// The text as written: `2026-03-31`, `07:00:00`.
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: String,
    source: Arc<Source>,
    key_span: Range<usize>,
    node: Node,
    /// Whether it comes from a table of defaults, such as `[defaults]`.
    is_inherited: bool,
}

impl Data {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Datetime(_) => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// Returns a problem at this value.
    pub fn problem(&self, message: impl Into<String>, label: impl Into<String>) -> Problem {
        Problem::error(message).at(&self.source, self.span.clone(), label)
    }

    /// Returns the folder of the file that contains the value, to which relative paths refer.
    pub(super) fn folder(&self) -> &Path {
        self.source.path.parent().unwrap_or(Path::new(""))
    }
}

/// A value together with its location.
impl FromToml for Node {
    fn expected() -> String {
        "a value".into()
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({})
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        Ok(node.clone())
    }
}

impl Node {
    /// Reads the value as `T`, or reports a problem.
    pub fn read<T: FromToml>(&self, problems: &mut Problems) -> Option<T> {
        match T::from_toml(self) {
            Ok(value) => Some(value),
            Err(message) if message.is_empty() => {
                let found = self.data.kind();
                problems.push(
                    self.problem(format!("expected {}, found {found}", T::expected()), found)
                        .help(format!("write {}", T::expected())),
                );
                None
            }
            Err(message) => {
                problems
                    .push(self.problem(message, "here").help(format!("write {}", T::expected())));
                None
            }
        }
    }

    /// Returns the value as a table. Another type is not reported.
    pub fn as_table(&self) -> Option<Table> {
        match &self.data {
            Data::Table(entries) => Some(Table {
                source: Arc::clone(&self.source),
                span: self.span.clone(),
                entries: entries.clone(),
                asked: BTreeSet::new(),
                lists: BTreeSet::new(),
            }),
            _ => None,
        }
    }

    /// Returns the value as a table. Another type is reported.
    fn table(&self, problems: &mut Problems) -> Option<Table> {
        let table = self.as_table();
        if table.is_none() {
            let found = self.data.kind();
            problems.push(self.problem(format!("expected a table, found {found}"), found));
        }
        table
    }

    /// Returns the value as a list in which a text may contain several names, separated by commas
    /// or semicolons.
    pub fn as_names(&self) -> Vec<Node> {
        let Data::Text(text) = &self.data else {
            return self.as_list();
        };
        let parts = text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<Node> =
            parts.map(|part| Self { data: Data::Text(part.to_owned()), ..self.clone() }).collect();
        if parts.is_empty() { vec![self.clone()] } else { parts }
    }

    /// Returns the value as a list of values. A single value is a list of one.
    pub fn as_list(&self) -> Vec<Node> {
        match &self.data {
            Data::Array(items) => items.clone(),
            _ => vec![self.clone()],
        }
    }
}

/// A TOML table that records which keys were read.
#[derive(Debug, Clone)]
pub struct Table {
    source: Arc<Source>,
    span: Range<usize>,
    entries: Vec<Entry>,
    asked: BTreeSet<&'static str>,
    /// Keys of lists that were read.
    lists: BTreeSet<&'static str>,
}

/// Returns a key in the British spelling used here: `colours` for `colors`, `grey` for `gray`.
pub(super) fn british(key: &str) -> String {
    key.replace("color", "colour").replace("gray", "grey")
}

/// Returns the other number of a list's key: `monitors` for `monitor`, `tag` for `tags`.
pub(super) fn other_number(key: &str) -> String {
    match key.strip_suffix("sses").map(|stem| format!("{stem}ss")) {
        Some(singular) => singular,
        None if key.ends_with("ss") => format!("{key}es"),
        None => key.strip_suffix('s').map_or_else(|| format!("{key}s"), str::to_owned),
    }
}

impl Table {
    /// Reads the value of a declared key.
    pub fn read<K: Readable>(&mut self, key: &K, problems: &mut Problems) -> K::Value {
        key.read(self, problems)
    }

    /// Reads the value of a declared key from a list of similar keys.
    pub fn read_as<T: FromToml>(&mut self, key: &Key, problems: &mut Problems) -> Option<T> {
        let value = self.get(key, problems)?;
        self.check_bounds(key, &value, problems);
        Some(value)
    }

    /// Returns the default of a declared key, read like a value in the file.
    pub fn default_of<T: FromToml>(&self, key: &Key) -> T {
        let text = key.default.unwrap_or_default();
        let node = serde_json::from_str(text).ok().map(|value| self.node_of(&value));
        let value = node.and_then(|node| T::from_toml(&node).ok());
        value.unwrap_or_else(|| panic!("{}: its default {text} is not {}", key.name, T::expected()))
    }

    fn node_of(&self, value: &Json) -> Node {
        let data = match value {
            Json::String(text) => Data::Text(text.clone()),
            Json::Bool(value) => Data::Boolean(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Data::Integer(number),
                None => Data::Float(number.as_f64().unwrap_or_default()),
            },
            Json::Array(items) => {
                Data::Array(items.iter().map(|item| self.node_of(item)).collect())
            }
            Json::Null | Json::Object(_) => Data::Table(Vec::new()),
        };
        Node { source: Arc::clone(&self.source), span: self.span.clone(), data }
    }

    /// Reports a value of a declared key that is out of bounds.
    pub(super) fn check_bounds<T: FromToml>(&self, key: &Key, value: &T, problems: &mut Problems) {
        let Some((least, most)) = key.bounds else {
            return;
        };
        let Some(found) = value.out_of_bounds(least, most) else {
            return;
        };
        let (message, label, help) = match most {
            "" => {
                (format!("{} can't be {found}", key.name), "here", format!("use {least} or more"))
            }
            _ => (
                format!("{} = {found} is out of range", key.name),
                "this duration",
                format!("use a duration from {least} to {most}"),
            ),
        };
        problems.push(self.problem(key, message, label).help(help));
    }

    /// Returns the table at a key; an empty one if it is absent or of another type, which is
    /// reported.
    pub(super) fn table_or_empty(&mut self, key: &Key, problems: &mut Problems) -> Table {
        self.table(key, problems).unwrap_or_else(|| Table {
            source: Arc::clone(&self.source),
            span: self.span.clone(),
            entries: Vec::new(),
            asked: BTreeSet::new(),
            lists: BTreeSet::new(),
        })
    }

    /// Returns the value of a key, if it exists and has the right type; a wrong type is reported.
    pub(crate) fn get<T: FromToml>(&mut self, key: &Key, problems: &mut Problems) -> Option<T> {
        let node = if T::IS_LIST { self.list(key) } else { self.node(key) };
        node?.read(problems)
    }

    /// Returns the value of a list's key. `monitor` and `monitors` are accepted as the same key.
    pub fn list(&mut self, key: &Key) -> Option<Node> {
        self.lists.insert(key.name);
        let exact = self.node(key);
        let other = other_number(key.name);
        let entry = || self.entries.iter().find(|entry| british(&entry.key) == other);
        exact.or_else(|| entry().map(|entry| entry.node.clone()))
    }

    /// Reads the value of a required key. Its absence is reported with its purpose, `why`.
    pub fn require<T: FromToml>(
        &mut self,
        key: &Key,
        why: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let node = if T::IS_LIST { self.list(key) } else { self.node(key) };
        if node.is_none() {
            problems.push(self.missing(key, why));
        }
        self.get(key, problems)
    }

    /// Creates the problem that a key is missing in this table.
    pub fn missing(&self, key: &Key, why: &str) -> Problem {
        let key = key.name;
        Problem::error(format!("{key:?} is missing"))
            .at(&self.source, self.head(), format!("{key:?} belongs here"))
            .help(format!("add {key} = …: {why}"))
            .about(key)
    }

    /// Reads one of several words; any other is reported with a suggestion.
    pub(crate) fn word<T: Copy>(
        &mut self,
        key: &Key,
        words: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let node = self.node(key)?;
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let Ok(text) = String::from_toml(&node) else {
            let found = node.data.kind();
            problems.push(
                node.problem(format!("expected a word in quotes, found {found}"), found)
                    .help(format!("use one of: {}", all.join(", "))),
            );
            return None;
        };
        let same = |text: &str| text.trim().to_lowercase().replace(['_', ' '], "-");
        let is_plural =
            |word: &str| other_number(&same(word)) == same(&text) && text.trim().len() > word.len();
        let exact = words.iter().find(|(word, _)| same(word) == same(&text));
        if let Some((_, value)) = exact.or_else(|| words.iter().find(|(word, _)| is_plural(word))) {
            return Some(*value);
        }
        let help =
            did_you_mean(&text, all.iter().copied(), || format!("use one of: {}", all.join(", ")));
        problems
            .push(node.problem(format!("{text:?} is not a valid value"), "not known").help(help));
        None
    }

    /// Returns the unconverted value of a key.
    pub fn node(&mut self, key: &Key) -> Option<Node> {
        let key = key.name;
        self.asked.insert(key);
        let exact = self.entries.iter().find(|entry| entry.key == key);
        let other = || self.entries.iter().find(|entry| british(&entry.key) == key);
        exact.or_else(other).map(|entry| entry.node.clone())
    }

    /// Returns the table at a key; another type is reported.
    pub fn table(&mut self, key: &Key, problems: &mut Problems) -> Option<Table> {
        self.node(key)?.table(problems)
    }

    /// Returns the tables at a key, from an array of tables.
    pub fn tables(&mut self, key: &Key, problems: &mut Problems) -> Vec<Table> {
        let Some(node) = self.list(key) else {
            return Vec::new();
        };
        node.as_list()
            .iter()
            .filter_map(|item| {
                let table = item.as_table();
                if table.is_none() {
                    let found = item.data.kind();
                    problems.push(item.problem(format!("expected a table, found {found}"), found));
                }
                table
            })
            .collect()
    }

    /// Returns the entries of a table of named tables, such as `[monitor.NAME]`; an invalid name is
    /// reported.
    pub fn named<N>(&mut self, key: &Key, problems: &mut Problems) -> Vec<(N, Table)>
    where
        N: std::str::FromStr<Err = mailqos_model::InvalidName>,
    {
        let Some(node) = self.list(key) else {
            return Vec::new();
        };
        let Some(table) = node.table(problems) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for entry in &table.entries {
            match entry.key.parse::<N>() {
                Ok(name) => {
                    if let Some(mut inner) = entry.node.as_table() {
                        // The key is the best location to show for the table as a whole.
                        inner.source = Arc::clone(&entry.source);
                        inner.span = entry.key_span.clone();
                        found.push((name, inner));
                    } else {
                        let kind = entry.node.data.kind();
                        problems.push(
                            entry
                                .node
                                .problem(format!("expected a table, found {kind}"), kind)
                                .help(format!(
                                    "write [{}.{}] and its keys below",
                                    key.name, entry.key
                                )),
                        );
                    }
                }
                Err(error) => problems.push(Problem::error(error.to_string()).at(
                    &entry.source,
                    entry.key_span.clone(),
                    "this name",
                )),
            }
        }
        found
    }

    /// Returns all entries, whatever their names, such as header fields.
    pub fn into_pairs(self) -> Vec<(String, Node)> {
        self.entries.into_iter().map(|entry| (entry.key, entry.node)).collect()
    }

    /// Creates a problem with the table as a whole, at its head.
    pub fn problem_of_all(&self, message: impl Into<String>, label: impl Into<String>) -> Problem {
        Problem::error(message).at(&self.source, self.head(), label)
    }

    /// Returns a problem at the value of a key, or at the head of the table if the key is absent.
    pub fn problem(
        &self,
        key: &Key,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Problem {
        let key = key.name;
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) => entry.node.problem(message, label),
            None => Problem::error(message).at(&self.source, self.head(), label),
        }
        .about(key)
    }

    /// Returns the location of the table: file and line.
    pub(crate) fn place(&self) -> String {
        let (line, _) = self.source.line_column(self.span.start);
        format!("{}:{line}", self.source.path.display())
    }

    /// Overlays this table on `below`: missing keys are taken from there, also in nested tables.
    #[must_use]
    pub fn over(mut self, below: &Table) -> Table {
        merge(&mut self.entries, &below.entries);
        self
    }

    /// Returns whether the table itself, not `[defaults]`, sets a key.
    pub fn is_own(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.is_inherited)
    }

    /// Reports every unknown key, with a suggestion.
    pub fn finish(self, problems: &mut Problems) {
        for entry in &self.entries {
            if self.asked.contains(entry.key.as_str()) {
                continue;
            }
            let spelled = british(&entry.key);
            let other = self.lists.iter().find(|key| other_number(key) == spelled);
            let same = self.asked.iter().find(|key| **key == spelled);
            if let Some(key) = other.or(same) {
                if self.entries.iter().any(|entry| entry.key == *key) {
                    problems.push(
                        Problem::error(format!("{:?} and {key:?} mean the same", entry.key))
                            .at(&entry.source, entry.key_span.clone(), "duplicate")
                            .help(format!("merge both under {key}")),
                    );
                }
                continue;
            }
            let known = || self.asked.iter().copied();
            let help = did_you_mean(&entry.key, known(), || {
                format!("valid keys: {}", known().collect::<Vec<_>>().join(", "))
            });
            problems.push(
                Problem::error(format!("unknown key {:?}", entry.key))
                    .at(&entry.source, entry.key_span.clone(), "unknown")
                    .help(help),
            );
        }
    }

    /// Returns the first line of the table, where missing keys are reported.
    fn head(&self) -> Range<usize> {
        let end = self.source.text[self.span.start.min(self.source.text.len())..]
            .find('\n')
            .map_or(self.span.end, |line_end| self.span.start + line_end);
        self.span.start..end.min(self.span.end).max(self.span.start)
    }
}

fn merge(own: &mut Vec<Entry>, below: &[Entry]) {
    for entry in below {
        // A key in the other number that the table sets itself takes precedence.
        let key = british(&entry.key);
        let has_other_number = own.iter().any(|mine| british(&mine.key) == other_number(&key));
        match own.iter_mut().find(|mine| british(&mine.key) == key) {
            None if has_other_number => {}
            None => own.push(Entry { is_inherited: true, ..entry.clone() }),
            Some(mine) => {
                if let (Data::Table(mine), Data::Table(theirs)) =
                    (&mut mine.node.data, &entry.node.data)
                {
                    merge(mine, theirs);
                }
            }
        }
    }
}

/// Returns the known word that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| {
            (strsim::jaro_winkler(&word.replace('-', "_"), &candidate.replace('-', "_")), candidate)
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Returns "did you mean" with a similar known word, or the alternative text.
pub fn did_you_mean<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(word, known).map_or_else(otherwise, |near| format!("did you mean {near:?}?"))
}

/// Returns the text as excerpts may show it. Possible secrets are masked byte for byte, so that
/// positions stay valid.
///
/// Masks the values of accounts other than `user` and `domain`, and those of any key whose name
/// suggests a secret: quoted text, and values that lack their quotes. It works line by line, so
/// that it also masks invalid TOML, where a syntax error may be next to a password.
fn hide_secrets(text: &str) -> String {
    const TELLING: [&str; 8] = ["pass", "pwd", "secret", "token", "key", "auth", "cookie", "url"];
    let mut shown = String::with_capacity(text.len());
    let mut in_account = false;
    let mut open = Open::default();
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if !open.is_any() && trimmed.starts_with('[') {
            in_account = trimmed.trim_start_matches('[').trim_start().starts_with("account");
        }
        let key = trimmed.split('=').next().unwrap_or("").trim();
        let from = if open.is_any() {
            Some(0)
        } else if holds_accounts(trimmed)
            || (in_account && !matches!(key, "user" | "domain") && !trimmed.starts_with(['[', '#']))
        {
            line.find('=').map(|at| at + 1)
        } else {
            let lower = line.to_ascii_lowercase();
            TELLING
                .iter()
                .filter_map(|word| lower.find(word))
                .min()
                .and_then(|word| line[word..].find('=').map(|equals| word + equals + 1))
        };
        let (plain, secret) = line.split_at(from.unwrap_or(line.len()));
        shown.push_str(plain);
        if !secret.is_empty() {
            mask(secret, &mut open, &mut shown);
        }
    }
    shown
}

/// Returns whether a line is `account.NAME.KEY = …` or `account = { … }`, outside a table of
/// accounts.
fn holds_accounts(line: &str) -> bool {
    line.strip_prefix("account").map(str::trim_start).is_some_and(|rest| {
        let value = rest.strip_prefix('=').map(str::trim_start);
        rest.starts_with('.') || value.is_some_and(|value| value.starts_with('{'))
    })
}

/// State that is carried over from one masked line to the next.
#[derive(Default)]
struct Open {
    /// The quotes that close a multi-line string.
    quotes: Option<&'static str>,
    /// Open brackets and braces, the innermost last.
    brackets: Vec<char>,
}

impl Open {
    fn is_any(&self) -> bool {
        self.quotes.is_some() || !self.brackets.is_empty()
    }
}

/// Appends the end of a line with its values masked. TOML's punctuation and the keys of inline
/// tables stay, so that the excerpt remains readable. `open` is the state from earlier lines.
fn mask(line: &str, open: &mut Open, shown: &mut String) {
    let value = line.trim();
    let is_bare = !open.is_any()
        && !value.starts_with(['"', '\'', '{', '[', '#'])
        && !matches!(value, "true" | "false");
    if is_bare {
        stars(line, shown);
        return;
    }
    let mut rest = line;
    // The last punctuation mark, or a value.
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let (length, is_secret) = match open.quotes {
            Some(quotes) if rest.starts_with(quotes) => {
                open.quotes = None;
                (quotes.len(), false)
            }
            // An escaped quote does not end a string.
            Some(quotes) if first == '\\' && quotes.starts_with('"') => {
                (rest.chars().take(2).map(char::len_utf8).sum::<usize>(), true)
            }
            Some(_) => (first.len_utf8(), true),
            None => {
                open.quotes = ["\"\"\"", "'''", "\"", "'"]
                    .into_iter()
                    .find(|quotes| rest.starts_with(quotes));
                match (open.quotes, first) {
                    (Some(quotes), _) => {
                        before = '"';
                        (quotes.len(), false)
                    }
                    (None, '#') => (rest.len(), true),
                    (None, '[' | '{' | ']' | '}' | ',' | '=') => {
                        match first {
                            '[' | '{' => open.brackets.push(first),
                            ']' | '}' => drop(open.brackets.pop()),
                            _ => {}
                        }
                        before = first;
                        (1, false)
                    }
                    (None, _) if first.is_whitespace() => (first.len_utf8(), false),
                    (None, _) => {
                        let length = word(rest);
                        let word = &rest[..length];
                        let is_key = open.brackets.last() == Some(&'{')
                            && matches!(before, '{' | ',')
                            && rest[length..].trim_start().starts_with('=');
                        before = '"';
                        (length, !is_key && !matches!(word, "true" | "false"))
                    }
                }
            }
        };
        let (part, after) = rest.split_at(length);
        if is_secret {
            stars(part, shown);
        } else {
            shown.push_str(part);
        }
        rest = after;
    }
    // Only a string in triple quotes continues on the next line.
    open.quotes = open.quotes.filter(|quotes| quotes.len() == 3);
}

/// Returns the length of the word at the start of a text, up to TOML punctuation.
fn word(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || "[]{},=#\"'".contains(c)).unwrap_or(text.len())
}

fn stars(text: &str, shown: &mut String) {
    for character in text.chars() {
        match character {
            '\n' | '\r' => shown.push(character),
            _ => shown.extend(std::iter::repeat_n('*', character.len_utf8())),
        }
    }
}

/// Reads a text file of a limited size, without the byte order mark that some editors add.
///
/// # Errors
/// The file can't be read, is larger
/// ([`ErrorKind::FileTooLarge`](std::io::ErrorKind::FileTooLarge)) or is not UTF-8
/// ([`ErrorKind::InvalidData`](std::io::ErrorKind::InvalidData)).
pub(super) fn file_text(path: &Path, limit: u64) -> std::io::Result<String> {
    files::read_text(path, limit)
}

/// Parses a TOML text. A syntax error is reported.
pub fn parse(path: &Path, text: String, problems: &mut Problems) -> Option<Table> {
    let source = Arc::new(Source { path: path.to_owned(), text: hide_secrets(&text) });
    match Document::parse(text.as_str()) {
        Ok(document) => {
            let entries = entries(
                &source,
                document
                    .as_table()
                    .iter()
                    .map(|(key, item)| (key, item, document.as_table().key(key))),
            );
            Some(Table {
                span: 0..0,
                source,
                entries,
                asked: BTreeSet::new(),
                lists: BTreeSet::new(),
            })
        }
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            problems.push(
                Problem::error(format!("invalid TOML: {}", error.message().trim()))
                    .at(&source, span, "here")
                    .help("see https://toml.io for the syntax"),
            );
            None
        }
    }
}

fn entries<'a>(
    source: &Arc<Source>,
    items: impl Iterator<Item = (&'a str, &'a Item, Option<&'a toml_edit::Key>)>,
) -> Vec<Entry> {
    items
        .filter_map(|(name, item, key)| {
            let key_span = key.and_then(toml_edit::Key::span).or(item.span()).unwrap_or(0..0);
            Some(Entry {
                key: name.to_owned(),
                source: Arc::clone(source),
                node: node(source, item, &key_span)?,
                key_span,
                is_inherited: false,
            })
        })
        .collect()
}

fn node(source: &Arc<Source>, item: &Item, around: &Range<usize>) -> Option<Node> {
    let data = match item {
        Item::None => return None,
        Item::Value(value) => return Some(value_node(source, value, around)),
        Item::Table(table) => Data::Table(entries(
            source,
            table.iter().map(|(key, item)| (key, item, table.key(key))),
        )),
        Item::ArrayOfTables(tables) => Data::Array(
            tables
                .iter()
                .map(|table| Node {
                    source: Arc::clone(source),
                    span: table.span().unwrap_or_else(|| around.clone()),
                    data: Data::Table(entries(
                        source,
                        table.iter().map(|(key, item)| (key, item, table.key(key))),
                    )),
                })
                .collect(),
        ),
    };
    Some(Node {
        source: Arc::clone(source),
        span: item.span().unwrap_or_else(|| around.clone()),
        data,
    })
}

fn value_node(source: &Arc<Source>, value: &Value, around: &Range<usize>) -> Node {
    let span = value.span().unwrap_or_else(|| around.clone());
    let data = match value {
        Value::String(text) => Data::Text(text.value().clone()),
        Value::Integer(number) => Data::Integer(*number.value()),
        Value::Float(number) => Data::Float(*number.value()),
        Value::Boolean(value) => Data::Boolean(*value.value()),
        Value::Datetime(moment) => Data::Datetime(moment.value().to_string()),
        Value::Array(items) => {
            Data::Array(items.iter().map(|item| value_node(source, item, &span)).collect())
        }
        Value::InlineTable(table) => Data::Table(
            table
                .iter()
                .map(|(name, value)| {
                    let key_span = table
                        .key(name)
                        .and_then(toml_edit::Key::span)
                        .unwrap_or_else(|| span.clone());
                    Entry {
                        key: name.to_owned(),
                        source: Arc::clone(source),
                        node: value_node(source, value, &key_span),
                        key_span,
                        is_inherited: false,
                    }
                })
                .collect(),
        ),
    };
    Node { source: Arc::clone(source), span, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoted_lines_show_no_secrets() {
        let text = concat!(
            "[account.a]\nuser = \"anna\"\npasword = \"hunter2\"\n",
            "[object.b]\naddress = \"mail\"\nsmtp = { password = 'hunter2', x = 1 }\n",
            "[account]\nc = { user = \"u\", password = \"hunter2\" }\n",
            "signing_key = \"\"\"\nhunter2\n\"\"\"\n[object.c]\naddress = \"hers\"\n",
            // Escaped quotes and those of another kind don't end a string; quotes may be missing.
            "key = \"a\\\"hunter2\"\nkey = '''it's hunter2'''\nurl = 'a\"hunter2'\npassword = hunter2\n",
            "account.d.pasword = \"hunter2\"\naccount = { e = { pasword = \"hunter2\" } }\n",
            "# password = \"hunter2\"\n",
            "smtp = { password = hunter2, port = 25 }\npassword = \"hun\"ha,hunter2=x\"\n",
            "tokens = [ # and the [others\n  \"hunter2\", hunter2,\n  'hunter2', a,hunter2==\n]\nsite = \"lyon\"\n",
        );
        let shown = hide_secrets(text);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\"anna\"") && shown.contains("\"mail\""), "{shown}");
        assert!(shown.contains("\"hers\"") && shown.contains("\"lyon\""), "{shown}");
        assert!(shown.contains("{ pasword = \""), "{shown}");
        assert_eq!(shown.len(), text.len());
    }

    proptest! {
        #[test]
        fn masking_preserves_positions(text in "([a-z\\[\\]=\"'ß\\\\\n ]|account|password|\"\"\"){0,40}") {
            let shown = hide_secrets(&text);
            prop_assert_eq!(shown.len(), text.len());
            prop_assert_eq!(shown.lines().count(), text.lines().count());
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".{0,200}") {
            let mut problems = Problems::default();
            if let Some(table) = parse(Path::new("x.toml"), text, &mut problems) {
                table.finish(&mut problems);
            }
            let _ = problems.render(false);
        }
    }
}
