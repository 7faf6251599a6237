//! A closed loop of HTTP/1.1 clients that costs as little as possible: requests are
//! ready-made bytes, and of an answer only status and length are read.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub struct Load<'a> {
    pub address: SocketAddr,
    pub request: &'a str,
    /// Any other status ends the bench: a figure made of errors is none.
    pub status: u16,
    pub connections: usize,
    pub time: Duration,
}

pub struct Report {
    pub answers: u64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Processor time of the service for each answer.
    pub cpu_micros: f64,
}

impl Load<'_> {
    pub async fn run(&self) -> Report {
        let started = Instant::now();
        let clients: Vec<_> = (0..self.connections)
            .map(|_| {
                let (address, request, status) = (self.address, self.request.to_owned(), self.status);
                let until = started + self.time;
                tokio::spawn(async move { client(address, request.as_bytes(), status, until).await })
            })
            .collect();
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.unwrap());
        }
        let elapsed = started.elapsed();
        took.sort_unstable();
        let at = |q: f64| Duration::from_nanos(took[((took.len() - 1) as f64 * q) as usize]);
        Report {
            answers: took.len() as u64,
            per_second: took.len() as f64 / elapsed.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            cpu_micros: 0.0,
        }
    }
}

async fn client(address: SocketAddr, request: &[u8], status: u16, until: Instant) -> Vec<u64> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let expected = format!("HTTP/1.1 {status} ");
    let mut took = Vec::with_capacity(1 << 16);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let sent = Instant::now();
        stream.write_all(request).await.unwrap();
        let (mut filled, mut total) = (0, usize::MAX);
        while filled < total {
            let n = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(n > 0, "the service closed the connection");
            filled += n;
            if total == usize::MAX
                && let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n")
            {
                let text = std::str::from_utf8(&buffer[..head]).unwrap();
                assert!(text.starts_with(&expected), "{}", String::from_utf8_lossy(&buffer[..filled]));
                let length: usize = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                total = head + 4 + length;
            }
        }
        took.push(u64::try_from(sent.elapsed().as_nanos()).unwrap());
        // One answer at least, however long it took.
        if Instant::now() >= until {
            return took;
        }
    }
}
