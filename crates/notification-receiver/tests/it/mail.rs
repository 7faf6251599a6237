//! Real SMTP dialogues.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::TestApp;

struct Client(TcpStream);

impl Client {
    async fn connect(app: &TestApp) -> Self {
        let mut client = Self(TcpStream::connect(app.mail).await.unwrap());
        assert!(client.read().await.starts_with("220 "));
        client
    }

    /// One reply, all of its lines.
    async fn read(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let byte = self.0.read_u8().await.expect("a reply");
            reply.push(char::from(byte));
            let last = reply.rsplit_terminator("\r\n").next().unwrap();
            if reply.ends_with("\r\n") && last.as_bytes().get(3) == Some(&b' ') {
                return reply;
            }
        }
    }

    async fn say(&mut self, text: &str) -> String {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.read().await
    }
}

#[tokio::test]
async fn a_mail_is_taken_and_shown() {
    let app = TestApp::start(&[]).await;
    let mut client = Client::connect(&app).await;
    let hello = client.say("EHLO test\r\n").await;
    assert!(hello.contains("250-SIZE 2097152\r\n") && hello.contains("PIPELINING"), "{hello}");
    assert!(client.say("MAIL FROM:<alerts@stack.local> SIZE=100\r\n").await.starts_with("250"));
    assert!(client.say("RCPT TO:<ops@stack.local>\r\n").await.starts_with("250"));
    assert!(client.say("RCPT TO:<boss@stack.local>\r\n").await.starts_with("250"));
    assert!(client.say("DATA\r\n").await.starts_with("354"));
    let taken = client.say("Subject: hot\r\nTo: ops@stack.local\r\n\r\n..dots\r\nline\r\n.\r\n").await;
    assert_eq!(taken, "250 taken as 1\r\n");
    assert!(client.say("QUIT\r\n").await.starts_with("221"));
    assert_eq!(client.0.read(&mut [0; 1]).await.unwrap(), 0, "closed");

    let (_, mail) = app.get("/v1/notifications/1").await;
    assert_eq!(mail["channel"], "email");
    assert_eq!((mail["title"].as_str(), mail["text"].as_str()), (Some("hot"), Some(".dots\r\nline")));
    assert_eq!(mail["from"], "alerts@stack.local");
    assert_eq!(mail["to"], serde_json::json!(["ops@stack.local", "boss@stack.local"]));
    assert_eq!(app.metric(r#"notifications_received_total{channel="email"}"#), "1");
}

#[tokio::test]
async fn commands_may_come_all_at_once_and_mails_one_after_the_other() {
    let app = TestApp::start(&[]).await;
    let mut client = Client::connect(&app).await;
    client.say("EHLO test\r\n").await;
    for i in 1..=3 {
        client.0.write_all(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n").await.unwrap();
        for code in ["250", "250", "354"] {
            assert!(client.read().await.starts_with(code));
        }
        // The next command comes in the same packet as the end of the mail.
        client.0.write_all(format!("Subject: {i}\r\n\r\nx\r\n.\r\nNOOP\r\n").as_bytes()).await.unwrap();
        assert_eq!(client.read().await, format!("250 taken as {i}\r\n"));
        assert_eq!(client.read().await, "250 OK\r\n");
    }
    assert_eq!(app.get("/v1/notifications?channel=email").await.1["total"], 3);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_connection_lives() {
    let app = TestApp::start(&["--max-body", "2000"]).await;
    let mut client = Client::connect(&app).await;
    client.say("EHLO test\r\n").await;
    assert!(client.say("MAIL FROM:<a@b> SIZE=2001\r\n").await.starts_with("552"));
    assert!(client.say(&format!("NOOP {}\r\n", "x".repeat(9000))).await.starts_with("500"));
    assert!(client.say("MAIL FROM:<a@b>\r\n").await.starts_with("250"));
    assert!(client.say("RCPT TO:<a@b>\r\n").await.starts_with("250"));
    assert!(client.say("DATA\r\n").await.starts_with("354"));
    assert!(client.say(&format!("{}\r\n.\r\n", "x".repeat(50_000))).await.starts_with("552"));
    assert!(client.say("NOOP\r\n").await.starts_with("250"));
    assert_eq!(app.get("/v1/notifications").await.1["total"], 0);
    assert_eq!(app.metric(r#"notifications_refused_total{channel="email"}"#), "1");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let app = TestApp::start(&[]).await;
    let mut client = Client::connect(&app).await;
    client.say("EHLO test\r\n").await;
    client.say("MAIL FROM:<a@b>\r\n").await;
    client.say("RCPT TO:<a@b>\r\n").await;
    client.say("DATA\r\n").await;
    client.0.write_all(b"Subject: half").await.unwrap();
    drop(client);
    let mut other = Client::connect(&app).await;
    assert!(other.say("NOOP\r\n").await.starts_with("250"));
    assert_eq!(app.get("/v1/notifications").await.1["total"], 0);
}
