//! The NATS door: what clients send and what they are answered, as the reference server does.

use crate::support::Server;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sends a script on a fresh connection and compares all answers up to its end, or to a PONG.
#[track_caller]
fn check(server: &Server, script: &str, expected: &str) {
    let mut raw = server.nats();
    raw.send(script);
    let ends = expected.ends_with("(closed)");
    let answer = if ends {
        format!("{}(closed)", raw.rest())
    } else {
        raw.until_pong()
            .into_iter()
            .map(|line| line + "\r\n")
            .collect()
    };
    assert_eq!(
        answer,
        expected.replace('|', "\r\n"),
        "{}",
        script.escape_debug()
    );
}

const QUIET: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

#[test]
fn operations_are_answered_as_the_reference_answers() {
    let server = Server::start();
    let long = format!("SUB {} 1\r\n", "a".repeat(4_100));
    let quiet = |script: &str| format!("{QUIET}{script}");
    for (script, expected) in [
        ("SUB a 1\r\nPUB a 2\r\nhi\r\n", "+OK|+OK|MSG a 1 2|hi|"),
        ("CONNECT {}\r\n", "+OK|"),
        (
            "connect {\"verbose\":false}\r\nsub\ta\t 1\r\npub  a  2\r\nhi\r\n",
            "MSG a 1 2|hi|",
        ),
        (
            "PUB a 2\nhi\n",
            "-ERR 'Unknown Protocol Operation'|(closed)",
        ),
        ("HELO\r\n", "-ERR 'Unknown Protocol Operation'|(closed)"),
        (
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "-ERR 'Unknown Protocol Operation'|(closed)",
        ),
        ("CONNECT {\r\n", "(closed)"),
        (
            "CONNECT {\"protocol\":2}\r\n",
            "-ERR 'invalid client protocol'|(closed)",
        ),
        (
            "CONNECT {\"no_responders\":true}\r\n",
            "-ERR 'no responders requires headers support'|(closed)",
        ),
        (&quiet("SUB foo..bar 1\r\n"), "-ERR 'Invalid Subject'|"),
        (
            &quiet("SUB foo* 1\r\nPUB foo* 0\r\n\r\nPUB foox 0\r\n\r\n"),
            "MSG foo* 1 0||",
        ),
        (
            &quiet("SUB foo.* 1\r\nPUB foo.* 0\r\n\r\n"),
            "MSG foo.* 1 0||",
        ),
        (
            "CONNECT {\"verbose\":false,\"pedantic\":true}\r\nPUB foo.* 0\r\n\r\n",
            "-ERR 'Invalid Publish Subject'|",
        ),
        (
            &quiet(&format!("SUB a.> 1\r\nPUB a{} 0\r\n\r\n", ".a".repeat(128))),
            "-ERR 'Invalid Publish Subject'|",
        ),
        (&quiet("SUB foo.> 1\r\nPUB foo..bar 0\r\n\r\n"), ""),
        (&quiet("PUB a abc\r\n"), "(closed)"),
        (&quiet("PUB a -1\r\n"), "(closed)"),
        (&quiet("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n"), "(closed)"),
        (&quiet("SUB a b c d\r\n"), "(closed)"),
        (
            &quiet("PUB a 1048577\r\n"),
            "-ERR 'Maximum Payload Violation'|(closed)",
        ),
        (
            &quiet(&long),
            "-ERR 'maximum control line exceeded'|(closed)",
        ),
        (
            &quiet("SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n"),
            "MSG a 1 1|1|MSG a 1 1|2|",
        ),
        (
            &quiet("SUB a 1\r\nUNSUB 1\r\nPUB a 0\r\n\r\nUNSUB 9\r\n"),
            "",
        ),
        (
            &quiet("SUB a 1\r\nSUB b 1\r\nPUB b 0\r\n\r\nPUB a 0\r\n\r\n"),
            "MSG a 1 0||",
        ),
        (&quiet("SUB ä.ö 1\r\nPUB ä.ö 0\r\n\r\n"), "MSG ä.ö 1 0||"),
        (&quiet("INFO {}\r\nCONNECT {\"verbose\":false}\r\n"), ""),
        (
            "CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB a 1\r\nPUB a 0\r\n\r\n",
            "",
        ),
        (
            &quiet("SUB a 1\r\nSUB a.> 2\r\nSUB *.b 3\r\nPUB a.b r 1\r\nx\r\n"),
            "MSG a.b 2 r 1|x|MSG a.b 3 r 1|x|",
        ),
    ] {
        check(&server, script, expected);
    }
}

#[test]
fn a_script_in_any_portions_gives_the_same() {
    let server = Server::start();
    // Topics of each round are its own: the last round's connection may not be gone yet.
    let script = |cut: usize| {
        format!(
            "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {cut}.* g 1\r\n\
             HPUB {cut}.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB {cut}.c 2\r\n\r\n\r\n"
        )
    };
    for cut in 100..100 + script(100).len() - 1 {
        let script = script(cut);
        let (front, rest) = script.split_at(cut - 99);
        let mut raw = server.nats();
        raw.send(front);
        raw.send(rest);
        let messages = raw.until_pong().join("|");
        let expected = format!("HMSG {cut}.b 1 r 12 14|NATS/1.0||hi|MSG {cut}.c 1 2||");
        assert_eq!(messages, expected, "cut after {}", front.escape_debug());
    }
}

