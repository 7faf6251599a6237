//! Whether the service answers on its own port.
//!
//! A process can live, report its metrics and reach its database, and still answer nobody. Readiness
//! therefore asks as a client would. Any answer will do: what it says is for other checks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends one request to the service that listens on `own`. Takes as long as the answer does: the caller
/// limits it.
///
/// # Errors
/// The connection was refused, or closed without an answer.
pub async fn answers(own: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(reachable(own)).await.map_err(|_| "refuses connections".to_owned())?;
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nuser-agent: readiness\r\nconnection: close\r\n\r\n";
    let mut start = [0; 5];
    let asked = async {
        stream.write_all(request).await?;
        stream.read_exact(&mut start).await
    };
    match asked.await {
        Ok(_) if start == *b"HTTP/" => Ok(()),
        Ok(_) => Err("answers something else than HTTP".to_owned()),
        Err(_) => Err("closes connections without an answer".to_owned()),
    }
}

/// Where a listener on all addresses is reached from inside.
fn reachable(own: SocketAddr) -> SocketAddr {
    match own {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, own.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, own.port()).into(),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives every connection this answer, and then closes it.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 16];
                let _ = stream.read_exact(&mut request).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn any_answer_will_do_and_silence_will_not() {
        assert_eq!(answers(server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await).await, Ok(()));
        assert!(answers(server(b"").await).await.is_err());
        assert!(answers(server(b"SSH-2.0-x").await).await.is_err());
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(answers(nobody).await, Err("refuses connections".to_owned()));
    }
}
