//! The embedded servers themselves, on which the other tests rely.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::servers::{
    Fault, INBOX, JUNK, MailServer, Mishap, Options, PASSWORD, PROBE, Protocol, ServerClock, When,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

fn mail(subject: &str) -> Message {
    Message::builder()
        .from(PROBE.parse().unwrap())
        .to(PROBE.parse().unwrap())
        .subject(subject)
        .body("body\n.with a dot\n".to_owned())
        .expect("a mail")
}

fn sender(server: &MailServer, implicit: bool) -> AsyncSmtpTransport<Tokio1Executor> {
    let authority =
        Certificate::from_pem(server.authority().pem().as_bytes()).expect("the authority");
    let tls = TlsParameters::builder("localhost".into())
        .add_root_certificate(authority)
        .build()
        .expect("TLS");
    let (port, tls) = if implicit {
        (server.smtps_port(), Tls::Wrapper(tls))
    } else {
        (server.smtp_port(), Tls::Required(tls))
    };
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost")
        .port(port)
        .tls(tls)
        .credentials(Credentials::new(PROBE.into(), PASSWORD.into()))
        .build()
}

/// One plaintext POP3 session; multi-line replies count as one.
async fn pop3(server: &MailServer, commands: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(("127.0.0.1", server.pop3_port())).await.expect("POP3");
    let mut stream = BufReader::new(stream);
    let mut replies = Vec::new();
    for command in
        ["", &format!("USER {PROBE}"), &format!("PASS {PASSWORD}")].iter().chain(commands)
    {
        if !command.is_empty() {
            stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.expect("command");
        }
        let mut reply = String::new();
        let many = ["LIST", "UIDL", "CAPA"].contains(command)
            || command.starts_with("RETR")
            || command.starts_with("TOP");
        loop {
            let before = reply.len();
            if stream.read_line(&mut reply).await.expect("reply") == 0
                || !many
                || reply[before..] == *".\r\n"
            {
                break;
            }
            if reply.starts_with("-ERR") {
                break;
            }
        }
        replies.push(reply);
    }
    replies.split_off(3)
}

