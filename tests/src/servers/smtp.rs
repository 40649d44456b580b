//! The embedded SMTP server (RFC 5321, 3207, 4954, 1870, 2920, 6152, 2034).

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Protocol,
    connection::{Connection, Met},
    delivery::{self, Client},
    sasl::{Exchange, Step},
};

/// Returns the phase of a command's faults.
fn phase(verb: &str) -> Option<&'static str> {
    let verb = if verb == "HELO" { "EHLO" } else { verb };
    Protocol::Smtp.phases().iter().copied().find(|phase| *phase == verb)
}

pub(super) async fn serve(mut connection: Connection) -> io::Result<()> {
    let shared = connection.shared.clone();
    let options = &shared.options;
    if connection.meet("GREETING").await? == Met::Go {
        connection.say(&format!("220 {} ESMTP Postfix", options.host_name)).await?;
    }
    let mut client =
        Client { helo: String::new(), tls: connection.tls.clone(), authenticated: false };
    let mut from: Option<String> = None;
    let mut to: Vec<String> = Vec::new();

    while let Some(line) = connection.command().await? {
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let verb = verb.to_ascii_uppercase();
        if let Some(phase) = phase(&verb)
            && connection.meet(phase).await? == Met::Answered
        {
            continue;
        }
        match verb.as_str() {
            "EHLO" | "HELO"
                if options.smtp_habits.only_helo.as_ref().is_some_and(|only| only != rest) =>
            {
                connection.say("550 5.7.1 Helo command rejected: Host not found").await?;
            }
            "EHLO" if options.smtp_habits.no_ehlo.is_some() => {
                connection.say(options.smtp_habits.no_ehlo.unwrap_or_default()).await?;
            }
            "EHLO" => {
                rest.clone_into(&mut client.helo);
                let mut reply = format!("250-{}\r\n250-PIPELINING\r\n", options.host_name);
                if options.states_size {
                    reply += &format!("250-SIZE {}\r\n", options.max_size);
                }
                if let Some((most, _)) =
                    options.max_recipients.as_ref().filter(|_| options.states_max_recipients)
                {
                    reply += &format!("250-LIMITS MAILMAX=100 RCPTMAX={most}\r\n");
                }
                if client.tls.is_none() {
                    reply += "250-STARTTLS\r\n";
                }
                if client.tls.is_some() || options.plaintext_login {
                    let usual = vec![format!("AUTH {}", options.mechanisms.join(" "))];
                    for line in options.smtp_habits.auth_lines.as_ref().unwrap_or(&usual) {
                        reply += &format!("250-{line}\r\n");
                    }
                }
                reply += "250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n";
                connection.reply(reply.as_bytes()).await?;
            }
            "HELO" => {
                rest.clone_into(&mut client.helo);
                connection.say(&format!("250 {}", options.host_name)).await?;
            }
            "STARTTLS" if client.tls.is_none() => {
                connection.say("220 2.0.0 Ready to start TLS").await?;
                connection.start_tls().await?;
                client = Client {
                    helo: String::new(),
                    tls: connection.tls.clone(),
                    authenticated: false,
                };
                (from, to) = (None, Vec::new());
            }
            "AUTH" if client.authenticated => {
                connection.say("503 5.5.1 Error: already authenticated").await?
            }
            "AUTH" if client.tls.is_none() && !options.plaintext_login => {
                connection.say("530 5.7.0 Must issue a STARTTLS command first").await?;
            }
            "AUTH" if options.smtp_habits.rejects_initial_response && rest.trim().contains(' ') => {
                connection.say("500 5.5.2 Line too long").await?;
            }
            "AUTH" => match authenticate(&mut connection, rest).await? {
                Some(true) => {
                    client.authenticated = true;
                    connection.say("235 2.7.0 Authentication successful").await?;
                }
                Some(false) => {
                    tokio::time::sleep(options.auth_failure_delay).await;
                    connection
                        .say("535 5.7.8 Error: authentication failed: authentication failure")
                        .await?;
                }
                None => connection
                    .say("535 5.7.8 Error: authentication failed: Invalid authentication mechanism")
                    .await?,
            },
            "MAIL" if options.smtp_auth_required && !client.authenticated => {
                connection.say("530 5.7.0 Authentication required").await?;
            }
            "MAIL" => match path(rest, "FROM:") {
                Some((address, parameters)) => {
                    let size = parameters.split_whitespace().find_map(|parameter| {
                        parameter.to_ascii_uppercase().strip_prefix("SIZE=")?.parse::<usize>().ok()
                    });
                    if size.is_some_and(|size| options.states_size && size > options.max_size) {
                        connection.say("552 5.3.4 Message size exceeds fixed limit").await?;
                    } else {
                        from = Some(address);
                        connection.say("250 2.1.0 Ok").await?;
                    }
                }
                None => connection.say("501 5.1.7 Bad sender address syntax").await?,
            },
            "RCPT" if from.is_none() => {
                connection.say("503 5.5.1 Error: need MAIL command").await?
            }
            "RCPT"
                if options.max_recipients.as_ref().is_some_and(|(most, _)| to.len() >= *most) =>
            {
                let refusal = options.max_recipients.as_ref().map_or("", |(_, refusal)| refusal);
                connection.say(refusal).await?;
                // RFC 5321, section 3.8.
                if refusal.starts_with("421") {
                    return connection.close().await;
                }
            }
            "RCPT" => match path(rest, "TO:") {
                Some((address, _)) if shared.mailboxes.exists(&address) => {
                    to.push(address);
                    connection.say("250 2.1.5 Ok").await?;
                }
                Some((address, _)) => {
                    let refusal = format!(
                        "550 5.1.1 <{address}>: Recipient address rejected: User unknown in local recipient table"
                    );
                    connection.say(&refusal).await?;
                }
                None => connection.say("501 5.1.3 Bad recipient address syntax").await?,
            },
            "DATA" if to.is_empty() => {
                connection.say("554 5.5.1 Error: no valid recipients").await?
            }
            "DATA" => {
                connection.say("354 End data with <CR><LF>.<CR><LF>").await?;
                let Some(content) = content(&mut connection, options.max_size).await? else {
                    return Ok(());
                };
                // RFC 5321, section 4.5.3.1.6; Exchange refuses such a mail, Postfix splits its
                // lines.
                if content.as_deref().is_some_and(has_long_line) {
                    (from, to) = (None, Vec::new());
                    connection.say("554 5.6.0 Error: a line is longer than 998 octets").await?;
                    continue;
                }
                let (sender, recipients) =
                    (from.take().unwrap_or_default(), std::mem::take(&mut to));
                if connection.meet("CONTENT").await? == Met::Answered {
                    continue;
                }
                match content {
                    Some(content) => {
                        let queue_id =
                            delivery::accept(&shared, &client, &sender, &recipients, &content);
                        connection.say(&format!("250 2.0.0 Ok: queued as {queue_id}")).await?;
                    }
                    None => connection.say("552 5.3.4 Error: message file too big").await?,
                }
            }
            "RSET" => {
                (from, to) = (None, Vec::new());
                connection.say("250 2.0.0 Ok").await?;
            }
            "NOOP" => connection.say("250 2.0.0 Ok").await?,
            "QUIT" => {
                connection.say("221 2.0.0 Bye").await?;
                return connection.close().await;
            }
            _ => connection.say("502 5.5.2 Error: command not recognized").await?,
        }
    }
    Ok(())
}

