//! Mail: plain text and HTML, one thread an incident.
//!
//! The first mail's Message-ID follows from its incidents, the later ones refer
//! to it and keep its subject: that is what mail programs make threads of. A
//! retry has the same Message-ID, so a mailbox that got both shows one.

use std::{path::Path, time::Duration};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor,
    message::{Mailbox, MultiPart, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};
use telemetry::config::Secret;

use super::{
    Failure,
    text::{self, Text, Tone},
};
use crate::journal::outbox::{Message, Thread};

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Security {
    /// Not at all: for a server in the same network.
    None,
    /// By STARTTLS, and not at all otherwise.
    Starttls,
    /// From the first byte.
    Tls,
}

/// Where mail goes, and from whom.
pub struct Settings {
    /// `host:port`
    pub server: String,
    /// How the connection is protected.
    pub security: Security,
    /// Certificates to trust beside the public ones.
    pub authorities: Option<std::path::PathBuf>,
    /// Name and password.
    pub login: Option<(String, Secret)>,
    /// Sender.
    pub from: String,
    /// Recipients, separated by commas.
    pub to: String,
}

/// Sends mail.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

/// Which variable is wrong, and why.
pub type SettingError = (&'static str, String);

impl Mailer {
    /// Reads the settings; connects nowhere.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn new(settings: &Settings, limit: Duration) -> Result<Self, SettingError> {
        let address = settings.server.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let address = address.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let (host, port) = address.ok_or(("NOTIFY_SMTP_ADDR", "must be HOST:PORT".to_owned()))?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .timeout(Some(limit))
            .hello_name(ClientId::Domain("alert-bot".to_owned()))
            .tls(match settings.security {
                Security::None => Tls::None,
                Security::Starttls => Tls::Required(tls(host, settings.authorities.as_deref())?),
                Security::Tls => Tls::Wrapper(tls(host, settings.authorities.as_deref())?),
            });
        if let Some((name, password)) = &settings.login {
            builder = builder.credentials(Credentials::new(name.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            from: mailbox(&settings.from).map_err(|why| ("NOTIFY_MAIL_FROM", why))?,
            to: settings.to.split(',').map(mailbox).collect::<Result<_, _>>().map_err(|why| ("NOTIFY_MAIL_TO", why))?,
        })
    }

    /// Sends it; says where its thread is now.
    pub async fn send(&self, message: &Message, texts: &[Text], thread: Thread) -> Result<Thread, Failure> {
        let id = format!("<{}@{}>", super::key(message), self.from.email.domain());
        let mail = self.compose(message, texts, &thread, &id).map_err(|e| Failure::new(e.to_string()))?;
        match self.transport.send(mail).await {
            Ok(_) => {
                let root = if thread.root.is_empty() { id.clone() } else { thread.root };
                Ok(Thread { root, last: id, ..thread })
            }
            // What a server says may repeat the login; its code does not.
            Err(error) => Err(Failure::new(match error.status() {
                Some(code) => format!("the mail server answers {code}"),
                None if error.is_timeout() => "the mail server does not answer in time".to_owned(),
                None if error.is_tls() => "the mail server's certificate or TLS is not acceptable".to_owned(),
                None => "the mail server cannot be reached".to_owned(),
            })),
        }
    }

    fn compose(
        &self,
        message: &Message,
        texts: &[Text],
        thread: &Thread,
        id: &str,
    ) -> Result<Mail, lettre::error::Error> {
        let subject = text::subject(texts);
        let first = thread.root.is_empty();
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .subject(if first { format!("[selfheal] {subject}") } else { format!("Re: [selfheal] {subject}") })
            .message_id(Some(id.to_owned()))
            .date(std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(message.at.millis()).unwrap_or(0)))
            .header(AutoSubmitted);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if !first {
            let references = if thread.last == thread.root {
                thread.root.clone()
            } else {
                format!("{} {}", thread.root, thread.last)
            };
            builder = builder.in_reply_to(thread.last.clone()).references(references);
        }
        let plain: Vec<_> = texts.iter().map(Text::plain).collect();
        builder.multipart(MultiPart::alternative_plain_html(plain.join("\n———\n\n"), html(texts)))
    }
}

/// RFC 3834: no auto-responder may answer.
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let text = text.trim();
    let plain = || text.parse::<Address>().ok().map(Mailbox::from);
    text.parse::<Mailbox>().ok().or_else(plain).ok_or_else(|| format!("'{text}' is not a mail address"))
}

fn tls(host: &str, authorities: Option<&Path>) -> Result<TlsParameters, SettingError> {
    let wrong = |why: String| ("NOTIFY_CA_FILE", why);
    let mut builder = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
    if let Some(path) = authorities {
        let pem = std::fs::read(path).map_err(|e| wrong(format!("cannot read {}: {e}", path.display())))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|e| wrong(format!("{} holds no certificate: {e}", path.display())))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|e| wrong(e.to_string()))
}

fn html(texts: &[Text]) -> String {
    let mut body = String::new();
    for text in texts {
        let colour = match text.tone {
            Tone::Bad => "#b42318",
            Tone::Busy => "#8a5a00",
            Tone::Good => "#1a7f37",
        };
        body.push_str(&format!("<h2 style=\"color:{colour};margin-bottom:0\">{}</h2>", escape(&text.headline())));
        body.push_str(&format!("<p>{}</p><table>", lines(&text.what)));
        for (name, value) in &text.facts {
            body.push_str(&format!(
                "<tr><td style=\"color:#666;padding-right:1em\">{}</td><td>{}</td></tr>",
                escape(name),
                escape(value)
            ));
        }
        body.push_str("</table>");
        let nothing = ["nothing".to_owned()];
        list(&mut body, "Tried", if text.tried.is_empty() { &nothing } else { &text.tried });
        list(&mut body, "Found", &text.found);
        if !text.why.is_empty() {
            body.push_str(&format!("<p><b>Why</b> {}</p>", lines(&text.why)));
        }
        body.push_str(&format!("<p><b>Next</b> {}</p><p>", lines(&text.next)));
        for (name, url) in &text.links {
            body.push_str(&format!("<a href=\"{}\">{}</a>&ensp;", escape(url), escape(name)));
        }
        body.push_str(&format!("</p><p style=\"color:#666;font-size:small\">incident {}</p>", escape(&text.incident)));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title></head>\n\
         <body style=\"font-family:sans-serif;max-width:44em;margin:1em auto\">\n{body}\n</body></html>\n",
        escape(&text::headline(texts))
    )
}

fn list(body: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let items: String = items.iter().map(|item| format!("<li>{}</li>", lines(item))).collect();
    body.push_str(&format!("<p style=\"margin-bottom:0\"><b>{title}</b></p><ul style=\"margin-top:0\">{items}</ul>"));
}

fn lines(text: &str) -> String {
    escape(text).replace('\n', "<br>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
