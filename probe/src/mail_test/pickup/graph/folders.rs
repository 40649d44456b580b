//! Finds folders by their names. Well-known folders have a special name in paths, which is the same
//! in every language (<https://learn.microsoft.com/graph/api/resources/mailfolder>).

use mailqos_mail::graph::{GraphError, Request, encoded};
use mailqos_model::Stage;

use super::{GraphVisit, MAX_REPLY};

/// Well-known folders: the name in paths, and alternative names in a configuration.
const WELL_KNOWN: [(&str, &[&str]); 8] = [
    ("inbox", &["inbox"]),
    ("junkemail", &["junk", "junk email", "junk e-mail", "spam"]),
    ("deleteditems", &["deleted items"]),
    ("archive", &[]),
    ("clutter", &[]),
    ("sentitems", &["sent items"]),
    ("drafts", &[]),
    ("conversationhistory", &["conversation history"]),
];
/// Maximum number of folder names in a suggestion.
const MAX_SUGGESTED: usize = 8;

/// Returns the well-known name of a folder.
fn well_known(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let is = |known: &str, others: &[&str]| known == name || others.contains(&&*name);
    WELL_KNOWN.iter().find(|(known, others)| is(known, others)).map(|(known, _)| *known)
}

/// Formats a list of folders as a suggestion.
pub(super) fn suggest(names: &[String]) -> String {
    let shown: Vec<String> =
        names.iter().take(MAX_SUGGESTED).map(|name| format!("{name:?}")).collect();
    match shown.is_empty() {
        true => "the mailbox has no folder of this name".to_owned(),
        false => format!("the mailbox contains {}", shown.join(", ")),
    }
}

/// Returns a text as a literal in a filter (OData 4.01, part 2, section 5.1.1.14.1),
/// percent-encoded.
fn literal(text: &str) -> String {
    encoded(&format!("'{}'", text.replace('\'', "''")))
}

impl GraphVisit<'_> {
    /// Returns a folder as a path segment, or `None` if it does not exist.
    pub(super) async fn segment(&mut self, name: &str) -> Result<Option<String>, GraphError> {
        if let Some(known) = well_known(name) {
            return Ok(Some(known.to_owned()));
        }
        let known = self.memory.folders.get(name).and_then(|folder| folder.segment.clone());
        if known.is_some() {
            return Ok(known);
        }
        let mut parent: Option<String> = None;
        for part in name.split('/') {
            let found = match (well_known(part), &parent) {
                (Some(known), None) => Some(known.to_owned()),
                _ => self.child(parent.as_deref(), part).await?,
            };
            match found {
                Some(found) => parent = Some(found),
                None => return Ok(None),
            }
        }
        if let Some(found) = &parent {
            let folder = self.memory.folders.entry(name.to_owned()).or_default();
            folder.segment = Some(found.clone());
        }
        Ok(parent)
    }

    /// Returns the identifier of a folder with a display name.
    async fn child(
        &mut self,
        parent: Option<&str>,
        name: &str,
    ) -> Result<Option<String>, GraphError> {
        let above = match parent {
            Some(parent) => format!("/mailFolders/{parent}/childFolders"),
            None => "/mailFolders".to_owned(),
        };
        let filter = format!("displayName%20eq%20{}", literal(name));
        let path = format!("{above}?$filter={filter}&$select=id,displayName&$top=10");
        let response = self.ask(Stage::PickupList, &Request::get(&path, MAX_REPLY)).await?;
        let json = response.json()?;
        let folders = json.get("value").and_then(|value| value.as_array());
        let is_it = |folder: &&serde_json::Value| {
            let found = folder.get("displayName").and_then(|value| value.as_str());
            found.is_some_and(|found| found.to_lowercase() == name.to_lowercase())
        };
        let found = folders.into_iter().flatten().find(is_it);
        let id = found.and_then(|folder| folder.get("id")?.as_str());
        Ok(id.map(encoded))
    }

    /// Returns the display names of the top-level folders.
    pub(super) async fn folder_names(&mut self) -> Result<Vec<String>, GraphError> {
        let path = "/mailFolders?$select=displayName&$top=50";
        let response = self.ask(Stage::PickupList, &Request::get(path, MAX_REPLY)).await?;
        let json = response.json()?;
        let folders = json.get("value").and_then(|value| value.as_array());
        let names = folders.into_iter().flatten();
        let names = names.filter_map(|folder| folder.get("displayName")?.as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_folders_have_several_names() {
        for (name, expected) in [
            ("INBOX", Some("inbox")),
            ("Junk Email", Some("junkemail")),
            ("JunkEmail", Some("junkemail")),
            ("Deleted Items", Some("deleteditems")),
            ("Offers", None),
            ("", None),
        ] {
            assert_eq!(well_known(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_can_not_change_a_filter() {
        assert_eq!(literal("O'Neill & Co"), "%27O%27%27Neill%20%26%20Co%27");
    }
}
