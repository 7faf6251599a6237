//! Sockets around the session.

use std::{io, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    data::{Data, DataReader},
    session::{Envelope, MAX_LINE, Next, Session},
};
use crate::{
    Inbox,
    notification::{Channel, email},
};

const MAX_CONNECTIONS: usize = 32;
/// A client that says nothing for so long, or does not take a reply, is gone.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Takes mail until shutdown.
pub async fn serve(listener: TcpListener, inbox: Arc<Inbox>, max_size: usize, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a mail connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (inbox, shutdown, permit) = (inbox.clone(), shutdown.clone(), connections.clone().try_acquire_owned());
        tokio::spawn(async move {
            let mut connection = Connection { stream, buffer: Vec::new() };
            let Ok(_permit) = permit else {
                let _ = connection.write("421 too many connections\r\n").await;
                return;
            };
            tokio::select! {
                () = shutdown.cancelled() => drop(connection.write("421 shutting down\r\n").await),
                // A client that goes away in the middle is its own affair.
                _ = talk(&mut connection, &inbox, max_size) => {}
            }
        });
    }
}

async fn talk(connection: &mut Connection, inbox: &Inbox, max_size: usize) -> io::Result<()> {
    let mut session = Session::new(max_size);
    connection.write(Session::greeting()).await?;
    loop {
        let (reply, next) = match connection.line().await? {
            Line::Whole(line) => session.command(&line),
            Line::TooLong => session.line_too_long(),
        };
        connection.write(&reply).await?;
        match next {
            Next::Command => {}
            Next::Close => return Ok(()),
            Next::Data(envelope) => {
                let reply = match connection.data(max_size).await? {
                    Data::Mail(mail) => take(inbox, &envelope, &mail),
                    Data::TooLarge => {
                        inbox.metrics.refused.with_label_values(&[Channel::Email.name()]).inc();
                        "552 larger than SIZE allows\r\n".to_owned()
                    }
                };
                connection.write(&reply).await?;
            }
        }
    }
}

fn take(inbox: &Inbox, envelope: &Envelope, mail: &[u8]) -> String {
    let draft = email(&envelope.from, &envelope.to, mail);
    let id = inbox.take(draft, OffsetDateTime::now_utc());
    format!("250 taken as {id}\r\n")
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

struct Connection {
    stream: TcpStream,
    /// Came and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    async fn write(&mut self, reply: &str) -> io::Result<()> {
        timeout(IDLE_LIMIT, self.stream.write_all(reply.as_bytes())).await?
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 8192];
        let n = timeout(IDLE_LIMIT, self.stream.read(&mut piece)).await??;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..n]);
        Ok(())
    }

    /// The next command without its end. Clients that end lines with a bare LF are understood.
    async fn line(&mut self) -> io::Result<Line> {
        let mut too_long = false;
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                let too_long = too_long || line.len() > MAX_LINE;
                return Ok(if too_long { Line::TooLong } else { Line::Whole(line) });
            }
            if self.buffer.len() > MAX_LINE {
                too_long = true;
                self.buffer.clear();
            }
            self.fill().await?;
        }
    }

    async fn data(&mut self, max: usize) -> io::Result<Data> {
        let mut reader = DataReader::new(max);
        loop {
            if let Some((used, data)) = reader.push(&self.buffer) {
                self.buffer.drain(..used);
                return Ok(data);
            }
            self.buffer.clear();
            self.fill().await?;
        }
    }
}
