//! ID tokens: signed by a key of the identity provider, for this console and this sign-in (OpenID
//! Connect Core 1.0, section 3.1.3.7; RFC 7515, 7517, 7518, 8725).
//!
//! Signatures are checked by `ring`, as those of TLS are. The crate `openidconnect` would bring two
//! dozen crates, among them `rsa`, whose advisory RUSTSEC-2023-0071 has no fix.

use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

use crate::access::forms::equal;

/// Largest token, in bytes; hundreds of groups fit.
const MAX_TOKEN: usize = 64 << 10;
/// Keys of a provider that are read.
const MAX_KEYS: usize = 100;
/// By how much the clocks of provider and console may differ, in seconds.
const MAX_SKEW: i64 = 120;
/// Oldest token that is accepted, in seconds: it was just issued.
const MAX_AGE: i64 = 600;

/// Reasons why a token does not prove who signed in. They contain no part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is not a signed token.
    #[error("the ID token is malformed: {0}")]
    Malformed(&'static str),
    /// The algorithm is not one of public keys.
    #[error("the ID token is not signed with a public key of the provider (alg {0:?})")]
    Algorithm(String),
    /// No key of the provider has this id and fits the algorithm.
    #[error("the ID token is signed with a key that the provider does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the ID token is wrong")]
    Signature,
    /// A claim is not as expected.
    #[error("the ID token is not for this sign-in: {0}")]
    Claim(&'static str),
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

/// The public keys of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys(Vec<Key>);

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// The provider.
    pub(crate) issuer: &'a str,
    /// The console.
    pub(crate) client_id: &'a str,
    /// The random text of this sign-in.
    pub(crate) nonce: &'a str,
    /// The time, in seconds since 1970.
    pub(crate) now: i64,
}

/// Decodes Base64url; padding, which RFC 7515 forbids, is accepted in keys of sloppy providers.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

impl Keys {
    /// Parses a set of keys (RFC 7517, section 5). Keys of unknown kinds and for encryption are
    /// skipped, as section 5 requires.
    pub(crate) fn parse(document: &Value) -> Self {
        let all = document["keys"].as_array().into_iter().flatten().take(MAX_KEYS);
        Self(all.filter_map(key).collect())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn key(value: &Value) -> Option<Key> {
    let text = |name: &str| value[name].as_str();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |name: &str| decode(text(name)?);
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == length && y.len() == length).then(|| [vec![4], x, y].concat())
    };
    let material = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let plain = |bytes: Vec<u8>| -> Vec<u8> {
                bytes.into_iter().skip_while(|byte| *byte == 0).collect()
            };
            Material::Rsa { n: plain(bytes("n")?), e: plain(bytes("e")?) }
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
        _ => return None,
    };
    let id = text("kid").map(str::to_owned);
    Some(Key { id, algorithm: text("alg").map(str::to_owned), material })
}

impl Key {
    /// Whether a signature is that of this key; `None` if the key does not fit the algorithm. The
    /// kind of the key decides, so that no public key is taken for a shared secret (RFC 8725,
    /// section 2.1).
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Option<bool> {
        if self.algorithm.as_deref().is_some_and(|own| own != algorithm) {
            return None;
        }
        let rsa: Option<&signature::RsaParameters> = match algorithm {
            "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => Some(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        };
        let check = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, _) => {
                let key = RsaPublicKeyComponents { n, e };
                Some(key.verify(rsa?, signed, signature).is_ok())
            }
            (Material::P256(key), "ES256") => Some(check(&signature::ECDSA_P256_SHA256_FIXED, key)),
            (Material::P384(key), "ES384") => Some(check(&signature::ECDSA_P384_SHA384_FIXED, key)),
            (Material::Ed25519(key), "EdDSA" | "Ed25519") => Some(check(&signature::ED25519, key)),
            _ => None,
        }
    }
}

/// Whether an algorithm is one that [`Key::verifies`] knows.
fn is_known(algorithm: &str) -> bool {
    const ALL: [&str; 10] = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519",
    ];
    ALL.contains(&algorithm)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// Verifies a token, and returns its claims.
