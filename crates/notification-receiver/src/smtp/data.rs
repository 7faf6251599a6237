//! The message after `DATA`: dots unstuffed, the end found; pure.

/// A message that has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Data {
    /// Whole.
    Mail(Vec<u8>),
    /// Larger than allowed: read to its end and dropped.
    TooLarge,
}

/// Where in `CRLF . CRLF` the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Dot,
    DotCr,
    Text,
    Cr,
}

/// Reads a message from bytes that come in pieces.
///
/// Only `CRLF.CRLF` ends it: a bare line feed is text. Servers that disagree about
/// that can be made to see two mails where a client sent one.
#[derive(Debug)]
pub struct DataReader {
    max: usize,
    at: At,
    mail: Vec<u8>,
    too_large: bool,
}

impl DataReader {
    /// Takes at most `max` bytes of mail.
    pub fn new(max: usize) -> Self {
        Self { max, at: At::LineStart, mail: Vec::new(), too_large: false }
    }

    /// Takes what came. `Some`: the message has ended after so many of the bytes,
    /// and the rest are commands.
    pub fn push(&mut self, bytes: &[u8]) -> Option<(usize, Data)> {
        for (i, &byte) in bytes.iter().enumerate() {
            self.at = match (self.at, byte) {
                (At::LineStart, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => {
                    let mail = std::mem::take(&mut self.mail);
                    let data = if self.too_large { Data::TooLarge } else { Data::Mail(mail) };
                    return Some((i + 1, data));
                }
                (At::DotCr, other) => {
                    // `.` CR and no LF: the dot was stuffing, the CR is text.
                    self.keep(b'\r');
                    self.keep(other);
                    if other == b'\r' { At::Cr } else { At::Text }
                }
                (At::Cr, b'\n') => {
                    self.keep(byte);
                    At::LineStart
                }
                (_, b'\r') => {
                    self.keep(byte);
                    At::Cr
                }
                // A dot at the start of a line was doubled by the sender; the first is dropped.
                (_, other) => {
                    self.keep(other);
                    At::Text
                }
            };
        }
        None
    }

    fn keep(&mut self, byte: u8) {
        if self.mail.len() >= self.max {
            self.too_large = true;
            self.mail = Vec::new();
        } else if !self.too_large {
            self.mail.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<(usize, Data)> {
        DataReader::new(100).push(bytes)
    }

    fn mail(text: &str) -> Data {
        Data::Mail(text.as_bytes().to_vec())
    }

    #[test]
    fn the_end_is_a_dot_between_two_crlf() {
        assert_eq!(read(b"a\r\n.\r\nQUIT\r\n"), Some((6, mail("a\r\n"))));
        assert_eq!(read(b".\r\n"), Some((3, mail(""))));
        for open in
            [&b"a\r\n."[..], b"a\n.\n", b"a\r\n.\n", b"a\n.\r\n", b"a\r.\r\n", b"a\r\n..\r\n", b"a.\r\n", b"\r\n.\r"]
        {
            assert_eq!(read(open), None, "{}", open.escape_ascii());
        }
    }

    #[test]
    fn stuffed_dots_lose_one() {
        assert_eq!(read(b"..a\r\n...\r\nb.\r\n.c\r\n.\r\n").unwrap().1, mail(".a\r\n..\r\nb.\r\nc\r\n"));
        assert_eq!(read(b".\rx\r\n.\r\n").unwrap().1, mail("\rx\r\n"));
        assert_eq!(read(b".\r\r\n.\r\n").unwrap().1, mail("\r\r\n"));
    }

    #[test]
    fn what_is_too_large_is_read_to_its_end_and_dropped() {
        let mut bytes = b"x".repeat(101);
        bytes.extend_from_slice(b"\r\n.\r\n");
        assert_eq!(read(&bytes), Some((106, Data::TooLarge)));
        let mut bytes = b"x".repeat(98);
        bytes.extend_from_slice(b"\r\n.\r\n");
        assert!(matches!(read(&bytes), Some((103, Data::Mail(mail))) if mail.len() == 100));
    }

    proptest::proptest! {
        /// What a correct client stuffs comes out as it was, however the bytes are cut.
        #[test]
        fn stuffing_and_cutting_change_nothing(
            lines in proptest::collection::vec("[.a\n\r]{0,5}", 0..8),
            cuts in proptest::collection::vec(1_usize..6, 1..40),
        ) {
            // A line ends at CRLF and holds none; a CR at its end would make one with what follows.
            let lines: Vec<String> = lines.iter().map(|l| l.replace("\r\n", "").trim_end_matches('\r').to_owned()).collect();
            proptest::prop_assume!(lines.iter().all(|l| !l.contains("\r\n")));
            let mail: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let stuffed: String = lines
                .iter()
                .map(|l| if l.starts_with('.') { format!(".{l}\r\n") } else { format!("{l}\r\n") })
                .collect();
            let wire = format!("{stuffed}.\r\nQUIT");
            let mut reader = DataReader::new(10_000);
            let mut rest = wire.as_bytes();
            let mut used = 0;
            let mut cuts = cuts.iter().cycle();
            let ended = loop {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                if let Some((n, data)) = reader.push(piece) {
                    break (used + n, data);
                }
                proptest::prop_assert!(!after.is_empty(), "no end in {:?}", wire);
                used += piece.len();
                rest = after;
            };
            proptest::prop_assert_eq!(ended, (stuffed.len() + 3, Data::Mail(mail.into_bytes())));
        }
    }
}
