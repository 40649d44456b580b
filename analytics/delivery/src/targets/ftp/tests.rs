//! Sessions with minimal servers in this process.

use mailqos_base::Secret;
use mailqos_config::{Endpoint, FtpData, FtpEncoding, TlsMode};
use mailqos_net::Trust;
use tokio::io::AsyncBufReadExt as _;

use super::*;

const OPTIONS: Options<'static> =
    Options { path: "", data: FtpData::Passive, encoding: FtpEncoding::Auto };

/// Publishes `p` as `n` at a server that refuses to rename over a file, with the given answers.
/// Returns the result and the commands that the server received.
async fn publish(answers: &[(&str, &str)]) -> (Result<(), DeliveryError>, Vec<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let login = Login {
        endpoint: Endpoint {
            server: "127.0.0.1".into(),
            port: listener.local_addr().expect("an address").port(),
            tls: TlsMode::None,
            trust: Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        },
        user: String::new(),
        domain: None,
        password: Secret::new(""),
        limit: Duration::from_secs(30),
        state: std::path::PathBuf::from("/nonexistent"),
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let (read, mut write) = stream.split();
        let mut lines = tokio::io::BufReader::new(read).lines();
        write.write_all(b"220 here\r\n").await.expect("written");
        let mut heard = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let own = answers.iter().find(|(command, _)| *command == line);
            let answer = own.map(|(_, answer)| *answer).unwrap_or_else(|| {
                match line.split(' ').next().unwrap_or("") {
                    "USER" => "331 who?",
                    "PASS" => "230 welcome",
                    "EPSV" => "229 here (|||1|)",
                    "PWD" => "257 \"/\"",
                    "RNFR" => "350 to?",
                    "RNTO" => "553 there is one",
                    "DELE" => "250 gone",
                    "SIZE" => "213 3",
                    "QUIT" => "221 bye",
                    _ => "200 well",
                }
            });
            write.write_all(format!("{answer}\r\n").as_bytes()).await.expect("written");
            heard.push(line);
        }
        heard
    };
    let client = async {
        let mut ftp = Ftp::open(&login, OPTIONS).await.expect("opened");
        let published = ftp.publish("p", "n").await;
        ftp.close().await;
        published
    };
    tokio::join!(client, server)
}

fn step_of(published: Result<(), DeliveryError>) -> String {
    match published {
        Err(DeliveryError::Server { step, .. }) => step,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_old_file_is_deleted_only_if_the_new_one_exists() {
    let is_removed = |heard: &[String]| heard.iter().any(|line| line == "DELE n");
    let (published, heard) = publish(&[]).await;
    assert_eq!(step_of(published), "RNTO n");
    assert!(is_removed(&heard) && heard.iter().filter(|line| *line == "RNTO n").count() == 2);
    // Someone else has renamed it in the meantime: the file there now was just delivered.
    let (published, heard) =
        publish(&[("RNFR p", "550 no such file"), ("SIZE p", "550 no such file")]).await;
    assert!(matches!(published, Err(DeliveryError::Differs { .. })), "{published:?}");
    assert!(!is_removed(&heard), "{heard:?}");
}

#[tokio::test]
async fn rejections_are_reported() {
    // It exists and may not be removed.
    let (published, _) = publish(&[("DELE n", "553 it stays")]).await;
    assert_eq!(step_of(published), "DELE n");
    // A server that reports no sizes may have refused something else.
    let unknown = [("SIZE n", "500 what?"), ("SIZE p", "500 what?")];
    let (published, _) = publish(&[unknown[0], unknown[1], ("DELE n", "550 there is none")]).await;
    assert_eq!(step_of(published), "RNTO n");
}

#[tokio::test]
async fn odd_replies_do_not_desynchronise_a_session() {
    for odd in [
        // Lines that resemble replies, and a second welcome after the first (msbuildtasks #285).
        ("PASS mailqos@", "230-Welcome\r\n200 files today\r\n230-\r\n230 in\r\n230 once more"),
        ("PASS mailqos@", "202 superfluous"),
        ("PASS mailqos@", "230"),
        ("USER anonymous", "230 no password needed"),
        ("PWD", "230 welcome, late\r\n257 \"/\" is it"),
        ("PWD", "550 no"),
        ("PWD", "257-\"/\" is\r\n250 it"),
        ("TYPE I", "226 well"),
        ("SIZE n", "250 what?\r\n213 3 bytes"),
        ("RNFR p", "250 to?"),
        ("DELE n", "200 gone"),
        ("FEAT", "211-Features:\r\n UTF8\r\n211"),
        ("FEAT", "550 no"),
    ] {
        let renamed = ("RNTO n", "200 renamed");
        let (published, heard) = publish(&[odd, renamed]).await;
        published.unwrap_or_else(|error| panic!("{odd:?}: {error}\n{heard:?}"));
        assert!(heard.iter().any(|line| line == "QUIT"), "{odd:?}: {heard:?}");
    }
}
