//! The forms of a mail, each smaller than the previous one.

/// How much of a report a mail contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The page, its images and the files.
    Whole,
    /// The page and its images; it states where the files are.
    Page,
    /// The same with images of half the size.
    SmallPictures,
    /// The same with few images.
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

    /// Returns its word in the record, which stays the same in all versions.
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

    /// Returns whether it lacks the files.
    pub(super) fn is_without_files(self) -> bool {
        self != Self::Whole
    }

    /// Returns whether it has an HTML version.
    pub(super) fn has_page(self) -> bool {
        self < Self::Text
    }

    /// Returns the smaller forms.
    pub(super) fn smaller(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |form| *form > self)
    }
}
