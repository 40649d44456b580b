//! A local or mounted folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};

use super::{
    DeliveryError, Source,
    shelf::{CHUNK, Extent, Hash, Shelf, beginning},
};

/// The folder, and the one below it that was entered.
pub(super) struct Folder {
    root: PathBuf,
    now: PathBuf,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            now: root.to_owned(),
        }
    }
}

impl Shelf for Folder {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        let folder = below.iter().fold(self.root.clone(), |folder, part| folder.join(part));
        if make {
            fs::create_dir_all(&folder).await.map_err(DeliveryError::io(&folder))?;
        } else if !fs::try_exists(&folder).await.map_err(DeliveryError::io(&folder))? {
            return Ok(false);
        }
        self.now = folder;
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let path = self.now.join(name);
        match fs::metadata(&path).await {
            Ok(found) if found.is_file() => Ok(Extent::Bytes(found.len())),
            Ok(_) => Err(DeliveryError::io(&path)(io::Error::other(
                "it is in the way, and no file",
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Extent::Absent),
            Err(error) => Err(DeliveryError::io(&path)(error)),
        }
    }

    async fn write(&mut self, name: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
        let path = self.now.join(name);
        let mut source = Source::open(from, offset).await?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .await
            .map_err(DeliveryError::io(&path))?;
        file.set_len(offset).await.map_err(DeliveryError::io(&path))?;
        file.seek(io::SeekFrom::Start(offset))
            .await
            .map_err(DeliveryError::io(&path))?;
        loop {
            let piece = source.piece(CHUNK).await?;
            if piece.is_empty() {
                break;
            }
            file.write_all(&piece).await.map_err(DeliveryError::io(&path))?;
        }
        file.flush().await.map_err(DeliveryError::io(&path))?;
        file.sync_all().await.map_err(DeliveryError::io(&path))
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        match beginning(&self.now.join(name), size.saturating_add(1)).await {
            Ok((_, hash)) => Ok(Some(hash)),
            Err(DeliveryError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let path = self.now.join(name);
        fs::rename(self.now.join(part), &path)
            .await
            .map_err(DeliveryError::io(&path))?;
        // Makes the name last. A network file system may refuse to sync a folder, and a drop box lets nobody open it: the file has its
        // name all the same.
        let synced = async { fs::File::open(&self.now).await?.sync_all().await };
        match synced.await {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
                ) =>
            {
                Err(DeliveryError::io(&self.now)(error))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let path = self.now.join(name);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DeliveryError::io(&path)(error)),
            _ => Ok(()),
        }
    }

    fn place(&self, name: &str) -> String {
        self.now.join(name).display().to_string()
    }
}
