//! Checks whether an S3 request was signed with the right secret (Signature Version 4).

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::http::Request;

/// Returns whether the request was signed with this secret; `target` is the path and query of its
/// first line.
pub(super) fn is_signed_with(request: &Request, secret: &str) -> bool {
    let Some(field) = request.field("authorization") else {
        return false;
    };
    let part = |name: &str| {
        let (_, behind) = field.split_once(name)?;
        Some(behind.split([',', ' ']).next().unwrap_or_default())
    };
    let (Some(credential), Some(names), Some(signature)) =
        (part("Credential="), part("SignedHeaders="), part("Signature="))
    else {
        return false;
    };
    let scope: Vec<&str> = credential.split('/').skip(1).collect();
    let mut words = request.line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = String::new();
    for name in names.split(';') {
        headers.push_str(&format!("{name}:{}\n", request.field(name).unwrap_or_default()));
    }
    let payload = request.field("x-amz-content-sha256").unwrap_or_default();
    let whole = format!("{method}\n{path}\n{}\n{headers}\n{names}\n{payload}", sorted(query));
    let date = request.field("x-amz-date").unwrap_or_default();
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
        scope.join("/"),
        hex(&Sha256::digest(whole.as_bytes()))
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope {
        key = keyed(&key, part.as_bytes());
    }
    hex(&keyed(&key, text.as_bytes())) == signature
}

fn keyed(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the sorted parameters, each in the canonical encoding.
fn sorted(query: &str) -> String {
    let pairs: BTreeMap<String, String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| {
            (encoded(&super::s3::decoded(name)), encoded(&super::s3::decoded(value)))
        })
        .collect();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let piece = |byte: u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(piece).collect()
}
