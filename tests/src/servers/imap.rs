//! The embedded IMAP server (RFC 3501, with LITERAL+, IDLE, UIDPLUS, NAMESPACE, ID as Dovecot has
//! them).

use std::{collections::BTreeSet, io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{sync::watch, time::Instant};

use super::{
    Protocol, Shared,
    connection::{Connection, Met},
    habits::{Gives, Habits, TooMany, UidNext},
    mailboxes::{Folder, StoredMail},
    sasl::{Exchange, Step},
};

/// Largest literal that is accepted.
const MAX_LITERAL: usize = 1_000_000;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// An atom, a quoted string or a literal.
    Text(String),
    /// A list in parentheses.
    List(Vec<Word>),
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::List(_) => "",
        }
    }
}

/// The selected folder as seen by this session.
struct Selected {
    name: String,
    read_only: bool,
    /// The UIDs in the order of their sequence numbers, as reported to the client.
    uids: Vec<u32>,
}

struct Session {
    connection: Connection,
    shared: Arc<Shared>,
    user: Option<String>,
    selected: Option<Selected>,
    /// Whether there are too many connections.
    is_refused: Option<TooMany>,
    /// Whether the client has identified itself.
    is_known: bool,
}

pub(super) async fn serve(connection: Connection) -> io::Result<()> {
    let shared = connection.shared.clone();
    let mut session = Session {
        connection,
        shared,
        user: None,
        selected: None,
        is_refused: None,
        is_known: false,
    };
    let shared = session.shared.clone();
    let (open, _open) = shared.habits.open();
    session.is_refused = match session.habits().connections {
        Some((most, how)) if open > most => Some(how),
        _ => None,
    };
    match session.is_refused {
        Some(TooMany::HangsUp) => return session.connection.close().await,
        Some(TooMany::Bye) => {
            let farewell = "* BYE Maximum number of connections from this address reached";
            session.connection.say(farewell).await?;
            return session.connection.close().await;
        }
        Some(TooMany::Login(_)) | None => {}
    }
    if session.connection.meet("GREETING").await? == Met::Go {
        let greeting = match session.habits().keeps_capabilities {
            true => "* OK ready.".to_owned(),
            false => format!("* OK [CAPABILITY {}] Dovecot ready.", session.capabilities()),
        };
        session.connection.say(&greeting).await?;
    }
    while let Some(line) = session.connection.command().await? {
        if session.habits().longest_line.is_some_and(|longest| line.len() > longest) {
            let tag = line.split(' ').next().unwrap_or("*");
            session.connection.say(&format!("{tag} BAD Command line too long")).await?;
            continue;
        }
        let Some((tag, words)) = session.words(line).await? else {
            session.connection.say("* BAD Error in IMAP command").await?;
            continue;
        };
        if session.carry_out(&tag, words).await? {
            return session.connection.close().await;
        }
    }
    Ok(())
}

/// Returns the phase of a command's faults.
fn phase(verb: &str) -> &'static str {
    let verb = match verb {
        "AUTHENTICATE" => "LOGIN",
        "EXAMINE" => "SELECT",
        verb => verb,
    };
    Protocol::Imap.phases().iter().copied().find(|phase| *phase == verb).unwrap_or("OTHER")
}

impl Session {
    fn habits(&self) -> &Habits {
        &self.shared.options.imap_habits
    }

    fn without(&self, what: &str) -> bool {
        self.shared.options.imap_without.iter().any(|missing| missing.eq_ignore_ascii_case(what))
    }

    fn capabilities(&self) -> String {
        let mechanisms: Vec<String> =
            self.shared.options.mechanisms.iter().map(|name| format!("AUTH={name}")).collect();
        let rev2 = self.shared.options.imap_rev2;
        let mut capabilities = if rev2 {
            vec!["IMAP4rev2"]
        } else {
            vec!["IMAP4rev1", "LITERAL+", "ID", "ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE"]
        };
        let in_clear = self.connection.tls.is_none();
        if in_clear {
            capabilities.push("STARTTLS");
        }
        if in_clear && !self.shared.options.plaintext_login {
            capabilities.push("LOGINDISABLED");
        } else {
            capabilities.extend((!rev2).then_some("SASL-IR"));
            capabilities.extend(mechanisms.iter().map(String::as_str));
        }
        if self.habits().archives {
            capabilities.push("X-GM-EXT-1");
            capabilities.push("SPECIAL-USE");
        }
        capabilities.retain(|capability| !self.without(capability));
        capabilities.join(" ")
    }

