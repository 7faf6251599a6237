//! Canonical JSON (RFC 8785), integers only.
//!
//! Two ways in. [`canonicalize`] takes any JSON that a producer sends and gives the one
//! canonical form of it. [`Reader`] takes bytes that claim to be canonical already, and a
//! schema, and fails at the first byte that differs from the canonical form: what it accepts
//! has exactly one spelling, so a leaf's hash identifies its meaning.
//!
//! Numbers are integers within ±(2^53 − 1), the range in which RFC 8785 (which takes numbers
//! for IEEE doubles) and an integer agree. Everything else, `1.0` and `NaN` included, is refused.

use std::borrow::Cow;

/// Largest integer that survives every JSON implementation: 2^53 − 1 (RFC 7493, 2.2).
pub const MAX_INT: i64 = 9_007_199_254_740_991;

/// Deeper nesting than any entry needs.
const MAX_DEPTH: usize = 16;

/// Where and why bytes are not (canonical) JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct JsonError {
    /// Offset of the byte that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub reason: Cow<'static, str>,
}

type Result<T> = std::result::Result<T, JsonError>;

/// A JSON document of integers, text, lists and objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// An integer within ±[`MAX_INT`].
    Int(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object, in the order of its source.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Parses any JSON text.
    ///
    /// # Errors
    /// Not JSON, a number that is no integer in range, a key twice, deeper than 16 levels.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| JsonError { at: e.valid_up_to(), reason: "this is not UTF-8".into() })?;
        let mut lexer = Lexer { text, at: 0 };
        let value = lexer.value(0)?;
        lexer.space();
        lexer.end()?;
        Ok(value)
    }

    /// Appends the canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            Self::Int(n) => write_int(out, *n),
            Self::Text(s) => write_text(out, s),
            Self::List(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                // RFC 8785, 3.2.3: by UTF-16 code units, which is not the order of UTF-8.
                sorted.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
                out.push(b'{');
                for (i, (key, value)) in sorted.into_iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_text(out, key);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The field of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(fields) => fields.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
}

/// The canonical form of any JSON text.
///
/// # Errors
/// As [`Value::parse`].
pub fn canonicalize(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Value::parse(bytes)?.to_bytes())
}

