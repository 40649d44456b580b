//! The forms that a mail can have, each smaller than the one before.

/// How much of a report a mail holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The page, its pictures and the files.
    Whole,
    /// The page and its pictures; it says where the files are.
    Page,
    /// The same with pictures of half the size.
    SmallPictures,
    /// The same with few of them.
    FewPictures,
    /// The page without pictures.
    NoPictures,
    /// The text alone.
    Text,
    /// A few lines that say which report it is, and where the files are.
    Notice,
}

impl Form {
    /// All of them, the largest first.
    pub(super) const ALL: [Self; 7] = [
        Self::Whole,
        Self::Page,
        Self::SmallPictures,
        Self::FewPictures,
        Self::NoPictures,
        Self::Text,
        Self::Notice,
    ];

    /// Its word in the record, which stays the same from version to version.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Page => "page",
            Self::SmallPictures => "small-pictures",
            Self::FewPictures => "few-pictures",
            Self::NoPictures => "no-pictures",
            Self::Text => "text",
            Self::Notice => "notice",
        }
    }

    /// Whether the files are not in it.
    pub(super) fn is_without_files(self) -> bool {
        self != Self::Whole
    }

    /// Whether it has an HTML form.
    pub(super) fn has_page(self) -> bool {
        self < Self::Text
    }

    /// Those that are smaller.
    pub(super) fn smaller(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |form| *form > self)
    }
}
