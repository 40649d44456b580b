//! FTP and FTPS (RFC 959, 2428, 4217): passive, TLS sessions resumed on the data connection, published by rename.

use std::{net::IpAddr, sync::Arc, time::Duration};

use mailqos_core::{config::TlsMode, mail::client_config};
use rustls::client::Resumption;
use suppaftp::{
    FtpError, Mode, Status,
    tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream},
    types::FileType,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::{DeliveryError, Item, Login, Receipt, temporary};

/// How much is written between two looks at the clock.
const CHUNK: usize = 64 << 10;

pub(super) async fn deliver(
    login: &Login,
    path: &str,
    below: &[String],
    items: &[Item],
) -> Result<Receipt, DeliveryError> {
    let mut server = connect(login).await?;
    if path.starts_with('/') {
        login.step("CWD /", transient, server.cwd("/")).await?;
    }
    for part in super::parts(path)?.iter().chain(below) {
        enter(login, &mut server, part).await?;
    }
    let mut receipt = Receipt::default();
    let folder = login.step("PWD", transient, server.pwd()).await?;
    for item in items {
        put(login, &mut server, item).await?;
        receipt.places.push(format!(
            "ftp://{}{}/{}",
            login.server(),
            folder.trim_end_matches('/'),
            item.name
        ));
    }
    "renamed to its final name, size checked".clone_into(&mut receipt.reply);
    // Everything is there: how the session ends changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(5), server.quit()).await;
    Ok(receipt)
}

/// Replies of 4xx and broken connections may pass; 5xx is the server's last word.
fn transient(error: &FtpError) -> bool {
    match error {
        FtpError::UnexpectedResponse(response) => (400..500).contains(&response.status.code()),
        _ => true,
    }
}

async fn connect(login: &Login) -> Result<AsyncRustlsFtpStream, DeliveryError> {
    let endpoint = &login.endpoint;
    let name = endpoint.server.as_str();
    let connector = || -> Result<AsyncRustlsConnector, DeliveryError> {
        let shared = client_config(&endpoint.trust).map_err(|error| DeliveryError::Server {
            server: login.server(),
            step: "TLS".into(),
            reason: error.to_string(),
            transient: true,
        })?;
        let mut config = (*shared).clone();
        // Servers demand that the data connection resumes the control connection's session (vsftpd's require_ssl_reuse, ProFTPD
        // without NoSessionReuseRequired). A store of our own holds the sessions of this conversation and no other.
        config.resumption = Resumption::in_memory_sessions(32);
        Ok(AsyncRustlsConnector::from(TlsConnector::from(Arc::new(config))))
    };
    let mut server = if endpoint.tls == TlsMode::Implicit {
        let connector = connector()?;
        let address = (name, endpoint.port);
        let work = AsyncRustlsFtpStream::connect_secure_implicit(address, connector, name);
        login.step("connection with TLS", transient, work).await?
    } else {
        let stream = login
            .step(
                "connection",
                |_| true,
                tokio::net::TcpStream::connect((name, endpoint.port)),
            )
            .await?;
        let plain = login
            .step("greeting", transient, AsyncRustlsFtpStream::connect_with_stream(stream))
            .await?;
        if endpoint.tls == TlsMode::StartTls {
            login
                .step("AUTH TLS", transient, plain.into_secure(connector()?, name))
                .await?
        } else {
            plain
        }
    };
    let remote = server.get_ref().await.peer_addr().ok().map(|address| address.ip());
    match remote {
        Some(IpAddr::V6(_)) => server.set_mode(Mode::ExtendedPassive),
        _ => {
            // A reply to PASV that names an address behind the server's NAT is corrected.
            server.set_mode(Mode::Passive);
            server.set_passive_nat_workaround(true);
        }
    }
    let (user, password) = if login.user.is_empty() {
        ("anonymous", "mailqos@")
    } else {
        (login.user.as_str(), login.password.expose())
    };
    login.step("login", transient, server.login(user, password)).await?;
    login
        .step("TYPE I", transient, server.transfer_type(FileType::Binary))
        .await?;
    Ok(server)
}

/// Goes into a folder, which is made if it is not there.
async fn enter(login: &Login, server: &mut AsyncRustlsFtpStream, part: &str) -> Result<(), DeliveryError> {
    if login.step("CWD", transient, server.cwd(part)).await.is_ok() {
        return Ok(());
    }
    let made = login.step(&format!("MKD {part}"), transient, server.mkdir(part)).await;
    match login.step(&format!("CWD {part}"), transient, server.cwd(part)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(made.err().unwrap_or(error)),
    }
}

async fn put(login: &Login, server: &mut AsyncRustlsFtpStream, item: &Item) -> Result<(), DeliveryError> {
    let part = temporary(&item.name);
    let stored = store(login, server, item, &part).await;
    let size = match stored {
        Ok(size) => size,
        Err(error) => {
            let _ = tokio::time::timeout(Duration::from_secs(5), server.rm(&part)).await;
            return Err(error);
        }
    };
    match login.step("SIZE", transient, server.size(&part)).await {
        Ok(there) if there as u64 == size => {}
        Ok(there) => {
            return Err(DeliveryError::Server {
                server: login.server(),
                step: format!("SIZE {}", item.name),
                reason: format!("{there} of {size} bytes arrived"),
                transient: true,
            });
        }
        // Not every server knows SIZE; the reply to STOR has said that all arrived.
        Err(DeliveryError::Server { transient: false, .. }) => {}
        Err(error) => return Err(error),
    }
    let step = format!("RNTO {}", item.name);
    match login
        .step(&step, transient, server.rename(part.as_str(), item.name.as_str()))
        .await
    {
        // Some servers rename over no file: then the old one goes first.
        Err(DeliveryError::Server { transient: false, .. }) => {
            login
                .step(&format!("DELE {}", item.name), transient, server.rm(&item.name))
                .await?;
            login
                .step(&step, transient, server.rename(part.as_str(), item.name.as_str()))
                .await
        }
        other => other,
    }
}

async fn store(
    login: &Login,
    server: &mut AsyncRustlsFtpStream,
    item: &Item,
    part: &str,
) -> Result<u64, DeliveryError> {
    let step = format!("STOR {}", item.name);
    let unreadable = |source| DeliveryError::Io {
        what: item.path.display().to_string(),
        source,
    };
    let mut file = tokio::fs::File::open(&item.path).await.map_err(unreadable)?;
    let mut data = login.step(&step, transient, server.put_with_stream(part)).await?;
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    let written: Result<(), DeliveryError> = async {
        loop {
            let count = file.read(&mut chunk).await.map_err(unreadable)?;
            if count == 0 {
                return login.step(&step, |_| true, data.flush()).await;
            }
            login.step(&step, |_| true, data.write_all(&chunk[..count])).await?;
            size += count as u64;
        }
    }
    .await;
    if let Err(broken) = written {
        // Why the server broke the data connection stands in its reply on the control connection.
        drop(data);
        let reply = tokio::time::timeout(
            Duration::from_secs(3),
            server.read_response_in(&[Status::ClosingDataConnection, Status::RequestedFileActionOk]),
        )
        .await;
        return match reply {
            Ok(Err(error @ FtpError::UnexpectedResponse(_))) => Err(DeliveryError::Server {
                server: login.server(),
                step,
                transient: transient(&error),
                reason: login.line(&error.to_string()),
            }),
            _ => Err(broken),
        };
    }
    login.step(&step, transient, data.finish()).await?;
    Ok(size)
}