    /// Reads the rest of a command, including its literals, and parses it.
    async fn words(&mut self, mut line: String) -> io::Result<Option<(String, Vec<Word>)>> {
        while let Some((length, waits)) = literal(&line) {
            if length > MAX_LITERAL {
                return Ok(None);
            }
            if waits {
                self.connection.say("+ OK").await?;
            }
            let bytes = self.connection.exactly(length).await?;
            let start = line.rfind('{').unwrap_or(line.len());
            line.truncate(start);
            line += &quote(&String::from_utf8_lossy(&bytes));
            let Some(rest) = self.connection.line().await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            line += &String::from_utf8_lossy(&rest);
        }
        let Some((tag, rest)) = line.split_once(' ') else {
            return Ok(None);
        };
        let mut characters = rest.chars().peekable();
        Ok(parse(&mut characters, false).map(|words| (tag.to_owned(), words)))
    }

    /// Executes a command; `true` ends the connection.
    async fn carry_out(&mut self, tag: &str, mut words: Vec<Word>) -> io::Result<bool> {
        let mut verb =
            words.first().map(|word| word.text().to_ascii_uppercase()).unwrap_or_default();
        let by_uid = verb == "UID";
        if by_uid && words.len() > 1 {
            words.remove(0);
            verb = words[0].text().to_ascii_uppercase();
        }
        if self.connection.meet(phase(&verb)).await? == Met::Answered {
            return Ok(false);
        }
        let arguments = &words[1.min(words.len())..];
        match (verb.as_str(), self.user.is_some(), self.selected.is_some()) {
            ("CAPABILITY", ..) => {
                let reply = format!("* CAPABILITY {}\r\n{tag} OK Done.\r\n", self.capabilities());
                self.connection.reply(reply.as_bytes()).await?;
            }
            ("NOOP", ..) | ("CHECK", true, true) => {
                let news = self.news(false);
                self.connection
                    .reply(format!("{news}{tag} OK NOOP completed.\r\n").as_bytes())
                    .await?;
            }
            ("ID", ..) => {
                self.is_known = true;
                self.connection
                    .reply(format!("* ID NIL\r\n{tag} OK ID completed.\r\n").as_bytes())
                    .await?
            }
            ("LOGOUT", ..) => {
                self.connection
                    .reply(
                        format!("* BYE Logging out\r\n{tag} OK Logout completed.\r\n").as_bytes(),
                    )
                    .await?;
                return Ok(true);
            }
            ("STARTTLS", false, _) if self.connection.tls.is_none() => {
                self.connection.say(&format!("{tag} OK Begin TLS negotiation now.")).await?;
                self.connection.start_tls().await?;
            }
            ("LOGIN" | "AUTHENTICATE", false, _) => self.log_in(tag, &verb, arguments).await?,
            (_, false, _) => self.connection.say(&format!("{tag} BAD Please login first.")).await?,
            ("ENABLE", ..) => {
                self.connection
                    .reply(format!("* ENABLED\r\n{tag} OK Enabled.\r\n").as_bytes())
                    .await?
            }
            ("NAMESPACE", ..) => {
                let reply = format!(
                    "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n{tag} OK Namespace completed.\r\n"
                );
                self.connection.reply(reply.as_bytes()).await?;
            }
            ("LIST", ..) => self.list(tag, arguments).await?,
            ("STATUS", ..) => self.status(tag, arguments).await?,
            ("SELECT" | "EXAMINE", ..) => self.select(tag, arguments, verb == "EXAMINE").await?,
            ("SEARCH", _, true) => self.search(tag, arguments, by_uid).await?,
            ("FETCH", _, true) => self.fetch(tag, arguments, by_uid).await?,
            ("STORE", _, true) => self.store(tag, arguments, by_uid).await?,
            ("MOVE", _, true) if !self.without("MOVE") => {
                self.move_to(tag, arguments, by_uid).await?
            }
            ("EXPUNGE", _, true) => self.expunge(tag, arguments, by_uid).await?,
            ("IDLE", _, true) if !self.without("IDLE") => self.idle(tag).await?,
            ("CLOSE" | "UNSELECT", _, true) => {
                if verb == "CLOSE" {
                    self.remove_deleted(None);
                }
                self.selected = None;
                self.connection.say(&format!("{tag} OK Close completed.")).await?;
            }
            _ => {
                self.connection
                    .say(&format!("{tag} BAD Error in IMAP command {verb}: Unknown command."))
                    .await?
            }
        }
        Ok(false)
    }

