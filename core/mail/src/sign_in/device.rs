//! Sign-in by device code (RFC 8628): the person enters a code in a browser on any machine.

use std::time::{Duration, Instant};

use mailqos_base::{Secret, one_line};
use mailqos_net::http::Place;
use serde_json::{Map, Value};
use tokio::time::sleep;

use super::{Granted, SignIn, SignInError};

/// Time between two requests if the server states none (RFC 8628, section 3.2).
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest and longest time between two requests.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// How much longer to wait after `slow_down` (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Maximum validity of a code; longer ones are shortened to it. Microsoft's is 15 minutes.
const MAX_VALIDITY: Duration = Duration::from_secs(3600);

/// A code for a person to enter.
#[derive(Debug, Clone)]
pub struct DeviceCode {
    /// The code.
    pub user_code: String,
    /// The address at which to enter it.
    pub address: String,
    /// How long it is valid.
    pub validity: Duration,
    device_code: Secret,
    interval: Duration,
    expires_at: Instant,
}

impl SignIn {
    /// Requests a code.
    ///
    /// # Errors
    /// The provider has no device codes, or refuses.
    pub async fn device_code(&self) -> Result<DeviceCode, SignInError> {
        let url = self.device_url.as_deref().ok_or(SignInError::NoAddress("device_url"))?;
        let asked = Instant::now();
        let fields = self.post(url, &[("scope", &self.scope)], &[]).await??;
        DeviceCode::read(&fields, asked).map_err(|reason| SignInError::Unreadable {
            server: Place::parse(url).map_or_else(|_| url.to_owned(), |place| place.server()),
            reason: reason.to_owned(),
        })
    }

    /// Waits until the person has signed in, declined, or let the code expire.
    ///
    /// # Errors
    /// There is no token.
    pub async fn wait(&self, code: &DeviceCode) -> Result<Granted, SignInError> {
        let mut interval = code.interval;
        loop {
            let left = code.expires_at.saturating_duration_since(Instant::now());
            // Some servers answer authorization_pending for ever
            // (spring-projects/spring-authorization-server#1556), so the validity counts.
            if left.is_zero() {
                return Err(SignInError::Expired);
            }
            sleep(interval.min(left)).await;
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", code.device_code.expose()),
            ];
            let refusal = match self.post(&self.token_url, &form, &[&code.device_code]).await {
                Ok(Ok(fields)) => return self.granted(&fields).await,
                Ok(Err(refusal)) => refusal,
                // RFC 8628, section 3.5: after a timeout, the interval doubles.
                Err(SignInError::Http(error)) => {
                    tracing::debug!(%error, "request for a token failed; trying again");
                    interval = (interval * 2).min(MAX_INTERVAL);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match refusal.code.as_str() {
                "authorization_pending" => {}
                // GitHub and others ask for it even of clients that keep to the interval
                // (octokit/auth-oauth-device.js#334).
                "slow_down" => interval = (interval + SLOWER).min(MAX_INTERVAL),
                // Microsoft Entra takes polling for an endless loop, although the person is still
                // typing (AzureAD/microsoft-authentication-library-for-dotnet#1495).
                _ if refusal.is_loop() => interval = (interval + SLOWER).min(MAX_INTERVAL),
                "expired_token" | "code_expired" => return Err(SignInError::Expired),
                // The second is Microsoft's.
                "access_denied" | "authorization_declined" => return Err(SignInError::Declined),
                _ => return Err(refusal.into()),
            }
        }
    }
}

impl DeviceCode {
    fn read(fields: &Map<String, Value>, asked: Instant) -> Result<Self, &'static str> {
        let word =
            |name: &str| fields.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        let seconds = |name: &str| match fields.get(name)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let device_code = word("device_code").ok_or("it contains no device_code")?;
        let user_code = word("user_code").ok_or("it contains no user_code")?;
        // The second name is that of Google and of drafts of the RFC.
        let address = word("verification_uri")
            .or_else(|| word("verification_url"))
            .ok_or("it contains no verification_uri")?;
        let place = Place::parse(address).map_err(|_| "its verification_uri is not an address")?;
        if !place.tls {
            return Err("its verification_uri is not encrypted");
        }
        let validity = seconds("expires_in").ok_or("it contains no expires_in")?;
        let validity = Duration::from_secs(validity).min(MAX_VALIDITY);
        let interval = seconds("interval").map_or(USUAL_INTERVAL, Duration::from_secs);
        Ok(Self {
            user_code: one_line(user_code, &[]),
            address: one_line(address, &[]),
            validity,
            device_code: Secret::new(device_code),
            interval: interval.clamp(MIN_INTERVAL, MAX_INTERVAL),
            expires_at: asked + validity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<DeviceCode, &'static str> {
        let value: Value = serde_json::from_str(json).expect("JSON");
        DeviceCode::read(value.as_object().expect("an object"), Instant::now())
    }

    #[test]
    fn codes_are_read_and_wrong_answers_refused() {
        let whole = "{\"device_code\":\"d\",\"user_code\":\"A\\u001b[1mB\",\"verification_uri\":\
            \"https://microsoft.com/devicelogin\",\"expires_in\":\"900\",\"interval\":0}";
        let code = read(whole).expect("a code");
        assert_eq!(code.validity, Duration::from_secs(900));
        assert_eq!(code.interval, MIN_INTERVAL);
        assert!(!code.user_code.contains('\u{1b}') && !format!("{code:?}").contains("\"d\""));
        let usual = read(&whole.replace(",\"interval\":0", "")).expect("a code");
        assert_eq!(usual.interval, USUAL_INTERVAL);
        for (from, to) in [
            ("device_code", "x"),
            ("user_code", "x"),
            ("verification_uri", "x"),
            ("expires_in", "x"),
            ("https://", "http://"),
            ("https://", "javascript:"),
        ] {
            assert!(read(&whole.replacen(from, to, 1)).is_err(), "{from}");
        }
    }
}