#[test]
fn requests_are_answered_or_told_that_nobody_listens() {
    let server = Server::start();
    let mut asker = server.nats_client();
    asker.send("SUB _INBOX.x.* 9\r\nPUB nobody _INBOX.x.1 0\r\n\r\n");
    assert_eq!(
        asker.until_pong(),
        [
            "HMSG _INBOX.x.1 9 38 38",
            "NATS/1.0 503",
            "Nats-Subject: nobody",
            "",
            ""
        ]
    );
    let mut answerer = server.nats_client();
    answerer.send("SUB help 1\r\n");
    answerer.until_pong();
    asker.send("PUB help _INBOX.x.2 3\r\nhow\r\n");
    assert_eq!(answerer.line(), "MSG help 1 _INBOX.x.2 3");
    assert_eq!(answerer.line(), "how");
    answerer.send("PUB _INBOX.x.2 4\r\nthus\r\n");
    assert_eq!(asker.line(), "MSG _INBOX.x.2 9 4");
    assert_eq!(asker.line(), "thus");
}

#[test]
fn one_member_of_a_group_gets_each_message() {
    let server = Server::start();
    let mut members: Vec<_> = (0..3).map(|_| server.nats_client()).collect();
    for member in &mut members {
        member.send("SUB work g 1\r\n");
        member.until_pong();
    }
    let mut publisher = server.nats_client();
    publisher.send("PUB work 1\r\nx\r\n".repeat(300));
    publisher.until_pong();
    let counts: Vec<usize> = members
        .iter_mut()
        .map(|member| {
            member
                .until_pong()
                .iter()
                .filter(|line| line.starts_with("MSG"))
                .count()
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 300, "{counts:?}");
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
}

#[test]
fn the_two_doors_are_one_house() {
    let server = Server::start();
    server.post("/a.b/alice", "");
    let mut nats = server.nats_client();
    nats.send("SUB a.* 1\r\nSUB _INBOX.1 2\r\nPUB a.b _INBOX.1 5\r\nhello\r\n");
    // The message and the word that it is stored, in either order.
    let mut got: Vec<_> = (0..2).map(|_| (nats.line(), nats.line())).collect();
    got.sort();
    assert!(got[0].0.starts_with("MSG _INBOX.1 2 "), "{got:?}");
    assert!(got[0].1.starts_with("{\"seq\":"), "{got:?}");
    assert_eq!(got[1], ("MSG a.b 1 _INBOX.1 5".into(), "hello".into()));
    assert_eq!(server.get("/a.b/alice").text(), "hello");
    server.post("/a.c", "from http");
    assert_eq!(nats.line(), "MSG a.c 1 9");
    assert_eq!(nats.line(), "from http");
}

#[test]
fn a_client_of_the_ecosystem_works_unchanged() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use tokio_stream::StreamExt;
        let client = async_nats::ConnectOptions::new()
            .name("eco")
            .connect(&server.nats)
            .await
            .unwrap();
        let mut all = client.subscribe("orders.>").await.unwrap();
        let mut worker = client
            .queue_subscribe("orders.*", "workers".into())
            .await
            .unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Kind", "test");
        client
            .publish_with_headers("orders.1", headers, "one".into())
            .await
            .unwrap();
        let message = all.next().await.unwrap();
        assert_eq!(
            (
                &message.payload[..],
                message.headers.unwrap().get("Kind").unwrap().as_str()
            ),
            (&b"one"[..], "test")
        );
        assert_eq!(&worker.next().await.unwrap().payload[..], b"one");

        let mut service = client.subscribe("service").await.unwrap();
        let answering = client.clone();
        tokio::spawn(async move {
            let request = service.next().await.unwrap();
            answering
                .publish(request.reply.unwrap(), "pong".into())
                .await
                .unwrap();
        });
        assert_eq!(
            &client
                .request("service", "ping".into())
                .await
                .unwrap()
                .payload[..],
            b"pong"
        );
        let nobody = client.request("nobody", "".into()).await.unwrap_err();
        assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
        let mut two = client.subscribe("count").await.unwrap();
        two.unsubscribe_after(2).await.unwrap();
        for _ in 0..5 {
            client.publish("count", "x".into()).await.unwrap();
        }
        assert!(two.next().await.is_some() && two.next().await.is_some());
        assert!(two.next().await.is_none());
        client.drain().await.unwrap();
    });
}

#[test]
fn a_slow_reader_does_not_hold_up_the_others() {
    let server = Server::start();
    let mut stuck = server.nats_client();
    stuck.send("SUB flood 1\r\n");
    stuck.until_pong();
    let mut reader = server.nats_client();
    reader.send("SUB flood 1\r\nUNSUB 1 400\r\n");
    reader.until_pong();
    let mut publisher = server.nats_client();
    let message = format!("PUB flood 500000\r\n{}\r\n", "x".repeat(500_000));
    // 200 MB: more than the stuck one may be behind, so it is cut off on the way. The one that reads
    // is never far behind, however slow this machine is.
    let received = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..400 {
                assert!(reader.line().starts_with("MSG flood"));
                assert_eq!(reader.line().len(), 500_000);
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
        for sent in 0..400_usize {
            crate::support::wait_for("the reader", || {
                sent < received.load(Ordering::Relaxed) + 20
            });
            publisher.send(&message);
        }
        publisher.until_pong();
    });
    assert_eq!(received.into_inner(), 400);
    crate::support::wait_for("the slow consumer's end", || {
        let roster = server.get("/-/clients?history").json();
        roster["clients"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["reason"] == "slow consumer")
    });
}
