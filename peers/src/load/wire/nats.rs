//! The NATS client protocol: Pinnace and nats-server.

use anyhow::{Result, bail};

use super::{Item, Template, Wire, line, number};

/// The protocol, as a client that takes headers speaks it.
#[derive(Clone, Copy, Debug)]
pub struct Nats;

impl Wire for Nats {
    fn hello(&self, out: &mut Vec<u8>, connection: usize) {
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"lang\":\"rust\",\"version\":\"1\",\"name\":\"load-{connection}\"}}\r\n"
        );
        out.extend_from_slice(connect.as_bytes());
    }

    fn subscribe(&self, out: &mut Vec<u8>, topic: &str, id: u32) {
        out.extend_from_slice(format!("SUB {topic} {id}\r\n").as_bytes());
    }

    fn fence(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn publish(&self, topic: &str, reply: Option<&str>, payload_bytes: usize) -> Template {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let head = format!("PUB {topic} {reply}{payload_bytes}\r\n");
        Template::new(head.as_bytes(), payload_bytes, b"\r\n")
    }

    fn delivery(
        &self,
        topic: &str,
        id: u32,
        reply: Option<&str>,
        payload_bytes: usize,
    ) -> Template {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let head = format!("MSG {topic} {id} {reply}{payload_bytes}\r\n");
        Template::new(head.as_bytes(), payload_bytes, b"\r\n")
    }

    fn next(&self, bytes: &[u8]) -> Result<Option<(usize, Item)>> {
        let Some((line, length)) = line(bytes) else {
            return Ok(None);
        };
        if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
            let size = number(line.rsplit(|byte| *byte == b' ').next().unwrap_or_default())?;
            let end = length + size + 2;
            let Some(tail) = bytes.get(length + size..end) else {
                return Ok(None);
            };
            if tail != b"\r\n" {
                bail!("a message that does not end where it says");
            }
            return Ok(Some((end, Item::Message(length..length + size))));
        }
        let item = match line {
            b"PING" => Item::Asked(b"PONG\r\n"),
            b"PONG" => Item::Fence,
            b"+OK" => Item::Other,
            _ if line.starts_with(b"INFO ") => Item::Other,
            _ => bail!("the server says {:?}", String::from_utf8_lossy(line)),
        };
        Ok(Some((length, item)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_and_control_lines() {
        super::super::check::a_delivery_at_every_cut(&Nats);
        for (bytes, expected) in [
            (&b"PING\r\nMSG"[..], (6, Item::Asked(b"PONG\r\n"))),
            (b"PONG\r\n", (6, Item::Fence)),
            (b"INFO {}\r\n", (9, Item::Other)),
            (b"HMSG a 1 4 6\r\nabcdef\r\n", (22, Item::Message(14..20))),
        ] {
            assert_eq!(Nats.next(bytes).unwrap(), Some(expected));
        }
        assert!(Nats.next(b"-ERR 'Slow Consumer'\r\n").is_err());
        assert!(Nats.next(b"MSG a 1 2\r\nabcd").is_err());
    }

    #[test]
    fn a_publish_with_a_reply() {
        let frame = Nats.publish("a", Some("b"), 3);
        assert_eq!(frame.bytes, b"PUB a b 3\r\n\0\0\0\r\n");
        assert_eq!(frame.payload, 11..14);
    }
}
