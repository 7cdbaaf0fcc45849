//! The HTTP door: topics at the root, the system's own pages under `/-/`.
//!
//! The accept loop is ours, so that the limits are too: head size, time for head and body, number
//! of connections. Each connection keeps one publisher with its match cache.

mod answer;
mod authenticate;
mod body;
mod date;
mod docs;
pub(crate) mod envelope;
mod events;
mod feed;
pub(crate) mod fetch;
mod form;
mod frames;
mod inbound;
mod lagging;
mod line;
pub(crate) mod path;
mod plain;
mod queue_stream;
pub(crate) mod queues;
pub(crate) mod request;
mod routes;
mod runs;
mod shares;
mod socket;
mod stream;
mod system;
pub(crate) mod topics;
mod upkeep;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pinnace_topics::{Message, Published, Publisher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::harbour::Harbour;
use crate::lanes::Arriving;
use crate::limits::{
    DRAIN_MAX, FAREWELL_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADER_TIMEOUT, STREAM_PENDING_BYTES_MAX,
    UNACKNOWLEDGED_MAX,
};
use crate::message_log::Origin;
use crate::metrics::Metrics;
use crate::slow::Choice;
use answer::Answer;
pub(crate) use answer::Failure;
use feed::Feed;
use form::Form;
use line::{Line, Socket};
use path::Route;
use plain::Rest;
pub(crate) use queue_stream::QueueStreams;
use request::Payload;
use shares::Boarding;
use socket::Conversation;

/// What a handler works with, besides the request.
struct Context {
    harbour: Arc<Harbour>,
    caller: Caller,
    /// Who this connection was, and what it showed to prove it.
    recognised: Mutex<Option<authenticate::Recognised>>,
    publisher: Arc<Mutex<Publisher>>,
    line: Arc<Line>,
    /// What the connection becomes after an answer that says so.
    upgraded: Arc<Mutex<Option<Next>>>,
}

/// What a connection becomes that is no longer one for requests.
enum Next {
    Socket(Conversation),
    Mirror(Boarding),
}

impl Next {
    async fn run(self, context: &Context) {
        match self {
            Self::Socket(conversation) => conversation.run(context).await,
            Self::Mirror(boarding) => boarding.run(context).await,
        }
    }
}

impl Context {
    /// What the connection becomes after the answer.
    fn becomes(&self, next: Next) {
        *self.upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    /// A message was published.
    fn note(
        &self,
        door: &'static str,
        caller: &Caller,
        message: &Message<'_>,
        published: &Published,
    ) {
        if let Some(log) = &self.harbour.message_log
            && !published.duplicate
        {
            let origin = Origin {
                door,
                client: caller.user_name(),
                address: caller.address,
            };
            log.note(origin, message, published.seq);
        }
    }

    /// A feed for a stream on this connection, of a topic or pattern.
    fn feed(&self, form: impl Form, choice: Choice, pattern: &str) -> Arc<Feed> {
        let of = (self.caller.address, pattern);
        let feed = Feed::new(form, choice, of, self.line.clone(), &self.harbour);
        Arc::new(feed)
    }

    /// What becomes of a stream that is behind and chose nothing.
    fn usual_choice(&self) -> Choice {
        Choice::usual(self.harbour.slow_consumer, STREAM_PENDING_BYTES_MAX)
    }

    /// The same for one request, whose caller said who it is.
    fn of(&self, caller: Caller) -> Self {
        Self {
            harbour: self.harbour.clone(),
            caller,
            recognised: Mutex::default(),
            publisher: self.publisher.clone(),
            line: self.line.clone(),
            upgraded: self.upgraded.clone(),
        }
    }
}

/// Accepts until the server stops, then lets open requests end.
pub(crate) async fn serve(listener: TcpListener, harbour: Arc<Harbour>) {
    let stopped = harbour.stopped();
    tokio::pin!(stopped);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, address)) => set_out(&mut connections, stream, address, &harbour),
            Err(error) => crate::server::rest_after_accept_error("http", &error).await,
        }
    }
    drain(&listener, connections, &harbour).await;
}

/// Lets open conversations end. Until they have, whoever comes anew is told to come back later,
/// which a load balancer understands better than a closed door.
async fn drain(listener: &TcpListener, mut connections: JoinSet<()>, harbour: &Arc<Harbour>) {
    let mut latecomers = JoinSet::new();
    let ended = tokio::time::timeout(DRAIN_MAX, async {
        loop {
            tokio::select! {
                ended = connections.join_next() => if ended.is_none() {
                    return;
                },
                Ok((stream, address)) = listener.accept() => {
                    set_out(&mut latecomers, stream, address, harbour);
                }
            }
        }
    });
    if ended.await.is_err() {
        let left = connections.len();
        tracing::warn!(
            left,
            "http connections did not end by themselves and are cut"
        );
    }
}

/// Has a connection served on its lane.
fn set_out(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    address: SocketAddr,
    harbour: &Arc<Harbour>,
) {
    // One that cannot be handed over is closed already.
    if let Ok(stream) = Arriving::of(stream) {
        let conversation = converse(stream, address, harbour.clone());
        connections.spawn_on(conversation, harbour.lanes.next());
    }
}

