//! Percent-encoded text (RFC 3986, section 2.1), as in addresses and in messages of errors.

/// Decodes percent-encoded text; what is not encoded correctly stays as it is.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%');
        let digits = digits.filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let code = digits
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded() {
        let decoded = |text: &str| String::from_utf8_lossy(&percent_decoded(text)).into_owned();
        assert_eq!(decoded("a%20b%C3%A4%"), "a bä%");
        assert_eq!(decoded("%+1%4"), "%+1%4");
    }
}
