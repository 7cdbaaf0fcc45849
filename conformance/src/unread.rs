//! How much of what was sent to a server it has not read yet, asked of the system.
//!
//! ```text
//! request   nlmsghdr 16 │ family protocol ext pad │ states 4 │ sport dport src·16 dst·16 if 4 cookie 8
//! answer    nlmsghdr 16 │ family state timer retrans │ the same 48 │ expires 4 │ unread 4 │ …
//! ```
//!
//! Invariant: one socket is asked for by its two addresses, so the question costs the same however many
//! connections there are; `/proc/net/tcp` lists them all, which takes milliseconds where many have just ended.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};

const HEADER_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const IS_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const TCP: u8 = 6;
const ESTABLISHED: u8 = 1;

/// Asks about sockets of this machine.
pub(crate) struct Inquiry(OwnedFd);

impl Inquiry {
    pub(crate) fn new() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        );
        Ok(Self(socket.context("asking the system about sockets")?))
    }

    /// Bytes that wait to be read by the owner of the established connection from `local` to `remote`;
    /// none when there is no such connection any more.
    pub(crate) fn unread_bytes(&self, local: SocketAddrV4, remote: SocketAddrV4) -> Result<u32> {
        let request = request(local, remote);
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        sendto(&self.0, &request, SendFlags::empty(), &kernel)?;
        let mut answer = [0_u8; 512];
        let (count, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = &answer[..count];
        let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
        if kind.map(u16::from_ne_bytes) != Some(SOCK_DIAG_BY_FAMILY) {
            // The system says that there is no such socket.
            return Ok(0);
        }
        let unread = answer.get(HEADER_BYTES + 56..HEADER_BYTES + 60);
        match (answer.get(HEADER_BYTES + 1), unread) {
            (Some(&ESTABLISHED), Some(unread)) => Ok(u32::from_ne_bytes(unread.try_into()?)),
            // Closed meanwhile, or the listener that would take a new connection.
            (Some(_), _) => Ok(0),
            _ => bail!("the system's answer about a socket has {count} bytes"),
        }
    }
}

fn request(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 56);
    bytes.extend_from_slice(&((HEADER_BYTES + 56) as u32).to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&IS_REQUEST.to_ne_bytes());
    // Sequence and sender: there is one question at a time.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[AF_INET, TCP, 0, 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&remote.port().to_be_bytes());
    let mut address = |ip: &Ipv4Addr| {
        bytes.extend_from_slice(&ip.octets());
        bytes.extend_from_slice(&[0; 12]);
    };
    address(local.ip());
    address(remote.ip());
    bytes.extend_from_slice(&[0; 4]);
    // No cookie: whatever socket has these addresses.
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address else {
            panic!("{address}");
        };
        address
    }

    #[test]
    fn what_is_unread_is_seen_until_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = v4(listener.local_addr().unwrap());
        let mut client = TcpStream::connect(server).unwrap();
        let (mut accepted, peer) = listener.accept().unwrap();
        let inquiry = Inquiry::new().unwrap();
        let ask = || inquiry.unread_bytes(server, v4(peer)).unwrap();
        assert_eq!(ask(), 0);
        client.write_all(b"12345").unwrap();
        assert_eq!(ask(), 5);
        accepted.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(ask(), 2);
        drop(accepted);
        assert_eq!(ask(), 0);
        let nobody = SocketAddrV4::new(*server.ip(), 1);
        assert_eq!(inquiry.unread_bytes(nobody, nobody).unwrap(), 0);
    }
}
