//! Reads details from an X.509 certificate that rustls doesn't report: issuer, subject, expiry,
//! version and key size. Verifies nothing, so the result is for explanations only.
//!
//! Walking the DER headers (RFC 5280, section 4.1) needs no parser crate.

use mailqos_base::one_line;
use mailqos_model::UtcMicros;

/// X.520: id-at-commonName.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// X.520: id-at-organizationName.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
/// PKCS #1: rsaEncryption.
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The fields of a certificate that explanations need; names are DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// X.509 version, 1 to 3.
    pub(super) version: u8,
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    validity: &'a [u8],
    key: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parses the fields; `None` if the bytes are not a certificate.
    pub(super) fn parse(certificate: &'a [u8]) -> Option<Self> {
        let (_, certificate, _) = der(certificate)?;
        let (_, mut rest, _) = der(certificate)?;
        let mut version = 1;
        // The version is optional, tag [0]; a certificate without it has version 1.
        let (tag, content, after) = der(rest)?;
        if tag == 0xa0 {
            version = der(content)?.1.last()?.saturating_add(1);
            rest = after;
        }
        let mut next = || {
            let (_, content, after) = der(rest)?;
            rest = after;
            Some(content)
        };
        let _serial_number = next()?;
        let _signature_algorithm = next()?;
        Some(Self { version, issuer: next()?, validity: next()?, subject: next()?, key: next()? })
    }

    /// Returns the issuer's common name, or its organisation if there is none, in one line.
    pub(super) fn issuer_name(&self) -> Option<String> {
        name(self.issuer)
    }

    /// Returns the subject's common name.
    pub(super) fn common_name(&self) -> Option<String> {
        attribute_of(self.subject, &COMMON_NAME)
    }

    /// Returns the length of an RSA key in bits.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let (_, algorithm, key) = der(self.key)?;
        let (_, identifier, _) = der(algorithm)?;
        if identifier != RSA {
            return None;
        }
        // BIT STRING (the first byte is the number of unused bits) of SEQUENCE { modulus, exponent
        // }.
        let (_, bits, _) = der(key)?;
        let (_, sequence, _) = der(bits.get(1..)?)?;
        let (_, modulus, _) = der(sequence)?;
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let first = modulus.get(zeros)?;
        Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
    }

    /// Returns the end of the certificate's validity.
    pub(super) fn not_after(&self) -> Option<UtcMicros> {
        let (_, _, rest) = der(self.validity)?;
        let (tag, text, _) = der(rest)?;
        let text = std::str::from_utf8(text).ok()?;
        let (year, rest) = match tag {
            // UTCTime: a two-digit year, 1950 to 2049.
            0x17 => {
                let year: i16 = text.get(..2)?.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
            }
            0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
            _ => return None,
        };
        let number = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
        let moment = jiff::civil::DateTime::new(
            year,
            number(0)?,
            number(2)?,
            number(4)?,
            number(6)?,
            number(8)?,
            0,
        )
        .ok()?;
        Some(jiff::tz::TimeZone::UTC.to_timestamp(moment).ok()?.into())
    }
}

/// Returns the common name in a distinguished name, or the organisation if there is none.
fn name(name: &[u8]) -> Option<String> {
    attribute_of(name, &COMMON_NAME).or_else(|| attribute_of(name, &ORGANIZATION))
}

/// Returns the value of an attribute of a distinguished name (RFC 5280, section 4.1.2.4: sets of
/// pairs), in a single line without control characters, because it is displayed before it is
/// trusted.
fn attribute_of(name: &[u8], attribute: &[u8]) -> Option<String> {
    let mut rest = name;
    while let Some((_, set, after)) = der(rest) {
        rest = after;
        let (_, pair, _) = der(set)?;
        let (_, identifier, value) = der(pair)?;
        if identifier == attribute {
            let (_, text, _) = der(value)?;
            return Some(one_line(&String::from_utf8_lossy(text), &[]));
        }
    }
    None
}

/// Splits a DER element into its tag, its content and the bytes after it.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut size = usize::from(length);
    if length & 0x80 != 0 {
        let count = usize::from(length & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        size = digits.iter().fold(0, |size, digit| size << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(size)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_of_a_certificate_are_parsed() {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["mail.example.com".to_owned()]).expect("a name");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Büro");
        parameters.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let read = Certificate::parse(certificate.der()).expect("fields");
        assert_eq!(read.version, 3);
        assert_eq!(read.common_name().as_deref(), Some("Büro"));
        assert_eq!(read.issuer, read.subject);
        assert_eq!(read.rsa_bits(), None, "an elliptic curve");
        assert_eq!(
            read.not_after().map(|at| at.0),
            Some(1_927_843_200_000_000),
            "2031-02-03T00:00:00Z"
        );
    }

    #[test]
    fn an_issuers_control_characters_are_removed() {
        let text = b"x\x1b[2Jy\r\nz";
        let value = [&[0x06, 3, 0x55, 0x04, 0x03, 0x0c, text.len() as u8][..], text].concat();
        let pair = [&[0x30, value.len() as u8][..], &value].concat();
        let name = [&[0x31, pair.len() as u8][..], &pair].concat();
        assert_eq!(attribute_of(&name, &COMMON_NAME).as_deref(), Some("x [2Jy z"));
    }

    proptest! {
        #[test]
        fn any_input_is_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(certificate) = Certificate::parse(&bytes) {
                let _ = (certificate.not_after(), certificate.rsa_bits(), certificate.issuer_name());
            }
            let _ = attribute_of(&bytes, &COMMON_NAME);
        }
    }
}
