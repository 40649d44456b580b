//! SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. The password is not sent, and the
//! server must prove that it knows it.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{Secret, one_line};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize;

/// Minimum number of iterations: fewer would make it easy for a fake server to guess passwords (RFC
/// 7677, section 4).
const MIN_ROUNDS: u32 = 4096;
/// Maximum number of iterations, so that a server can't keep this machine busy.
const MAX_ROUNDS: u32 = 600_000;
/// Maximum length of a salt in bytes, longer than any in use.
const MAX_SALT: usize = 1024;
/// Header for no channel binding and no other identity (RFC 5801, section 4).
const HEADER: &str = "n,,";

type Key = [u8; 32];

/// Keys derived from a password.
struct Keys {
    client: Key,
    server: Key,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

/// Keys, and the inputs from which they were derived: password, salt and iterations.
type Derived = (Secret, Vec<u8>, u32, Arc<Keys>);

/// The last derived keys, which RFC 5802, section 5.1, recommends keeping.
#[derive(Default)]
pub(super) struct CachedKeys(Mutex<Option<Derived>>);

impl std::fmt::Debug for CachedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(…)")
    }
}

impl CachedKeys {
    fn keys(&self, password: &Secret, salt: &[u8], rounds: u32) -> Arc<Keys> {
        let lock = || self.0.lock().ignore_poison();
        if let Some((known, of, times, keys)) = &*lock()
            && known == password
            && of == salt
            && *times == rounds
        {
            return keys.clone();
        }
        let mut prepared = prepare(password.expose());
        let mut salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(prepared.as_bytes(), salt, rounds);
        prepared.zeroize();
        let keys = Arc::new(Keys {
            client: hmac(&salted, b"Client Key"),
            server: hmac(&salted, b"Server Key"),
        });
        salted.zeroize();
        *lock() = Some((password.clone(), salt.to_vec(), rounds, keys.clone()));
        keys
    }
}

