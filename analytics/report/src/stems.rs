//! Stems of file names that are valid on every file system.

use std::collections::BTreeSet;

use mailqos_config::Config;

use super::definition::{Definition, Grouping};

/// Returns the stem of a report's file names, without the period: the slug of the definition, and
/// the group if there are several.
pub(super) fn stem_of(slug: &str, group: Option<&str>) -> String {
    let parts = [Some(safe(slug)), group.map(safe)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// Returns the stems of a definition's reports, without the period, as far as the configuration
/// determines the monitors.
pub(super) fn stems(definition: &Definition, config: &Config) -> Vec<String> {
    if definition.each == Grouping::All {
        return vec![stem_of(&definition.slug, None)];
    }
    let site = config.site.as_str();
    let mut groups = BTreeSet::new();
    for monitor in config.monitors.values() {
        if !definition.selection.includes(Some(config), site, monitor.id.as_str()) {
            continue;
        }
        match definition.each {
            Grouping::All => {}
            Grouping::Monitor => groups.extend([monitor.name.clone()]),
            Grouping::Object => groups.extend([monitor.object.to_string()]),
            Grouping::Tag => groups.extend(monitor.tags.iter().cloned()),
            Grouping::Site => groups.extend([site.to_owned()]),
        }
    }
    if groups.is_empty() {
        // The monitors are unknown, but the form of the names is known.
        return vec![stem_of(&definition.slug, Some(definition.each.as_str()))];
    }
    let mut taken = BTreeSet::new();
    groups.iter().map(|group| unlike(stem_of(&definition.slug, Some(group)), &mut taken)).collect()
}

/// Returns a name that is not taken yet, even on case-insensitive file systems.
pub(super) fn unlike(name: String, taken: &mut BTreeSet<String>) -> String {
    let names =
        std::iter::once(name.clone()).chain((2_u32..).map(|number| format!("{name}-{number}")));
    names.into_iter().find(|name| taken.insert(name.to_lowercase())).unwrap_or(name)
}

/// Maximum length of a name within a file name, in bytes: two of them and a period fit into the 255
/// bytes that file systems allow.
pub(super) const MAX_NAME: usize = 80;

/// Returns a name that is valid on every file system: letters and digits of any script, `-`, `_`
/// and `.`.
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
    if text.is_empty() { "report".to_owned() } else { text.to_owned() }
}
