//! The embedded POP3 server (RFC 1939, 2449, 2595, 5034).

use std::{io, sync::atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};

use super::{
    INBOX, Protocol,
    connection::{Connection, Met},
    mailboxes::{Folder, Locked, StoredMail},
    sasl::{Exchange, Step},
};

/// Returns the phase of a command's faults: the last command of each login method is `LOGIN`.
fn phase(verb: &str) -> Option<&'static str> {
    let verb = if matches!(verb, "PASS" | "APOP" | "AUTH") { "LOGIN" } else { verb };
    Protocol::Pop3.phases().iter().copied().find(|phase| *phase == verb)
}

/// A mailbox in its state at login.
struct Session {
    user: String,
    uid_validity: u32,
    mails: Vec<(StoredMail, bool)>,
    _lock: Option<Locked>,
}

pub(super) async fn serve(mut connection: Connection) -> io::Result<()> {
    let shared = connection.shared.clone();
    let options = &shared.options;
    let without =
        |what: &str| options.pop3_without.iter().any(|missing| missing.eq_ignore_ascii_case(what));
    let stamp = format!(
        "<{}.{}@{}>",
        std::process::id(),
        shared.queue_id.fetch_add(1, Ordering::Relaxed),
        options.host_name
    );
    if connection.meet("GREETING").await? == Met::Go {
        let stamp = if without("APOP") { "" } else { &stamp };
        connection.say(format!("+OK Dovecot ready. {stamp}").trim_end()).await?;
    }
    let mut name: Option<String> = None;
    let mut session: Option<Session> = None;

    while let Some(line) = connection.command().await? {
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let verb = verb.to_ascii_uppercase();
        let in_clear = connection.tls.is_none() && !options.plaintext_login;
        if let Some(phase) = phase(&verb)
            && connection.meet(phase).await? == Met::Answered
        {
            continue;
        }
        if without(&verb) {
            connection.say("-ERR Unknown command.").await?;
            continue;
        }
        match (verb.as_str(), &mut session) {
            ("CAPA", _) => {
                let mut capabilities =
                    vec!["CAPA", "TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"];
                if connection.tls.is_none() {
                    capabilities.push("STLS");
                }
                let sasl = format!("SASL {}", options.mechanisms.join(" "));
                if !in_clear {
                    capabilities.extend(["USER", &sasl]);
                }
                capabilities.retain(|capability| {
                    !without(capability.split(' ').next().unwrap_or(capability))
                });
                let reply = format!("+OK\r\n{}\r\n.\r\n", capabilities.join("\r\n"));
                connection.reply(reply.as_bytes()).await?;
            }
            ("STLS", None) if connection.tls.is_none() => {
                connection.say("+OK Begin TLS negotiation now.").await?;
                connection.start_tls().await?;
                name = None;
            }
            ("USER" | "PASS" | "AUTH", None) if in_clear => {
                connection
                    .say("-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.")
                    .await?;
            }
            ("USER", None) => {
                name = Some(rest.to_owned());
                connection.say("+OK").await?;
            }
            ("PASS", None) => {
                let user = name.take().filter(|user| shared.may_log_in(user, rest));
                session = log_in(&mut connection, user).await?;
            }
            ("APOP", None) => {
                let user = rest.split_once(' ').and_then(|(user, digest)| {
                    let right = Md5::digest(format!("{stamp}{}", shared.password(user)?));
                    let right: String = right.iter().map(|byte| format!("{byte:02x}")).collect();
                    (right == digest).then(|| user.to_owned())
                });
                session = log_in(&mut connection, user).await?;
            }
            ("AUTH", None) if rest.is_empty() => {
                let reply = format!("+OK\r\n{}\r\n.\r\n", options.mechanisms.join("\r\n"));
                connection.reply(reply.as_bytes()).await?;
            }
            ("AUTH", None) => {
                let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
                let exchange = Exchange::begin(&shared, mechanism).filter(|_| !without("SASL"));
                let Some(mut exchange) = exchange else {
                    connection.say("-ERR Unsupported authentication mechanism.").await?;
                    continue;
                };
                if mechanism.eq_ignore_ascii_case("XOAUTH2") && !initial.is_empty() {
                    // Microsoft 365's reply.
                    connection.say("-ERR Protocol error. Connection is closed. 10").await?;
                    return connection.close().await;
                }
                let mut response = (!initial.is_empty()).then(|| initial.to_owned());
                let user = loop {
                    match exchange.next(&shared, response.as_deref()) {
                        Step::End(user) => break user,
                        Step::Challenge(challenge) => {
                            connection.say(&format!("+ {}", STANDARD.encode(challenge))).await?;
                            response = connection.command().await?;
                            if matches!(response.as_deref(), None | Some("*")) {
                                break None;
                            }
                        }
                    }
                };
                session = log_in(&mut connection, user).await?;
            }
            ("QUIT", None) => {
                connection.say("+OK Logging out").await?;
                return connection.close().await;
            }
            (_, None) => connection.say("-ERR Unknown command.").await?,
            (verb, Some(session)) => {
                if verb == "QUIT" {
                    session.remove_deleted(&connection);
                    connection.say("+OK Logging out, messages deleted.").await?;
                    return connection.close().await;
                }
                session.carry_out(&mut connection, verb, rest).await?;
            }
        }
    }
    Ok(())
}

