//! A network share, SMB 2 and 3, without a mount: signed, encrypted where the server asks for it, published by rename.

use ::smb::{
    Client, ClientConfig, ConnectionConfig, CreateDisposition, CreateOptions, Error, FileAccessMask, FileAttributes,
    FileCreateArgs, FileDispositionInformation, FileRenameInformation, FileStandardInformation, Resource, Status,
    UncPath,
};
use tokio::io::AsyncReadExt as _;

use super::{DeliveryError, Item, Login, Receipt, temporary};

/// What is written at once; every server takes it.
const CHUNK: usize = 64 << 10;

pub(super) async fn deliver(
    login: &Login,
    share: &str,
    path: &str,
    below: &[String],
    items: &[Item],
) -> Result<Receipt, DeliveryError> {
    let mut connection = ConnectionConfig {
        port: Some(login.endpoint.port),
        timeout: Some(login.limit),
        ..ConnectionConfig::default()
    };
    connection.auth_methods.ntlm = true;
    connection.auth_methods.kerberos = false;
    let client = Client::new(ClientConfig {
        dfs: false,
        connection,
        ..ClientConfig::default()
    });
    let root = UncPath::new(&login.endpoint.server)
        .and_then(|server| server.with_share(share))
        .map_err(|error| failed(login, &format!("\\\\{}\\{share}", login.endpoint.server), error))?;
    let user = match &login.domain {
        Some(domain) => format!("{domain}\\{}", login.user),
        None => login.user.clone(),
    };
    step(
        login,
        &format!("share {share}"),
        client.share_connect(&root, &user, login.password.expose().to_owned()),
    )
    .await?;
    let mut folder = String::new();
    for part in super::parts(path)?.iter().chain(below) {
        if !folder.is_empty() {
            folder.push('\\');
        }
        folder.push_str(part);
        enter(login, &client, &root, &folder).await?;
    }
    let mut receipt = Receipt::default();
    for item in items {
        let place = |name: &str| {
            if folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}\\{name}")
            }
        };
        put(
            login,
            &client,
            &root,
            &place(&temporary(&item.name)),
            &place(&item.name),
            item,
        )
        .await?;
        receipt
            .places
            .push(format!("\\\\{}\\{share}\\{}", login.endpoint.server, place(&item.name)));
    }
    "renamed to its final name, size checked".clone_into(&mut receipt.reply);
    // Everything is there: how the session ends changes nothing.
    let _ = tokio::time::timeout(login.limit, client.close()).await;
    Ok(receipt)
}

/// Makes a folder, or finds it.
async fn enter(login: &Login, client: &Client, root: &UncPath, folder: &str) -> Result<(), DeliveryError> {
    let options = FileCreateArgs {
        disposition: CreateDisposition::OpenIf,
        attributes: FileAttributes::new().with_directory(true),
        options: CreateOptions::new().with_directory_file(true),
        desired_access: FileAccessMask::new().with_generic_read(true),
    };
    let what = format!("folder {folder}");
    match step(
        login,
        &what,
        client.create_file(&root.clone().with_path(folder), &options),
    )
    .await?
    {
        Resource::Directory(directory) => step(login, &what, directory.close()).await,
        _ => Err(DeliveryError::Server {
            server: login.server(),
            step: what,
            reason: "a file of that name is in the way".into(),
            transient: true,
        }),
    }
}

async fn put(
    login: &Login,
    client: &Client,
    root: &UncPath,
    part: &str,
    place: &str,
    item: &Item,
) -> Result<(), DeliveryError> {
    let what = format!("file {place}");
    let unreadable = |source| DeliveryError::Io {
        what: item.path.display().to_string(),
        source,
    };
    let mut source = tokio::fs::File::open(&item.path).await.map_err(unreadable)?;
    let options = FileCreateArgs {
        disposition: CreateDisposition::OverwriteIf,
        attributes: FileAttributes::new(),
        options: CreateOptions::new(),
        desired_access: FileAccessMask::new()
            .with_generic_read(true)
            .with_generic_write(true)
            .with_delete(true),
    };
    let path = root.clone().with_path(part);
    let Resource::File(file) = step(login, &what, client.create_file(&path, &options)).await? else {
        return Err(DeliveryError::Server {
            server: login.server(),
            step: what,
            reason: "a folder of that name is in the way".into(),
            transient: true,
        });
    };
    let written = async {
        let mut chunk = vec![0; CHUNK];
        let mut size = 0_u64;
        loop {
            let count = source.read(&mut chunk).await.map_err(unreadable)?;
            if count == 0 {
                break;
            }
            let mut done = 0;
            while done < count {
                let wrote = login
                    .step(&what, |_| true, file.write_block(&chunk[done..count], size, None))
                    .await?;
                if wrote == 0 {
                    return Err(DeliveryError::Server {
                        server: login.server(),
                        step: what.clone(),
                        reason: "the server takes no more".into(),
                        transient: true,
                    });
                }
                done += wrote;
                size += wrote as u64;
            }
        }
        login.step(&what, |_| true, file.flush()).await?;
        let there: FileStandardInformation = step(login, &what, file.query_info()).await?;
        if there.end_of_file != size {
            return Err(DeliveryError::Server {
                server: login.server(),
                step: what.clone(),
                reason: format!("{} of {size} bytes arrived", there.end_of_file),
                transient: true,
            });
        }
        let rename = FileRenameInformation {
            replace_if_exists: true.into(),
            root_directory: 0,
            file_name: place.into(),
        };
        step(login, &what, file.set_info(rename)).await
    }
    .await;
    if written.is_err() {
        let _ = tokio::time::timeout(login.limit, file.set_info(FileDispositionInformation::default())).await;
    }
    let closed = step(login, &what, file.close()).await;
    written.and(closed)
}

async fn step<T>(login: &Login, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, DeliveryError> {
    match tokio::time::timeout(login.limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(login, what, error)),
        Err(_) => Err(DeliveryError::Deadline {
            server: login.server(),
            step: what.to_owned(),
            limit: login.limit,
        }),
    }
}

/// The server's status in words that say what to do.
fn failed(login: &Login, what: &str, error: Error) -> DeliveryError {
    let status = match &error {
        Error::UnexpectedMessageStatus(status) => Status::try_from(*status).ok(),
        Error::ReceivedErrorMessage(status, _) => Status::try_from(*status).ok(),
        _ => None,
    };
    let reason = match status {
        Some(Status::LogonFailure) => "the user or the password is wrong (LOGON_FAILURE)".to_owned(),
        Some(Status::BadNetworkName) => "there is no such share (BAD_NETWORK_NAME)".to_owned(),
        Some(Status::AccessDenied) => "the user may not write there (ACCESS_DENIED)".to_owned(),
        _ => login.line(&error.to_string()),
    };
    DeliveryError::Server {
        server: login.server(),
        step: what.to_owned(),
        reason,
        transient: !matches!(
            status,
            Some(Status::LogonFailure | Status::BadNetworkName | Status::AccessDenied)
        ),
    }
}
