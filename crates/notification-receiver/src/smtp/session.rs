//! The dialogue, one command at a time; pure.

/// Longest accepted command line in bytes, its end included. RFC 5321 asks for 512 and more
/// where extensions add parameters.
pub const MAX_LINE: usize = 2048;
const MAX_RECIPIENTS: usize = 100;
/// A client that makes so many mistakes is not a mail client.
const MAX_MISTAKES: u32 = 20;

/// Who sends to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse path; empty for bounces.
    pub from: String,
    /// Forward paths.
    pub to: Vec<String>,
}

/// What the connection does after the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Reads the next command.
    Command,
    /// Reads a message, which goes to this envelope.
    Data(Envelope),
    /// Closes.
    Close,
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    max_size: usize,
    greeted: bool,
    envelope: Option<Envelope>,
    mistakes: u32,
}

impl Session {
    /// A connection just opened; mails may have `max_size` bytes.
    pub fn new(max_size: usize) -> Self {
        Self { max_size, greeted: false, envelope: None, mistakes: 0 }
    }

    /// What is said first.
    pub fn greeting() -> &'static str {
        "220 notification-receiver ESMTP: takes every mail, sends none\r\n"
    }

    /// Answers one command, given without its line end.
    pub fn command(&mut self, line: &[u8]) -> (String, Next) {
        let Ok(line) = std::str::from_utf8(line) else { return self.mistake("500 not UTF-8") };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                self.greeted = true;
                self.envelope = None;
                let size = self.max_size;
                say(format!(
                    "250-notification-receiver\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING"
                ))
            }
            "HELO" if !rest.is_empty() => {
                self.greeted = true;
                self.envelope = None;
                say("250 notification-receiver")
            }
            "EHLO" | "HELO" => self.mistake("501 say who you are"),
            "MAIL" => self.mail(rest),
            "RCPT" => self.recipient(rest),
            "DATA" if !rest.is_empty() => self.mistake("501 DATA has no parameters"),
            "DATA" => match self.envelope.take_if(|e| !e.to.is_empty()) {
                Some(envelope) => ("354 end with <CRLF>.<CRLF>\r\n".to_owned(), Next::Data(envelope)),
                None => self.mistake("503 MAIL and RCPT come first"),
            },
            "RSET" => {
                self.envelope = None;
                say("250 forgotten")
            }
            "NOOP" => say("250 OK"),
            "VRFY" => say("252 every address is taken"),
            "HELP" => say("214 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY QUIT"),
            "QUIT" => ("221 goodbye\r\n".to_owned(), Next::Close),
            "STARTTLS" | "AUTH" | "EXPN" => self.mistake("502 not offered here"),
            _ => self.mistake("500 unknown command"),
        }
    }

    /// Answers a line that is longer than accepted.
    pub fn line_too_long(&mut self) -> (String, Next) {
        self.mistake("500 line too long")
    }

    fn mail(&mut self, rest: &str) -> (String, Next) {
        if !self.greeted {
            return self.mistake("503 EHLO or HELO comes first");
        }
        if self.envelope.is_some() {
            return self.mistake("503 one mail at a time");
        }
        let Some((from, parameters)) = path(rest, "FROM:") else { return self.mistake("501 MAIL FROM:<address>") };
        for parameter in parameters.split_ascii_whitespace() {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name.to_ascii_uppercase().as_str() {
                "SIZE" => match value.parse::<usize>() {
                    Ok(size) if size <= self.max_size => {}
                    Ok(_) => return self.mistake("552 larger than SIZE allows"),
                    Err(_) => return self.mistake("501 SIZE is a number"),
                },
                "BODY" if ["7BIT", "8BITMIME"].contains(&value.to_ascii_uppercase().as_str()) => {}
                "SMTPUTF8" if value.is_empty() => {}
                _ => return self.mistake("555 parameter not known"),
            }
        }
        self.envelope = Some(Envelope { from: from.to_owned(), to: Vec::new() });
        say("250 OK")
    }

    fn recipient(&mut self, rest: &str) -> (String, Next) {
        let known = path(rest, "TO:").filter(|(to, parameters)| !to.is_empty() && parameters.is_empty());
        match (&mut self.envelope, known) {
            (None, _) => self.mistake("503 MAIL comes first"),
            (Some(_), None) => self.mistake("501 RCPT TO:<address>"),
            (Some(envelope), Some(_)) if envelope.to.len() >= MAX_RECIPIENTS => self.mistake("452 too many recipients"),
            (Some(envelope), Some((to, _))) => {
                envelope.to.push(to.to_owned());
                say("250 OK")
            }
        }
    }

    fn mistake(&mut self, reply: &str) -> (String, Next) {
        self.mistakes += 1;
        if self.mistakes > MAX_MISTAKES {
            return ("421 too many mistakes\r\n".to_owned(), Next::Close);
        }
        say(reply)
    }
}

