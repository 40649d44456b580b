//! Stems of file names, which every file system takes.

use std::collections::BTreeSet;

use mailqos_config::Config;

use super::definition::{Definition, Each};

/// The stem of a report's file names before its period: the definition's slug, and the group where there are several.
pub(super) fn stem_of(slug: &str, group: Option<&str>) -> String {
    let parts = [Some(safe(slug)), group.map(safe)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// The stems that a definition's reports will have, before their period, as far as the configuration knows the monitors.
pub(super) fn stems(definition: &Definition, config: &Config) -> Vec<String> {
    if definition.each == Each::All {
        return vec![stem_of(&definition.slug, None)];
    }
    let site = config.site.as_str();
    let mut groups = BTreeSet::new();
    for monitor in config.monitors.values() {
        if !definition.selection.includes(Some(config), site, monitor.id.as_str()) {
            continue;
        }
        match definition.each {
            Each::All => {}
            Each::Monitor => groups.extend([monitor.name.clone()]),
            Each::Object => groups.extend([monitor.object.to_string()]),
            Each::Tag => groups.extend(monitor.tags.iter().cloned()),
            Each::Site => groups.extend([site.to_owned()]),
        }
    }
    if groups.is_empty() {
        // Nothing is known of its monitors, but something of its names.
        return vec![stem_of(&definition.slug, Some(definition.each.word()))];
    }
    let mut taken = BTreeSet::new();
    groups
        .iter()
        .map(|group| unlike(stem_of(&definition.slug, Some(group)), &mut taken))
        .collect()
}

/// A name that is none of those taken, also where a file system takes capitals and small letters for the same.
pub(super) fn unlike(name: String, taken: &mut BTreeSet<String>) -> String {
    let names = std::iter::once(name.clone()).chain((2_u32..).map(|number| format!("{name}-{number}")));
    names
        .into_iter()
        .find(|name| taken.insert(name.to_lowercase()))
        .unwrap_or(name)
}

/// Bytes of a name that becomes part of a file's at most: two of them and a period fit into the 255 that file systems take.
pub(super) const MAX_NAME: usize = 80;

/// A name that every file system takes: letters and digits of any script, `-`, `_` and `.`.
pub(super) fn safe(name: &str) -> String {
    let mut text = String::new();
    for c in name[..name.floor_char_boundary(MAX_NAME)].chars() {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
            text.push(c);
        } else if !text.ends_with('-') {
            text.push('-');
        }
    }
    let text = text.trim_matches(['-', '.', ' ']);
    if text.is_empty() {
        "report".to_owned()
    } else {
        text.to_owned()
    }
}
