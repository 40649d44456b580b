//! What was typed into the form of a monitor or an object, and how it gets into the files.

use std::{collections::BTreeMap, path::Path};

use mailqos_base::{Secret, hex};
use mailqos_config::{
    edit::{Edit, EditError, inline},
    form::{self, Field},
};
use sha2::{Digest as _, Sha256};
use toml_edit::{Item, Table};

use crate::http::{fields::Fields, request::Ask};

/// Value of a choice for an entry that is created together with the monitor. It is not a valid
/// name.
pub(crate) const NEW: &str = "+new";
/// Fields about accounts, by which a new one can be chosen.
pub(crate) const ACCOUNTS: [&str; 2] = ["smtp.account", "pickup.account"];

/// An object that is created together with a monitor, or edited alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ObjectDraft {
    /// Id.
    pub(crate) id: String,
    /// Values by the names of their keys.
    pub(crate) values: BTreeMap<String, String>,
}

/// An account that is created together with a monitor.
#[derive(Debug, Clone)]
pub(crate) struct AccountDraft {
    /// Name.
    pub(crate) name: String,
    /// User name.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: Secret,
}

/// What was typed into the form of a monitor.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Id.
    pub(crate) id: String,
    /// Kind of its tests.
    pub(crate) kind: String,
    /// Whether it is created.
    pub(crate) is_new: bool,
    /// Version of the definition with which the form was opened.
    pub(crate) version: String,
    /// Typed values by the paths of their fields.
    pub(crate) values: BTreeMap<String, String>,
    /// The object to create.
    pub(crate) object: Option<ObjectDraft>,
    /// The account to create.
    pub(crate) account: Option<AccountDraft>,
}

/// Returns the version of a definition: it changes with every change to its text.
pub(crate) fn version(edits: &[Edit], kind: &str, name: &str) -> Option<String> {
    let text = edits.iter().find_map(|edit| edit.fragment(kind, name))?;
    Some(hex(&Sha256::digest(text))[..16].to_owned())
}

impl ObjectDraft {
    /// Reads the fields that begin with `object.`.
    pub(crate) fn of_form(form: &Fields) -> Self {
        let fields = form::fields("object").into_iter();
        let typed = fields.map(|field| {
            let typed = form.text(&format!("object.{}", field.path)).to_owned();
            (field.path, typed)
        });
        Self { id: form.text("object.id").trim().to_owned(), values: typed.collect() }
    }

    /// Reads an object of the files.
    pub(crate) fn of_files(edits: &[Edit], id: &str) -> Option<Self> {
        let item = edits.iter().find_map(|edit| edit.entry("object", id))?;
        let table = item.as_table_like()?;
        let values = form::fields("object").into_iter();
        let values = values.map(|field| {
            let typed = form::text(table, &field.path).unwrap_or_default();
            (field.path, typed)
        });
        Some(Self { id: id.to_owned(), values: values.collect() })
    }

    /// Puts the object into the files.
    ///
    /// # Errors
    /// It can't be added.
    pub(crate) fn apply(&self, edits: &mut [Edit]) -> Result<(), EditError> {
        let fields = form::fields("object");
        let holder = edits.iter_mut().find(|edit| edit.has("object", &self.id));
        if let Some(table) = holder
            .and_then(|edit| edit.entry_mut("object", &self.id))
            .and_then(Item::as_table_like_mut)
        {
            for field in &fields {
                form::set(table, field, self.values.get(&field.path).map_or("", String::as_str));
            }
            return Ok(());
        }
        let mut table = Table::new();
        for field in &fields {
            form::set(&mut table, field, self.values.get(&field.path).map_or("", String::as_str));
        }
        match edits.first_mut() {
            Some(main) => main.add("object", &self.id, "", table),
            None => Ok(()),
        }
    }
}

impl Draft {
    /// Reads a form.
    pub(crate) fn of_form(ask: &Ask, id: Option<&str>, kind: &str) -> Self {
        let form = &ask.form;
        let values: BTreeMap<String, String> = form::monitor_fields(kind)
            .into_iter()
            .filter_map(|field| Some((field.path.clone(), form.get(&field.path)?.to_owned())))
            .collect();
        let is_chosen = |path: &str| values.get(path).is_some_and(|value| value == NEW);
        let wants_account = ACCOUNTS.iter().any(|path| is_chosen(path));
        Self {
            id: id.map_or_else(|| form.text("id").trim().to_owned(), str::to_owned),
            kind: kind.to_owned(),
            is_new: id.is_none(),
            version: form.text("version").to_owned(),
            object: is_chosen("object").then(|| ObjectDraft::of_form(form)),
            account: wants_account.then(|| AccountDraft {
                name: form.text("account.name").trim().to_owned(),
                user: form.text("account.user").trim().to_owned(),
                password: Secret::new(form.text("account.password")),
            }),
            values,
        }
    }

