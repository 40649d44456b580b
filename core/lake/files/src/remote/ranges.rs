//! Reads parts of objects, all of the same version.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStoreExt as _};

use super::{MAX, Object, Remote, RemoteError, Version, refusal::Refusal};

/// Smallest object that is read in parts, in bytes: below, a second request takes longer than the
/// rest of the bytes.
const MIN_PARTED: u64 = 64 * 1024;
/// Longest gap between two parts that are fetched with one request, in bytes. A gap is also at most
/// half as long as the part after it, so at most a third of the bytes are fetched in vain.
const MAX_GAP: u64 = 128 * 1024;

/// A fetched part.
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Part {
    /// Returns a range of the object, if it is within the part.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}

impl Remote {
    /// Returns the current version of an object, or `None` if it does not exist.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn head(&self, name: &str) -> Result<Option<Object>, RemoteError> {
        match self.store.head(&self.key(name)).await {
            Ok(meta) => Ok(Some(Object {
                name: name.to_owned(),
                size: meta.size,
                version: Version::of(meta),
            })),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(name, &error)),
        }
    }

    /// Fetches a range of an object; `None` if the store does not serve ranges.
    ///
    /// # Errors
    /// [`RemoteError::Changed`]: another version has replaced it. The store refuses or can't be
    /// reached.
    pub(super) async fn part(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<Option<Part>, RemoteError> {
        let name = &object.name;
        let changed = || RemoteError::Changed(format!("{}/{name}", self.address));
        // The version is compared below: some stores ignore conditions, some never match quoted or
        // weak ETags, and all send the ETag.
        let asked = GetOptions::new().with_range(Some(GetRange::Bounded(range.clone())));
        let found = match self.store.get_opts(&self.key(name), asked).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Err(changed()),
            Err(error) => {
                let refusal = Refusal::of(&error);
                return match refusal.status {
                    // It has become shorter.
                    Some(416) => Err(changed()),
                    _ if refusal.says("non-partial") => Ok(None),
                    _ => Err(self.error(name, &error)),
                };
            }
        };
        let start = found.range.start;
        let is_same =
            found.meta.size == object.size && Version::of(found.meta.clone()).is(&object.version);
        if !is_same {
            return Err(changed());
        }
        // A response may be longer than the range that it states.
        let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| self.error(name, &error))? {
            if bytes.len() + chunk.len() > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        let part = Part { start, bytes: bytes.into() };
        match part.get(&range) {
            Some(_) => Ok(Some(part)),
            // A store that unpacks an object counts the bytes differently than it says.
            None => Ok(None),
        }
    }

    /// Fetches an object as a whole.
    ///
    /// # Errors
    /// [`RemoteError::Changed`]: another version has replaced it. The store refuses or can't be
    /// reached.
    pub(super) async fn whole(&self, object: &Object) -> Result<Part, RemoteError> {
        let changed = || RemoteError::Changed(format!("{}/{}", self.address, object.name));
        let (version, bytes) = self.get_within(&object.name, MAX).await?.ok_or_else(changed)?;
        let is_same = version.is(&object.version) || !version.has_tag();
        if bytes.len() as u64 != object.size || !is_same {
            return Err(changed());
        }
        Ok(Part { start: 0, bytes: bytes.into() })
    }
}

/// Returns the requests for these parts of an object: neighbours are fetched together.
pub(super) fn requests(object: &Object, mut parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    // Without an ETag, two requests may return bytes of different versions.
    if object.size < MIN_PARTED || !object.version.has_tag() {
        let whole = 0..object.size;
        return vec![whole];
    }
    parts.sort_by_key(|part| part.start);
    let mut requests: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match requests.last_mut() {
            Some(last)
                if part.start
                    <= last.end.saturating_add(MAX_GAP.min((part.end - part.start) / 2)) =>
            {
                last.end = last.end.max(part.end)
            }
            _ => requests.push(part),
        }
    }
    requests
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "single ranges are requested")]
mod tests {
    use super::*;

    fn object(size: u64, tag: Option<&str>) -> Object {
        let version = Version { e_tag: tag.map(str::to_owned), ..Version::default() };
        Object { name: "a".into(), version, size }
    }

    #[test]
    fn neighbours_are_fetched_together() {
        let large = object(10_000_000, Some("1"));
        let of = |parts: &[Range<u64>]| requests(&large, parts.to_vec());
        assert_eq!(of(&[10..20, 20..30, 50..60]), [10..30, 50..60]);
        assert_eq!(of(&[34..44, 10..30]), [10..44]);
        // A gap of more than half the next part is not worth its bytes.
        assert_eq!(of(&[0..1_000, 1_006..1_016]), [0..1_000, 1_006..1_016]);
        assert_eq!(of(&[0..10, 200_000..5_000_000]), [0..10, 200_000..5_000_000]);
        assert_eq!(of(&[0..100, 50..60]), [0..100]);
    }

    #[test]
    fn small_objects_and_those_without_a_tag_are_fetched_whole() {
        assert_eq!(requests(&object(1_000, Some("1")), vec![1..2]), [0..1_000]);
        assert_eq!(requests(&object(1_000_000, None), vec![1..2]), [0..1_000_000]);
    }
}