    async fn log_in(&mut self, tag: &str, verb: &str, arguments: &[Word]) -> io::Result<()> {
        if self.connection.tls.is_none() && !self.shared.options.plaintext_login {
            let refusal = format!(
                "{tag} NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections."
            );
            return self.connection.say(&refusal).await;
        }
        if self.habits().rejects_initial_response && verb == "AUTHENTICATE" && arguments.len() > 1 {
            return self.connection.say(&format!("{tag} BAD Request not ending with \\r\\n")).await;
        }
        let user = match (verb, arguments) {
            ("LOGIN", [user, password]) => {
                self.shared.may_log_in(user.text(), password.text()).then(|| user.text().to_owned())
            }
            ("AUTHENTICATE", [mechanism, initial @ ..]) if self.has_mechanism(mechanism.text()) => {
                self.authenticate(
                    mechanism.text(),
                    initial.first().map(|word| word.text().to_owned()),
                )
                .await?
            }
            _ => {
                return self
                    .connection
                    .say(&format!("{tag} NO [CANNOT] Unsupported authentication mechanism."))
                    .await;
            }
        };
        if let Some(TooMany::Login(refusal)) = self.is_refused {
            return self.connection.say(&format!("{tag} NO {refusal}")).await;
        }
        for odd in self.habits().odd_lines.clone() {
            self.connection.say(&odd).await?;
        }
        if user.is_some() {
            self.user = user;
            let reply = match self.habits().keeps_capabilities {
                true => format!("{tag} OK Logged in"),
                false => format!("{tag} OK [CAPABILITY {}] Logged in", self.capabilities()),
            };
            self.connection.say(&reply).await
        } else {
            tokio::time::sleep(self.shared.options.auth_failure_delay).await;
            self.connection
                .say(&format!("{tag} NO [AUTHENTICATIONFAILED] Authentication failed."))
                .await
        }
    }

    fn has_mechanism(&self, mechanism: &str) -> bool {
        Exchange::begin(&self.shared, mechanism).is_some()
            && !self.without(&format!("AUTH={mechanism}"))
    }

