//! What Typst sees while it sets a document: the markup, the pictures, the fonts, and nothing of the machine.

use std::{collections::BTreeMap, sync::LazyLock};

use typst::{
    Library, LibraryExt as _, World,
    diag::{FileError, FileResult},
    foundations::{Bytes, Datetime, Duration},
    syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot},
    text::{Font, FontBook},
    utils::LazyHash,
};

use super::{MediaError, fonts::FONTS};

static LIBRARY: LazyLock<LazyHash<Library>> = LazyLock::new(|| LazyHash::new(Library::default()));

/// The world of one document.
pub(super) struct Sheet {
    main: Source,
    files: BTreeMap<String, Bytes>,
    /// The house's own fonts.
    own: Vec<Font>,
    /// What the fonts are looked up in: the bundled ones, and the house's own.
    book: LazyHash<FontBook>,
}

impl Sheet {
    /// The world of a markup and the files that it names, as part of a document by its number. What
    /// stands in two parts can be told apart by where it comes from, so they need different numbers.
    ///
    /// Files named `font-` are the house's own fonts.
    ///
    /// # Errors
    /// Never: the name of the markup is a valid path.
    pub(super) fn new(number: usize, markup: String, files: BTreeMap<String, Vec<u8>>) -> Result<Self, MediaError> {
        let (fonts, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name.starts_with("font-"));
        let own: Vec<Font> = fonts
            .into_iter()
            .flat_map(|(_, bytes)| Font::iter(Bytes::new(bytes)))
            .collect();
        let path = VirtualPath::new(format!("/report-{number}.typ"))
            .map_err(|_| MediaError::Setting("no place for the markup".into()))?;
        let main = FileId::new(RootedPath::new(VirtualRoot::Project, path));
        Ok(Self {
            main: Source::new(main, markup),
            files: files
                .into_iter()
                .map(|(name, bytes)| (name, Bytes::new(bytes)))
                .collect(),
            book: FONTS.book(&own),
            own,
        })
    }

    /// The number of the line at a place in the markup, from 1, and the line.
    pub(super) fn line(&self, at: usize) -> (usize, &str) {
        let text = self.main.text();
        let before = &text[..text.floor_char_boundary(at.min(text.len()))];
        let number = before.matches('\n').count() + 1;
        (number, text.lines().nth(number - 1).unwrap_or_default())
    }
}

impl World for Sheet {
    fn library(&self) -> &LazyHash<Library> {
        &LIBRARY
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.book
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            Ok(self.main.clone())
        } else {
            Err(FileError::AccessDenied)
        }
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let path = id.get().vpath();
        let name = path.get_without_slash();
        self.files.get(name).cloned().ok_or(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        let own = || self.own.get(index - FONTS.all.len());
        FONTS.all.get(index).or_else(own).cloned()
    }

    // No clock: the same document is the same file.
    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A file that tells whether anybody still has it.
    struct Watched(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// Embedders of the typesetter saw their memory grow with each document: its caches are the process's, and their `evict`
    /// was not called, not after an error, or was that of another version (Relacibo/typst-as-lib#8,
    /// Hermanverschooten/typst#29, typst/typst#8628).
    #[test]
    fn nothing_of_a_document_is_kept_once_it_is_set() {
        let svg =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\"><path d=\"M0 0h9\" stroke=\"red\"/></svg>";
        let shown = "#set document(title: \"A\", author: \"B\")\n#image(\"1.svg\", alt: \"C\")\n";
        for (markup, succeeds) in [(shown.to_owned(), true), (format!("{shown}#panic(\"no\")"), false)] {
            let file = Arc::new(svg.as_bytes().to_vec());
            let mut sheet = Sheet::new(0, markup, BTreeMap::new()).expect("a sheet");
            let watched = Bytes::new(Watched(Arc::clone(&file)));
            sheet.files.insert("1.svg".to_owned(), watched);
            let set = crate::media::pdf::set(&sheet, "test", 0);
            assert_eq!(set.is_ok(), succeeds, "{set:?}");
            assert_eq!(Arc::strong_count(&file), 2, "this test's, and the sheet's");
            drop(sheet);
            assert_eq!(Arc::strong_count(&file), 1);
        }
    }
}
