//! Which requests a load is made of.

use anyhow::{Context, Result, bail};
use reqwest::Method;

/// A request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path with query.
    pub path: String,
}

/// Requests with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    entries: Vec<(Request, u64)>,
    total: u64,
}

impl Request {
    /// Parses `GET /path`; the method may be missing.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let (method, path) = text.split_once(char::is_whitespace).unwrap_or(("GET", text));
        let path = path.trim();
        let method = match method.to_uppercase().as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            other => bail!("{other} is not a method that a load may use"),
        };
        if !path.starts_with('/') || path.contains(char::is_whitespace) {
            bail!("{path:?} is not a path");
        }
        Ok(Self { method, path: path.to_owned() })
    }
}

impl Mix {
    /// Parses `GET /a=8,POST /b=2`; a weight may be missing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for part in text.split(',') {
            // A path may hold a query with `=`: only a number after the last one is a weight.
            let (request, weight) = match part.rsplit_once('=') {
                Some((request, weight)) if weight.trim().parse::<u64>().is_ok() && !request.contains('?') => {
                    (request, weight.trim().parse().context("weight")?)
                }
                _ => (part, 1),
            };
            if weight > 10_000 {
                bail!("a weight is at most 10000");
            }
            entries.push((Request::parse(request)?, weight));
        }
        let total = entries.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            bail!("all weights are 0");
        }
        Ok(Self { entries, total })
    }

    /// The request number `index`: evenly mixed, and the same in every run.
    pub fn pick(&self, index: u64) -> &Request {
        // A stride coprime to the total spreads the entries instead of sending them in blocks.
        let stride = (self.total / 2 + 1..).find(|stride| gcd(*stride, self.total) == 1).unwrap_or(1);
        let mut at = index.wrapping_mul(stride) % self.total;
        for (request, weight) in &self.entries {
            if at < *weight {
                return request;
            }
            at -= weight;
        }
        &self.entries[0].0
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_hold_over_a_round_and_are_spread() {
        let mix = Mix::parse("GET /a=8, post /b=2").unwrap();
        let paths: Vec<_> = (0..10).map(|i| mix.pick(i).path.as_str()).collect();
        assert_eq!(paths.iter().filter(|path| **path == "/b").count(), 2);
        assert_ne!(paths[..8], ["/a"; 8]);
    }

    #[test]
    fn reads_one_path_and_queries() {
        assert_eq!(Mix::parse("/x").unwrap().pick(7), &Request { method: Method::GET, path: "/x".into() });
        assert_eq!(Mix::parse("/x?limit=5").unwrap().pick(0).path, "/x?limit=5");
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["", "x", "TRACE /x", "GET /a b", "/a=0", "/a=99999999"] {
            assert!(Mix::parse(bad).is_err(), "{bad}");
        }
    }
}
