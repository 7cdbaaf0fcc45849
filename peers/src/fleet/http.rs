//! One HTTP exchange on a connection of its own: all that a simulated client needs of HTTP.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{ANSWER_BYTES_MAX, EXCHANGE_MAX};

/// Sends a request and returns the body of a successful answer.
///
/// # Errors
/// When there is no answer in time, it is too large, or it is no success.
pub async fn exchange(address: &str, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let exchanged = timeout(EXCHANGE_MAX, try_exchange(address, method, path, body)).await;
    exchanged
        .with_context(|| format!("{method} {path}: no answer within {EXCHANGE_MAX:?}"))?
        .with_context(|| format!("{method} {path}"))
}

async fn try_exchange(address: &str, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX as u64)
        .read_to_end(&mut answer)
        .await?;
    body_of(&answer)
}

/// The body of a successful answer.
fn body_of(answer: &[u8]) -> Result<Vec<u8>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.context("the answer has no head")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let body = &answer[end + 4..];
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("answered {status}: {}", String::from_utf8_lossy(body));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.context("the answer has no content-length")?;
    ensure!(
        length == body.len(),
        "{} of {length} bytes arrived",
        body.len()
    );
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(body_of(good).unwrap(), b"hi");
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
            b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nhi",
        ] {
            assert!(body_of(bad).is_err(), "{bad:?}");
        }
    }
}