pub(crate) fn write_int(out: &mut Vec<u8>, n: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// RFC 8785, 3.2.2.2: the two-character escapes where they exist, `\u00xx` for other controls, else as it is.
pub(crate) fn write_text(out: &mut Vec<u8>, s: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &b in s.as_bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

/// Reads bytes that must be canonical, against a schema that knows the keys' order.
pub struct Reader<'a> {
    lexer: Lexer<'a>,
    first: bool,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    ///
    /// # Errors
    /// Not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| JsonError { at: e.valid_up_to(), reason: "this is not UTF-8".into() })?;
        Ok(Self { lexer: Lexer { text, at: 0 }, first: true })
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.lexer.at
    }

    /// Reads an object; `fields` reads its members in canonical order.
    ///
    /// # Errors
    /// No object, or one with more members than `fields` read.
    pub fn object<T>(&mut self, fields: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.lexer.byte(b'{', "an object")?;
        let outer = std::mem::replace(&mut self.first, true);
        let value = fields(self)?;
        if self.lexer.peek() == Some(b',') {
            self.lexer.at += 1;
            let at = self.lexer.at;
            let key = self.lexer.text(true)?;
            return Err(JsonError { at, reason: format!("unexpected field '{key}', or not in its place").into() });
        }
        self.lexer.byte(b'}', "the end of the object")?;
        self.first = outer;
        Ok(value)
    }

    /// Whether `key` is the next member; if so it is consumed up to its value.
    pub fn optional(&mut self, key: &str) -> bool {
        let rest = &self.lexer.text.as_bytes()[self.lexer.at..];
        let rest = if self.first {
            rest
        } else {
            match rest.split_first() {
                Some((b',', rest)) => rest,
                _ => return false,
            }
        };
        let found = rest.first() == Some(&b'"')
            && rest.len() > key.len() + 2
            && &rest[1..=key.len()] == key.as_bytes()
            && &rest[key.len() + 1..key.len() + 3] == b"\":";
        if found {
            self.lexer.at += key.len() + 3 + usize::from(!self.first);
            self.first = false;
        }
        found
    }

    /// Consumes the member's name, which must be `key`.
    ///
    /// # Errors
    /// Another name, or none.
    pub fn key(&mut self, key: &str) -> Result<()> {
        if self.optional(key) {
            return Ok(());
        }
        let at = self.lexer.at;
        let mut probe = Lexer { text: self.lexer.text, at: at + usize::from(!self.first) };
        let reason = match probe.text(true) {
            Ok(found) if self.lexer.peek() != Some(b'}') => {
                format!("field '{key}' is expected here, not '{found}' (fields are sorted, without spaces)")
            }
            _ => format!("field '{key}' is missing"),
        };
        Err(JsonError { at, reason: reason.into() })
    }

    /// A string.
    ///
    /// # Errors
    /// No string, or one that is not escaped in the canonical way.
    pub fn text(&mut self) -> Result<Cow<'a, str>> {
        self.lexer.text(true)
    }

    /// An integer.
    ///
    /// # Errors
    /// No integer, or out of range.
    pub fn int(&mut self) -> Result<i64> {
        self.lexer.int()
    }

    /// An array; `item` reads one member.
    ///
    /// # Errors
    /// No array, or what `item` says.
    pub fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.lexer.byte(b'[', "a list")?;
        if self.lexer.peek() == Some(b']') {
            self.lexer.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.lexer.peek() {
                Some(b',') => self.lexer.at += 1,
                _ => return self.lexer.byte(b']', "the end of the list"),
            }
        }
    }

    /// The bytes from `start` up to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.lexer.text.as_bytes()[start..self.lexer.at]
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// Something does.
    pub fn end(&self) -> Result<()> {
        self.lexer.end()
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self, reason: impl Into<Cow<'static, str>>) -> Result<T> {
        Err(JsonError { at: self.at, reason: reason.into() })
    }

    fn byte(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.fail(format!("{what} is expected here"))
    }

    fn end(&self) -> Result<()> {
        if self.at == self.text.len() { Ok(()) } else { self.fail("nothing may follow the document") }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object_value(depth),
            Some(b'[') => self.list_value(depth),
            Some(b'"') => Ok(Value::Text(self.text(false)?.into_owned())),
            Some(b'-' | b'0'..=b'9') => Ok(Value::Int(self.int()?)),
            None => self.fail("the document ends early"),
            Some(_) => {
                for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
                {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                if ["NaN", "Infinity"].iter().any(|w| self.text[self.at..].starts_with(w)) {
                    return self.fail("NaN and infinities are not numbers of JSON");
                }
                self.fail("a value is expected here")
            }
        }
    }

    fn object_value(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(fields));
        }
        loop {
            self.space();
            let at = self.at;
            let key = self.text(false)?.into_owned();
            if !seen.insert(key.clone()) {
                return Err(JsonError { at, reason: format!("field '{key}' is there twice").into() });
            }
            self.space();
            self.byte(b':', "a colon")?;
            let value = self.value(depth + 1)?;
            fields.push((key, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.byte(b'}', "a comma or the end of the object")?;
                    return Ok(Value::Object(fields));
                }
            }
        }
    }

    fn list_value(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.byte(b']', "a comma or the end of the list")?;
                    return Ok(Value::List(items));
                }
            }
        }
    }

    fn int(&mut self) -> Result<i64> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.at;
        let mut n: i64 = 0;
        while let Some(d @ b'0'..=b'9') = self.peek() {
            n = n.saturating_mul(10).saturating_add(i64::from(d - b'0'));
            self.at += 1;
        }
        let width = self.at - digits;
        let fail = |reason: &'static str| Err(JsonError { at: start, reason: reason.into() });
        if width == 0 {
            return fail("an integer is expected here");
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return fail("only integers are accepted, no fractions or exponents");
        }
        if width > 1 && self.text.as_bytes()[digits] == b'0' {
            return fail("an integer has no leading zeros");
        }
        if negative && n == 0 {
            return fail("zero has no sign");
        }
        if n > MAX_INT {
            return fail("an integer is at most 2^53 - 1 in size");
        }
        Ok(if negative { -n } else { n })
    }

    /// `canonical` refuses every escape that RFC 8785 would not write.
    fn text(&mut self, canonical: bool) -> Result<Cow<'a, str>> {
        self.byte(b'"', "a string")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        while let Some(&b) = bytes.get(self.at) {
            match b {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                b'\\' => return self.escaped(start, canonical).map(Cow::Owned),
                0..0x20 => return self.fail("a control character must be escaped"),
                _ => self.at += 1,
            }
        }
        self.fail("the string does not end")
    }

    fn escaped(&mut self, start: usize, canonical: bool) -> Result<String> {
        let mut out = self.text[start..self.at].to_owned();
        loop {
            let at = self.at;
            let Some(c) = self.text[at..].chars().next() else {
                return self.fail("the string does not end");
            };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\\' => {
                    let c = self.escape()?;
                    if canonical {
                        let mut written = Vec::new();
                        write_text(&mut written, c.encode_utf8(&mut [0; 4]));
                        if written[1..written.len() - 1] != self.text.as_bytes()[at..self.at] {
                            return Err(JsonError { at, reason: "this escape is not the canonical one".into() });
                        }
                    }
                    out.push(c);
                }
                '\0'..' ' => return Err(JsonError { at, reason: "a control character must be escaped".into() }),
                _ => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(kind) = self.peek() else { return self.fail("the string does not end") };
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let code = match first {
                    0xd800..0xdc00 => {
                        if !self.text[self.at..].starts_with("\\u") {
                            return self.fail("half of a surrogate pair");
                        }
                        self.at += 2;
                        let second = self.unit()?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return self.fail("half of a surrogate pair");
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    other => other,
                };
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return self.fail("half of a surrogate pair"),
                }
            }
            _ => return self.fail("there is no such escape"),
        })
    }

    fn unit(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let parsed = digits
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit))
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u32::from_str_radix(d, 16).ok());
        match parsed {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fail("four hexadecimal digits are expected here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        match canonicalize(text.as_bytes()) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_example_of_the_rfc_sorts_by_utf16() {
        // RFC 8785, 3.2.3.
        let given = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        assert_eq!(canonical(given), "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}");
        // 3.2.2.2, without the numbers that are no integers.
        let given = r#"{ "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#;
        let expected = "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(given), expected);
    }

    #[test]
    fn each_fault_has_its_place_and_reason() {
        for (text, says) in [
            ("1.0", "byte 0: only integers are accepted, no fractions or exponents"),
            ("{\"a\":1e3}", "byte 5: only integers are accepted, no fractions or exponents"),
            ("NaN", "byte 0: NaN and infinities are not numbers of JSON"),
            ("-0", "byte 0: zero has no sign"),
            ("007", "byte 0: an integer has no leading zeros"),
            ("9007199254740992", "byte 0: an integer is at most 2^53 - 1 in size"),
            ("99999999999999999999999", "byte 0: an integer is at most 2^53 - 1 in size"),
            ("{\"a\":1,\"a\":2}", "byte 7: field 'a' is there twice"),
            ("[1", "byte 2: a comma or the end of the list is expected here"),
            ("\"\\ud800\"", "byte 7: half of a surrogate pair"),
            ("\"a", "byte 2: the string does not end"),
            ("1 2", "byte 2: nothing may follow the document"),
            ("", "byte 0: the document ends early"),
        ] {
            assert_eq!(canonical(text), says, "{text}");
        }
        assert_eq!(canonical(&"[".repeat(1_000)), "byte 17: nested too deeply");
        assert_eq!(Value::parse(b"\"\xff\"").unwrap_err().to_string(), "byte 1: this is not UTF-8");
    }

    fn read(text: &str) -> std::result::Result<(String, i64), String> {
        let mut r = Reader::new(text.as_bytes()).map_err(|e| e.to_string())?;
        let out = r.object(|r| {
            r.key("a")?;
            let a = r.text()?.into_owned();
            r.key("b")?;
            Ok((a, r.int()?))
        });
        out.and_then(|v| r.end().map(|()| v)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_reader_takes_one_spelling_only() {
        assert_eq!(read(r#"{"a":"x\ny","b":-1}"#), Ok(("x\ny".to_owned(), -1)));
        for (text, says) in [
            (r#"{"a":"x","b":1} "#, "byte 15: nothing may follow the document"),
            (r#"{"a":"x", "b":1}"#, "byte 8: field 'b' is missing"),
            (r#"{"b":1,"a":"x"}"#, "byte 1: field 'a' is expected here, not 'b' (fields are sorted, without spaces)"),
            (r#"{"a":"\u0041","b":1}"#, "byte 6: this escape is not the canonical one"),
            (r#"{"a":"\u000A","b":1}"#, "byte 6: this escape is not the canonical one"),
            (r#"{"a":"\/","b":1}"#, "byte 6: this escape is not the canonical one"),
            (r#"{"a":"x","b":1,"c":2}"#, "byte 15: unexpected field 'c', or not in its place"),
            (r#"{"a":"x"}"#, "byte 8: field 'b' is missing"),
            (r#"{"a":"x","b":1.5}"#, "byte 13: only integers are accepted, no fractions or exponents"),
        ] {
            assert_eq!(read(text).unwrap_err(), says, "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-MAX_INT..=MAX_INT).prop_map(Value::Int),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point_and_keeps_the_meaning(value in value()) {
            let once = value.to_bytes();
            prop_assert_eq!(canonicalize(&once).unwrap(), once.clone());
            // serde_json reads the same document.
            let other: serde_json::Value = serde_json::from_slice(&once).unwrap();
            prop_assert_eq!(canonicalize(serde_json::to_string_pretty(&other).unwrap().as_bytes()).unwrap(), once);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Value::parse(&bytes);
        }
    }
}
