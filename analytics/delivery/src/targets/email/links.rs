//! Stores files that are too large for a mail at another target and links to them.

use mailqos_config::{Config, EmailTarget, FilesTarget, Target, TooLarge};

use crate::{DeliveryError, Parcel, Receipt, put};

/// Stores the files at the target that the mail links to. Returns the lines for the mail and the
/// result of the upload.
pub(super) async fn link(
    config: &Config,
    target: &EmailTarget,
    parcel: &Parcel,
) -> Result<(String, Receipt), DeliveryError> {
    let TooLarge::Link(name) = &target.too_large else {
        return Ok(Default::default());
    };
    let Some(Target::Files(place)) = config.targets.get(name) else {
        return Err(DeliveryError::NoTarget(name.to_string()));
    };
    let elsewhere = Parcel { folder: parcel.linked_folder.clone(), ..parcel.clone() };
    let parcel = &elsewhere;
    let receipt = put(config, place, parcel)
        .await
        .map_err(|error| DeliveryError::Linked { target: name.clone(), error: Box::new(error) })?;
    let lines = receipt.places.iter().zip(&parcel.items).map(|(at, item)| {
        let at = address_of(place, parcel, at).unwrap_or_else(|| at.clone());
        format!("{}: {at}", item.name)
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    Ok((lines, receipt))
}

/// Returns the web address of a file if the target has one configured.
fn address_of(place: &FilesTarget, parcel: &Parcel, at: &str) -> Option<String> {
    let url = place.url.as_ref()?.trim_end_matches('/');
    let name = at.rsplit(['/', '\\']).next()?;
    let folder = parcel.folder.split(['/', '\\']).filter(|part| !part.is_empty());
    let path: Vec<String> = folder.chain([name]).map(escaped).collect();
    Some(format!("{url}/{}", path.join("/")))
}

/// Percent-encodes a part of a URL's path (RFC 3986, section 2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn addresses_are_percent_encoded() {
        assert_eq!(escaped("a b/ö.pdf"), "a%20b%2F%C3%B6.pdf");
    }
}
