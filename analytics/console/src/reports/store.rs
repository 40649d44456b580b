//! Report definitions: the files of the configuration's folder of reports. They are written
//! atomically, comments are kept, and a change that someone else has made meanwhile is detected.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Mutex,
};

use mailqos_base::{files, hex, lock::IgnorePoison as _};
use mailqos_config::{Config, Problems};
use mailqos_model::Name;
use mailqos_report::{among, definition::Definition, definitions};
use sha2::{Digest as _, Sha256};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, Value, value};

/// Longest definition, in bytes.
pub(crate) const MAX_TEXT: usize = 48 << 10;

/// A definition.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Name: that of the file, without its extension.
    pub(crate) slug: String,
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// Text of the file.
    pub(crate) text: String,
    /// The definition, or its problems.
    pub(crate) definition: Result<Definition, Problems>,
}

impl Stored {
    /// Returns the version of the text, by which changes are detected.
    pub(crate) fn version(&self) -> String {
        version(&self.text)
    }
}

fn version(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Reasons why a definition is not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// The name is not that of a file.
    #[error("the name is not valid")]
    Name,
    /// A definition with this name already exists.
    #[error("a definition with this name already exists")]
    Exists,
    /// Someone else has changed the file; contains its text.
    #[error("the file has been changed meanwhile")]
    Changed(String),
    /// The text is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The file can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One change at a time.
static SAVING: Mutex<()> = Mutex::new(());

/// Returns all definitions.
///
/// # Errors
/// The folder can't be listed.
pub(crate) fn all(config: &Config) -> io::Result<Vec<Stored>> {
    let files = definitions::files(config)?;
    Ok(files.into_iter().filter_map(|path| read(config, path)).collect())
}

/// Returns a definition by name.
///
/// # Errors
/// The folder can't be listed.
pub(crate) fn find(config: &Config, slug: &str) -> io::Result<Option<Stored>> {
    let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == slug);
    let path = definitions::files(config)?.into_iter().find(is_it);
    Ok(path.and_then(|path| read(config, path)))
}

fn read(config: &Config, path: PathBuf) -> Option<Stored> {
    let slug = path.file_stem()?.to_str()?.to_owned();
    let text = files::read_text(&path, 1 << 20).unwrap_or_default();
    let definition = definitions::load(Some(config), &path);
    Some(Stored { slug, path, text, definition })
}

/// Saves a definition. `version` is that of the text that was edited; `None` for a new definition.
///
/// # Errors
/// The text is not valid, someone else has changed the file, or it can't be written.
pub(crate) fn save(
    config: &Config,
    slug: &str,
    text: &str,
    edited: Option<&str>,
) -> Result<(), SaveError> {
    let path = match edited {
        Some(_) => find(config, slug)?.ok_or(SaveError::Name)?.path,
        None => {
            let name: Name = slug.parse().map_err(|_| SaveError::Name)?;
            // Such files are hidden from listings.
            if slug.starts_with('.') {
                return Err(SaveError::Name);
            }
            config.reports.join(format!("{name}.toml"))
        }
    };
    check(config, &path, text)?;
    let _saving = SAVING.lock().ignore_poison();
    match (files::read_text(&path, 1 << 20), edited) {
        (Ok(_), None) => return Err(SaveError::Exists),
        (Ok(now), Some(edited)) if version(&now) != edited => return Err(SaveError::Changed(now)),
        (Ok(_), Some(_)) => {}
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {}
        (Err(error), Some(_)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SaveError::Changed(String::new()));
        }
        (Err(error), _) => return Err(error.into()),
    }
    std::fs::create_dir_all(&config.reports)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    files::replace(&path, &temporary, files::Access::Umask, |file| {
        file.write_all(text.as_bytes())
    })?;
    Ok(())
}

/// Checks a text as `templates check` does, together with the other definitions.
fn check(config: &Config, path: &std::path::Path, text: &str) -> Result<(), SaveError> {
    if text.len() > MAX_TEXT {
        return Err(SaveError::Invalid(format!("longer than {} kB", MAX_TEXT >> 10)));
    }
    let invalid = |problems: Problems| SaveError::Invalid(problems.render(false));
    let definition =
        definitions::of_definition(Some(config), path, text.to_owned()).map_err(invalid)?;
    // As `0 0 30 2 *`: apache/superset#42486.
    let zone = definition.calendar(Some(config)).timezone;
    let now = mailqos_model::UtcMicros::now();
    if definition.schedule.as_ref().is_some_and(|schedule| schedule.rule.next(now, &zone).is_none())
    {
        return Err(SaveError::Invalid("the schedule is never due".to_owned()));
    }
    let mut all = vec![definition];
    let others = definitions::files(config)?.into_iter().filter(|other| other != path);
    all.extend(others.filter_map(|other| definitions::load(Some(config), &other).ok()));
    match among(&all, config).into_iter().next() {
        Some((_, problems)) => Err(invalid(problems)),
        None => Ok(()),
    }
}

