//! Environment in which Typst sets a document: the markup, the images and the fonts, without access
//! to the machine.

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

/// Typst world of a document.
pub(super) struct Sheet {
    main: Source,
    files: BTreeMap<String, Bytes>,
    /// Custom fonts.
    own: Vec<Font>,
    /// Font book of the bundled and custom fonts.
    book: LazyHash<FontBook>,
}

impl Sheet {
    /// Creates the world of a markup and the files that it references, as a part of a document.
    /// Parts need different numbers, because elements are identified by their source.
    ///
    /// Files whose names start with `font-` are custom fonts.
    ///
    /// # Errors
    /// Never: the name of the markup is a valid path.
    pub(super) fn new(
        number: usize,
        markup: String,
        files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, MediaError> {
        let (fonts, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(name, _)| name.starts_with("font-"));
        let own: Vec<Font> =
            fonts.into_iter().flat_map(|(_, bytes)| Font::iter(Bytes::new(bytes))).collect();
        let path = VirtualPath::new(format!("/report-{number}.typ"))
            .map_err(|_| MediaError::Setting("no place for the markup".into()))?;
        let main = FileId::new(RootedPath::new(VirtualRoot::Project, path));
        Ok(Self {
            main: Source::new(main, markup),
            files: files.into_iter().map(|(name, bytes)| (name, Bytes::new(bytes))).collect(),
            book: FONTS.book(&own),
            own,
        })
    }

    /// Returns the number, from 1, and the text of the line at a position in the markup.
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
        if id == self.main.id() { Ok(self.main.clone()) } else { Err(FileError::AccessDenied) }
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

    // No clock, so that the same document results in the same file.
    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A file that detects whether it is still referenced.
    struct Watched(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// Other programs that embed the typesetter saw their memory grow with each document: its
    /// caches belong to the process, and their `evict` was not called, not called after errors, or
    /// belonged to another version (Relacibo/typst-as-lib#8, Hermanverschooten/typst#29,
    /// typst/typst#8628).
    #[test]
    fn nothing_of_a_document_stays_cached_after_typesetting() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\"><path d=\"M0 0h9\" stroke=\"red\"/></svg>";
        let shown = "#set document(title: \"A\", author: \"B\")\n#image(\"1.svg\", alt: \"C\")\n";
        for (markup, succeeds) in
            [(shown.to_owned(), true), (format!("{shown}#panic(\"no\")"), false)]
        {
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
