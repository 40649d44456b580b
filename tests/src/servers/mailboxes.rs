//! Mailboxes in memory: folders of mails, shared by the POP3 and the IMAP server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use mailqos_model::UtcMicros;
use tokio::sync::watch;

use super::lock;

/// The folder in which mails arrive.
pub const INBOX: &str = "INBOX";
/// The folder for mails classified as spam.
pub const JUNK: &str = "Junk";
/// The folder of deleted mails, if there is one: Gmail's, in German.
pub const TRASH: &str = "[Gmail]/Papierkorb";
/// The folder of mails that were expunged elsewhere.
pub const ARCHIVE: &str = "[Gmail]/Alle Nachrichten";

/// A mail in a folder.
#[derive(Debug, Clone)]
pub struct StoredMail {
    /// Its number, which is never reused in a folder.
    pub uid: u32,
    /// Its content, with CRLF line ends.
    pub bytes: Arc<[u8]>,
    /// When it arrived, by the server's clock.
    pub internal_date: UtcMicros,
    /// IMAP flags.
    pub flags: BTreeSet<String>,
    /// Whether the test put it there, rather than a delivery.
    pub foreign: bool,
}

/// A folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) mails: Vec<StoredMail>,
}

struct Mailbox {
    folders: BTreeMap<String, Folder>,
    /// Whether a POP3 session holds the mailbox (with an exclusive lock only).
    locked: bool,
    changed: watch::Sender<u64>,
}

/// All mailboxes of the server.
#[derive(Default)]
pub(super) struct Mailboxes(Mutex<BTreeMap<String, Mailbox>>);

impl Mailboxes {
    pub(super) fn create(&self, user: &str) {
        let folder = |uid_validity| Folder { uid_validity, uid_next: 1, mails: Vec::new() };
        let folders = BTreeMap::from([
            (INBOX.to_owned(), folder(0x6574_0001)),
            (JUNK.to_owned(), folder(0x6574_0002)),
        ]);
        let mailbox = Mailbox { folders, locked: false, changed: watch::Sender::new(0) };
        lock(&self.0).entry(user.to_ascii_lowercase()).or_insert(mailbox);
    }

    pub(super) fn add_folder(&self, user: &str, name: &str) {
        self.with(user, |mailbox| {
            let uid_validity =
                0x6574_0010 + u32::try_from(mailbox.folders.len()).unwrap_or_default();
            let folder = Folder { uid_validity, uid_next: 1, mails: Vec::new() };
            mailbox.folders.insert(name.to_owned(), folder);
        });
    }

    /// Moves mails from one folder to another.
    pub(super) fn move_mails(
        &self,
        user: &str,
        from: &str,
        to: &str,
        chosen: impl Fn(&StoredMail) -> bool,
    ) -> bool {
        self.with(user, |mailbox| {
            if !mailbox.folders.contains_key(to) {
                return false;
            }
            let Some(folder) = mailbox.folders.get_mut(from) else {
                return false;
            };
            let (moved, kept) =
                std::mem::take(&mut folder.mails).into_iter().partition(|mail| chosen(mail));
            folder.mails = kept;
            let moved: Vec<StoredMail> = moved;
            if let Some(folder) = mailbox.folders.get_mut(to) {
                for mut mail in moved {
                    mail.uid = folder.uid_next;
                    mail.flags.remove("\\Deleted");
                    folder.uid_next += 1;
                    folder.mails.push(mail);
                }
            }
            mailbox.changed.send_modify(|version| *version += 1);
            true
        })
        .unwrap_or(false)
    }

    pub(super) fn exists(&self, user: &str) -> bool {
        lock(&self.0).contains_key(&user.to_ascii_lowercase())
    }

    fn with<T>(&self, user: &str, work: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        lock(&self.0).get_mut(&user.to_ascii_lowercase()).map(work)
    }

    /// Puts mails into a folder and returns when, by this machine's clock, they became visible.
    pub(super) fn put(
        &self,
        (user, folder): (&str, &str),
        mails: impl IntoIterator<Item = Vec<u8>>,
        foreign: bool,
        clock: impl FnOnce(UtcMicros) -> UtcMicros,
    ) -> Option<UtcMicros> {
        let mails: Vec<Arc<[u8]>> = mails.into_iter().map(Arc::from).collect();
        self.with(user, |mailbox| {
            let now = UtcMicros::now();
            let internal_date = clock(now);
            let folder = mailbox.folders.get_mut(folder)?;
            for bytes in mails {
                let uid = folder.uid_next;
                folder.uid_next += 1;
                folder.mails.push(StoredMail {
                    uid,
                    bytes,
                    internal_date,
                    flags: BTreeSet::new(),
                    foreign,
                });
            }
            mailbox.changed.send_modify(|version| *version += 1);
            Some(now)
        })?
    }

    /// Returns a folder in its current state.
    pub(super) fn snapshot(&self, user: &str, folder: &str) -> Option<Folder> {
        self.with(user, |mailbox| mailbox.folders.get(folder).cloned())?
    }

    /// Reads a folder without copying it.
    pub(super) fn look<T>(
        &self,
        user: &str,
        folder: &str,
        look: impl FnOnce(&Folder) -> T,
    ) -> Option<T> {
        self.with(user, |mailbox| mailbox.folders.get(folder).map(look))?
    }

    pub(super) fn folder_names(&self, user: &str) -> Vec<String> {
        self.with(user, |mailbox| mailbox.folders.keys().cloned().collect()).unwrap_or_default()
    }

    /// Changes a folder and notifies watchers.
    pub(super) fn change<T>(
        &self,
        user: &str,
        folder: &str,
        work: impl FnOnce(&mut Folder) -> T,
    ) -> Option<T> {
        self.with(user, |mailbox| {
            let result = mailbox.folders.get_mut(folder).map(work);
            mailbox.changed.send_modify(|version| *version += 1);
            result
        })?
    }

    /// Returns a receiver of all changes of the mailbox.
    pub(super) fn watch(&self, user: &str) -> Option<watch::Receiver<u64>> {
        self.with(user, |mailbox| mailbox.changed.subscribe())
    }

    /// Takes the exclusive lock of a mailbox, if it is free; dropping the result releases it.
    pub(super) fn try_lock(self: &Arc<Self>, user: &str) -> Option<Locked> {
        let free = self.with(user, |mailbox| !std::mem::replace(&mut mailbox.locked, true))?;
        free.then(|| Locked { mailboxes: self.clone(), user: user.to_owned() })
    }
}

/// The exclusive lock of a mailbox.
pub(super) struct Locked {
    mailboxes: Arc<Mailboxes>,
    user: String,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.mailboxes.with(&self.user, |mailbox| mailbox.locked = false);
    }
}
