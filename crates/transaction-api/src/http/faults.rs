//! `/faults`: breaking the service on purpose, behind a token.

#![allow(unused_qualifications, reason = "utoipa's macro qualifies what is in scope")]

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, State},
};
use http::{StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use telemetry::problem::{self, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use super::docs::ProblemDocument;
use crate::{
    App,
    faults::{Fault, Kind},
};

const DEFAULT_TTL: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(30);
const MAX_LEAK_MIB: u32 = 4096;

/// Proof that the caller knows the token. Extracted before anything else is looked at.
pub struct Authorised;

impl FromRequestParts<Arc<App>> for Authorised {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Some(expected) = &app.faults_token else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "Fault injection is off")
                .detail("the service was started without a token for it"));
        };
        let given = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        // Hashes have one length, whatever was sent: neither content nor length shows in the time.
        let same = given.is_some_and(|given| {
            let (given, expected) = (Sha256::digest(given), Sha256::digest(expected.expose()));
            given.as_slice().ct_eq(expected.as_slice()).into()
        });
        if same {
            Ok(Self)
        } else {
            tracing::warn!("fault request refused");
            Err(Problem::unauthorized())
        }
    }
}

/// A fault to inject. Which measures belong to which kind is said with each.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultRequest {
    /// The kind.
    fault: Kind,
    /// Time to live, such as `30s` or `5m`; 60s if absent.
    #[schema(example = "60s")]
    ttl: Option<String>,
    /// `error_rate`, `gateway_error`: share of requests, above 0 to 1; 1 if absent.
    #[schema(minimum = 0, maximum = 1, example = 0.5)]
    ratio: Option<f64>,
    /// `latency`: delay of each request, such as `500ms`, up to 30s.
    #[schema(example = "500ms")]
    delay: Option<String>,
    /// `memory_leak`: growth; 8 if absent.
    #[schema(minimum = 1, maximum = 4096)]
    mib_per_second: Option<u32>,
    /// `memory_leak`: what the process holds in all when it stops; 512 if absent.
    #[schema(minimum = 1, maximum = 4096)]
    max_mib: Option<u32>,
    /// `crash`: how long until then; at once if absent.
    #[schema(example = "0s")]
    after: Option<String>,
}

impl FaultRequest {
    /// The fault and its time to live.
    fn check(&self, max_ttl: Duration) -> Result<(Fault, Duration), Problem> {
        let ttl = duration("ttl", self.ttl.as_deref())?.unwrap_or(DEFAULT_TTL.min(max_ttl));
        if ttl.is_zero() || ttl > max_ttl {
            let most = telemetry::config::Duration(max_ttl);
            return Err(Problem::invalid("ttl", format!("must be longer than 0s and at most {most}")));
        }
        for (field, given, belongs) in [
            ("ratio", self.ratio.is_some(), &[Kind::ErrorRate, Kind::GatewayError][..]),
            ("delay", self.delay.is_some(), &[Kind::Latency]),
            ("mib_per_second", self.mib_per_second.is_some(), &[Kind::MemoryLeak]),
            ("max_mib", self.max_mib.is_some(), &[Kind::MemoryLeak]),
            ("after", self.after.is_some(), &[Kind::Crash]),
        ] {
            if given && !belongs.contains(&self.fault) {
                return Err(Problem::invalid(field, format!("is no measure of {}", self.fault.as_str())));
            }
        }
        let ratio = || match self.ratio.unwrap_or(1.0) {
            ratio if ratio > 0.0 && ratio <= 1.0 => Ok(ratio),
            _ => Err(Problem::invalid("ratio", "must be above 0 and at most 1")),
        };
        let mib = |field, value: Option<u32>, default| match value.unwrap_or(default) {
            mib if (1..=MAX_LEAK_MIB).contains(&mib) => Ok(mib),
            _ => Err(Problem::invalid(field, format!("must be 1 to {MAX_LEAK_MIB}"))),
        };
        let fault = match self.fault {
            Kind::ErrorRate => Fault::ErrorRate { ratio: ratio()? },
            Kind::GatewayError => Fault::GatewayError { ratio: ratio()? },
            Kind::Latency => match duration("delay", self.delay.as_deref())? {
                Some(delay) if !delay.is_zero() && delay <= MAX_DELAY => Fault::Latency { delay },
                _ => return Err(Problem::invalid("delay", "is required: longer than 0s and at most 30s")),
            },
            Kind::MemoryLeak => Fault::MemoryLeak {
                mib_per_second: mib("mib_per_second", self.mib_per_second, 8)?,
                max_mib: mib("max_mib", self.max_mib, 512)?,
            },
            Kind::Hang => Fault::Hang,
            Kind::Crash => match duration("after", self.after.as_deref())?.unwrap_or_default() {
                after if after < ttl => Fault::Crash { after },
                _ => return Err(Problem::invalid("after", "must be shorter than the time to live")),
            },
        };
        Ok((fault, ttl))
    }
}

fn duration(field: &str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    text.map(|text| text.parse::<telemetry::config::Duration>().map(|d| d.0))
        .transpose()
        .map_err(|_| Problem::invalid(field, "is not a duration with a unit, such as 250ms, 10s or 2m"))
}

