//! A local or mounted folder.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
};

use super::{DeliveryError, Item, Receipt, temporary};

pub(super) async fn deliver(path: &Path, below: &[String], items: &[Item]) -> Result<Receipt, DeliveryError> {
    let folder = below.iter().fold(path.to_owned(), |folder, part| folder.join(part));
    let items = items.to_vec();
    // A mounted share may block: not on the threads that others wait for.
    tokio::task::spawn_blocking(move || put(&folder, &items))
        .await
        .map_err(|error| DeliveryError::Io {
            what: "the copy ended early".into(),
            source: io::Error::other(error),
        })?
}

fn put(folder: &Path, items: &[Item]) -> Result<Receipt, DeliveryError> {
    let failed = |what: String| move |source| DeliveryError::Io { what, source };
    fs::create_dir_all(folder).map_err(failed(format!("the folder {}", folder.display())))?;
    let mut receipt = Receipt::default();
    for item in items {
        let place = folder.join(&item.name);
        let part = folder.join(temporary(&item.name));
        let copied = copy(&item.path, &part).and_then(|()| fs::rename(&part, &place));
        if let Err(error) = copied {
            let _ = fs::remove_file(&part);
            return Err(failed(format!("{}", place.display()))(error));
        }
        receipt.places.push(place.display().to_string());
    }
    sync(folder).map_err(failed(format!("the folder {}", folder.display())))?;
    "written".clone_into(&mut receipt.reply);
    Ok(receipt)
}

/// Copies a file, and reads back what was written.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut copy = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    source.rewind()?;
    copy.rewind()?;
    if same(&mut source, &mut copy)? {
        Ok(())
    } else {
        Err(io::Error::other("what was written reads differently"))
    }
}

fn same(a: &mut fs::File, b: &mut fs::File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Makes the renames last; a network file system may refuse to sync a folder, which does no harm there.
fn sync(folder: &Path) -> io::Result<()> {
    match fs::File::open(PathBuf::from(folder)).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_arrive_whole_over_those_of_before() {
        let folder = tempfile::tempdir().expect("folder");
        let from = folder.path().join("a.pdf");
        let target = folder.path().join("target");
        for content in [&b"one"[..], &[7; 200_000][..]] {
            fs::write(&from, content).expect("written");
            let items = [Item {
                name: "Bericht ö.pdf".into(),
                path: from.clone(),
            }];
            let receipt = deliver(&target, &["2026".into(), "10".into()], &items)
                .await
                .expect("delivered");
            let place = target.join("2026/10/Bericht ö.pdf");
            assert_eq!(receipt.places, [place.display().to_string()]);
            assert_eq!(fs::read(&place).expect("read"), content);
        }
        assert_eq!(fs::read_dir(target.join("2026/10")).expect("list").count(), 1);
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("a");
        fs::write(&file, "x").expect("written");
        let items = [Item {
            name: "b".into(),
            path: file.clone(),
        }];
        let error = deliver(&file, &[], &items).await.expect_err("a file is no folder");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert!(error.is_transient());
    }
}
