//! Signs mails (DKIM: RFC 6376, with Ed25519: RFC 8463). Header and body use relaxed
//! canonicalization, because relays rewrap lines.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_base::{Secret, SecretError};
use mailqos_config::Dkim;
use mailqos_model::UtcMicros;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

/// Fields that are signed if present.
const SIGNED: [&str; 11] = [
    "from",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "auto-submitted",
];
/// Fields that are signed once more than they occur, so that no one can add another (RFC 6376,
/// section 8.15).
const SEALED: [&str; 4] = ["from", "to", "subject", "date"];
/// Line length of the signature.
const LINE: usize = 70;

/// Reasons why a mail could not be signed. They never contain any part of the key.
#[derive(Debug, thiserror::Error)]
pub enum DkimError {
    /// The key is not available.
    #[error("the DKIM key: {0}")]
    Secret(#[from] SecretError),
    /// The key can't be used for signing.
    #[error(
        "the DKIM key: {0}; create one with `openssl genrsa 2048` or `openssl genpkey -algorithm ed25519`"
    )]
    Key(&'static str),
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn read(pem: &Secret) -> Result<Self, DkimError> {
        let wrong =
            |_| DkimError::Key("it is neither an RSA key of at least 2048 bits nor an Ed25519 key");
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
            .map_err(|_| DkimError::Key("it is not a private key in PEM format"))?;
        match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
                .map(|key| Self::Rsa(Box::new(key)))
                .map_err(wrong),
            PrivateKeyDer::Pkcs8(der) => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                    .map(Self::Ed25519)
                    .or_else(|_| {
                        RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
                            .map(|key| Self::Rsa(Box::new(key)))
                    })
                    .map_err(wrong)
            }
            _ => Err(DkimError::Key("it is neither an RSA nor an Ed25519 key")),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, DkimError> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
                    .map_err(|_| DkimError::Key("it can't sign"))?;
                Ok(signature)
            }
            // RFC 8463, section 3: the hash is signed.
            Self::Ed25519(key) => Ok(key.sign(&Sha256::digest(text)).as_ref().to_vec()),
        }
    }
}

/// Returns the mail with its signature at the top.
///
/// # Errors
/// The key is not available or not valid.
pub(super) async fn sign(
    content: Vec<u8>,
    options: &Dkim,
    now: UtcMicros,
) -> Result<Vec<u8>, DkimError> {
    let key = Key::read(&options.key.fetch().await?)?;
    let field = field(&content, options, &key, now)?;
    Ok([field.as_bytes(), &content].concat())
}

fn field(content: &[u8], options: &Dkim, key: &Key, now: UtcMicros) -> Result<String, DkimError> {
    let end = content.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = match end {
        Some(end) => (&content[..end + 2], &content[end + 4..]),
        None => (content, &[][..]),
    };
    let head = String::from_utf8_lossy(head);
    let fields = fields(&head);
    let mut names = Vec::new();
    let mut signed = String::new();
    for name in SIGNED {
        // Of several fields with the same name, the last is signed first (section 5.4.2). Our mails
        // have one of each.
        for (_, value) in fields.iter().rev().filter(|(known, _)| known == name) {
            names.push(name);
            signed.push_str(&format!("{name}:{}\r\n", relaxed(value)));
        }
        if SEALED.contains(&name) {
            names.push(name);
        }
    }
    let hash = STANDARD.encode(Sha256::digest(relaxed_body(body)));
    let start = format!(
        " v=1; a={}; c=relaxed/relaxed; d={}; s={};\r\n\tt={}; h={};\r\n\tbh={hash};\r\n\tb=",
        key.algorithm(),
        options.domain,
        options.selector,
        now.0.div_euclid(1_000_000),
        names.join(":\r\n\t "),
    );
    signed.push_str(&format!("dkim-signature:{}", relaxed(&start)));
    let signature = STANDARD.encode(key.sign(signed.as_bytes())?);
    let mut text = format!("DKIM-Signature:{start}");
    for (index, piece) in signature.as_bytes().chunks(LINE).enumerate() {
        if index > 0 {
            text.push_str("\r\n\t ");
        }
        text.push_str(&String::from_utf8_lossy(piece));
    }
    text.push_str("\r\n");
    Ok(text)
}