async fn landed(server: &MailServer, count: usize) {
    while server.landings().len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn options() -> Options {
    Options { plaintext_login: true, ..Options::default() }
}

#[tokio::test]
async fn a_mail_goes_in_by_smtp_and_comes_out_by_pop3() {
    let clock = ServerClock::off_by(Micros::from_secs(-37), 0.0);
    let server = MailServer::start(Options { clock, ..options() }).await.expect("server");
    server.fill(PROBE, 3);
    for implicit in [false, true] {
        sender(&server, implicit).send(mail("hello")).await.expect("sent");
    }
    landed(&server, 2).await;
    let landing = &server.landings()[0];
    assert_eq!(landing.field("Subject").as_deref(), Some("hello"));
    assert!(landing.field("Received").unwrap().contains("with LMTP"));
    let (accepted, now) = (server.accepted()[0].at, UtcMicros::now());
    assert!(accepted <= landing.at && landing.at <= now);
    let mail = server.mails(PROBE, INBOX).into_iter().find(|mail| !mail.foreign).unwrap();
    assert_eq!(mail.internal_date, landing.at - Micros::from_secs(37));

    let replies =
        pop3(&server, &["STAT", "RETR 4", "TOP 4 0", "DELE 4", "RETR 4", "UIDL", "QUIT"]).await;
    assert!(replies[0].starts_with("+OK 5 "), "{replies:?}");
    assert!(
        replies[1].contains("with ESMTPSA id ") && replies[1].contains("\r\n..with a dot\r\n"),
        "{replies:?}"
    );
    assert!(!replies[2].contains("with a dot"));
    assert!(replies[4].starts_with("-ERR"));
    assert_eq!(replies[5].lines().count(), 6, "{replies:?}");
    assert_eq!((server.mails(PROBE, INBOX).len(), server.foreign(PROBE)), (4, 3));
}

#[tokio::test]
async fn a_pop3_session_sees_what_was_there_at_login_and_deletes_at_quit() {
    let server =
        MailServer::start(Options { pop3_exclusive: true, ..options() }).await.expect("server");
    server.fill(PROBE, 1);
    let mut stream =
        BufReader::new(TcpStream::connect(("127.0.0.1", server.pop3_port())).await.expect("POP3"));
    stream
        .get_mut()
        .write_all(format!("USER {PROBE}\r\nPASS {PASSWORD}\r\nDELE 1\r\n").as_bytes())
        .await
        .unwrap();
    let mut reply = String::new();
    for _ in 0..4 {
        stream.read_line(&mut reply).await.unwrap();
    }
    assert!(reply.ends_with("+OK Marked to be deleted.\r\n"), "{reply}");
    let refused = pop3(&server, &["STAT"]).await;
    assert!(refused[0].starts_with("-ERR"), "locked: {refused:?}");
    drop(stream);
    while !pop3(&server, &["STAT"]).await[0].starts_with("+OK 1 ") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn mishaps_befall_mails() {
    let server = MailServer::start(options()).await.expect("server");
    let sender = sender(&server, false);
    for (mishap, folder, count, content) in [
        (Mishap::Duplicate, INBOX, 2, "Subject: one"),
        (Mishap::TagSubject("[SPAM] ".into()), INBOX, 1, "Subject: [SPAM] one"),
        (Mishap::Junk, JUNK, 1, "Subject: one"),
        (Mishap::Bounce("5.2.2".into()), INBOX, 1, "Status: 5.2.2"),
        (Mishap::Attach, INBOX, 1, "Content-Type: message/rfc822"),
        (Mishap::ReplaceBody("other\r\n".into()), INBOX, 1, "\r\n\r\nother\r\n"),
    ] {
        let before = server.landings().len();
        server.befall(Some(PROBE), mishap.clone(), When::Times(1));
        sender.send(mail("one")).await.expect("sent");
        landed(&server, before + count).await;
        let landing = server.landings()[before].clone();
        assert!(String::from_utf8_lossy(&landing.content).contains(content), "{mishap:?}");
        assert_eq!(landing.folder, folder, "{mishap:?}");
    }
    server.befall(None, Mishap::Lose, When::Times(1));
    let before = server.landings().len();
    sender.send(mail("lost")).await.expect("sent");
    sender.send(mail("not lost")).await.expect("sent");
    landed(&server, before + 1).await;
    assert_eq!(server.landings()[before].field("Subject").as_deref(), Some("not lost"));
}

#[tokio::test]
async fn faults_strike_at_their_phase() {
    let server = MailServer::start(options()).await.expect("server");
    server.inject(Protocol::Smtp, "RCPT", Fault::Reply("450 4.2.0 later".into()), When::Times(1));
    let error = sender(&server, false).send(mail("one")).await.expect_err("refused");
    assert!(error.to_string().contains("later"), "{error}");
    server.refuse(Protocol::Pop3);
    while TcpStream::connect(("127.0.0.1", server.pop3_port())).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.admit(Protocol::Pop3);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", server.pop3_port())).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await.expect("greeting");
    server.inject(Protocol::Pop3, "GREETING", Fault::Endless(1_000_000), When::Always);
    let mut stream = TcpStream::connect(("127.0.0.1", server.pop3_port())).await.expect("POP3");
    let mut bytes = vec![0; 1_000_000];
    stream.read_exact(&mut bytes).await.expect("a million bytes");
    assert!(bytes.iter().all(|byte| *byte == b'x'));
}

/// One plaintext IMAP session after login: each command's replies, up to the tagged one.
async fn imap(server: &MailServer, commands: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(("127.0.0.1", server.imap_port())).await.expect("IMAP");
    let mut stream = BufReader::new(stream);
    let mut greeting = String::new();
    stream.read_line(&mut greeting).await.expect("greeting");
    let login = format!("LOGIN {PROBE} {{{}+}}\r\n{PASSWORD}", PASSWORD.len());
    let mut replies = Vec::new();
    for (number, command) in [login.as_str(), "SELECT INBOX"].iter().chain(commands).enumerate() {
        let tag = format!("a{number} ");
        stream
            .get_mut()
            .write_all(format!("{tag}{command}\r\n").as_bytes())
            .await
            .expect("command");
        let mut reply = String::new();
        let mut from = 0;
        while !reply[from..].starts_with(&tag) {
            from = reply.len();
            assert!(stream.read_line(&mut reply).await.expect("reply") > 0, "{command}: {reply}");
        }
        replies.push(reply);
    }
    replies
}

#[tokio::test]
async fn a_mail_is_found_read_and_removed_by_imap() {
    let server = MailServer::start(options()).await.expect("server");
    server.fill(PROBE, 2);
    sender(&server, true).send(mail("needle")).await.expect("sent");
    landed(&server, 1).await;
    let replies = imap(
        &server,
        &[
            "UID SEARCH HEADER Subject needle",
            "UID FETCH 3 (INTERNALDATE BODY.PEEK[HEADER.FIELDS (Subject)])",
            "UID STORE 3 +FLAGS.SILENT (\\Deleted)",
            "UID EXPUNGE 1:3",
            "UID SEARCH ALL",
            "LIST \"\" \"*\"",
        ],
    )
    .await;
    assert!(replies[0].contains(" OK "), "{replies:?}");
    assert!(replies[1].contains("* 3 EXISTS"), "{replies:?}");
    assert!(replies[2].starts_with("* SEARCH 3\r\n"), "{replies:?}");
    assert!(
        replies[3].contains("UID 3 INTERNALDATE \"")
            && replies[3].contains("{19}\r\nSubject: needle\r\n\r\n)"),
        "{replies:?}"
    );
    assert!(replies[5].starts_with("* 3 EXPUNGE\r\n"), "{replies:?}");
    assert!(replies[6].starts_with("* SEARCH 1 2\r\n"), "{replies:?}");
    assert!(replies[7].contains("Junk") && replies[7].contains("INBOX"));
    assert_eq!(server.foreign(PROBE), 2);
}

#[tokio::test]
async fn idle_announces_a_mail_with_the_configured_delay() {
    let lag = Duration::from_millis(120);
    let server = MailServer::start(Options { idle_lag: lag, ..options() }).await.expect("server");
    let mut stream =
        BufReader::new(TcpStream::connect(("127.0.0.1", server.imap_port())).await.expect("IMAP"));
    let commands = format!(
        "a LOGIN {PROBE} {{{}+}}\r\n{PASSWORD}\r\nb SELECT INBOX\r\nc IDLE\r\n",
        PASSWORD.len()
    );
    stream.get_mut().write_all(commands.as_bytes()).await.unwrap();
    let mut line = String::new();
    while !line.starts_with('+') {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    sender(&server, true).send(mail("news")).await.expect("sent");
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    let told = UtcMicros::now();
    assert_eq!(line, "* 1 EXISTS\r\n");
    let late = (told - server.landings()[0].at).to_std();
    assert!(late >= lag, "{late:?}");
    stream.get_mut().write_all(b"DONE\r\n").await.unwrap();
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("c OK"), "{line}");
}
