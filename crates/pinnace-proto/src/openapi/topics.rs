//! Operations on topics and queues.

use super::{
    Answer, Content, Example, Kind, Operation, empty, header, plain, problem, query, with,
};

const PUBLISH: &str = "Messages";
const QUEUES: &str = "Queues";
const STREAMS: &str = "Streams: `Accept: text/event-stream` on the same path, with wildcards \
    (`*` one token, a last `>` the rest, written `%3E`) and `Last-Event-ID`; or `Upgrade: websocket`, \
    where what the client sends is published. Both are described in `docs/formats/http.md`.";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/{topic}/{subscriber}",
        method: "POST",
        id: "subscribe",
        tag: QUEUES,
        summary: "Subscribe: make a durable queue",
        detail: "From now on every message on the topic waits for this subscriber until it is fetched, \
                 across restarts. Again: 200, the queue is kept, and gets the limits that are given. \
                 With `lease` and `extend`: a lease lasts longer.",
        parameters: &[
            query(
                "from",
                Kind::Word(&["new", "first"]),
                "`first`: also what is still stored for others",
            ),
            query("max_messages", Kind::Number, "Messages that may wait"),
            query("max_bytes", Kind::Size, "Bytes that may wait"),
            query(
                "max_age",
                Kind::Duration,
                "Age at which a message is dropped",
            ),
            query(
                "overflow",
                Kind::Word(&["refuse", "drop-oldest", "expire"]),
                "What happens to a publish that does not fit: it is refused with 507, the oldest messages go, or the queue goes",
            ),
            query(
                "max_deliveries",
                Kind::Number,
                "Leases of a message after which it is a dead letter; with `dead_letter`",
            ),
            query(
                "dead_letter",
                Kind::Text("jobs.dead"),
                "Topic that dead letters are published to",
            ),
            query(
                "lease",
                Kind::Text("0123456789abcdef"),
                "The lease to be extended",
            ),
            query(
                "extend",
                Kind::Duration,
                "For how long from now it is to last",
            ),
        ],
        body: None,
        answers: &[
            empty(200, "Subscribed, and that is synced"),
            problem(
                400,
                "`bad-topic`, `bad-subscriber`, `bad-parameter`, `unknown-parameter`, `bad-subscription`",
            ),
            problem(410, "`no-such-lease`: it is over"),
            problem(507, "`storage-full`"),
        ],
        examples: &[
            plain("alice subscribes to alerts", "/alerts/alice", 200),
            plain(
                "a queue with limits",
                "/alerts/bob?max_messages=1000&max_age=1h&overflow=drop-oldest",
                200,
            ),
        ],
    },
    Operation {
        path: "/{topic}",
        method: "POST",
        id: "publish",
        tag: PUBLISH,
        summary: "Publish a message",
        detail: "The body is the message, byte for byte, at most 1 MiB with its headers; an empty one is a message too. \
                 `Content-Type`, `Nats-Msg-Id` and `Pinnace-*` travel with it.",
        parameters: &[
            header(
                "Nats-Msg-Id",
                Kind::Text("order-17"),
                "Identity: a repetition on this topic within two minutes is not a second message",
            ),
            header(
                "Content-Type",
                Kind::Text("text/plain"),
                "Kept and given back with the message",
            ),
        ],
        body: Some(Content::Raw),
        answers: &[
            Answer {
                status: 200,
                detail: "Stored and synced for every queue it matched, and handed to every live subscriber",
                content: &[],
                headers: &[
                    ("Pinnace-Seq", "Its number; absent when no queue matched"),
                    ("Pinnace-Queues", "Queues it waits in"),
                    ("Pinnace-Live", "Live subscribers it reached"),
                    ("Pinnace-Duplicate", "`true` when it was a repetition"),
                ],
            },
            problem(
                400,
                "`bad-topic`, `bad-message`, `bad-body`, `unknown-parameter`",
            ),
            problem(408, "`timeout`: the body did not come within 30 s"),
            problem(413, "`too-large`"),
            problem(
                507,
                "`queue-limit`, `server-limit`, `storage-full`: nobody got it",
            ),
        ],
        examples: &[
            Example {
                title: "say hi",
                target: "/alerts",
                headers: &[("content-type", "text/plain")],
                body: "hi",
                status: 200,
            },
            Example {
                title: "the same order twice is one message",
                target: "/alerts",
                headers: &[("nats-msg-id", "order-17")],
                body: "{\"order\": 17}",
                status: 200,
            },
        ],
    },
    Operation {
        path: "/{topic}",
        method: "GET",
        id: "topic",
        tag: PUBLISH,
        summary: "Look at a topic, or listen to it",
        detail: STREAMS,
        parameters: &[
            query(
                "unread",
                Kind::Number,
                "Number of a message: who has not taken it yet",
            ),
            query(
                "after",
                Kind::Number,
                "For streams: first what is stored behind this number",
            ),
            query(
                "format",
                Kind::Word(&["json", "text", "raw"]),
                "For streams: what a message looks like. Events: `text` or `json`; WebSocket: `json` or `raw`",
            ),
            query(
                "heartbeat",
                Kind::Duration,
                "For events: silence before a sign of life, 15 s usually",
            ),
            query(
                "slow",
                Kind::Word(&["disconnect", "drop-oldest", "newest-only", "spill"]),
                "For streams: what happens when this one is too far behind. What is dropped is told with its number",
            ),
            query(
                "pending",
                Kind::Size,
                "For streams: bytes that may wait before that, 8 MiB usually, 4 MiB to spill",
            ),
            query(
                "spill",
                Kind::Text("alice"),
                "For streams: the subscriber whose durable queue takes the messages until this one has caught up",
            ),
            query(
                "echo",
                Kind::Word(&["true", "false"]),
                "For a WebSocket: whether it hears itself",
            ),
            query(
                "acknowledge",
                Kind::Flag,
                "For a WebSocket: a word for each frame once it is synced",
            ),
            header(
                "Accept",
                Kind::Text("text/event-stream"),
                "For a stream of events",
            ),
            header(
                "Last-Event-ID",
                Kind::Number,
                "As `after`, sent by browsers that connect again",
            ),
        ],
        body: None,
        answers: &[
            empty(101, "A WebSocket now"),
            with(
                200,
                "Who is subscribed and what waits; or who has not taken a message; or the stream",
                &[Content::Json("TopicAnswer"), Content::Events],
            ),
            problem(
                400,
                "`bad-topic`, `bad-parameter`, `unknown-parameter`, `bad-upgrade`",
            ),
            problem(403, "`foreign-origin`: a web page of somebody else"),
        ],
        examples: &[
            plain("who is subscribed", "/alerts", 200),
            plain("who has not taken message 1", "/alerts?unread=1", 200),
            Example {
                title: "listen",
                target: "/alerts?after=0",
                headers: &[("accept", "text/event-stream")],
                body: "",
                status: 200,
            },
            Example {
                title: "listen, and be told what was dropped",
                target: "/alerts?slow=drop-oldest&pending=1M",
                headers: &[("accept", "text/event-stream")],
                body: "",
                status: 200,
            },
            Example {
                title: "listen to everything below lab",
                target: "/lab.%3E",
                headers: &[("accept", "text/event-stream")],
                body: "",
                status: 200,
            },
        ],
    },
    Operation {
        path: "/{topic}/{subscriber}",
        method: "GET",
        id: "fetch",
        tag: QUEUES,
        summary: "Fetch the next message, or read the queue as a stream",
        detail: "Fetching consumes: each message goes to exactly one GET, oldest first; an answer that could not be sent puts \
                 its message back. With `lease` it is not consumed but borrowed, to be acknowledged. With \
                 `Accept: text/event-stream` the queue is a stream, which confirms each message by what is sent after it.",
        parameters: &[
            query(
                "wait",
                Kind::Duration,
                "For how long to wait for a message, up to 10 minutes",
            ),
            query(
                "max",
                Kind::Number,
                "So many at once, up to 1000, as lines of JSON",
            ),
            query(
                "lease",
                Kind::Duration,
                "Borrow for so long instead of consuming",
            ),
            query(
                "id",
                Kind::Text("try-1"),
                "A repetition with the same id gets what the first got",
            ),
            query(
                "after",
                Kind::Number,
                "For a stream: the client has everything up to this number",
            ),
            query(
                "format",
                Kind::Word(&["text", "json"]),
                "For a stream: payloads, or objects with topic and headers",
            ),
            query(
                "heartbeat",
                Kind::Duration,
                "For a stream: silence before a sign of life",
            ),
            header(
                "Accept",
                Kind::Text("text/event-stream"),
                "For a stream of events",
            ),
            header(
                "Last-Event-ID",
                Kind::Number,
                "As `after`, sent by browsers that connect again",
            ),
        ],
        body: None,
        answers: &[
            Answer {
                status: 200,
                detail: "The message as it was sent, with its own `Content-Type`; or lines; or the stream",
                content: &[Content::Raw, Content::Lines("MessageLine"), Content::Events],
                headers: &[
                    ("Pinnace-Seq", "Its number"),
                    ("Pinnace-Lease", "To acknowledge a borrowed message by"),
                    ("Pinnace-Deliveries", "How many times it was lent"),
                ],
            },
            empty(204, "None waits"),
            problem(400, "`bad-parameter`, `unknown-parameter`"),
            problem(404, "`no-such-subscription`"),
        ],
        examples: &[
            plain(
                "the next one, waiting up to half a minute",
                "/alerts/alice?wait=30s",
                200,
            ),
            plain("up to a hundred as lines", "/alerts/alice?max=100", 200),
            plain("none waits", "/alerts/alice", 204),
            plain("nobody of that name", "/alerts/carol", 404),
            Example {
                title: "as a stream",
                target: "/alerts/bob",
                headers: &[("accept", "text/event-stream")],
                body: "",
                status: 200,
            },
        ],
    },
    Operation {
        path: "/{topic}/{subscriber}",
        method: "DELETE",
        id: "unsubscribe",
        tag: QUEUES,
        summary: "Unsubscribe, or end a lease",
        detail: "Deletes the queue and what waits in it. With `lease`: acknowledges the borrowed messages, or with `return` gives them back.",
        parameters: &[
            query(
                "lease",
                Kind::Text("0123456789abcdef"),
                "What `Pinnace-Lease` said",
            ),
            query(
                "seq",
                Kind::Text("17,18"),
                "Acknowledge only these of the lease's messages",
            ),
            query(
                "return",
                Kind::Flag,
                "Give them back: they wait again in their place",
            ),
        ],
        body: None,
        answers: &[
            empty(200, "Done, and that is synced"),
            problem(400, "`bad-parameter`, `unknown-parameter`"),
            problem(404, "`no-such-subscription`"),
            problem(410, "`no-such-lease`: it is over, or never was"),
        ],
        examples: &[
            plain(
                "a lease that is over",
                "/alerts/alice?lease=0123456789abcdef",
                410,
            ),
            plain("alice leaves", "/alerts/alice", 200),
            plain("she has left already", "/alerts/alice", 404),
        ],
    },
];
