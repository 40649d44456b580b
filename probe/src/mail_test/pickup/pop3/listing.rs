//! The listing of a mailbox: numbers and identifiers of its mails.

use mailqos_model::Stage;

use super::{super::PickupError, Pop3, session::Answer};

/// Maximum size of a listing in bytes, and maximum number of mails in it.
const MAX_LISTING: usize = 16 * 1024 * 1024;
const MAX_MAILS: usize = 400_000;

/// A line of the listing.
pub(super) struct Entry {
    pub(super) number: u64,
    /// Identifier, if the server supports UIDL.
    pub(super) identifier: Option<String>,
}

impl Pop3<'_> {
    /// Lists the mailbox, with identifiers if the server supports them.
    pub(super) async fn list(&mut self) -> Result<Vec<Entry>, PickupError> {
        let stage = Stage::PickupList;
        let mut entries = Vec::new();
        let too_many = |entries: &[Entry]| {
            let text = format!("the mailbox contains more than {MAX_MAILS} mails");
            (entries.len() > MAX_MAILS).then(|| PickupError::new(stage, &text))
        };
        if !self.memory.lacks.contains("UIDL") {
            self.session.send(stage, "UIDL", MAX_LISTING).await?;
            match self.session.answer(stage).await? {
                Answer::Ok(_) => {
                    self.session
                        .lines(stage, |line, _| {
                            let line = String::from_utf8_lossy(line);
                            let mut words = line.split_whitespace();
                            if let (Some(Ok(number)), Some(identifier)) =
                                (words.next().map(str::parse), words.next())
                                && entries.len() <= MAX_MAILS
                            {
                                entries.push(Entry {
                                    number,
                                    identifier: Some(identifier.to_owned()),
                                });
                            }
                        })
                        .await?;
                    return too_many(&entries).map_or(Ok(entries), Err);
                }
                Answer::Err(text) if text.to_ascii_uppercase().contains("[SYS/") => {
                    return Err(self.session.refusal(stage, "UIDL", &text));
                }
                Answer::Err(_) => {
                    self.memory.lacks.insert("UIDL");
                }
            }
        }
        self.session.command(stage, "LIST", MAX_LISTING).await?;
        self.session
            .lines(stage, |line, _| {
                let line = String::from_utf8_lossy(line);
                if let Some(Ok(number)) = line.split_whitespace().next().map(str::parse)
                    && entries.len() <= MAX_MAILS
                {
                    entries.push(Entry { number, identifier: None });
                }
            })
            .await?;
        too_many(&entries).map_or(Ok(entries), Err)
    }
}
