//! Declarations of keys. [`keys!`](crate::keys) declares the keys of a table once: name, type,
//! default, bounds and description. The reader takes a declared key as its argument
//! ([`Table::read`]), so a key that is not declared can't be read, and the compiler reports a
//! declared key that no reader uses. The reference page and the JSON Schema are generated from the
//! same declarations.
//!
//! ```ignore
//! keys! {
//!     LIMITS: LimitKeys {
//!         /// The maximum number of tests in total.
//!         tests: Defaulted<u32> = key().default("4096").within("1", "4294967295");
//!     }
//! }
//! let tests = table.read(&LIMITS.tests, problems);
//! ```

use std::{marker::PhantomData, ops::Deref};

use super::{
    FromToml, Problems, Table,
    reference::{Key, ValueKind},
};

/// A declared key with values of type `T`. `P` defines the meaning of an absent key.
#[derive(Debug, Clone, Copy)]
pub struct TypedKey<T, P> {
    key: Key,
    reads: PhantomData<fn() -> (T, P)>,
}

/// An absent key reads as `None`.
#[derive(Debug)]
pub struct OrNone;
/// An absent key reads as its declared default.
#[derive(Debug)]
pub struct OrDefault;
/// An absent key is a problem.
#[derive(Debug)]
pub struct OrProblem;

/// A key without a default: reads as `Option<T>`.
pub type Optional<T> = TypedKey<T, OrNone>;
/// A key with a default: reads as `T`.
pub type Defaulted<T> = TypedKey<T, OrDefault>;
/// A key that must be set: reads as `Option<T>`, and its absence is reported.
pub type Required<T> = TypedKey<T, OrProblem>;

/// Whether a key must be set.
pub trait Presence {
    /// Whether the key must be set.
    const IS_REQUIRED: bool = false;
}

impl Presence for OrNone {}
impl Presence for OrDefault {}
impl Presence for OrProblem {
    const IS_REQUIRED: bool = true;
}

/// Creates a key without a name; [`keys!`](crate::keys) names it after its field.
pub const fn key<T: FromToml, P: Presence>() -> TypedKey<T, P> {
    let key = Key::new("", ValueKind::of::<T>(), "");
    TypedKey { key: if P::IS_REQUIRED { key.required() } else { key }, reads: PhantomData }
}

impl<T, P> TypedKey<T, P> {
    /// Adds the name and the description.
    #[must_use]
    pub const fn named(self, name: &'static str, about: &'static str) -> Self {
        self.with(self.key.named(name, about))
    }

    /// Sets the default, as TOML that is also JSON. It is read like a value in the file.
    #[must_use]
    pub const fn default(self, value: &'static str) -> Self {
        self.with(self.key.default(value))
    }

    /// Describes the default in words, if it is not a constant.
    #[must_use]
    pub const fn otherwise(self, words: &'static str) -> Self {
        self.with(self.key.otherwise(words))
    }

    /// Sets the smallest and the largest valid value, as written in the file.
    #[must_use]
    pub const fn within(self, least: &'static str, most: &'static str) -> Self {
        self.with(Key { bounds: Some((least, most)), ..self.key })
    }

    /// Returns the declaration without its type.
    pub const fn untyped(self) -> Key {
        self.key
    }

    const fn with(&self, key: Key) -> Self {
        Self { key, reads: PhantomData }
    }
}

impl<T, P> Deref for TypedKey<T, P> {
    type Target = Key;
    fn deref(&self) -> &Key {
        &self.key
    }
}

/// A declared key whose value is one of several words.
#[derive(Debug, Clone, Copy)]
pub struct WordKey<T: 'static, P> {
    key: Key,
    words: &'static [(&'static str, T)],
    reads: PhantomData<fn() -> P>,
}

/// A key that accepts one of several words and has a default.
pub type Word<T> = WordKey<T, OrDefault>;
/// A key that accepts one of several words and has no default.
pub type OptionalWord<T> = WordKey<T, OrNone>;

