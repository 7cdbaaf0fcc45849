//! MQTT 3.1.1 at QoS 0: Mosquitto.

use anyhow::{Result, bail};

use super::{Item, Template, Wire};

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xD0;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Mqtt;

impl Wire for Mqtt {
    fn hello(&self, out: &mut Vec<u8>, connection: usize) {
        let name = format!("load-{connection}");
        // Protocol level 4, a clean session, no keep-alive.
        let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
        text(&mut body, &name);
        packet(out, 0x10, &body);
    }

    fn subscribe(&self, out: &mut Vec<u8>, topic: &str, id: u32) {
        let mut body = vec![0, (id % 255) as u8 + 1];
        text(&mut body, topic);
        body.push(0);
        packet(out, 0x82, &body);
    }

    fn fence(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0xC0, 0]);
    }

    fn publish(&self, topic: &str, _reply: Option<&str>, payload_bytes: usize) -> Template {
        let mut head = vec![PUBLISH];
        remaining(&mut head, 2 + topic.len() + payload_bytes);
        text(&mut head, topic);
        Template::new(&head, payload_bytes, b"")
    }

    fn delivery(
        &self,
        topic: &str,
        _id: u32,
        reply: Option<&str>,
        payload_bytes: usize,
    ) -> Template {
        self.publish(topic, reply, payload_bytes)
    }

    fn next(&self, bytes: &[u8]) -> Result<Option<(usize, Item)>> {
        let Some((start, size)) = length(bytes)? else {
            return Ok(None);
        };
        let end = start + size;
        let Some(body) = bytes.get(start..end) else {
            return Ok(None);
        };
        let item = match (bytes[0], body) {
            (CONNACK, [_, 0]) | (SUBACK, [_, _, 0]) => Item::Other,
            (PINGRESP, []) => Item::Fence,
            (PUBLISH, [high, low, ..]) => {
                let topic = usize::from(u16::from_be_bytes([*high, *low]));
                if size < 2 + topic {
                    bail!("a topic longer than its packet");
                }
                Item::Message(start + 2 + topic..end)
            }
            (kind, _) => bail!("a packet of kind {kind:#04x} with {size} bytes"),
        };
        Ok(Some((end, item)))
    }
}

fn packet(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    remaining(out, body.len());
    out.extend_from_slice(body);
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Topics and names of the generator are short.
    out.extend_from_slice(&[0, text.len() as u8]);
    out.extend_from_slice(text.as_bytes());
}

fn remaining(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Where the body starts and how long it is.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut size = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        size |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 2, size)));
        }
    }
    if bytes.len() > 4 {
        bail!("a length of more than four bytes");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_and_answers() {
        super::super::check::a_delivery_at_every_cut(&Mqtt);
        for (bytes, expected) in [
            (&[0x20, 2, 0, 0][..], Some((4, Item::Other))),
            (&[0x90, 3, 0, 1, 0], Some((5, Item::Other))),
            (&[0xD0, 0], Some((2, Item::Fence))),
            (&[0xD0], None),
        ] {
            assert_eq!(Mqtt.next(bytes).unwrap(), expected);
        }
        // A refused connection, and a length that never ends.
        assert!(Mqtt.next(&[0x20, 2, 0, 5]).is_err());
        assert!(Mqtt.next(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).is_err());
    }

    #[test]
    fn lengths_as_the_standard_has_them() {
        for (size, expected) in [
            (127usize, &[0x7F][..]),
            (128, &[0x80, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
        ] {
            let mut out = Vec::new();
            remaining(&mut out, size);
            assert_eq!(out, expected);
            out.insert(0, PUBLISH);
            assert_eq!(length(&out).unwrap(), Some((out.len(), size)));
        }
    }
}