/// Opens the mailbox of an authenticated user.
async fn log_in(connection: &mut Connection, user: Option<String>) -> io::Result<Option<Session>> {
    let shared = connection.shared.clone();
    let Some(user) = user else {
        tokio::time::sleep(shared.options.auth_failure_delay).await;
        connection.say("-ERR [AUTH] Authentication failed.").await?;
        return Ok(None);
    };
    let lock = if shared.options.pop3_exclusive {
        let Some(lock) = shared.mailboxes.try_lock(&user) else {
            connection.say("-ERR [IN-USE] Mailbox is locked by another POP3 session.").await?;
            return Ok(None);
        };
        Some(lock)
    } else {
        None
    };
    let Some(folder) = shared.mailboxes.snapshot(&user, INBOX) else {
        connection.say("-ERR [SYS/PERM] No mailbox.").await?;
        return Ok(None);
    };
    let session = Session {
        user,
        uid_validity: folder.uid_validity,
        mails: folder.mails.into_iter().map(|mail| (mail, false)).collect(),
        _lock: lock,
    };
    connection.say("+OK Logged in.").await?;
    Ok(Some(session))
}

impl Session {
    fn find(&mut self, number: &str) -> Option<&mut (StoredMail, bool)> {
        let index = number.trim().parse::<usize>().ok()?.checked_sub(1)?;
        self.mails.get_mut(index).filter(|(_, deleted)| !deleted)
    }

    /// Returns whether a mail still exists: another session may have deleted it meanwhile.
    fn still_there(&self, connection: &Connection, uid: u32) -> bool {
        let look =
            |folder: &Folder| folder.mails.binary_search_by_key(&uid, |mail| mail.uid).is_ok();
        connection.shared.mailboxes.look(&self.user, INBOX, look).unwrap_or(false)
    }

    fn remove_deleted(&self, connection: &Connection) {
        let deleted: Vec<u32> =
            self.mails.iter().filter(|(_, deleted)| *deleted).map(|(mail, _)| mail.uid).collect();
        if !deleted.is_empty() {
            connection.shared.mailboxes.change(&self.user, INBOX, |folder| {
                folder.mails.retain(|mail| !deleted.contains(&mail.uid));
            });
        }
    }

