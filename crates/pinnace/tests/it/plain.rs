//! The short way of plain requests against the library's: the same answers, whichever way a request
//! takes, in whatever portions it comes, and whatever came before it on the connection.

use pinnace_proto::openapi::operations;

use crate::support::{Answer, Raw, Server};

/// What must be alike: status, headers but those of the moment, and body. Documents that are no failures
/// tell times and addresses, which differ from server to server.
fn shown(answer: &Answer) -> (u16, Vec<String>, String) {
    let of_the_moment: &[&str] = match is_document(answer) {
        true => &["date:", "pinnace-lease:", "content-length:"],
        false => &["date:", "pinnace-lease:"],
    };
    let lines = answer.headers.lines().skip(1).map(str::to_ascii_lowercase);
    let mut headers: Vec<String> = lines
        .filter(|line| !of_the_moment.iter().any(|name| line.starts_with(name)))
        .collect();
    headers.sort();
    let text = match is_document(answer) {
        true => String::new(),
        false => answer.text().to_owned(),
    };
    (answer.status, headers, text)
}

fn is_document(answer: &Answer) -> bool {
    let kind = answer.header("content-type").unwrap_or("");
    answer.status < 400 && kind.contains("json")
}

#[test]
fn both_ways_answer_alike() {
    let (short, long) = (Server::start(), Server::start());
    let mut compared = 0;
    for operation in operations().filter(|operation| !operation.path.starts_with("/-")) {
        for example in operation.examples {
            if example
                .headers
                .iter()
                .any(|(name, _)| *name == "accept" || *name == "upgrade")
            {
                continue;
            }
            let (method, target) = (operation.method, example.target);
            let body = example.body.as_bytes();
            // A protocol nobody has heard of is ignored, but makes a request one for the library.
            let headers = [example.headers, &[("upgrade", "none")]].concat();
            let answers = (
                short.http(method, target, example.headers, body),
                long.http(method, target, &headers, body),
            );
            assert_eq!(shown(&answers.0), shown(&answers.1), "{method} {target}");
            assert!(
                answers
                    .0
                    .header("date")
                    .is_some_and(|date| date.ends_with("GMT"))
            );
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}

/// Reads one answer off a connection: its status line and body.
#[track_caller]
fn answer(raw: &mut Raw) -> (String, String) {
    let status = raw.line();
    let mut length = 0;
    loop {
        let line = raw.line();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    (status, raw.exactly(length))
}

#[test]
fn requests_come_together_or_in_pieces() {
    let server = Server::start();
    server.post("/t/a", "");
    let script = "POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none\
                  GET /t/a HTTP/1.1\r\nhost: x\r\n\r\n\
                  GET /t/a HTTP/1.1\r\nhost: x\r\n\r\n\
                  DELETE /t/nobody HTTP/1.1\r\nhost: x\r\n\r\n";
    for portion in [script.len(), 1, 7] {
        let mut raw = Raw::connect(&server.http);
        for bytes in script.as_bytes().chunks(portion) {
            raw.send(bytes);
        }
        let answers: Vec<_> = (0..4).map(|_| answer(&mut raw)).collect();
        let statuses: Vec<&str> = answers.iter().map(|(status, _)| &status[9..12]).collect();
        assert_eq!(
            statuses,
            ["200", "200", "204", "404"],
            "portions of {portion}"
        );
        assert_eq!(answers[1].1, "one");
    }
}

#[test]
fn a_connection_goes_on_with_the_library_and_says_when_it_ends() {
    let server = Server::start();
    server.post("/t/a", "");
    let mut raw = Raw::connect(&server.http);
    raw.send("POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1");
    assert_eq!(answer(&mut raw).0, "HTTP/1.1 200 OK");
    // A body in chunks, and in the same write one that would be plain.
    raw.send(
        "POST /t HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n\
         GET /t/a HTTP/1.1\r\nhost: x\r\n\r\n",
    );
    assert_eq!(answer(&mut raw).0, "HTTP/1.1 200 OK");
    assert_eq!(answer(&mut raw).1, "1");
    raw.send("GET /t/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(answer(&mut raw).1, "2");
    assert_eq!(raw.rest(), "");
    // The same on the short way.
    let mut raw = Raw::connect(&server.http);
    raw.send("GET /t/a HTTP/1.1\r\nhost: x\r\nConnection: Close\r\n\r\n");
    assert_eq!(raw.rest().lines().next(), Some("HTTP/1.1 204 No Content"));
}

#[test]
fn what_is_malformed_is_refused_by_the_library() {
    let server = Server::start();
    for (request, status) in [
        (
            "POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 1\r\n\r\n1",
            "400",
        ),
        (
            "POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n1",
            "400",
        ),
        (
            "POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n1",
            "400",
        ),
        ("GET /t HTTP/1.1\r\nho st: x\r\n\r\n", "400"),
        (
            "BREW /t HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "405",
        ),
    ] {
        let mut raw = Raw::connect(&server.http);
        raw.send(request);
        let line = raw.line();
        assert_eq!(line.split(' ').nth(1), Some(status), "{request:?}: {line}");
    }
}