    /// Reads a monitor of the files; `kind` is the kind of its tests.
    pub(crate) fn of_files(edits: &[Edit], id: &str, kind: &str) -> Option<Self> {
        let item = edits.iter().find_map(|edit| edit.entry("monitor", id))?;
        let table = item.as_table_like()?;
        let values = form::monitor_fields(kind).into_iter().map(|field| {
            let typed = form::text(table, &field.path).unwrap_or_default();
            (field.path, typed)
        });
        Some(Self {
            id: id.to_owned(),
            kind: kind.to_owned(),
            is_new: false,
            version: version(edits, "monitor", id).unwrap_or_default(),
            values: values.collect(),
            object: None,
            account: None,
        })
    }

    /// Returns a value as it was typed.
    pub(crate) fn value(&self, path: &str) -> &str {
        self.values.get(path).map_or("", String::as_str)
    }

    /// Returns what a field is set to: the name of a new entry for [`NEW`].
    fn resolved(&self, path: &str) -> &str {
        let value = self.value(path);
        match (value, &self.object, &self.account) {
            (NEW, Some(object), _) if path == "object" => &object.id,
            (NEW, _, Some(account)) if ACCOUNTS.contains(&path) => &account.name,
            _ => value,
        }
    }

    /// Returns the files with the monitor, its new object and its new account, whose password will
    /// be in the file `secret`. Nothing is written.
    ///
    /// # Errors
    /// The files can't be read, or the monitor is no longer in them.
    pub(crate) fn compose(&self, main: &Path, secret: &str) -> Result<Vec<Edit>, EditError> {
        let mut edits = Edit::all(main)?;
        if let Some(object) = &self.object {
            object.apply(&mut edits)?;
        }
        if let (Some(account), Some(edit)) = (&self.account, edits.first_mut()) {
            let mut table = Table::new();
            table.insert("user", toml_edit::value(account.user.as_str()));
            table.insert("password", toml_edit::value(inline([("file", secret.into())])));
            edit.add("account", &account.name, "", table)?;
        }
        let fields = form::monitor_fields(&self.kind);
        if !self.is_new {
            let found = edits
                .iter_mut()
                .find_map(|edit| edit.entry_mut("monitor", &self.id))
                .and_then(Item::as_table_like_mut);
            let unknown =
                || EditError::Unknown { kind: "monitor".to_owned(), name: self.id.clone() };
            let table = found.ok_or_else(unknown)?;
            for field in fields.iter().filter(|field| self.values.contains_key(&field.path)) {
                form::set(table, field, self.resolved(&field.path));
            }
            return Ok(edits);
        }
        let table = self.new_table(&fields, edits.first());
        let object = self.resolved("object").to_owned();
        let at = edits.iter().position(|edit| edit.has("object", &object)).unwrap_or(0);
        if let Some(edit) = edits.get_mut(at) {
            edit.add("monitor", &self.id, "", table)?;
        }
        Ok(edits)
    }

    fn new_table(&self, fields: &[Field], main: Option<&Edit>) -> Table {
        let mut table = Table::new();
        let defaults = main.and_then(|main| main.document.get("defaults")?.as_table_like());
        let usual = defaults.and_then(|defaults| form::text(defaults, "kind"));
        let usual =
            usual.unwrap_or_else(|| form::kinds().first().map_or("", |kind| kind).to_owned());
        // The object and the kind come first, as a person would write them.
        for field in fields.iter().filter(|field| field.path == "object") {
            form::set(&mut table, field, self.resolved("object"));
        }
        if self.kind != usual {
            table.insert("kind", toml_edit::value(self.kind.as_str()));
        }
        for field in fields {
            form::set(&mut table, field, self.resolved(&field.path));
        }
        let is_set = |key: &str| defaults.is_some_and(|defaults| defaults.contains_key(key));
        for key in ["smtp", "pickup"] {
            let prefix = format!("{key}.");
            if !is_set(key) && fields.iter().any(|field| field.path.starts_with(&prefix)) {
                form::open(&mut table, &[key]);
            }
        }
        table
    }
}
