//! The forms of a mail, each smaller than the previous one.

/// How much of a report a mail contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The page, its pictures and the attached files.
    Whole,
    /// The page and its pictures, with links to the files.
    Page,
    /// The page with pictures of half the size.
    SmallPictures,
    /// The page with at most two pictures.
    FewPictures,
    /// The page without images.
    NoPictures,
    /// The text alone.
    Text,
    /// A few lines that name the report and the location of the files.
    Notice,
}

impl Form {
    /// All forms, largest first.
    pub(super) const ALL: [Self; 7] = [
        Self::Whole,
        Self::Page,
        Self::SmallPictures,
        Self::FewPictures,
        Self::NoPictures,
        Self::Text,
        Self::Notice,
    ];

    /// Returns the form's word in the record, which must not change between versions.
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

    /// Returns whether the form omits the files.
    pub(super) fn is_without_files(self) -> bool {
        self != Self::Whole
    }

    /// Returns whether it has an HTML form.
    pub(super) fn has_page(self) -> bool {
        self < Self::Text
    }

    /// Returns the smaller forms, largest first.
    pub(super) fn smaller(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |form| *form > self)
    }
}
