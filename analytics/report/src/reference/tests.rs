//! Tests of the generated files.

use std::{fs, path::Path};

use mailqos_config::reference::{markdown, schema};

use super::*;

#[test]
fn what_is_generated_is_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = format!("{}{}", include_str!("../reference.md"), markdown(&REPORTS));
    let mut files = vec![("report-definitions.md".to_owned(), page)];
    for file in FILES {
        let text = serde_json::to_string_pretty(&schema(&REPORTS, file)).expect("JSON");
        files.push((format!("{file}.schema.json"), text + "\n"));
    }
    let mut stale = Vec::new();
    for (name, text) in files {
        let path = docs.join(&name);
        if std::env::var_os("MAILQOS_WRITE").is_some() {
            fs::write(&path, &text).expect("written");
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} in docs/: regenerate them with MAILQOS_WRITE=1 cargo test -p mailqos-report reference"
    );
}
