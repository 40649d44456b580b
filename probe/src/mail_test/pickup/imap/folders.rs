//! The folders of a mailbox: finds the trash, and suggests the actual name of a configured folder.

use mailqos_model::{Micros, Placement, Stage};

use super::{
    super::PickupError,
    reply::{self, Value},
    session::{MAX_REPLY, ServerLine, Session},
};
use crate::mail_test::evidence::Moment;

/// Maximum number of folders to read.
const MAX_FOLDERS: usize = 2000;
/// Time after which the folders are listed again.
const LIST_AGAIN: Micros = Micros::from_secs(3600);
/// Names of the trash for servers without special-use attributes (RFC 6154).
const TRASH: [&str; 6] =
    ["trash", "deleted items", "deleted messages", "bin", "papierkorb", "corbeille"];

/// A folder in the response to LIST.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    delimiter: String,
    /// Attributes in lower case.
    attributes: Vec<String>,
}

impl Listed {
    /// Returns the name without its parent folders, in lower case.
    fn leaf(&self) -> String {
        let leaf = match &*self.delimiter {
            "" => &*self.name,
            delimiter => self.name.rsplit(delimiter).next().unwrap_or(&self.name),
        };
        leaf.to_lowercase()
    }

    fn is_named_junk(&self) -> bool {
        Placement::of_folder(&self.leaf()) == Placement::Junk
    }

    fn is(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|known| known == attribute)
    }
}

/// The trash folder, if there is one, and the time at which it was looked up.
pub(super) type Trash = Option<(Moment, Option<String>)>;

/// Finds the folder of deleted mails, in whatever language it is named.
pub(super) async fn trash(
    session: &mut Session,
    known: &mut Trash,
) -> Result<Option<String>, PickupError> {
    if let Some((at, trash)) = known
        && Moment::now() - *at < LIST_AGAIN
    {
        return Ok(trash.clone());
    }
    let listed = list(session).await?;
    let by_attribute = listed.iter().find(|folder| folder.is("\\trash"));
    let by_name = || listed.iter().find(|folder| TRASH.contains(&&*folder.leaf()));
    let trash = by_attribute.or_else(by_name).map(|folder| folder.name.clone());
    *known = Some((Moment::now(), trash.clone()));
    Ok(trash)
}

/// Names of the folders with the attribute `\\Junk`, and the time at which they were looked up.
pub(super) type JunkFolders = Option<(Moment, Vec<String>)>;

/// Returns the kind of a folder: by its attributes, in whatever language it is named, or by its
/// name. The server is asked at most once an hour, and not about the inbox.
pub(super) async fn placement(
    session: &mut Session,
    known: &mut JunkFolders,
    name: &str,
) -> Result<Placement, PickupError> {
    let by_name = Placement::of_folder(name);
    if by_name != Placement::Other {
        return Ok(by_name);
    }
    let is_fresh = known.as_ref().is_some_and(|(at, _)| Moment::now() - *at < LIST_AGAIN);
    if !is_fresh {
        let listed = list(session).await?;
        let junk = listed.into_iter().filter(|folder| folder.is("\\junk"));
        *known = Some((Moment::now(), junk.map(|folder| folder.name).collect()));
    }
    let is_junk = known.iter().any(|(_, names)| names.iter().any(|junk| junk == name));
    Ok(if is_junk { Placement::Junk } else { Placement::Other })
}

/// Returns a suggestion for a folder that could not be opened, or an empty text if there is none.
pub(super) async fn suggestion(
    session: &mut Session,
    missing: &str,
) -> Result<String, PickupError> {
    Ok(suggest(&list(session).await?, missing))
}

fn suggest(listed: &[Listed], missing: &str) -> String {
    let leaf = missing.rsplit(['/', '.']).next().unwrap_or(missing).to_lowercase();
    let means_junk = Placement::of_folder(missing) == Placement::Junk;
    if let Some(junk) = listed.iter().find(|folder| folder.is("\\junk")).filter(|_| means_junk) {
        return format!("the server's junk folder is {:?}; use that name in folders", junk.name);
    }
    let same = |folder: &&Listed| folder.leaf() == leaf && folder.name != missing;
    let similar = |folder: &&Listed| means_junk && folder.is_named_junk();
    let found = listed.iter().find(same).or_else(|| listed.iter().find(similar));
    if let Some(folder) = found {
        return format!("the mailbox has {:?}; use that name in folders", folder.name);
    }
    let mut names: Vec<String> = listed.iter().map(|folder| format!("{:?}", folder.name)).collect();
    names.truncate(8);
    match names.is_empty() {
        true => String::new(),
        false => format!("the mailbox contains {}", names.join(", ")),
    }
}

async fn list(session: &mut Session) -> Result<Vec<Listed>, PickupError> {
    let mut listed = Vec::new();
    // Without RETURN: most servers with special-use attributes send them anyway (RFC 6154, section
    // 2).
    let command = if session.has("SPECIAL-USE") && session.has("LIST-EXTENDED") {
        "LIST \"\" \"*\" RETURN (SPECIAL-USE)"
    } else {
        "LIST \"\" \"*\""
    };
    session
        .command(Stage::PickupList, command, MAX_REPLY, |said| {
            if let ServerLine::Data(response) = said
                && listed.len() < MAX_FOLDERS
                && let Some(folder) = reply::values(response).and_then(|values| read(&values))
            {
                listed.push(folder);
            }
        })
        .await?;
    Ok(listed)
}

fn read(values: &[Value]) -> Option<Listed> {
    let [word, Value::List(attributes), delimiter, name, ..] = values else {
        return None;
    };
    if !word.text().eq_ignore_ascii_case("LIST") {
        return None;
    }
    Some(Listed {
        name: reply::from_utf7(&name.text()),
        delimiter: delimiter.text(),
        attributes: attributes.iter().map(|value| value.text().to_lowercase()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Listed {
        let response = reply::Response { text: text.as_bytes().to_vec(), literals: Vec::new() };
        read(&reply::values(&response).expect("values")).expect("a folder")
    }

    #[test]
    fn a_missing_folder_is_found_by_its_use_or_its_name() {
        let junk = listed(r#"LIST (\HasNoChildren \Junk) "." "INBOX.Spamverdacht""#);
        let inbox = listed(r#"LIST (\HasChildren) "." INBOX"#);
        let french = listed(r#"LIST (\HasNoChildren) "/" "&AMk-l&AOk-ments ind&AOk-sirables""#);
        let prefixed = listed(r#"LIST () "." INBOX.Junk"#);
        let flat = listed("LIST () NIL Offers");
        for (folders, missing, expected) in [
            (vec![&inbox, &junk], "Junk", "the server's junk folder is \"INBOX.Spamverdacht\""),
            (vec![&inbox, &prefixed], "Junk", "the mailbox has \"INBOX.Junk\"; use that name"),
            (vec![&inbox, &prefixed], "Spam", "the mailbox has \"INBOX.Junk\"; use that name"),
            (
                vec![&inbox, &french],
                "Junk",
                "the mailbox has \"Éléments indésirables\"; use that name",
            ),
            (vec![&inbox, &flat], "INBOX/Offers", "the mailbox has \"Offers\"; use that name"),
            (vec![], "Junk", ""),
        ] {
            let folders: Vec<Listed> = folders.into_iter().cloned().collect();
            let suggestion = suggest(&folders, missing);
            assert!(suggestion.starts_with(expected), "{missing}: {suggestion}");
        }
    }
}
