//! `GET /error`: an endpoint that is broken, to have something to alert on.

use std::num::ParseIntError;

use anyhow::Context;
use telemetry::problem::Problem;

use super::docs::ProblemDocument;
use crate::{
    error::ApiError,
    money::{Amount, Currency},
};

/// A settlement record as a careless exporter wrote it: the last digit is a letter.
const RECORD: &str = "EUR 125O";

#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("the record has no amount")]
    NoAmount,
    #[error("unknown currency")]
    Currency,
    #[error("the amount is no number")]
    Amount(#[from] ParseIntError),
    #[error("the amount is out of range")]
    Range,
}

fn parse(record: &str) -> Result<(Currency, Amount), RecordError> {
    let (code, minor) = record.split_once(' ').ok_or(RecordError::NoAmount)?;
    let currency = Currency::from_code(code).ok_or(RecordError::Currency)?;
    let amount = Amount::new(minor.parse()?).ok_or(RecordError::Range)?;
    Ok((currency, amount))
}

/// Settles a damaged record, which always fails with 500.
#[utoipa::path(get, path = "/error", tag = "operation", operation_id = "error",
    responses((status = 500, description = "Always", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn error() -> Result<Problem, ApiError> {
    let settled = parse(RECORD).context("record 1 of the settlement file").map_err(ApiError::Settlement)?;
    Err(ApiError::Internal(anyhow::anyhow!("the damaged record was settled: {settled:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_damaged_in_one_place_only() {
        assert!(matches!(parse(RECORD), Err(RecordError::Amount(_))));
        assert_eq!(parse("EUR 1250").unwrap().1.minor(), 1250);
        assert!(matches!(parse("EUR"), Err(RecordError::NoAmount)));
        assert!(matches!(parse("EU 1"), Err(RecordError::Currency)));
        assert!(matches!(parse("EUR 0"), Err(RecordError::Range)));
    }
}
