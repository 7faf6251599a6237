//! What makes a mail well formed: RFC 5322, RFC 2045, and what threads are made of.

use super::{Findings, Violation};

/// Without its CRLF. RFC 5322, 2.1.1.
const MAX_LINE: usize = 998;

/// What is wrong with a mail as it came.
pub fn violations(mail: &[u8]) -> Vec<Violation> {
    let mut findings = Findings::default();
    lines(&mut findings, mail);
    let (head, body) = split(mail);
    let headers = headers(&mut findings, head);
    let all = |name| of_name(&headers, name);
    for name in ["From", "Date", "Message-ID", "Subject", "To", "MIME-Version"] {
        let count = all(name).len();
        findings.check(count == 1, name, || format!("must stand once, it stands {count} times"));
    }
    for (name, many) in [("Message-ID", false), ("In-Reply-To", true), ("References", true)] {
        for value in all(name) {
            let ids: Vec<_> = value.split_ascii_whitespace().collect();
            let well = !ids.is_empty() && (many || ids.len() == 1) && ids.iter().all(|id| is_message_id(id));
            findings.check(well, name, || format!("'{value}' is not <id@host>"));
        }
    }
    findings.check(all("In-Reply-To").is_empty() || all("References").len() == 1, "References", || {
        "is missing beside In-Reply-To: mail programs make threads by it".to_owned()
    });
    content(&mut findings, &headers, body, "body", 0);
    findings.into_vec()
}

/// The mail's own id, without brackets.
pub fn message_id(mail: &[u8]) -> Option<String> {
    ids(mail, "Message-ID").into_iter().next()
}

/// What it answers, the root first.
pub fn references(mail: &[u8]) -> Vec<String> {
    let mut found = ids(mail, "References");
    found.extend(ids(mail, "In-Reply-To"));
    found
}

fn ids(mail: &[u8], name: &str) -> Vec<String> {
    let headers = headers(&mut Findings::default(), split(mail).0);
    let values = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    values
        .flat_map(|(_, v)| v.split_ascii_whitespace())
        .map(|id| id.trim_matches(['<', '>']).to_owned())
        .take(20)
        .collect()
}

fn is_message_id(id: &str) -> bool {
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    let parts = inner.and_then(|inner| inner.split_once('@'));
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'@'));
    parts.is_some_and(|(left, right)| plain(left) && plain(right))
}

fn lines(findings: &mut Findings, mail: &[u8]) {
    for (i, line) in mail.split(|b| *b == b'\n').enumerate() {
        let last = i == mail.iter().filter(|b| **b == b'\n').count();
        let text = line.strip_suffix(b"\r");
        if text.is_none() && !last {
            return findings.add(format!("line {}", i + 1), "ends with a bare line feed");
        }
        let text = text.unwrap_or(line);
        if text.contains(&b'\r') {
            return findings.add(format!("line {}", i + 1), "holds a bare carriage return");
        }
        if text.contains(&0) {
            return findings.add(format!("line {}", i + 1), "holds a zero byte");
        }
        if text.len() > MAX_LINE {
            return findings.add(format!("line {}", i + 1), format!("longer than {MAX_LINE} characters"));
        }
    }
}

fn split(mail: &[u8]) -> (&[u8], &[u8]) {
    if mail.starts_with(b"\r\n") {
        return (&[], &mail[2..]);
    }
    match mail.windows(4).position(|w| w == b"\r\n\r\n") {
        Some(at) => (&mail[..at + 2], &mail[at + 4..]),
        None => (mail, &[]),
    }
}

/// Unfolded.
fn headers(findings: &mut Findings, head: &[u8]) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).filter(|l| !l.is_empty()) {
        findings.check(line.is_ascii(), "headers", || "hold bytes that are not ASCII and not encoded".to_owned());
        let text = String::from_utf8_lossy(line);
        if line[0] == b' ' || line[0] == b'\t' {
            match out.last_mut() {
                Some((_, value)) => {
                    value.push(' ');
                    value.push_str(text.trim());
                }
                None => findings.add("headers", "begin with a folded line"),
            }
            continue;
        }
        match text.split_once(':') {
            Some((name, value)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
                out.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => findings.add("headers", format!("'{}' is no header", text.chars().take(60).collect::<String>())),
        }
    }
    out
}

fn of_name<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
}

