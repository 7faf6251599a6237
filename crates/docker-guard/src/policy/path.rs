//! Reading a request line and its headers with suspicion.
//!
//! Docker's router cleans paths, decodes escapes and lets `{name}` match
//! slashes. Rather than imitate that, anything but the plain form is refused:
//! what cannot be read in two ways cannot be read differently upstream.

use http::{HeaderMap, header};

use super::{reason::Reason, version::ApiVersion};

/// Longest accepted request target, in bytes.
const MAX_TARGET: usize = 4096;

/// What the bearer token was worth. The comparison happens at the edge, in constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// No `Authorization: Bearer` header.
    Absent,
    /// A token, but not the guard's.
    Wrong,
    /// The guard's token.
    Right,
}

/// What the headers say that matters for a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// A body follows, or might.
    pub body: bool,
    /// The client wants to leave HTTP, or to be asked before it sends a body.
    pub upgrade: bool,
    /// A header that must be single is repeated or unreadable.
    pub ambiguous: bool,
}

impl HeaderFacts {
    /// Reads the facts from the headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let repeated = |name| headers.get_all(name).iter().count() > 1;
        let length = headers.get(header::CONTENT_LENGTH);
        let connection_upgrades = headers.get_all(header::CONNECTION).iter().any(|v| {
            v.to_str().map_or(true, |v| v.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")))
        });
        Self {
            body: headers.contains_key(header::TRANSFER_ENCODING)
                || headers.contains_key(header::TRAILER)
                || length.is_some_and(|v| v.as_bytes() != b"0"),
            upgrade: headers.contains_key(header::UPGRADE)
                || headers.contains_key(header::EXPECT)
                || headers.contains_key("http2-settings")
                || connection_upgrades,
            ambiguous: repeated(header::CONTENT_LENGTH)
                || repeated(header::HOST)
                || repeated(header::AUTHORIZATION)
                || repeated(header::TRANSFER_ENCODING),
        }
    }
}

/// A request as far as a decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method as sent; methods are case-sensitive.
    pub method: &'a str,
    /// Request target as sent.
    pub target: &'a str,
    /// What the headers say.
    pub headers: HeaderFacts,
    /// What the token is worth.
    pub token: Token,
}

/// A request target in its plain form, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub version: Option<ApiVersion>,
    pub segments: Vec<&'a str>,
    pub query: &'a str,
}

/// Takes a request target apart.
pub(super) fn parse(target: &str) -> Result<Target<'_>, Reason> {
    if target.len() > MAX_TARGET || target.contains('#') {
        return Err(Reason::MalformedPath);
    }
    let Some(rest) = target.strip_prefix('/') else {
        return Err(if target.contains("://") { Reason::AbsoluteForm } else { Reason::MalformedPath });
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // '%' is missing on purpose: no allowed path needs an escape.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.-:@+".contains(&b);
    if !path.bytes().all(plain) {
        return Err(Reason::MalformedPath);
    }
    let mut segments: Vec<&str> = path.split('/').collect();
    // An empty segment is a `//` or a slash at the end.
    if segments.iter().any(|s| s.is_empty() || s.bytes().all(|b| b == b'.')) {
        return Err(Reason::MalformedPath);
    }
    let version = match segments[0].strip_prefix('v') {
        Some(v) if v.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            let version = v.parse().map_err(|()| Reason::UnsupportedVersion)?;
            segments.remove(0);
            Some(version)
        }
        _ => None,
    };
    Ok(Target { version, segments, query })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn plain_targets_are_taken_apart() {
        let target = parse("/v1.41/containers/web_1.a-b/json?size=0").unwrap();
        assert_eq!(
            target,
            Target {
                version: Some(ApiVersion(41)),
                segments: vec!["containers", "web_1.a-b", "json"],
                query: "size=0"
            }
        );
        assert_eq!(parse("/_ping").unwrap(), Target { version: None, segments: vec!["_ping"], query: "" });
        // 'volumes' begins with a v as well.
        assert_eq!(parse("/volumes").unwrap().version, None);
    }

    #[test]
    fn anything_else_is_refused() {
        for (target, reason) in [
            ("", Reason::MalformedPath),
            ("*", Reason::MalformedPath),
            ("/", Reason::MalformedPath),
            ("//containers/json", Reason::MalformedPath),
            ("/containers//json", Reason::MalformedPath),
            ("/containers/json/", Reason::MalformedPath),
            ("/containers/../containers/json", Reason::MalformedPath),
            ("/containers/./json", Reason::MalformedPath),
            ("/containers/.../json", Reason::MalformedPath),
            ("/containers/%2e%2e/json", Reason::MalformedPath),
            ("/containers/a%2fb/json", Reason::MalformedPath),
            ("/containers/a%00/json", Reason::MalformedPath),
            ("/containers/a;b/json", Reason::MalformedPath),
            ("/containers\\json", Reason::MalformedPath),
            ("/containers/ä/json", Reason::MalformedPath),
            ("/containers/a b/json", Reason::MalformedPath),
            ("/containers/json#x", Reason::MalformedPath),
            ("/containers/json?x#y", Reason::MalformedPath),
            ("containers/json", Reason::MalformedPath),
            ("docker:2375", Reason::MalformedPath),
            ("http://docker:2375/containers/json", Reason::AbsoluteForm),
            ("/v1/containers/json", Reason::UnsupportedVersion),
            ("/v1.41.1/containers/json", Reason::UnsupportedVersion),
            ("/v2.0/containers/json", Reason::UnsupportedVersion),
            ("/v.1/containers/json", Reason::UnsupportedVersion),
        ] {
            assert_eq!(parse(target), Err(reason), "{target}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(MAX_TARGET))), Err(Reason::MalformedPath));
    }

    #[test]
    fn headers_that_bring_a_body_or_an_upgrade_are_seen() {
        let facts = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            HeaderFacts::of(&headers)
        };
        let none = HeaderFacts::default();
        assert_eq!(facts(&[("host", "x"), ("content-length", "0"), ("connection", "close")]), none);
        for pair in
            [("content-length", "1"), ("content-length", "00"), ("transfer-encoding", "chunked"), ("trailer", "x")]
        {
            assert_eq!(facts(&[pair]), HeaderFacts { body: true, ..none }, "{pair:?}");
        }
        for pair in [("upgrade", "tcp"), ("connection", "keep-alive, Upgrade"), ("expect", "100-continue")] {
            assert_eq!(facts(&[pair]), HeaderFacts { upgrade: true, ..none }, "{pair:?}");
        }
        for name in ["content-length", "host", "authorization"] {
            assert!(facts(&[(name, "0"), (name, "0")]).ambiguous, "{name}");
        }
    }
}
