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
    file_store::{CHUNK, Extent, FileStore, Hash, beginning},
};

/// The target's folder and the folder below it that was entered.
pub(super) struct Folder {
    root: PathBuf,
    now: PathBuf,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), now: root.to_owned() }
    }

    /// Fails if the folder does not exist or is empty, as an unmounted one is.
    async fn mounted(&self) -> Result<(), DeliveryError> {
        let first = async { fs::read_dir(&self.root).await?.next_entry().await };
        let absent = match first.await {
            Ok(first) => first.is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if absent {
            let words = "it is empty or missing; check that it is mounted";
            return Err(DeliveryError::io(&self.root)(io::Error::new(
                io::ErrorKind::NotFound,
                words,
            )));
        }
        Ok(())
    }
}

impl FileStore for Folder {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        let folder = below.iter().fold(self.root.clone(), |folder, part| folder.join(part));
        if make {
            fs::create_dir_all(&folder).await.map_err(DeliveryError::io(&folder))?;
        } else if !fs::try_exists(&folder).await.map_err(DeliveryError::io(&folder))? {
            self.mounted().await?;
            return Ok(false);
        } else if below.is_empty() {
            self.mounted().await?;
        }
        self.now = folder;
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let path = self.now.join(name);
        match fs::metadata(&path).await {
            Ok(found) if found.is_file() => Ok(Extent::Bytes(found.len())),
            Ok(_) => Err(DeliveryError::io(&path)(io::Error::other(
                "something that is not a file has this name",
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
        file.seek(io::SeekFrom::Start(offset)).await.map_err(DeliveryError::io(&path))?;
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
            Err(DeliveryError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let path = self.now.join(name);
        fs::rename(self.now.join(part), &path).await.map_err(DeliveryError::io(&path))?;
        // Syncs the folder so that the name survives a crash. A network file system may refuse to
        // sync a folder, and a drop box can't be opened; the file has its name anyway.
        let folder = self.now.clone();
        let synced =
            tokio::task::spawn_blocking(move || mailqos_base::files::sync_folder(&folder)).await;
        match synced.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                Err(DeliveryError::io(&self.now)(error))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let path = self.now.join(name);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DeliveryError::io(&path)(error))
            }
            _ => Ok(()),
        }
    }

    async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
        let folder = self.now.clone();
        self.now.pop();
        fs::remove_dir(&folder).await.map_err(DeliveryError::io(&folder))
    }

    fn place(&self, name: &str) -> String {
        self.now.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_of_an_unmounted_folder_do_not_count_as_removed() {
        let outer = tempfile::tempdir().expect("a folder");
        let root = outer.path().join("mount");
        let mut file_store = Folder::new(&root);
        let below = ["2026".to_owned()];
        for _ in 0..2 {
            assert!(file_store.enter(&[], false).await.is_err());
            assert!(file_store.enter(&below, false).await.is_err());
            let _ = std::fs::create_dir(&root);
        }
        std::fs::write(root.join("other.pdf"), "x").expect("written");
        assert!(file_store.enter(&[], false).await.expect("there"));
        assert!(!file_store.enter(&below, false).await.expect("asked"));
        assert!(file_store.enter(&below, true).await.expect("made"));
        assert!(file_store.enter(&below, false).await.expect("there"));
    }
}