/// Removes a definition; reports generated from it stay.
///
/// # Errors
/// Someone else has changed the file, or it can't be removed.
pub(crate) fn remove(config: &Config, slug: &str, edited: &str) -> Result<(), SaveError> {
    let _saving = SAVING.lock().ignore_poison();
    let stored = find(config, slug)?.ok_or(SaveError::Name)?;
    if stored.version() != edited {
        return Err(SaveError::Changed(stored.text));
    }
    std::fs::remove_file(&stored.path)?;
    Ok(files::sync_folder(&config.reports)?)
}

/// What the form of a definition sets. Everything else in the file stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Template; empty for sections only.
    pub(crate) template: String,
    /// Title; empty for the template's.
    pub(crate) title: String,
    /// Selection of monitors; all if empty.
    pub(crate) monitors: Vec<String>,
    /// Period by name.
    pub(crate) period: String,
    /// Language tag.
    pub(crate) language: String,
    /// Formats by word.
    pub(crate) formats: Vec<String>,
    /// Calendar rule: `day`, `week`, `month`, `quarter`, `year` or `cron`; empty without a
    /// schedule.
    pub(crate) every: String,
    /// Day of the rule; empty for the first.
    pub(crate) on: String,
    /// Time of day.
    pub(crate) at: String,
    /// Cron expression.
    pub(crate) cron: String,
    /// Targets.
    pub(crate) targets: Vec<String>,
}