fn say(reply: impl Into<String>) -> (String, Next) {
    (reply.into() + "\r\n", Next::Command)
}

/// Reads `FROM:<address> parameters`; source routes (`<@a,@b:c@d>`) are dropped as the RFC says.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (start, rest) = rest.split_at_checked(keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    // Some clients put a space after the colon.
    let (address, parameters) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    let address = if address.starts_with('@') { address.split_once(':')?.1 } else { address };
    let plain = address.len() <= 320 && address.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '<');
    (plain && (parameters.is_empty() || parameters.starts_with(' '))).then_some((address, parameters.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(lines: &[&str]) -> Vec<String> {
        let mut session = Session::new(1000);
        lines.iter().map(|line| session.command(line.as_bytes()).0[..3].to_owned()).collect()
    }

    #[test]
    fn a_mail_needs_its_commands_in_order() {
        assert_eq!(
            codes(&["EHLO x", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>", "DATA"]),
            ["250", "250", "250", "250", "354"]
        );
        assert_eq!(codes(&["helo x", "mail from: <> size=10 body=8bitmime", "rcpt to:<b@x>", "data"])[3], "354");
        assert_eq!(codes(&["MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA"]), ["503", "503", "503"]);
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x>", "DATA", "MAIL FROM:<b@x>"]), ["250", "250", "503", "503"]);
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x>", "RSET", "RCPT TO:<b@x>"]), ["250", "250", "250", "503"]);
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x>", "EHLO x", "RCPT TO:<b@x>"])[3], "503");
    }

    #[test]
    fn the_envelope_is_what_was_said() {
        let mut session = Session::new(1000);
        for line in ["EHLO x", "MAIL FROM:<@relay:a@x> SMTPUTF8", "RCPT TO:<b@x>", "RCPT TO:<\u{e4}@x>"] {
            assert!(session.command(line.as_bytes()).0.starts_with("250"), "{line}");
        }
        let envelope = Envelope { from: "a@x".to_owned(), to: vec!["b@x".to_owned(), "ä@x".to_owned()] };
        assert_eq!(session.command(b"DATA").1, Next::Data(envelope));
        assert!(session.command(b"DATA").0.starts_with("503"), "one mail, one envelope");
    }

    #[test]
    fn odd_commands_are_answered() {
        for (line, code) in [
            ("", "500"),
            ("FOO", "500"),
            ("EHLO", "501"),
            ("NOOP anything", "250"),
            ("VRFY a", "252"),
            ("HELP", "214"),
            ("STARTTLS", "502"),
            ("AUTH PLAIN x", "502"),
            ("QUIT", "221"),
            ("DATA x", "501"),
        ] {
            assert_eq!(codes(&[line]), [code], "{line}");
        }
        for line in [
            "MAIL FROM:a@x",
            "MAIL FROM:<a@x",
            "MAIL <a@x>",
            "MAIL FROM:<a b@x>",
            "MAIL FROM:<a@x>SIZE=1",
            "MAIL FROM:<a@x> SIZE=ten",
        ] {
            assert_eq!(codes(&["EHLO x", line])[1], "501", "{line}");
        }
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x> SIZE=1001"])[1], "552");
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x> RET=FULL"])[1], "555");
        assert_eq!(codes(&["EHLO x", "MAIL FROM:<a@x>", "RCPT TO:<>"])[2], "501");
    }

    #[test]
    fn patience_and_recipients_are_bounded() {
        let mut session = Session::new(1000);
        let ends: Vec<_> = (0..30).map(|_| session.command(b"\xff").1).collect();
        assert_eq!(ends.iter().position(|next| *next == Next::Close), Some(20));
        let mut session = Session::new(1000);
        session.command(b"EHLO x");
        session.command(b"MAIL FROM:<a@x>");
        let taken = (0..150).filter(|_| session.command(b"RCPT TO:<b@x>").0.starts_with("250")).count();
        assert_eq!(taken, 100);
    }

    proptest::proptest! {
        #[test]
        fn every_reply_is_one_well_formed_reply(lines: Vec<Vec<u8>>) {
            let mut session = Session::new(1000);
            for line in lines {
                let (reply, _) = session.command(&line);
                proptest::prop_assert!(reply.ends_with("\r\n"));
                proptest::prop_assert!(reply.as_bytes()[..3].iter().all(u8::is_ascii_digit));
            }
        }
    }
}