///
/// # Errors
/// It does not prove who signed in.
pub(crate) fn verify(
    token: &str,
    keys: &Keys,
    expected: &Expected<'_>,
) -> Result<Map<String, Value>, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed("it is too long"));
    }
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(sign), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed("it does not have three parts"));
    };
    let header = object(head).ok_or(TokenError::Malformed("its header is not JSON"))?;
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    if !is_known(algorithm) {
        return Err(TokenError::Algorithm(algorithm.chars().take(20).collect()));
    }
    // Extensions that must be understood (RFC 7515, section 4.1.11): there are none.
    if header.contains_key("crit") {
        return Err(TokenError::Malformed("it requires an unknown extension"));
    }
    let signature = URL_SAFE_NO_PAD
        .decode(sign)
        .map_err(|_| TokenError::Malformed("its signature is not Base64url"))?;
    let signed = format!("{head}.{body}");
    let id = header.get("kid").and_then(Value::as_str);
    let fitting =
        keys.0.iter().filter(|key| id.is_none() || key.id.is_none() || key.id.as_deref() == id);
    let results: Vec<bool> =
        fitting.filter_map(|key| key.verifies(algorithm, signed.as_bytes(), &signature)).collect();
    if results.is_empty() {
        return Err(TokenError::UnknownKey);
    }
    if !results.contains(&true) {
        return Err(TokenError::Signature);
    }
    let claims = object(body).ok_or(TokenError::Malformed("its content is not JSON"))?;
    check_claims(&claims, expected)?;
    Ok(claims)
}