/// Returns the fields of a head: names in lower case, values with their folds.
fn fields(head: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in head.split_inclusive("\r\n") {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim_end().to_ascii_lowercase(), value.to_owned()));
        }
    }
    fields
}

/// Returns a value in one line, with each run of white space reduced to one space and none at the
/// ends (section 3.4.2).
fn relaxed(value: &str) -> String {
    value
        .split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the content with white space reduced and without empty lines at the end (section 3.4.4).
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::with_capacity(body.len());
    let mut lines = body.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if lines.peek().is_none() && line.is_empty() {
            break;
        }
        let mut blank = false;
        for byte in line {
            if matches!(byte, b' ' | b'\t') {
                blank = true;
                continue;
            }
            if blank {
                relaxed.push(b' ');
                blank = false;
            }
            relaxed.push(*byte);
        }
        relaxed.extend_from_slice(b"\r\n");
    }
    while relaxed.ends_with(b"\r\n\r\n") {
        relaxed.truncate(relaxed.len() - 2);
    }
    if relaxed == b"\r\n" {
        relaxed.clear();
    }
    relaxed
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    #[test]
    fn white_space_is_reduced_as_in_the_standards_example() {
        // RFC 6376, section 3.4.5.
        assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
        assert_eq!(relaxed(" X \r\n"), "X");
        assert_eq!(relaxed(" Y\t\r\n\tZ  \r\n"), "Y Z");
        assert_eq!(relaxed_body(b""), b"");
        assert_eq!(relaxed_body(b"\r\n\r\n"), b"");
        assert_eq!(relaxed_body(b"no line end"), b"no line end\r\n");
    }

    #[test]
    fn a_signature_is_valid_only_for_its_mail() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let public = UnparsedPublicKey::new(&ED25519, key.public_key().as_ref().to_vec());
        let key = Key::Ed25519(key);
        let options = Dkim {
            domain: "example.com".into(),
            selector: "reports".into(),
            key: mailqos_base::SecretSource::Env("NONE".into()),
        };
        let mail =
            b"From: a@example.com\r\nTo: b@example.org,\r\n c@example.org\r\nSubject: x\r\n\r\nHello  there \r\n\r\n";
        let field = field(mail, &options, &key, UtcMicros(1_700_000_000_000_000)).expect("signed");
        let (head, signature) = field.rsplit_once("b=").expect("a signature");
        let signature: String = signature.split_whitespace().collect();
        let signature = STANDARD.decode(signature).expect("base64");
        let text = |to: &str| {
            let dkim =
                relaxed(&format!("{}b=", head.strip_prefix("DKIM-Signature:").expect("its name")));
            format!("from:a@example.com\r\nto:{to}\r\nsubject:x\r\ndkim-signature:{dkim}")
        };
        let good = text("b@example.org, c@example.org");
        assert!(public.verify(&Sha256::digest(good.as_bytes()), &signature).is_ok());
        let other = text("mallory@example.org");
        assert!(public.verify(&Sha256::digest(other.as_bytes()), &signature).is_err());
        let hash = STANDARD.encode(Sha256::digest(b"Hello there\r\n"));
        assert!(field.contains(&format!("bh={hash}")), "{field}");
        assert!(field.contains("h=from:"), "{field}");
        assert!(field.lines().all(|line| line.len() < 100), "{field}");
    }

    #[test]
    fn an_invalid_key_is_reported_without_quoting_it() {
        let error = Key::read(&Secret::new("Hemlighet")).err().expect("no key").to_string();
        assert!(error.contains("PEM") && !error.contains("Hemlighet"), "{error}");
    }
}