async fn converse(stream: Arriving, address: SocketAddr, harbour: Arc<Harbour>) {
    let Ok(stream) = stream.land() else {
        return;
    };
    let Some(_admitted) = harbour.admit() else {
        tracing::warn!(%address, "maximum connections exceeded");
        return;
    };
    let _ = stream.set_nodelay(true);
    // A peer that is gone, or reads no more, is found out by what it does not acknowledge.
    let _ =
        rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MAX.as_millis() as u32);
    let _counted = harbour.metrics.http.connections.enter();
    harbour.metrics.http.connections_ever.add(1);
    let context = Arc::new(Context {
        caller: Caller::local_administrator(address),
        recognised: Mutex::default(),
        publisher: Arc::new(Mutex::new(harbour.broker.publisher())),
        harbour: harbour.clone(),
        line: Arc::default(),
        upgraded: Arc::default(),
    });
    // One that comes while the server goes down gets one answer.
    let late = harbour.is_stopping();
    let rest = match late {
        true => Some(Rest::unread(stream)),
        false => plain::serve(&context, stream).await,
    };
    if let Some(rest) = rest {
        go_on(&context, rest, late).await;
    }
}

/// Goes on with the library, which knows all of HTTP, and with whatever that leads to.
async fn go_on(context: &Arc<Context>, rest: Rest, late: bool) {
    let (harbour, line, address) = (&context.harbour, &context.line, context.caller.address);
    let service = service_fn(|request: Request<Incoming>| {
        let context = context.clone();
        let request = request.map(Payload::Arriving);
        async move { Ok::<_, Infallible>(handle(&context, request, late).await) }
    });
    let socket = Socket::new(rest, line.clone(), harbour.metrics.clone());
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(!late)
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = line.condemned(FAREWELL_MAX) => {
            tracing::warn!(%address, "a stream's client does not read; its connection is cut");
            return;
        }
        () = harbour.stopped(), if !late => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "http connection ended");
    }
    let upgraded = context
        .upgraded
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(next) = upgraded {
        tokio::select! {
            () = next.run(context) => {}
            () = line.condemned(FAREWELL_MAX) => {
                tracing::warn!(%address, "a socket's client does not read; its connection is cut");
            }
        }
    }
}

async fn handle(context: &Context, request: Request<Payload>, late: bool) -> Answer {
    let began = Instant::now();
    let method = request.method().clone();
    let asks_to_wait = request.uri().query().is_some_and(|q| q.contains("wait="));
    let route = path::route(request.uri().path());
    let path = routes::number(route.as_ref().ok());
    let answered = match route {
        Ok(route) if late && !route.is_about_the_server() => Err(Failure::stopping()),
        Ok(route) => match routes::permit(path, &method) {
            Ok(()) => admit(context, &route, request).await,
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    let answered = match answered {
        Ok(answer) if !routes::is_described(path) && answer.status().is_success() => Err(
            Failure::internal("this path is answered, but is not in the description of the API"),
        ),
        answered => answered,
    };
    let answer = answered.unwrap_or_else(|failure| {
        tracing::debug!(address = %context.caller.address, %method, %failure, "request refused");
        failure.into_answer()
    });
    let elapsed = (!asks_to_wait).then(|| began.elapsed());
    count(
        &context.harbour.metrics,
        path,
        &method,
        answer.status(),
        elapsed,
    );
    answer
}

/// Counts a request that was answered.
fn count(
    metrics: &Metrics,
    path: usize,
    method: &Method,
    status: StatusCode,
    elapsed: Option<Duration>,
) {
    metrics
        .requests
        .count(path, method.as_str(), status.as_u16());
    let times = metrics.requests.times(path);
    if let (Some(elapsed), Some(times)) = (elapsed, times) {
        times.add(elapsed, 1);
    }
    if routes::is_topic(path) && method == Method::POST {
        if status.is_success() {
            metrics.http.received_messages.add(1);
            if let Some(elapsed) = elapsed {
                metrics.http.publish_to_ack.add(elapsed, 1);
            }
        } else {
            metrics.http.refused_publishes.add(1);
        }
    }
}

/// Lets a request to its handler, if whoever sends it may do that.
async fn admit(
    context: &Context,
    route: &Route,
    request: Request<Payload>,
) -> Result<Answer, Failure> {
    if context.harbour.access.is_open() {
        return dispatch(context, route, request).await;
    }
    let context = authenticate::admit(context, route, &request)?;
    dispatch(&context, route, request).await
}

async fn dispatch(
    context: &Context,
    route: &Route,
    request: Request<Payload>,
) -> Result<Answer, Failure> {
    match route {
        Route::Root => system::root(&request),
        Route::System(segments) => {
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            system::handle(context, &segments, request).await
        }
        Route::Pattern(pattern) => match *request.method() {
            Method::GET if stream::is_wanted(&request) => stream::live(context, pattern, &request),
            Method::GET if socket::is_wanted(request.headers()) => {
                socket::open(context, pattern, request)
            }
            _ => Err(path::wildcards_refused(pattern)),
        },
        Route::Topic(topic) => match *request.method() {
            Method::GET if stream::is_wanted(&request) => stream::live(context, topic, &request),
            Method::GET if socket::is_wanted(request.headers()) => {
                socket::open(context, topic, request)
            }
            Method::POST => topics::publish(context, topic, request).await,
            Method::GET => topics::show(context, topic, &request),
            _ => Err(Failure::method_not_allowed("GET, POST")),
        },
        Route::Queue(topic, subscriber) => match *request.method() {
            Method::POST => queues::subscribe(context, topic, subscriber, &request).await,
            Method::GET if stream::is_wanted(&request) => {
                queue_stream::read(context, topic, subscriber, &request)
            }
            Method::GET => fetch::fetch(context, topic, subscriber, &request).await,
            Method::DELETE => queues::unsubscribe(context, topic, subscriber, &request).await,
            _ => Err(Failure::method_not_allowed("DELETE, GET, POST")),
        },
    }
}
