//! Detects whether the probe itself has a network connection. A failure while no reference address
//! responds is not a failure of the mail system.

use std::time::{Duration, Instant};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_model::{Outcome, Sample, Stage};
use tokio::{net::TcpStream, sync::Mutex, task::JoinSet, time::timeout};

/// Deadline for the responses of all reference addresses together.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time for which a result is reused: ten thousand simultaneous failures cause one check.
const HOLDS: Duration = Duration::from_secs(2);

/// The reference addresses and the last result.
#[derive(Debug)]
pub(super) struct Network {
    references: std::sync::Mutex<Vec<String>>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Network {
    /// Creates a check with reference addresses, `HOST:PORT` each; without any, the network always
    /// counts as working.
    pub(super) fn new(references: &[String]) -> Self {
        Self { references: std::sync::Mutex::new(references.to_vec()), last: Mutex::default() }
    }

    /// Changes the reference addresses.
    pub(super) fn reload(&self, references: &[String]) {
        *self.references.lock().ignore_poison() = references.to_vec();
    }

    /// Turns a failure caused by the probe's own network into `not_tested`; returns whether it did.
    pub(super) async fn excuse_if_offline(&self, sample: &mut Sample) -> bool {
        let by_network = matches!(sample.outcome, Outcome::SmtpFailed | Outcome::PickupFailed)
            && matches!(
                sample.stage,
                Some(
                    Stage::SmtpConnect
                        | Stage::SmtpTls
                        | Stage::SmtpGreeting
                        | Stage::PickupConnect
                        | Stage::PickupTls
                        | Stage::PickupGreeting
                )
            );
        if !by_network || self.references.lock().ignore_poison().is_empty() || self.is_there().await
        {
            return false;
        }
        let before = sample.error.take().unwrap_or_default();
        sample.error =
            Some(format!("the probe's own network fails: no reference address answers ({before})"));
        sample.outcome = Outcome::NotTested;
        sample.stage = None;
        true
    }

    async fn is_there(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, there)) = *last
            && at.elapsed() < HOLDS
        {
            return there;
        }
        let mut tries = JoinSet::new();
        let references = self.references.lock().ignore_poison().clone();
        for address in references {
            tries.spawn(async move {
                match TcpStream::connect(&address).await {
                    Ok(_) => true,
                    // A refused connection is also a response.
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
                }
            });
        }
        let any = async {
            while let Some(answered) = tries.join_next().await {
                if answered.unwrap_or(false) {
                    return true;
                }
            }
            false
        };
        let there = timeout(PATIENCE, any).await.unwrap_or(false);
        *last = Some((Instant::now(), there));
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_model::UtcMicros;

    fn failed(stage: Stage) -> Sample {
        let mut sample =
            Sample::new("m".parse().expect("a name"), UtcMicros(0), Outcome::SmtpFailed);
        sample.stage = Some(stage);
        sample.error = Some("no route".into());
        sample
    }

    #[tokio::test]
    async fn a_failure_without_a_network_is_not_a_test() {
        // A name that never resolves: there is no answer.
        let alone = Network::new(&["nowhere.invalid:53".to_owned()]);
        let mut sample = failed(Stage::SmtpConnect);
        alone.excuse_if_offline(&mut sample).await;
        assert_eq!((sample.outcome, sample.stage), (Outcome::NotTested, None));
        assert!(
            sample
                .error
                .is_some_and(|error| error.contains("own network") && error.contains("no route"))
        );
        let mut refused = failed(Stage::SmtpRcpt);
        alone.excuse_if_offline(&mut refused).await;
        assert_eq!(
            refused.outcome,
            Outcome::SmtpFailed,
            "a server that refuses a recipient was reached"
        );
    }

    #[tokio::test]
    async fn a_failure_counts_while_a_reference_responds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let network = Network::new(&["nowhere.invalid:53".to_owned(), address]);
        let mut sample = failed(Stage::SmtpConnect);
        network.excuse_if_offline(&mut sample).await;
        assert_eq!(sample.outcome, Outcome::SmtpFailed);
        let mut untested = failed(Stage::SmtpConnect);
        Network::new(&[]).excuse_if_offline(&mut untested).await;
        assert_eq!(untested.outcome, Outcome::SmtpFailed);
    }
}