impl Wish {
    /// Reads what the form shows from a text.
    pub(crate) fn of(text: &str) -> Self {
        let Ok(document) = text.parse::<DocumentMut>() else {
            return Self::default();
        };
        let root = document.as_table();
        let word = |table: &dyn TableLike, key: &str| -> String {
            let item = table.get(key).and_then(Item::as_value);
            item.map(|item| match item {
                Value::String(text) => text.value().clone(),
                other => other.to_string().trim().to_owned(),
            })
            .unwrap_or_default()
        };
        let list = |key: &str| -> Vec<String> {
            match root.get(key).and_then(Item::as_value) {
                Some(Value::Array(array)) => {
                    array.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                Some(Value::String(text)) => vec![text.value().clone()],
                _ => Vec::new(),
            }
        };
        let empty = Table::new();
        let schedule = root.get("schedule").and_then(Item::as_table_like);
        let schedule = schedule.unwrap_or(&empty);
        let cron = word(schedule, "cron");
        Self {
            template: word(root, "template"),
            title: word(root, "title"),
            monitors: list("monitors"),
            period: word(root, "period"),
            language: word(root, "language"),
            formats: list("formats"),
            every: if cron.is_empty() { word(schedule, "every") } else { "cron".to_owned() },
            on: word(schedule, "on"),
            at: word(schedule, "at"),
            cron,
            targets: targets(root.get("deliver")),
        }
    }

    /// Applies the form to a text; comments and everything else are kept.
    ///
    /// # Errors
    /// The text is not valid TOML.
    pub(crate) fn apply(&self, text: &str) -> Result<String, toml_edit::TomlError> {
        let mut document: DocumentMut = text.parse()?;
        let before = Self::of(text);
        let root = document.as_table_mut();
        // The first comment is often about the file.
        let mut head = String::new();
        for (key, old, new) in [
            ("template", &before.template, &self.template),
            ("title", &before.title, &self.title),
            ("period", &before.period, &self.period),
            ("language", &before.language, &self.language),
        ] {
            if old != new {
                if new.is_empty() {
                    head.push_str(&comments(root, key));
                }
                set(root, key, (!new.is_empty()).then(|| new.as_str().into()));
            }
        }
        for (key, old, new) in [
            ("monitors", &before.monitors, &self.monitors),
            ("formats", &before.formats, &self.formats),
        ] {
            if old != new {
                let array: Array = new.iter().map(String::as_str).collect();
                set(root, key, (!new.is_empty()).then(|| array.into()));
            }
        }
        self.apply_schedule(root, &before);
        if before.targets != self.targets {
            deliver(root, &self.targets);
        }
        Ok(format!("{head}{document}"))
    }

    fn apply_schedule(&self, root: &mut Table, before: &Self) {
        let rule =
            |wish: &Self| [wish.every.clone(), wish.on.clone(), wish.at.clone(), wish.cron.clone()];
        if rule(before) == rule(self) {
            return;
        }
        if self.every.is_empty() {
            root.remove("schedule");
            return;
        }
        let item = root.entry("schedule").or_insert_with(|| Item::Table(Table::new()));
        let Some(schedule) = item.as_table_like_mut() else { return };
        let is_cron = self.every == "cron";
        for (key, text, is_used) in [
            ("every", &self.every, !is_cron),
            ("on", &self.on, !is_cron && self.every != "day"),
            ("at", &self.at, !is_cron),
            ("cron", &self.cron, is_cron),
        ] {
            set(schedule, key, (is_used && !text.is_empty()).then(|| text.as_str().into()));
        }
    }
}

/// Returns the comments before a key.
pub(super) fn comments(table: &dyn TableLike, key: &str) -> String {
    let prefix = table.key(key).and_then(|key| key.leaf_decor().prefix());
    let text = prefix.and_then(|prefix| prefix.as_str()).unwrap_or_default();
    if text.contains('#') { text.trim_start().to_owned() } else { String::new() }
}

/// Sets or removes a key; comments next to its value are kept.
fn set(table: &mut dyn TableLike, key: &str, new: Option<Value>) {
    let Some(mut new) = new else {
        table.remove(key);
        return;
    };
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

/// Returns the name of the target of an element of `deliver`.
fn target_of(item: &dyn TableLike) -> Option<String> {
    Some(item.get("target")?.as_str()?.to_owned())
}

fn target_of_value(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(text.value().clone()),
        Value::InlineTable(table) => target_of(table),
        _ => None,
    }
}

fn targets(item: Option<&Item>) -> Vec<String> {
    match item {
        Some(Item::Value(Value::Array(array))) => {
            array.iter().filter_map(target_of_value).collect()
        }
        Some(Item::Value(one)) => target_of_value(one).into_iter().collect(),
        Some(Item::ArrayOfTables(tables)) => {
            tables.iter().filter_map(|table| target_of(table)).collect()
        }
        Some(Item::Table(table)) => target_of(table).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Removes deliveries to other targets, and adds those that are missing.
fn deliver(root: &mut Table, wanted: &[String]) {
    let has = targets(root.get("deliver"));
    let is_wanted = |target: Option<String>| target.is_none_or(|target| wanted.contains(&target));
    let missing = wanted.iter().filter(|target| !has.contains(target));
    if wanted.is_empty() {
        root.remove("deliver");
        return;
    }
    match root.get_mut("deliver") {
        Some(Item::Value(Value::Array(array))) => {
            array.retain(|item| is_wanted(target_of_value(item)));
            missing.for_each(|target| array.push(target.as_str()));
        }
        Some(Item::ArrayOfTables(tables)) => {
            tables.retain(|table| is_wanted(target_of(table)));
            missing.for_each(|target| tables.push(delivery(target)));
        }
        Some(Item::Table(table)) => {
            let mut tables = ArrayOfTables::new();
            if is_wanted(target_of(table)) {
                tables.push(table.clone());
            }
            missing.for_each(|target| tables.push(delivery(target)));
            root.insert("deliver", Item::ArrayOfTables(tables));
        }
        _ => {
            let tables: ArrayOfTables = wanted.iter().map(|target| delivery(target)).collect();
            root.insert("deliver", Item::ArrayOfTables(tables));
        }
    }
}

fn delivery(target: &str) -> Table {
    let mut table = Table::new();
    table.insert("target", value(target));
    table
}

/// Returns the lines of two texts: of both, only of the first (`-`), or only of the second (`+`).
pub(crate) fn difference(first: &str, second: &str) -> Vec<(char, String)> {
    let (a, b): (Vec<&str>, Vec<&str>) = (first.lines().collect(), second.lines().collect());
    // Lengths of the longest common subsequences of the remaining lines.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i].to_owned()));
            (i, j) = (i + 1, j + 1);
        } else if j >= b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', a[i].to_owned()));
            i += 1;
        } else {
            lines.push(('+', b[j].to_owned()));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# For the board.\ntemplate = \"trend\" # the short one\nmonitors = [\"tag:a\"]\n\
        period = \"last-month\"\n\n[schedule]\n# Before the meeting.\nevery = \"month\"\non = \"1\"\n\
        grace = \"30m\"\n\n[[deliver]]\ntarget = \"people\"\n# By year.\npath = \"{{ period.year }}\"\n";

    #[test]
    fn the_form_changes_only_what_it_shows() {
        let wish = Wish::of(TEXT);
        assert_eq!((wish.every.as_str(), wish.on.as_str()), ("month", "1"));
        assert_eq!(wish.targets, ["people"]);
        assert_eq!(wish.apply(TEXT).expect("TOML"), TEXT, "nothing changes");
        let other = Wish {
            template: "top-bottom".to_owned(),
            monitors: vec!["m-*".to_owned(), "tag:b".to_owned()],
            title: "A \"title\"\\".to_owned(),
            every: "day".to_owned(),
            targets: vec!["people".to_owned(), "share".to_owned()],
            ..wish.clone()
        };
        let text = other.apply(TEXT).expect("TOML");
        for kept in [
            "# For the board.",
            "template = \"top-bottom\" # the short one",
            "# Before the meeting.",
            "grace = \"30m\"",
            "# By year.\npath",
            "[[deliver]]\ntarget = \"share\"",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("on = "), "{text}");
        let again = Wish::of(&text);
        assert_eq!(again, Wish { on: String::new(), ..other });
        let none = Wish { every: String::new(), targets: Vec::new(), ..wish };
        let text = none.apply(TEXT).expect("TOML");
        assert!(!text.contains("[schedule]") && !text.contains("deliver"), "{text}");
        let own = Wish { template: String::new(), title: "x".to_owned(), ..Wish::of(TEXT) };
        assert!(own.apply(TEXT).expect("TOML").starts_with("# For the board.\n"));
        let cron =
            Wish { every: "cron".to_owned(), cron: "0 7 * * 1".to_owned(), ..Wish::of(TEXT) };
        let text = cron.apply(TEXT).expect("TOML");
        assert!(text.contains("cron = \"0 7 * * 1\"") && !text.contains("every"), "{text}");
    }

    #[test]
    fn deliveries_of_every_form_are_kept() {
        for (text, kept) in [
            ("deliver = [\"a\", \"b\"]\n", "deliver = [\"a\", \"c\"]"),
            ("deliver = [{ target = \"a\", path = \"x\" }, \"b\"]\n", "path = \"x\""),
            ("deliver = \"a\"\n", "target = \"c\""),
            ("[deliver]\ntarget = \"a\"\npath = \"x\"\n", "path = \"x\""),
        ] {
            let wish = Wish { targets: vec!["a".to_owned(), "c".to_owned()], ..Wish::of(text) };
            let changed = wish.apply(text).expect("TOML");
            assert!(changed.contains(kept), "{changed}");
            assert_eq!(Wish::of(&changed).targets, ["a", "c"], "{changed}");
        }
    }

    #[test]
    fn of_two_people_who_save_the_second_sees_the_difference() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "site = \"lyon\"\n[object.mx]\naddress = \"mx.example.com\"\n\
            [account.box]\nuser = \"box\"\npassword = { env = \"BOX\" }\n\
            [defaults]\nkind = \"mailbox\"\npickup = { protocol = \"imap\", account = \"box\" }\n\
            [monitor.a]\nobject = \"mx\"\n";
        let file = folder.path().join("m.toml");
        let Ok(mut config) = mailqos_config::of_text(&file, text.to_owned()) else {
            panic!("a configuration")
        };
        config.reports = folder.path().join("reports");
        let text = "template = \"trend\"\n";
        save(&config, "weekly", text, None).expect("saved");
        assert!(matches!(save(&config, "weekly", text, None), Err(SaveError::Exists)));
        let stored = find(&config, "weekly").expect("read").expect("there");
        let first = "template = \"trend\"\ntitle = \"A\"\n";
        save(&config, "weekly", first, Some(&stored.version())).expect("saved");
        let second = "template = \"trend\"\ntitle = \"B\"\n";
        match save(&config, "weekly", second, Some(&stored.version())) {
            Err(SaveError::Changed(now)) => {
                let lines = difference(&now, second);
                let signs: String = lines.iter().map(|(sign, _)| *sign).collect();
                assert_eq!(signs, " -+");
            }
            other => panic!("{other:?}"),
        }
        for name in ["../up", "", "a/b", ".hidden", "a b"] {
            assert!(matches!(save(&config, name, text, None), Err(SaveError::Name)), "{name:?}");
        }
        let version = find(&config, "weekly").expect("read").expect("there").version();
        let invalid = save(&config, "weekly", "template = \"none\"\n", Some(&version));
        assert!(matches!(invalid, Err(SaveError::Invalid(text)) if text.contains("none")));
        assert!(matches!(remove(&config, "weekly", "0"), Err(SaveError::Changed(_))));
        remove(&config, "weekly", &version).expect("removed");
        assert!(all(&config).expect("read").is_empty());
    }
}