fn content(findings: &mut Findings, headers: &[(String, String)], body: &[u8], at: &str, depth: usize) {
    let header = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let kind = header("Content-Type").unwrap_or("text/plain; charset=us-ascii");
    let encoding = header("Content-Transfer-Encoding").unwrap_or("7bit").trim().to_ascii_lowercase();
    let lower = kind.to_ascii_lowercase();
    if lower.starts_with("multipart/") {
        return parts(findings, kind, body, at, depth);
    }
    findings.check(lower.split(';').next().is_some_and(|t| t.trim().contains('/')), at, || {
        format!("'{kind}' is no content type")
    });
    let seven = matches!(encoding.as_str(), "7bit" | "quoted-printable" | "base64");
    findings.check(seven || encoding == "8bit", at, || format!("the encoding '{encoding}' is not known"));
    findings.check(!seven || body.is_ascii(), at, || format!("holds bytes that are not ASCII, encoded as {encoding}"));
    findings.check(body.is_ascii() || !lower.starts_with("text/") || lower.contains("charset="), at, || {
        "names no charset".to_owned()
    });
    if encoding == "quoted-printable" {
        let long = body.split(|b| *b == b'\n').any(|l| l.strip_suffix(b"\r").unwrap_or(l).len() > 76);
        findings.check(!long, at, || "quoted-printable with lines longer than 76 characters".to_owned());
    }
}

fn parts(findings: &mut Findings, kind: &str, body: &[u8], at: &str, depth: usize) {
    let boundary = kind.split(';').skip(1).find_map(|p| {
        let (name, value) = p.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    let Some(boundary) = boundary.filter(|b| (1..=70).contains(&b.len())) else {
        return findings.add(at, "multipart without a boundary");
    };
    if depth > 4 {
        return findings.add(at, "parts within parts without end");
    }
    let (open, close) = (format!("--{boundary}"), format!("--{boundary}--"));
    let (mut found, mut part, mut inside, mut closed) = (0, Vec::new(), false, false);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let trimmed = line.trim_ascii_end();
        if closed {
            break;
        }
        closed = trimmed == close.as_bytes();
        if closed || trimmed == open.as_bytes() {
            if inside {
                found += 1;
                // The line end before a boundary belongs to the boundary.
                let bytes = part.strip_suffix(b"\r\n").unwrap_or(&part);
                let (head, inner) = split(bytes);
                let headers = headers(findings, head);
                content(findings, &headers, inner, &format!("{at} part {found}"), depth + 1);
                part.clear();
            }
            inside = true;
        } else if inside {
            part.extend_from_slice(line);
        }
    }
    findings.check(found > 0, at, || "multipart without parts".to_owned());
    findings.check(closed, at, || "multipart that does not end".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "From: Bot <bot@x.local>\r\nTo: ops@x.local\r\nSubject: =?utf-8?b?w6Q=?= b\r\n c\r\n\
        Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <b.2@x.local>\r\nIn-Reply-To: <a.1@x.local>\r\n\
        References: <a.1@x.local>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"q\"\r\n\r\n\
        --q\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A4\r\n\
        --q\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n--q--\r\n";

    fn of(mail: &str) -> Vec<String> {
        violations(mail.as_bytes()).into_iter().map(|v| format!("{}: {}", v.at, v.what)).collect()
    }

    #[test]
    fn a_good_mail_is_good_and_has_its_place_in_a_thread() {
        assert_eq!(of(GOOD), Vec::<String>::new());
        assert_eq!(message_id(GOOD.as_bytes()).as_deref(), Some("b.2@x.local"));
        assert_eq!(references(GOOD.as_bytes()), ["a.1@x.local", "a.1@x.local"]);
    }

    #[test]
    fn each_fault_is_named() {
        for (from, to, says) in [
            ("Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n", "", "Date: must stand once"),
            ("MIME-Version: 1.0\r\n", "", "MIME-Version"),
            ("From: Bot", "From: Böt", "not ASCII"),
            ("<b.2@x.local>", "b.2@x.local", "Message-ID: 'b.2@x.local' is not"),
            ("<b.2@x.local>", "<b 2@x.local>", "Message-ID"),
            ("References: <a.1@x.local>\r\n", "", "References: is missing"),
            ("boundary=\"q\"", "x=y", "without a boundary"),
            ("--q--\r\n", "", "does not end"),
            ("h=C3=A4", "hä", "part 1: holds bytes"),
            ("quoted-printable", "rot13", "'rot13' is not known"),
            ("aGk=\r\n", "aGk=\n", "bare line feed"),
            ("h=C3=A4", "h\ri", "bare carriage return"),
            ("Subject: ", "Subject: x\r\nSubject: ", "Subject: must stand once, it stands 2"),
            ("To: ops@x.local\r\n", "nonsense\r\n", "is no header"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let found = of(&GOOD.replacen(from, to, 1));
            assert!(found.iter().any(|v| v.contains(says)), "no '{says}' in {found:?}");
        }
        let long = GOOD.replacen("h=C3=A4", &"x".repeat(999), 1);
        assert!(of(&long)[0].contains("longer than 998"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mail: Vec<u8>) {
            let _ = violations(&mail);
            let _ = (message_id(&mail), references(&mail));
        }
    }
}