/// Applies SASLprep (RFC 4013). Text that it forbids stays unchanged, as in servers without
/// SASLprep.
fn prepare(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

fn hmac(key: &[u8], text: &[u8]) -> Key {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(never) => unreachable!("HMAC takes keys of any length: {never}"),
    };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

enum State {
    /// Waiting for the server's first message.
    First,
    /// The proof was sent; the server's signature must equal this.
    Proved(Key),
    /// The server has proved that it knows the password.
    Verified,
    /// The server has refused, or failed to prove that it knows the password.
    Refused,
}

/// The client's side of the dialogue.
pub(super) struct Scram {
    /// The first message without its header.
    bare: String,
    nonce: String,
    state: State,
    proved: bool,
    complaint: Option<String>,
}

impl Scram {
    pub(super) fn begin(user: &str) -> Self {
        let mut random = [0; 18];
        // Without random numbers, replays can't be prevented; TLS would have failed earlier.
        let _ = getrandom::fill(&mut random);
        Self::with_nonce(user, STANDARD.encode(random))
    }

    fn with_nonce(user: &str, nonce: String) -> Self {
        let user = prepare(user).replace('=', "=3D").replace(',', "=2C");
        Self {
            bare: format!("n={user},r={nonce}"),
            nonce,
            state: State::First,
            proved: false,
            complaint: None,
        }
    }

    pub(super) fn first(&self) -> Secret {
        Secret::new(format!("{HEADER}{}", self.bare))
    }

    pub(super) fn answer(
        &mut self,
        challenge: &[u8],
        password: &Secret,
        kept: &CachedKeys,
    ) -> Result<Secret, String> {
        let challenge = std::str::from_utf8(challenge)
            .map_err(|_| "the server's SCRAM message is not UTF-8 text".to_owned())?;
        match self.state {
            State::First => self.prove(challenge, password, kept),
            State::Proved(signature) => {
                self.state = State::Refused;
                if let Some(reason) = challenge.strip_prefix("e=") {
                    // The server still sends its final reply.
                    self.complaint = Some(one_line(reason, &[]));
                } else {
                    let given =
                        challenge.strip_prefix("v=").and_then(|rest| rest.split(',').next());
                    let given = given.and_then(|text| STANDARD.decode(text).ok());
                    if given.as_deref() != Some(&signature[..]) {
                        return Err(
                            "the server could not prove that it knows the password (SCRAM signature); check \
                             that this is the right server"
                                .to_owned(),
                        );
                    }
                    self.state = State::Verified;
                }
                Ok(Secret::new(""))
            }
            State::Verified | State::Refused => {
                Err("the server sent more challenges than SCRAM-SHA-256 has".to_owned())
            }
        }
    }

    fn prove(
        &mut self,
        challenge: &str,
        password: &Secret,
        kept: &CachedKeys,
    ) -> Result<Secret, String> {
        if let Some(reason) = challenge.strip_prefix("e=") {
            self.complaint = Some(one_line(reason, &[]));
            self.state = State::Refused;
            return Ok(Secret::new(""));
        }
        let wrong = |what: &str| format!("the server's SCRAM message {what}");
        let mut parts = challenge.split(',');
        let mut part =
            |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).map(str::to_owned);
        // A mandatory extension (`m=`) comes first, and none is supported.
        let nonce = part("r=").ok_or_else(|| wrong("has no nonce"))?;
        let salt = part("s=").ok_or_else(|| wrong("has no salt"))?;
        let rounds = part("i=").ok_or_else(|| wrong("has no iteration count"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(wrong("answers a nonce that is not ours"));
        }
        let salt =
            STANDARD.decode(salt).map_err(|_| wrong("has a salt that is not valid Base64"))?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(wrong("has an unusable salt"));
        }
        let rounds: u32 = rounds.parse().map_err(|_| wrong("has no iteration count"))?;
        if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) {
            return Err(format!(
                "the server requests {rounds} SCRAM iterations; allowed are {MIN_ROUNDS} to {MAX_ROUNDS}"
            ));
        }
        let keys = kept.keys(password, &salt, rounds);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let said = format!("{},{challenge},{without_proof}", self.bare);
        let signature = hmac(&Sha256::digest(keys.client), said.as_bytes());
        let mut proof = keys.client;
        for (byte, other) in proof.iter_mut().zip(signature) {
            *byte ^= other;
        }
        self.proved = true;
        self.state = State::Proved(hmac(&keys.server, said.as_bytes()));
        Ok(Secret::new(format!("{without_proof},p={}", STANDARD.encode(proof))))
    }

    pub(super) fn finish(&self) -> Result<(), String> {
        match self.state {
            State::Verified => Ok(()),
            _ => Err(
                "the server accepted the login without proof that it knows the password (SCRAM); check that \
                 this is the right server"
                    .to_owned(),
            ),
        }
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Returns whether the server has received the proof.
    pub(super) fn is_proved(&self) -> bool {
        self.proved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begun() -> Scram {
        Scram::with_nonce("user", NONCE.to_owned())
    }

    fn pencil() -> Secret {
        Secret::new("pencil")
    }

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let kept = CachedKeys::default();
        for _ in 0..2 {
            let mut scram = begun();
            assert_eq!(scram.first().expose(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
            let proof = scram.answer(CHALLENGE.as_bytes(), &pencil(), &kept).expect("a proof");
            assert_eq!(
                proof.expose(),
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            );
            assert!(scram.finish().is_err() && scram.is_proved());
            assert_eq!(
                scram.answer(SIGNATURE.as_bytes(), &pencil(), &kept).expect("the end").expose(),
                ""
            );
            scram.finish().expect("the server knows the password");
        }
        // Cached keys belong to one password only.
        let mut scram = begun();
        let proof =
            scram.answer(CHALLENGE.as_bytes(), &Secret::new("pen"), &kept).expect("a proof");
        assert!(!proof.expose().contains("dHzbZapWIk4j"));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_detected() {
        let kept = CachedKeys::default();
        for last in ["v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "", "x"] {
            let mut scram = begun();
            scram.answer(CHALLENGE.as_bytes(), &pencil(), &kept).expect("a proof");
            let error = scram.answer(last.as_bytes(), &pencil(), &kept).expect_err(last);
            assert!(error.contains("could not prove"), "{error}");
            assert!(scram.finish().is_err());
        }
        let mut scram = begun();
        scram.answer(CHALLENGE.as_bytes(), &pencil(), &kept).expect("a proof");
        let last =
            scram.answer(b"e=invalid-proof", &pencil(), &kept).expect("its final reply is to come");
        assert_eq!((last.expose(), scram.complaint()), ("", Some("invalid-proof")));
        assert!(scram.finish().is_err() && scram.is_proved());
    }

    #[test]
    fn harmful_parameters_are_rejected() {
        for (challenge, expected) in [
            ("", "no nonce"),
            ("m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0S,i=4096", "no nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0S,i=4096", "a nonce that is not ours"),
            ("r=another,s=W22ZaJ0S,i=4096", "a nonce that is not ours"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", "unusable salt"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0S,i=1", "1 SCRAM iterations"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0S,i=4000000000", "4000000000 SCRAM iterations"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0S,i=-1", "no iteration count"),
        ] {
            let error = begun()
                .answer(challenge.as_bytes(), &pencil(), &CachedKeys::default())
                .expect_err(challenge);
            assert!(error.contains(expected), "{challenge}: {error}");
        }
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let scram = Scram::with_nonce("a=b,c", "x".to_owned());
        assert_eq!(scram.first().expose(), "n,,n=a=3Db=2Cc,r=x");
        // RFC 4013, section 3: a soft hyphen is removed, a Roman numeral becomes letters, and ß is
        // unchanged.
        assert_eq!(prepare("I\u{ad}X"), "IX");
        assert_eq!(prepare("\u{2168}ß"), "IXß");
        assert_eq!(prepare("a\u{7}"), "a\u{7}");
    }

    proptest! {
        #[test]
        fn any_challenge_is_handled_without_a_panic(challenge in "(r=rOprNGfwEbeRWgbNEkqO|[rsimev]=|,|[A-Za-z0-9+/=]{0,8}|ß){0,12}") {
            let mut scram = begun();
            let _ = scram.answer(challenge.as_bytes(), &pencil(), &CachedKeys::default());
            prop_assert!(scram.finish().is_err());
        }
    }
}
