//! Several clients on this machine, each a process of its own, started together.
//!
//! Each gets its order on stdin, says when it is ready, and begins at the word `go`, which is given
//! when all are ready; if one cannot, none begins. A client that dies costs only its share.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use pinnace_bench::Stop;
use pinnace_proto::Event;
use pinnace_proto::event::StopReason;

use super::conduct::{Front, conduct};
use super::order::{Ended, Line, Order};
use crate::failure::{DONE, FAILED, Failure, Result};
use crate::output::Output;
use crate::signals;

/// The word that starts the workers.
const GO: &[u8] = b"go\n";

/// How one client of the fleet ended.
pub(crate) enum End {
    /// It told all and left.
    Ended(Ended),
    /// It said why it could not go on.
    Failed(Failure),
    /// It died without a word.
    Died(String),
}

#[allow(
    clippy::large_enum_variant,
    reason = "news live briefly; a box would only cost words"
)]
enum News {
    Line(usize, Line),
    Closed(usize),
    Stop,
}

struct Member {
    process: Child,
    orders: Option<ChildStdin>,
    ready: bool,
    end: Option<End>,
}

/// Runs all orders, each in a process of its own; `event` sees every event.
pub(crate) fn run(orders: &[Order], event: &mut dyn FnMut(&Event)) -> Result<Vec<End>> {
    let (tell, news) = mpsc::channel();
    let asked = tell.clone();
    signals::on_stop(move || drop(asked.send(News::Stop))).map_err(Failure::failed)?;
    let mut members = Vec::new();
    for (index, order) in orders.iter().enumerate() {
        match start(index, order, tell.clone()) {
            Ok(member) => members.push(member),
            Err(failure) => {
                members.iter_mut().for_each(stop);
                return Err(failure);
            }
        }
    }
    let mut began = false;
    while members.iter().any(|member| member.end.is_none()) {
        let Ok(news) = news.recv() else { break };
        match news {
            News::Stop => members.iter_mut().for_each(stop),
            News::Closed(index) => close(&mut members[index], &orders[index]),
            News::Line(index, Line::Ready) => members[index].ready = true,
            News::Line(_, Line::Event(happened)) => event(&happened),
            News::Line(index, Line::Ended(ended)) => members[index].end = Some(End::Ended(ended)),
            News::Line(
                index,
                Line::Failed {
                    code,
                    message,
                    hint,
                },
            ) => {
                let failure = Failure::new(code, message);
                let failure = hint
                    .iter()
                    .fold(failure, |failure, hint| failure.hint(hint));
                members[index].end = Some(End::Failed(failure));
            }
        }
        if !began && members.iter().any(|member| member.end.is_some()) {
            // One cannot begin, so none does: dropping their orders ends them.
            members.iter_mut().for_each(|member| member.orders = None);
            began = true;
        }
        if !began && members.iter().all(|member| member.ready) {
            members.iter_mut().for_each(go);
            began = true;
        }
    }
    for member in &mut members {
        let _ = member.process.wait();
    }
    Ok(members
        .into_iter()
        .filter_map(|member| member.end)
        .collect())
}

fn start(index: usize, order: &Order, tell: mpsc::Sender<News>) -> Result<Member> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut process = Command::new(program)
        .arg("bench-client")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::failed(format!("a client process cannot start: {error}")))?;
    let (Some(mut orders), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(Failure::failed("a client process has no pipes"));
    };
    let mut line = serde_json::to_vec(order).map_err(Failure::failed)?;
    line.push(b'\n');
    // A client that died already says so by closing its stdout.
    let _ = orders.write_all(&line);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout)
            .lines()
            .map_while(std::io::Result::ok)
        {
            if let Ok(line) = serde_json::from_str(&line)
                && tell.send(News::Line(index, line)).is_err()
            {
                return;
            }
        }
        let _ = tell.send(News::Closed(index));
    });
    Ok(Member {
        process,
        orders: Some(orders),
        ready: false,
        end: None,
    })
}

fn go(member: &mut Member) {
    if let Some(orders) = &mut member.orders {
        // A client that died already says so by closing its stdout.
        let _ = orders.write_all(GO).and_then(|()| orders.flush());
    }
}

fn stop(member: &mut Member) {
    if member.end.is_none()
        && let Some(pid) = rustix::process::Pid::from_raw(member.process.id().cast_signed())
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Its stdout closed: it has ended, with or without having said so.
fn close(member: &mut Member, order: &Order) {
    let status = member.process.wait();
    if member.end.is_none() {
        member.end = Some(End::Died(describe(&order.client, status)));
        remove_data_files(order);
    }
}

fn describe(client: &str, status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("client {client} was killed by signal {signal}"),
            (_, Some(code)) => format!("client {client} ended with code {code} and without a word"),
            _ => format!("client {client} ended without a word"),
        },
        Err(error) => format!("client {client} is gone: {error}"),
    }
}

/// A killed client cannot remove its files; whoever started it does.
fn remove_data_files(order: &Order) {
    if order.job.keep_files {
        return;
    }
    let prefix = format!("pinnace-{}-", order.client);
    for worker in &order.job.workers {
        let Ok(entries) = std::fs::read_dir(Path::new(&worker.path)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&prefix) && name.ends_with(".dat") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The other end: a client process that a fleet started.
pub(crate) fn serve(output: &Output) -> Result<u8> {
    let mut order = String::new();
    std::io::stdin()
        .read_line(&mut order)
        .map_err(Failure::failed)?;
    let order: Order = serde_json::from_str(&order).map_err(|error| {
        Failure::usage(format!(
            "bench-client is started by `pinnace bench --clients`: {error}"
        ))
    })?;
    let stop = Stop::new();
    let asked = stop.clone();
    signals::on_stop(move || asked.request(StopReason::Interrupted)).map_err(Failure::failed)?;
    let (go, word) = mpsc::channel();
    let orphaned = stop.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        while std::io::stdin()
            .read_line(&mut line)
            .is_ok_and(|count| count > 0)
        {
            let _ = go.send(());
            line.clear();
        }
        // Nobody gives orders any more.
        orphaned.request(StopReason::Interrupted);
    });
    let mut pipe = Pipe { output, word };
    let (line, code) = match conduct(&order, &stop, &mut pipe) {
        Ok(ended) => (Line::Ended(ended), DONE),
        Err(failure) => {
            let (message, hint) = (failure.message(), failure.advice());
            let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
            (
                Line::Failed {
                    code: failure.code(),
                    message,
                    hint,
                },
                FAILED,
            )
        }
    };
    output.json_line(&line);
    Ok(code)
}

struct Pipe<'a> {
    output: &'a Output,
    word: mpsc::Receiver<()>,
}

impl Front for Pipe<'_> {
    fn ready(&mut self) -> Result<()> {
        self.output.json_line(&Line::Ready);
        self.word.recv().map_err(|_| {
            Failure::new(
                crate::failure::PARTIAL,
                "another client of the run could not begin",
            )
        })
    }

    fn event(&mut self, event: &Event) {
        self.output.json_line(&Line::Event(event.clone()));
    }
}