impl<T, P> WordKey<T, P> {
    /// Creates a key that accepts these words; see [`word!`](crate::word).
    pub const fn new(words: &'static [(&'static str, T)], names: &'static [&'static str]) -> Self {
        Self { key: Key::new("", ValueKind::Words(names), ""), words, reads: PhantomData }
    }

    /// Adds the name and the description.
    #[must_use]
    pub const fn named(self, name: &'static str, about: &'static str) -> Self {
        self.with(self.key.named(name, about))
    }

    /// Sets the default word, in quotes.
    #[must_use]
    pub const fn default(self, word: &'static str) -> Self {
        self.with(self.key.default(word))
    }

    /// Describes the default in words, if it is not a constant.
    #[must_use]
    pub const fn otherwise(self, words: &'static str) -> Self {
        self.with(self.key.otherwise(words))
    }

    /// Returns the declaration without the values of its words.
    pub const fn untyped(self) -> Key {
        self.key
    }

    const fn with(&self, key: Key) -> Self {
        Self { key, words: self.words, reads: PhantomData }
    }
}

impl<T, P> Deref for WordKey<T, P> {
    type Target = Key;
    fn deref(&self) -> &Key {
        &self.key
    }
}

impl<T: Copy + PartialEq, P> WordKey<T, P> {
    /// Returns the word for a value.
    pub fn word(&self, value: T) -> &'static str {
        let pair = self.words.iter().find(|(_, other)| *other == value);
        pair.map_or("", |(word, _)| word)
    }
}

/// A declared key that [`Table::read`] reads.
pub trait Readable {
    /// The type of the value.
    type Value;
    /// Reads the key and reports problems.
    fn read(&self, table: &mut Table, problems: &mut Problems) -> Self::Value;
}

impl<T: FromToml> Readable for Optional<T> {
    type Value = Option<T>;
    fn read(&self, table: &mut Table, problems: &mut Problems) -> Option<T> {
        table.read_as(self, problems)
    }
}

impl<T: FromToml> Readable for Required<T> {
    type Value = Option<T>;
    fn read(&self, table: &mut Table, problems: &mut Problems) -> Option<T> {
        table.require(self, &self.why(), problems)
    }
}

impl<T: FromToml> Readable for Defaulted<T> {
    type Value = T;
    fn read(&self, table: &mut Table, problems: &mut Problems) -> T {
        let Some(value) = table.get(self, problems) else {
            return table.default_of(self);
        };
        table.check_bounds(self, &value, problems);
        value
    }
}

impl<T: Copy> Readable for OptionalWord<T> {
    type Value = Option<T>;
    fn read(&self, table: &mut Table, problems: &mut Problems) -> Option<T> {
        table.word(self, self.words, problems)
    }
}

impl<T: Copy> Readable for Word<T> {
    type Value = T;
    fn read(&self, table: &mut Table, problems: &mut Problems) -> T {
        let default = self.default.unwrap_or_default().trim_matches('"');
        let value = table.word(self, self.words, problems).or_else(|| {
            let word = self.words.iter().find(|(word, _)| *word == default);
            word.map(|(_, value)| *value)
        });
        value.unwrap_or_else(|| {
            panic!("{}: the default {default} is not one of the allowed words", self.name)
        })
    }
}

/// Returns the words from pairs of words and values.
pub const fn only_words<T, const N: usize>(pairs: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = pairs[at].0;
        at += 1;
    }
    words
}

/// Declares a key that accepts the words of a constant list of words and values.
#[macro_export]
macro_rules! word {
    ($words:expr) => {
        $crate::key::WordKey::new(&$words, const { &$crate::key::only_words(&$words) })
    };
}

/// Declares the keys of a table. Each is a field with its type, its properties and its description
/// (the doc comment).
#[macro_export]
macro_rules! keys {
    ($NAME:ident: $Type:ident { $($(#[doc = $about:literal])+ $name:ident: $kind:ty = $init:expr;)+ }) => {
        pub(crate) struct $Type {
            $(pub(crate) $name: $kind,)+
        }

        pub(crate) const $NAME: $Type = $Type {
            $($name: $init.named(stringify!($name), concat!($($about),+)),)+
        };

        impl $Type {
            /// The declarations, for the reference.
            pub(crate) const KEYS: &'static [$crate::reference::Key] = &[
                $({
                    let key: $kind = $init;
                    key.named(stringify!($name), concat!($($about),+)).untyped()
                },)+
            ];
        }
    };
}