    /// Lists one mail or all.
    async fn list(
        &mut self,
        connection: &mut Connection,
        number: &str,
        show: impl Fn(&StoredMail) -> String,
    ) -> io::Result<()> {
        if number.trim().is_empty() {
            let mut reply = String::from("+OK\r\n");
            for (index, (mail, _)) in
                self.mails.iter().enumerate().filter(|(_, (_, deleted))| !deleted)
            {
                reply += &format!("{} {}\r\n", index + 1, show(mail));
            }
            reply += ".\r\n";
            return connection.reply(reply.as_bytes()).await;
        }
        match self.find(number) {
            Some((mail, _)) => {
                let line = format!("+OK {} {}", number.trim(), show(mail));
                connection.say(&line).await
            }
            None => connection.say("-ERR There's no such message.").await,
        }
    }

    async fn carry_out(
        &mut self,
        connection: &mut Connection,
        verb: &str,
        rest: &str,
    ) -> io::Result<()> {
        let uid_validity = self.uid_validity;
        match verb {
            "STAT" => {
                let left = self.mails.iter().filter(|(_, deleted)| !deleted);
                let (count, octets) = left.fold((0, 0), |(count, octets), (mail, _)| {
                    (count + 1, octets + mail.bytes.len())
                });
                connection.say(&format!("+OK {count} {octets}")).await
            }
            "LIST" => self.list(connection, rest, |mail| mail.bytes.len().to_string()).await,
            "UIDL" => {
                self.list(connection, rest, |mail| format!("{:08x}{uid_validity:08x}", mail.uid))
                    .await
            }
            "RETR" | "TOP" => {
                let (number, lines) = match (verb, rest.split_once(' ')) {
                    ("RETR", _) => (rest, None),
                    (_, Some((number, lines))) => (number, lines.trim().parse::<usize>().ok()),
                    (_, None) => return connection.say("-ERR Noninteger line count given.").await,
                };
                let found = self.find(number).map(|(mail, _)| (mail.uid, mail.bytes.clone()));
                match found {
                    Some((uid, bytes)) if self.still_there(connection, uid) => {
                        connection.reply(&multiline(&bytes, lines)).await
                    }
                    Some(_) => connection.say("-ERR Message was expunged.").await,
                    None => connection.say("-ERR There's no such message.").await,
                }
            }
            "DELE" => match self.find(rest) {
                Some((_, deleted)) => {
                    *deleted = true;
                    connection.say("+OK Marked to be deleted.").await
                }
                None => connection.say("-ERR There's no such message.").await,
            },
            "RSET" => {
                self.mails.iter_mut().for_each(|(_, deleted)| *deleted = false);
                connection.say("+OK").await
            }
            "NOOP" => connection.say("+OK").await,
            _ => connection.say("-ERR Unknown command.").await,
        }
    }
}

/// Returns a mail, or its header and this many lines, as a dot-stuffed reply.
fn multiline(mail: &[u8], lines: Option<usize>) -> Vec<u8> {
    let mut reply = format!("+OK {} octets\r\n", mail.len()).into_bytes();
    let mut body_lines = None;
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if let (Some(seen), Some(wanted)) = (&mut body_lines, lines) {
            if *seen == wanted {
                break;
            }
            *seen += 1;
        }
        if line.starts_with(b".") {
            reply.push(b'.');
        }
        reply.extend_from_slice(line);
        if body_lines.is_none() && (line == b"\r\n" || line == b"\n") {
            body_lines = Some(0);
        }
    }
    if !reply.ends_with(b"\r\n") {
        reply.extend_from_slice(b"\r\n");
    }
    reply.extend_from_slice(b".\r\n");
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_gives_the_header_and_so_many_lines() {
        let mail = b"A: 1\r\n\r\none\r\n.two\r\nthree\r\n";
        assert_eq!(multiline(mail, Some(0)), b"+OK 26 octets\r\nA: 1\r\n\r\n.\r\n");
        assert_eq!(multiline(mail, Some(2)), b"+OK 26 octets\r\nA: 1\r\n\r\none\r\n..two\r\n.\r\n");
        assert!(multiline(mail, None).ends_with(b"\r\nthree\r\n.\r\n"));
    }
}