/// A fault that is active.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActiveFault {
    /// The kind.
    fault: Kind,
    /// What is left of its time to live.
    expires_in_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mib_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_mib: Option<u32>,
}

/// All faults that are active.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultList {
    active: Vec<ActiveFault>,
    /// Memory that a leak holds.
    leaked_bytes: usize,
    /// The longest time to live.
    max_ttl_seconds: f64,
}

fn describe(app: &App) -> Json<FaultList> {
    let active = app
        .faults
        .list()
        .into_iter()
        .map(|(fault, left)| {
            let mut told = ActiveFault {
                fault: fault.kind(),
                expires_in_seconds: left.as_secs_f64(),
                ratio: None,
                delay_seconds: None,
                mib_per_second: None,
                max_mib: None,
            };
            match fault {
                Fault::ErrorRate { ratio } | Fault::GatewayError { ratio } => told.ratio = Some(ratio),
                Fault::Latency { delay } => told.delay_seconds = Some(delay.as_secs_f64()),
                Fault::MemoryLeak { mib_per_second, max_mib } => {
                    (told.mib_per_second, told.max_mib) = (Some(mib_per_second), Some(max_mib));
                }
                Fault::Hang | Fault::Crash { .. } => {}
            }
            told
        })
        .collect();
    Json(FaultList {
        active,
        leaked_bytes: app.faults.leaked_bytes(),
        max_ttl_seconds: app.fault_max_ttl.as_secs_f64(),
    })
}

/// What is broken on purpose now.
#[utoipa::path(get, path = "/faults", tag = "faults", operation_id = "list_faults", security(("faults_token" = [])),
    responses(
        (status = 200, description = "The active faults", body = FaultList),
        (status = 401, description = "No or a wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub async fn list(_: Authorised, State(app): State<Arc<App>>) -> Json<FaultList> {
    describe(&app)
}

/// Injects a fault, in place of an active one of the same kind. It ends with its time to live, by
/// DELETE, or with the process.
#[utoipa::path(put, path = "/faults", tag = "faults", operation_id = "inject_fault", security(("faults_token" = [])),
    request_body = FaultRequest,
    responses(
        (status = 200, description = "Injected; the active faults", body = FaultList),
        (status = 401, description = "No or a wrong token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub async fn put(
    _: Authorised,
    State(app): State<Arc<App>>,
    problem::Json(request): problem::Json<FaultRequest>,
) -> Result<Json<FaultList>, Problem> {
    let (fault, ttl) = request.check(app.fault_max_ttl)?;
    app.faults.put(fault, ttl);
    Ok(describe(&app))
}

/// Which fault to end.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// The kind; all if absent.
    #[param(inline)]
    fault: Option<Kind>,
}

/// Ends one kind of fault, or all.
#[utoipa::path(delete, path = "/faults", tag = "faults", operation_id = "remove_faults", security(("faults_token" = [])),
    params(DeleteQuery),
    responses(
        (status = 200, description = "What is still active", body = FaultList),
        (status = 401, description = "No or a wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub async fn delete(_: Authorised, State(app): State<Arc<App>>, Query(query): Query<DeleteQuery>) -> Json<FaultList> {
    app.faults.remove(query.fault);
    describe(&app)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(900);

    fn check(body: &str) -> Result<(Fault, Duration), String> {
        let request: FaultRequest = problem::parse_json(body.as_bytes()).map_err(|p| format!("{p:?}"))?;
        request.check(MAX).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_fault_has_sane_measures() {
        let second = Duration::from_secs(1);
        assert_eq!(check(r#"{"fault":"error_rate"}"#).unwrap(), (Fault::ErrorRate { ratio: 1.0 }, 60 * second));
        assert_eq!(
            check(r#"{"fault":"latency","delay":"500ms","ttl":"15m"}"#).unwrap(),
            (Fault::Latency { delay: second / 2 }, 900 * second)
        );
        assert_eq!(
            check(r#"{"fault":"memory_leak","mib_per_second":64}"#).unwrap().0,
            Fault::MemoryLeak { mib_per_second: 64, max_mib: 512 }
        );
        assert_eq!(check(r#"{"fault":"crash","after":"2s"}"#).unwrap().0, Fault::Crash { after: 2 * second });
        for (body, field) in [
            (r#"{"fault":"flood"}"#, "fault"),
            (r#"{"fault":"hang","size":1}"#, "size"),
            (r#"{"fault":"hang","ratio":0.5}"#, "ratio"),
            (r#"{"fault":"error_rate","ratio":0}"#, "ratio"),
            (r#"{"fault":"error_rate","ratio":1.5}"#, "ratio"),
            (r#"{"fault":"error_rate","ttl":"16m"}"#, "ttl"),
            (r#"{"fault":"error_rate","ttl":"0s"}"#, "ttl"),
            (r#"{"fault":"error_rate","ttl":"60"}"#, "ttl"),
            (r#"{"fault":"latency"}"#, "delay"),
            (r#"{"fault":"latency","delay":"31s"}"#, "delay"),
            (r#"{"fault":"memory_leak","max_mib":0}"#, "max_mib"),
            (r#"{"fault":"crash","after":"60s"}"#, "after"),
        ] {
            let error = check(body).unwrap_err();
            assert!(error.contains(&format!("field: \"{field}\"")), "{body}: {error}");
        }
    }
}