/// Checks credentials; `None` for an unknown mechanism.
async fn authenticate(connection: &mut Connection, arguments: &str) -> io::Result<Option<bool>> {
    let shared = connection.shared.clone();
    let (mechanism, initial) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let Some(mut exchange) = Exchange::begin(&shared, mechanism) else {
        return Ok(None);
    };
    let mut response = (!initial.is_empty()).then(|| initial.to_owned());
    loop {
        match exchange.next(&shared, response.as_deref()) {
            Step::End(user) => return Ok(Some(user.is_some())),
            Step::Challenge(challenge) => {
                connection.say(&format!("334 {}", STANDARD.encode(challenge))).await?;
                response = connection.command().await?;
                match response.as_deref() {
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some("*") => return Ok(Some(false)),
                    Some(_) => {}
                }
            }
        }
    }
}

/// Parses the address and the parameters of `FROM:<…> …` or `TO:<…> …`.
fn path(arguments: &str, keyword: &str) -> Option<(String, String)> {
    let head = arguments.get(..keyword.len())?;
    let rest = arguments[keyword.len()..].trim_start().strip_prefix('<')?;
    let (address, parameters) = rest.split_once('>')?;
    (head.eq_ignore_ascii_case(keyword) && (address.is_empty() || address.contains('@')))
        .then(|| (address.to_owned(), parameters.to_owned()))
}

fn has_long_line(content: &[u8]) -> bool {
    content.split(|byte| *byte == b'\n').any(|line| line.len() > 999)
}

/// Reads the mail's content without dot-stuffing: `None` at the end of the connection, `Some(None)`
/// if it is too large.
async fn content(
    connection: &mut Connection,
    max_size: usize,
) -> io::Result<Option<Option<Vec<u8>>>> {
    let mut content = Vec::new();
    let mut too_large = false;
    loop {
        let Some(line) = connection.line().await? else {
            return Ok(None);
        };
        if line == b"." {
            return Ok(Some((!too_large).then_some(content)));
        }
        let line = line.strip_prefix(b".").unwrap_or(&line);
        if content.len() + line.len() + 2 > max_size {
            too_large = true;
            content = Vec::new();
        }
        if !too_large {
            content.extend_from_slice(line);
            content.extend_from_slice(b"\r\n");
        }
    }
}