    /// Authenticates with a mechanism; returns the user, if successful.
    async fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<String>,
    ) -> io::Result<Option<String>> {
        let Some(mut exchange) = Exchange::begin(&self.shared, mechanism) else {
            return Ok(None);
        };
        let mut response = initial;
        loop {
            match exchange.next(&self.shared, response.as_deref()) {
                Step::End(user) => return Ok(user),
                Step::Challenge(challenge) => {
                    self.connection.say(&format!("+ {}", STANDARD.encode(challenge))).await?;
                    response = self.connection.command().await?;
                    if matches!(response.as_deref(), None | Some("*")) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }

    /// Reads the selected folder.
    fn look<T>(&self, look: impl FnOnce(&Folder) -> T) -> Option<T> {
        self.shared.mailboxes.look(self.name(), &self.selected.as_ref()?.name, look)
    }

    /// Changes the selected folder.
    fn change<T>(&self, work: impl FnOnce(&mut Folder) -> T) -> Option<T> {
        self.shared.mailboxes.change(self.name(), &self.selected.as_ref()?.name, work)
    }

    /// Returns the changes since the last report to the client; sequence numbers may only vanish
    /// where `EXPUNGE` is allowed.
    fn news(&mut self, keep_numbers: bool) -> String {
        let Some(now) =
            self.look(|folder| folder.mails.iter().map(|mail| mail.uid).collect::<Vec<_>>())
        else {
            return String::new();
        };
        let Some(selected) = &mut self.selected else {
            return String::new();
        };
        let mut news = String::new();
        if !keep_numbers {
            for index in (0..selected.uids.len()).rev() {
                if now.binary_search(&selected.uids[index]).is_err() {
                    selected.uids.remove(index);
                    news += &format!("* {} EXPUNGE\r\n", index + 1);
                }
            }
        }
        let known = selected.uids.last().copied().unwrap_or(0);
        let fresh: Vec<u32> = now.into_iter().filter(|uid| *uid > known).collect();
        if !fresh.is_empty() {
            selected.uids.extend(fresh);
            news += &format!("* {} EXISTS\r\n", selected.uids.len());
        }
        news
    }

    async fn list(&mut self, tag: &str, arguments: &[Word]) -> io::Result<()> {
        let pattern = arguments.get(1).map(Word::text).unwrap_or_default().to_ascii_lowercase();
        let mut reply = String::new();
        for name in self.shared.mailboxes.folder_names(self.name()) {
            let matches = pattern == "*" || pattern == "%" || name.eq_ignore_ascii_case(&pattern);
            if matches {
                let special = match &*name {
                    super::JUNK => " \\Junk",
                    super::TRASH => " \\Trash",
                    super::ARCHIVE => " \\All",
                    _ => "",
                };
                reply += &format!("* LIST (\\HasNoChildren{special}) \"/\" \"{name}\"\r\n");
            }
        }
        reply += &format!("{tag} OK List completed.\r\n");
        self.connection.reply(reply.as_bytes()).await
    }

    fn folder_name(&self, word: Option<&Word>) -> Option<String> {
        let wanted = word?.text();
        let names = self.shared.mailboxes.folder_names(self.name());
        names.into_iter().find(|name| {
            name == wanted || name == super::INBOX && wanted.eq_ignore_ascii_case("inbox")
        })
    }

    async fn status(&mut self, tag: &str, arguments: &[Word]) -> io::Result<()> {
        let found = self.folder_name(arguments.first()).and_then(|name| {
            let describe = |folder: &Folder| {
                format!(
                    "* STATUS {name} (MESSAGES {} UIDNEXT {} UIDVALIDITY {} UNSEEN 0)\r\n",
                    folder.mails.len(),
                    folder.uid_next,
                    folder.uid_validity
                )
            };
            self.shared.mailboxes.look(self.name(), &name, describe)
        });
        let reply = match found {
            Some(status) => format!("{status}{tag} OK Status completed.\r\n"),
            None => format!("{tag} NO [NONEXISTENT] Mailbox doesn't exist.\r\n"),
        };
        self.connection.reply(reply.as_bytes()).await
    }

    async fn select(&mut self, tag: &str, arguments: &[Word], read_only: bool) -> io::Result<()> {
        self.selected = None;
        if self.habits().wants_id && !self.is_known {
            let verb = if read_only { "EXAMINE" } else { "SELECT" };
            let refusal =
                format!("{tag} NO {verb} Unsafe Login. Please contact kefu@mail.example for help");
            return self.connection.say(&refusal).await;
        }
        let Some(name) = self.folder_name(arguments.first()) else {
            return self
                .connection
                .say(&format!("{tag} NO [NONEXISTENT] Mailbox doesn't exist."))
                .await;
        };
        let state = |folder: &Folder| {
            let uids: Vec<u32> = folder.mails.iter().map(|mail| mail.uid).collect();
            (uids, folder.uid_validity, folder.uid_next)
        };
        let Some((uids, validity, next)) = self.shared.mailboxes.look(self.name(), &name, state)
        else {
            return self
                .connection
                .say(&format!("{tag} NO [NONEXISTENT] Mailbox doesn't exist."))
                .await;
        };
        let next = match self.habits().uid_next {
            UidNext::Right | UidNext::GoesBack => next,
            UidNext::Stuck => 1,
            UidNext::Ahead => next + 420_000,
        };
        let validity = if self.habits().no_validity { 0 } else { validity };
        let access = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        let reply = format!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n\
             * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] Flags permitted.\r\n\
             * {} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY {validity}] UIDs valid\r\n* OK [UIDNEXT {next}] Predicted next UID\r\n\
             {tag} OK [{access}] Select completed.\r\n",
            uids.len()
        );
        self.selected = Some(Selected { name, read_only, uids });
        self.connection.reply(reply.as_bytes()).await
    }

    /// Returns the mails of a set of sequence numbers or UIDs, with their sequence numbers.
    fn chosen(&self, set: &str, by_uid: bool) -> Vec<(usize, StoredMail)> {
        let Some(selected) = &self.selected else {
            return Vec::new();
        };
        let last = if by_uid {
            selected.uids.last().copied().unwrap_or(0)
        } else {
            selected.uids.len() as u32
        };
        let number = |text: &str| {
            if text == "*" { Some(last) } else { text.parse::<u32>().ok() }
        };
        let ranges: Vec<(u32, u32)> = set
            .split(',')
            .filter_map(|part| {
                let (a, b) = part.split_once(':').unwrap_or((part, part));
                let (a, b) = (number(a)?, number(b)?);
                Some((a.min(b), a.max(b)))
            })
            .collect();
        let wanted = |number: u32| ranges.iter().any(|(a, b)| (*a..=*b).contains(&number));
        self.look(|folder| {
            folder
                .mails
                .iter()
                .filter_map(|mail| {
                    let index = selected.uids.binary_search(&mail.uid).ok()?;
                    let number = if by_uid { mail.uid } else { index as u32 + 1 };
                    wanted(number).then(|| (index + 1, mail.clone()))
                })
                .collect()
        })
        .unwrap_or_default()
    }

    async fn search(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> io::Result<()> {
        if self.habits().refuses_search {
            let refusal =
                format!("{tag} NO [SERVERBUG] SEARCH Server error - Please try again later");
            return self.connection.say(&refusal).await;
        }
        let news = self.news(by_uid);
        let mut found = Vec::new();
        for (number, mail) in self.chosen("1:*", false) {
            if self.habits().searches_an_old_index
                && !mail.foreign
                && !arguments.iter().any(|word| word.text() == "DELETED")
            {
                continue;
            }
            match matches(arguments, number, &mail, |set| {
                self.chosen(set, true).iter().any(|(_, other)| other.uid == mail.uid)
            }) {
                Some(true) => {
                    found.push(if by_uid { mail.uid.to_string() } else { number.to_string() })
                }
                Some(false) => {}
                None => {
                    return self
                        .connection
                        .say(&format!("{tag} BAD Unknown search argument."))
                        .await;
                }
            }
        }
        let found = match (self.shared.options.imap_rev2, by_uid) {
            (false, _) => format!("SEARCH {}", found.join(" ")),
            (true, _) if found.is_empty() => format!("ESEARCH (TAG \"{tag}\") UID"),
            (true, true) => format!("ESEARCH (TAG \"{tag}\") UID ALL {}", found.join(",")),
            (true, false) => format!("ESEARCH (TAG \"{tag}\") ALL {}", found.join(",")),
        };
        let found = found.trim_end();
        self.connection
            .reply(format!("{news}* {found}\r\n{tag} OK Search completed.\r\n").as_bytes())
            .await
    }

    async fn fetch(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> io::Result<()> {
        let news = self.news(true);
        let (Some(set), Some(items)) = (arguments.first(), arguments.get(1)) else {
            return self.connection.say(&format!("{tag} BAD Invalid arguments.")).await;
        };
        let items: Vec<String> = match items {
            Word::Text(item) => vec![item.to_ascii_uppercase()],
            Word::List(items) => {
                items.iter().map(|item| item.text().to_ascii_uppercase()).collect()
            }
        };
        let mut reply = news.into_bytes();
        let is_content = items.iter().any(|item| item.starts_with("BODY"));
        let mut refused = false;
        for (number, mail) in self.chosen(set.text(), by_uid) {
            if is_content && self.habits().tells_flags_first {
                reply.extend_from_slice(
                    format!("* {number} FETCH (UID {} FLAGS (\\Recent))\r\n", mail.uid).as_bytes(),
                );
            }
            let gives =
                is_content.then(|| self.shared.habits.gives(self.habits(), &mail)).flatten();
            let told = match gives {
                None => None,
                Some(Gives::Nothing) => Some(String::new()),
                Some(Gives::Refusal) => {
                    refused = true;
                    Some(String::new())
                }
                Some(Gives::Nil) => {
                    Some(format!("* {number} FETCH (UID {} BODY[HEADER] NIL)\r\n", mail.uid))
                }
                Some(Gives::Empty) => {
                    Some(format!("* {number} FETCH (UID {} BODY[HEADER] {{0}}\r\n)\r\n", mail.uid))
                }
                Some(Gives::WithoutUid) => {
                    Some(format!("* {number} FETCH (BODY[HEADER] {{2}}\r\n\r\n)\r\n"))
                }
            };
            if let Some(told) = told {
                reply.extend_from_slice(told.as_bytes());
                continue;
            }
            let mut parts: Vec<Vec<u8>> = Vec::new();
            if by_uid && !items.iter().any(|item| item == "UID") {
                parts.push(format!("UID {}", mail.uid).into_bytes());
            }
            for item in &items {
                let Some(part) = self.item(item, &mail) else {
                    return self
                        .connection
                        .say(&format!("{tag} BAD Unknown parameter: {item}"))
                        .await;
                };
                parts.push(part);
            }
            reply.extend_from_slice(format!("* {number} FETCH (").as_bytes());
            reply.extend_from_slice(&parts.join(&b' '));
            reply.extend_from_slice(b")\r\n");
            for odd in &self.habits().odd_lines {
                reply.extend_from_slice(format!("{odd}\r\n").as_bytes());
            }
        }
        let end = match refused {
            true => {
                format!("{tag} NO [UNAVAILABLE] FETCH Server error while fetching messages\r\n")
            }
            false => format!("{tag} OK Fetch completed.\r\n"),
        };
        reply.extend_from_slice(end.as_bytes());
        self.connection.reply(&reply).await
    }

    /// Moves mails to another folder (RFC 6851).
    async fn move_to(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> io::Result<()> {
        let (Some(set), Some(to)) = (arguments.first(), self.folder_name(arguments.get(1))) else {
            return self.connection.say(&format!("{tag} NO [TRYCREATE] No such folder.")).await;
        };
        let uids: Vec<u32> =
            self.chosen(set.text(), by_uid).into_iter().map(|(_, mail)| mail.uid).collect();
        let from = self.selected.as_ref().map(|selected| selected.name.clone()).unwrap_or_default();
        let chosen = |mail: &StoredMail| uids.contains(&mail.uid);
        self.shared.mailboxes.move_mails(self.name(), &from, &to, chosen);
        let news = self.news(false);
        self.connection.reply(format!("{news}{tag} OK Move completed.\r\n").as_bytes()).await
    }

    /// Returns one item of a FETCH reply.
    fn item(&self, item: &str, mail: &StoredMail) -> Option<Vec<u8>> {
        let plain = match item {
            "UID" => Some(format!("UID {}", mail.uid)),
            "RFC822.SIZE" => Some(format!("RFC822.SIZE {}", mail.bytes.len())),
            "FLAGS" => {
                Some(format!("FLAGS ({})", Vec::from_iter(mail.flags.iter().cloned()).join(" ")))
            }
            "INTERNALDATE" => Some(format!("INTERNALDATE \"{}\"", internal_date(mail))),
            _ => None,
        };
        if let Some(plain) = plain {
            return Some(plain.into_bytes());
        }
        let (name, section) = match item {
            "RFC822" => ("RFC822".to_owned(), ""),
            "RFC822.HEADER" => ("RFC822.HEADER".to_owned(), "HEADER"),
            _ => {
                let inner = item.strip_prefix("BODY")?;
                let peek = inner.strip_prefix(".PEEK");
                let section = peek.unwrap_or(inner).strip_prefix('[')?.split(']').next()?;
                if peek.is_none() {
                    let uid = mail.uid;
                    self.change(|folder| {
                        if let Ok(index) = folder.mails.binary_search_by_key(&uid, |mail| mail.uid)
                        {
                            folder.mails[index].flags.insert("\\Seen".to_owned());
                        }
                    });
                }
                (format!("BODY[{section}]"), section)
            }
        };
        let head = mail
            .bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map_or(mail.bytes.len(), |at| at + 4);
        let bytes: Vec<u8> = match section {
            "" => mail.bytes.to_vec(),
            "HEADER" => mail.bytes[..head].to_vec(),
            "TEXT" => mail.bytes[head..].to_vec(),
            _ => {
                let (names, wanted) = match section.strip_prefix("HEADER.FIELDS.NOT") {
                    Some(names) => (names, false),
                    None => (section.strip_prefix("HEADER.FIELDS")?, true),
                };
                let names: Vec<&str> =
                    names.trim().trim_matches(['(', ')']).split_whitespace().collect();
                fields(&mail.bytes[..head], |name| {
                    names.iter().any(|other| other.eq_ignore_ascii_case(name)) == wanted
                })
            }
        };
        // A part of it (RFC 9051, section 6.4.5): `BODY[TEXT]<0.16384>`, answered as
        // `BODY[TEXT]<0>`.
        let piece =
            item.rsplit_once("]<").and_then(|(_, piece)| piece.strip_suffix('>')?.split_once('.'));
        let piece = piece
            .and_then(|(from, count)| Some((from.parse().ok()?, count.parse::<usize>().ok()?)));
        let (name, bytes) = match piece {
            Some((from, count)) => {
                let rest = bytes.get(from..).unwrap_or_default();
                (format!("{name}<{from}>"), &rest[..rest.len().min(count)])
            }
            None => (name, &*bytes),
        };
        let mut part = format!("{name} {{{}}}\r\n", bytes.len()).into_bytes();
        part.extend_from_slice(bytes);
        Some(part)
    }

    async fn store(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> io::Result<()> {
        let [set, action, flags] = arguments else {
            return self.connection.say(&format!("{tag} BAD Invalid arguments.")).await;
        };
        if self.selected.as_ref().is_some_and(|selected| selected.read_only) {
            return self
                .connection
                .say(&format!("{tag} NO [READ-ONLY] Mailbox is read-only."))
                .await;
        }
        let action = action.text().to_ascii_uppercase();
        let flags: BTreeSet<String> = match flags {
            Word::List(flags) => flags.iter().map(|flag| flag.text().to_owned()).collect(),
            Word::Text(flag) => BTreeSet::from([flag.clone()]),
        };
        let mut reply = self.news(true);
        for (number, mail) in self.chosen(set.text(), by_uid) {
            let now = self.change(|folder| {
                let index = folder.mails.binary_search_by_key(&mail.uid, |mail| mail.uid).ok()?;
                let held = &mut folder.mails[index].flags;
                match action.as_bytes().first() {
                    Some(b'+') => held.extend(flags.iter().cloned()),
                    Some(b'-') => held.retain(|flag| !flags.contains(flag)),
                    _ => held.clone_from(&flags),
                }
                Some(Vec::from_iter(held.iter().cloned()).join(" "))
            });
            if let (Some(Some(now)), false) = (now, action.ends_with(".SILENT")) {
                reply += &format!("* {number} FETCH (UID {} FLAGS ({now}))\r\n", mail.uid);
            }
        }
        reply += &format!("{tag} OK Store completed.\r\n");
        self.connection.reply(reply.as_bytes()).await
    }

    /// Removes the mails that are marked as deleted, only those of a set if one is given.
    fn remove_deleted(&self, only: Option<&[u32]>) {
        let goes = |mail: &StoredMail| {
            mail.flags.contains("\\Deleted") && only.is_none_or(|uids| uids.contains(&mail.uid))
        };
        let folder = self.selected.as_ref().map_or("", |selected| &*selected.name);
        if self.habits().archives && folder != super::TRASH {
            self.shared.mailboxes.move_mails(self.name(), folder, super::ARCHIVE, goes);
        }
        let goes_back = self.habits().uid_next == UidNext::GoesBack;
        self.change(|folder| {
            folder.mails.retain(|mail| {
                !mail.flags.contains("\\Deleted")
                    || only.is_some_and(|uids| !uids.contains(&mail.uid))
            });
            if goes_back {
                folder.uid_next = folder.mails.iter().map(|mail| mail.uid).max().unwrap_or(0) + 1;
            }
        });
    }

    async fn expunge(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> io::Result<()> {
        if by_uid && (self.without("UIDPLUS") || arguments.is_empty()) {
            return self
                .connection
                .say(&format!("{tag} BAD Error in IMAP command UID EXPUNGE."))
                .await;
        }
        let only = by_uid.then(|| {
            let set = arguments.first().map(Word::text).unwrap_or_default();
            self.chosen(set, true).into_iter().map(|(_, mail)| mail.uid).collect::<Vec<_>>()
        });
        self.remove_deleted(only.as_deref());
        let news = self.news(false);
        self.connection.reply(format!("{news}{tag} OK Expunge completed.\r\n").as_bytes()).await
    }

    /// Reports changes until the client sends DONE, with the server's delay.
    async fn idle(&mut self, tag: &str) -> io::Result<()> {
        let Some(mut changes) = self.shared.mailboxes.watch(self.name()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.connection.say("+ idling").await?;
        // When changes are reported.
        let mut due = Some(Instant::now());
        loop {
            tokio::select! {
                line = self.connection.command() => {
                    if line?.is_none_or(|line| !line.eq_ignore_ascii_case("DONE")) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let news = self.news(false);
                    let reply = format!("{news}{tag} OK Idle completed.\r\n");
                    return self.connection.reply(reply.as_bytes()).await;
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    let news = self.news(false);
                    if !news.is_empty() {
                        self.connection.reply(news.as_bytes()).await?;
                    }
                }
                () = changed(&mut changes), if due.is_none() => {
                    due = Some(Instant::now() + self.shared.options.idle_lag);
                }
            }
        }
    }
}

/// Waits for a change; forever if there can't be any more.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Formats a mail's arrival for IMAP: whole seconds.
fn internal_date(mail: &StoredMail) -> String {
    let date = jiff::tz::TimeZone::UTC.to_datetime(mail.internal_date.timestamp());
    date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string()
}

/// Returns the requested header fields and the empty line.
fn fields(head: &[u8], wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut found = Vec::new();
    let mut take = false;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            take = line.contains(&b':') && wanted(&String::from_utf8_lossy(name));
        }
        if take {
            found.extend_from_slice(line);
        }
    }
    found.extend_from_slice(b"\r\n");
    found
}

/// Returns whether a mail matches all criteria of a SEARCH; `None` for an unknown criterion.
fn matches(
    criteria: &[Word],
    number: usize,
    mail: &StoredMail,
    in_uid_set: impl Fn(&str) -> bool,
) -> Option<bool> {
    let head = mail
        .bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(mail.bytes.len(), |at| at + 4);
    let contains = |bytes: &[u8], needle: &str| {
        String::from_utf8_lossy(bytes).to_lowercase().contains(&needle.to_lowercase())
    };
    let field = |name: &str, needle: &str| {
        let found = fields(&mail.bytes[..head], |other| other.eq_ignore_ascii_case(name));
        found.len() > 2 && {
            let unfolded = String::from_utf8_lossy(&found).replace("\r\n", "");
            contains(unfolded.as_bytes(), needle)
        }
    };
    let mut all = true;
    let mut rest = criteria.iter();
    while let Some(word) = rest.next() {
        let key = word.text().to_ascii_uppercase();
        let mut next = || rest.next().map(Word::text);
        all &= match key.as_str() {
            "ALL" => true,
            "CHARSET" => next().is_some(),
            "SEEN" => mail.flags.contains("\\Seen"),
            "UNSEEN" => !mail.flags.contains("\\Seen"),
            "DELETED" => mail.flags.contains("\\Deleted"),
            "UNDELETED" => !mail.flags.contains("\\Deleted"),
            "UID" => in_uid_set(next()?),
            "HEADER" => {
                let name = next()?;
                field(name, next()?)
            }
            "SUBJECT" | "FROM" | "TO" => field(&key, next()?),
            "BODY" => contains(&mail.bytes[head..], next()?),
            "TEXT" => contains(&mail.bytes, next()?),
            "SINCE" | "SENTSINCE" | "LARGER" => next().is_some(),
            set if set.starts_with(|c: char| c.is_ascii_digit()) => set.split(',').any(|part| {
                let (a, b) = part.split_once(':').unwrap_or((part, part));
                let end = |text: &str| text.parse().unwrap_or(usize::MAX);
                (end(a).min(end(b))..=end(a).max(end(b))).contains(&number)
            }),
            _ => return None,
        };
    }
    Some(all)
}

/// Returns the length of the literal at the end of a line, and whether the client waits before
/// sending it.
fn literal(line: &str) -> Option<(usize, bool)> {
    let inner = line.strip_suffix('}')?;
    let length = &inner[inner.rfind('{')? + 1..];
    match length.strip_suffix('+') {
        Some(length) => Some((length.parse().ok()?, false)),
        None => Some((length.parse().ok()?, true)),
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Parses words up to the end or the closing parenthesis.
fn parse(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    inside: bool,
) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    loop {
        match characters.peek().copied() {
            None => return (!inside).then_some(words),
            Some(' ') => {
                characters.next();
            }
            Some(')') => {
                characters.next();
                return inside.then_some(words);
            }
            Some('(') => {
                characters.next();
                words.push(Word::List(parse(characters, true)?));
            }
            Some('"') => {
                characters.next();
                let mut text = String::new();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => text.push(characters.next()?),
                        character => text.push(character),
                    }
                }
                words.push(Word::Text(text));
            }
            Some(_) => {
                // An atom; the brackets of BODY[…] contain blanks and parentheses.
                let mut text = String::new();
                let mut brackets = 0;
                while let Some(character) = characters.peek().copied() {
                    match character {
                        '[' => brackets += 1,
                        ']' => brackets -= 1,
                        ' ' | '(' | ')' if brackets <= 0 => break,
                        _ => {}
                    }
                    text.push(character);
                    characters.next();
                }
                words.push(Word::Text(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_apart() {
        let text = |text: &str| Word::Text(text.to_owned());
        let parsed = parse(
            &mut r#"FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (Subject X-A)] FLAGS) "a \"b\"""#
                .chars()
                .peekable(),
            false,
        );
        let list = Word::List(vec![
            text("UID"),
            text("BODY.PEEK[HEADER.FIELDS (Subject X-A)]"),
            text("FLAGS"),
        ]);
        assert_eq!(parsed, Some(vec![text("FETCH"), text("1:*"), list, text("a \"b\"")]));
        assert_eq!(parse(&mut "(a".chars().peekable(), false), None);
        assert_eq!(literal("A LOGIN {5}"), Some((5, true)));
        assert_eq!(literal("A LOGIN {5+}"), Some((5, false)));
        assert_eq!(literal("A LOGIN a"), None);
    }
}