fn check_claims(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    // Some providers write times with a fraction.
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|at| at as i64);
    let check = |holds: bool, what| if holds { Ok(()) } else { Err(TokenError::Claim(what)) };
    check(text("iss") == expected.issuer, "it is from another issuer (iss)")?;
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    check(audience.contains(&expected.client_id), "it is for another client (aud)")?;
    let party = claims.get("azp").and_then(Value::as_str);
    let is_own = party.map_or(audience.len() == 1, |party| party == expected.client_id);
    check(is_own, "it was issued to another client (azp)")?;
    let now = expected.now;
    check(time("exp").is_some_and(|at| at > now - MAX_SKEW), "it has expired (exp)")?;
    let issued = time("iat");
    check(issued.is_some_and(|at| at <= now + MAX_SKEW), "it is from the future (iat)")?;
    check(issued.is_some_and(|at| at >= now - MAX_AGE - MAX_SKEW), "it is old (iat)")?;
    check(time("nbf").is_none_or(|at| at <= now + MAX_SKEW), "it is not valid yet (nbf)")?;
    check(equal(text("nonce"), expected.nonce), "it is of another sign-in (nonce)")?;
    let subject = text("sub");
    check(!subject.is_empty() && subject.len() <= 255, "it names no subject (sub)")
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'static> =
        Expected { issuer: "https://a.example", client_id: "console", nonce: "n", now: 1_000_000 };

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
            let key = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
            Self(EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).expect("a key"))
        }

        fn jwk(&self, id: &str) -> Value {
            let point = self.0.public_key().as_ref();
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig",
                "x": encode(&point[1..33]), "y": encode(&point[33..])})
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let sign = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign))
        }
    }

    fn claims() -> Value {
        json!({"iss": "https://a.example", "aud": "console", "exp": 1_000_300, "iat": 1_000_000,
            "nonce": "n", "sub": "1", "groups": "ops"})
    }

    #[test]
    fn only_a_token_for_this_sign_in_is_accepted() {
        let signer = Signer::new();
        let keys = Keys::parse(&json!({"keys": [signer.jwk("1"), {"kty": "oct", "k": "AA"}]}));
        let header = json!({"alg": "ES256", "kid": "1"});
        let found = verify(&signer.sign(&header, &claims()), &keys, &EXPECTED).expect("valid");
        assert_eq!(found["sub"], "1");
        let with = |name: &str, value: Value| {
            let mut changed = claims();
            changed[name] = value;
            verify(&signer.sign(&header, &changed), &keys, &EXPECTED).map(|_| ())
        };
        for (name, value) in [
            ("iss", json!("https://a.example/")),
            ("iss", Value::Null),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!(["console", "other"])),
            ("azp", json!("other")),
            ("exp", json!(999_000)),
            ("exp", json!("1000300")),
            ("exp", Value::Null),
            ("iat", json!(1_001_000)),
            ("iat", json!(900_000)),
            ("nbf", json!(1_001_000)),
            ("nonce", json!("other")),
            ("nonce", Value::Null),
            ("sub", json!("")),
            ("sub", json!(7)),
        ] {
            let result = with(name, value.clone());
            assert!(matches!(result, Err(TokenError::Claim(_))), "{name}: {value}: {result:?}");
        }
        for (name, value) in [
            ("aud", json!(["console"])),
            ("azp", json!("console")),
            ("exp", json!(999_950)),
            ("iat", json!(1_000_060.5)),
        ] {
            assert_eq!(with(name, value.clone()), Ok(()), "{name}: {value}");
        }
    }

    #[test]
    fn only_a_signature_by_a_key_of_the_provider_is_accepted() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = Keys::parse(&json!({"keys": [signer.jwk("1")]}));
        let check = |token: &str| verify(token, &keys, &EXPECTED).map(|_| ());
        let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
        assert_eq!(check(&signer.sign(&json!({"alg": "ES256"}), &claims())), Ok(()));
        assert_eq!(
            check(&other.sign(&header("ES256", "1"), &claims())),
            Err(TokenError::Signature)
        );
        assert_eq!(
            check(&other.sign(&header("ES256", "2"), &claims())),
            Err(TokenError::UnknownKey)
        );
        assert_eq!(
            check(&signer.sign(&header("RS256", "1"), &claims())),
            Err(TokenError::UnknownKey)
        );
        for alg in ["none", "None", "HS256", "", "ES256K"] {
            let result = check(&signer.sign(&header(alg, "1"), &claims()));
            assert!(matches!(result, Err(TokenError::Algorithm(_))), "{alg}: {result:?}");
        }
        let token = signer.sign(&header("ES256", "1"), &claims());
        let (signed, _) = token.rsplit_once('.').expect("a signature");
        assert_eq!(check(&format!("{signed}.")), Err(TokenError::Signature));
        for text in ["", ".", "..", "a.b.c.d", signed] {
            assert!(check(text).is_err(), "{text}");
        }
        let crit = json!({"alg": "ES256", "crit": ["b64"], "b64": false});
        assert!(check(&signer.sign(&crit, &claims())).is_err());
        let encryption = json!({"kty": "EC", "use": "enc"});
        assert!(Keys::parse(&json!({"keys": [encryption, 7]})).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_anyone_writes_is_a_token(
            head in ".{0,60}", body in ".{0,60}", sign in "[A-Za-z0-9_-]{0,90}", alg in "[A-Z0-9]{0,6}",
        ) {
            let signer = Signer::new();
            let keys = Keys::parse(&json!({"keys": [signer.jwk("1")]}));
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let header = part(&json!({"alg": alg, "kid": "1"}).to_string());
            for text in [
                format!("{head}.{body}.{sign}"),
                format!("{}.{}.{sign}", part(&head), part(&body)),
                format!("{header}.{}.{sign}", part(&claims().to_string())),
            ] {
                proptest::prop_assert!(verify(&text, &keys, &EXPECTED).is_err());
            }
        }

        #[test]
        fn any_document_is_a_list_of_keys(kty in "(RSA|EC|OKP|.{0,5})", x in ".{0,50}") {
            let key = json!({"kty": kty, "crv": "P-256", "n": x, "e": x, "x": x, "y": x});
            let keys = Keys::parse(&json!({"keys": [key, kty, null]}));
            let token = Signer::new().sign(&json!({"alg": "RS256"}), &claims());
            proptest::prop_assert!(verify(&token, &keys, &EXPECTED).is_err());
        }
    }
}
