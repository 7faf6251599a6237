//! The payment gateway, simulated: it takes its time, declines some payments, and
//! can be made to break.

use std::{fmt, str::FromStr, time::Duration};

use rand::{RngExt, seq::IndexedRandom};
use telemetry::metrics::{Histogram, IntCounter};
use tracing::Instrument;
use uuid::Uuid;

use crate::transaction::DeclineReason;

/// How long an authorisation takes: evenly spread between two bounds.
/// Written `50ms..200ms`, or `80ms` for always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    min: Duration,
    max: Duration,
}

impl Latency {
    /// The latency for `draw`, evenly distributed over [0, 1).
    fn at(self, draw: f64) -> Duration {
        self.min + (self.max - self.min).mul_f64(draw)
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| part.parse::<telemetry::config::Duration>().map(|d| d.0);
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (one(min)?, one(max)?),
            None => (one(text)?, one(text)?),
        };
        if min > max {
            return Err(format!("'{text}' starts above its end"));
        }
        if max > Duration::from_secs(10) {
            return Err(format!("'{text}' is longer than 10s"));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:?}", self.min, self.max)
    }
}

/// What the gateway answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Authorised.
    Approved,
    /// Refused, for a reason that is the payer's.
    Declined(DeclineReason),
}

/// The gateway gave no usable answer; no money was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment gateway broke off the authorisation")]
pub struct GatewayError;

/// The simulated gateway.
pub struct Gateway {
    /// Time that an authorisation takes.
    pub latency: Latency,
    /// Share of payments that are declined, 0 to 1.
    pub decline_ratio: f64,
    /// `payment_gateway_duration_seconds`
    pub duration: Histogram,
    /// `payment_gateway_voids_total`
    pub voids: IntCounter,
}

impl Gateway {
    /// Asks for the money. The transaction's id makes a repetition recognisable.
    ///
    /// # Errors
    /// `broken` is set: a fault was injected.
    pub async fn authorise(&self, id: Uuid, broken: bool) -> Result<Verdict, GatewayError> {
        let span = tracing::info_span!(
            "payment_gateway authorise",
            otel.kind = "client",
            peer.service = "payment-gateway",
            transaction.id = %id,
            payment.outcome = tracing::field::Empty,
        );
        async {
            let timer = self.duration.start_timer();
            // Without a wait there is no reason to give up the thread either.
            let latency = self.latency.at(rand::rng().random());
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            timer.observe_duration();
            let answer = if broken { Err(GatewayError) } else { Ok(self.decide(&mut rand::rng())) };
            tracing::Span::current().record(
                "payment.outcome",
                match answer {
                    Ok(Verdict::Approved) => "approved",
                    Ok(Verdict::Declined(_)) => "declined",
                    Err(GatewayError) => "gateway_error",
                },
            );
            if answer.is_err() {
                telemetry::trace::set_error("gateway error");
            }
            answer
        }
        .instrument(span)
        .await
    }

    fn decide(&self, rng: &mut impl rand::Rng) -> Verdict {
        if rng.random::<f64>() >= self.decline_ratio {
            return Verdict::Approved;
        }
        Verdict::Declined(DeclineReason::ALL.choose(rng).copied().unwrap_or(DeclineReason::InsufficientFunds))
    }

    /// Gives back an authorisation that could not be recorded.
    pub fn void(&self, id: Uuid) {
        self.voids.inc();
        tracing::warn!(transaction_id = %id, "authorisation voided because it could not be recorded");
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use telemetry::metrics::Registry;

    use super::*;

    fn gateway(latency: &str, decline_ratio: f64) -> Gateway {
        let registry = Registry::new("test", "0").unwrap();
        Gateway {
            latency: latency.parse().unwrap(),
            decline_ratio,
            duration: registry.histogram("d_seconds", "d", &[0.1]).unwrap(),
            voids: registry.counter("v_total", "v").unwrap(),
        }
    }

    #[test]
    fn a_latency_is_a_range_or_one_value() {
        let range: Latency = "50ms..200ms".parse().unwrap();
        assert_eq!(range.at(0.0), Duration::from_millis(50));
        assert_eq!(range.at(0.5), Duration::from_millis(125));
        assert_eq!("0ms".parse::<Latency>().unwrap().at(0.9), Duration::ZERO);
        for no in ["", "50", "200ms..50ms", "1ms..", "11s", "1ms..2ms..3ms"] {
            assert!(no.parse::<Latency>().is_err(), "{no}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_its_time_even_to_break() {
        let gateway = gateway("50ms..200ms", 0.0);
        for broken in [false, true] {
            let started = tokio::time::Instant::now();
            let answer = gateway.authorise(Uuid::nil(), broken).await;
            assert_eq!(answer, if broken { Err(GatewayError) } else { Ok(Verdict::Approved) });
            let took = started.elapsed().as_millis();
            // The timer's own resolution is a millisecond.
            assert!((50..=201).contains(&took), "{took}");
        }
        assert_eq!(gateway.duration.get_sample_count(), 2);
    }

    #[test]
    fn one_in_twenty_is_declined() {
        let gateway = gateway("0ms", 0.05);
        let mut rng = StdRng::seed_from_u64(11);
        let declined = (0..20_000).filter(|_| matches!(gateway.decide(&mut rng), Verdict::Declined(_))).count();
        assert!((900..1100).contains(&declined), "{declined}");
    }
}
