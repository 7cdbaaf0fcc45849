//! One client in this process: check, connect, calibrate, wait for the word, work, tell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinnace_bench::{CalibrationError, ErrorKind, PlanError, Stop};
use pinnace_client::courier::Settings;
use pinnace_client::{Api, Courier};
use pinnace_proto::event::Body;
use pinnace_proto::{DOCUMENT_VERSION, Event};

use super::order::{Ended, Order};
use crate::failure::{FAILED, Failure, INFEASIBLE, Result, UNSAFE, USAGE};

/// How long the last events may take to reach the server.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// Whoever watches a client at work.
pub(crate) trait Front {
    /// The client could begin; returns when it may. An error ends it before it began.
    fn ready(&mut self) -> Result<()>;
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// Carries out an order.
pub(crate) fn conduct(order: &Order, stop: &Stop, front: &mut dyn Front) -> Result<Ended> {
    let plan = pinnace_bench::plan(&order.job, &order.client).map_err(|error| refusal(&error))?;
    let api = order.server.as_deref().map(Api::new).transpose()?;
    let mut courier = Courier::start(Settings {
        api,
        run: order.run.clone(),
        client: order.client.clone(),
        instance: order.instance.clone(),
        heartbeat_us: order.job.heartbeat_us,
        folder: order.events.clone(),
    })?;
    let host = pinnace_bench::host_facts();
    let calibration =
        pinnace_bench::calibrate(&plan, stop).map_err(|error| no_calibration(&error))?;
    pinnace_bench::judge(&order.job, &calibration).map_err(|infeasible| {
        Failure::new(INFEASIBLE, infeasible).hint("--force runs it all the same")
    })?;
    front.ready()?;

    let mut n = 0;
    let mut log_failure = None;
    let mut tell = |elapsed_us: u64, body: Body| {
        n += 1;
        let event = Event {
            v: DOCUMENT_VERSION,
            run: order.run.clone(),
            client: order.client.clone(),
            instance: order.instance.clone(),
            n,
            at_us: now_us(),
            elapsed_us,
            body,
        };
        if let Err(error) = courier.send(&event) {
            // The event log's disk is not the one under test; that one goes on.
            log_failure.get_or_insert(error);
        }
        front.event(&event);
    };
    tell(0, Body::Started(plan.started(host, calibration)));
    let mut sink = |report: pinnace_bench::Report| tell(report.elapsed_us, report.body);
    pinnace_bench::run(&plan, &order.instance, &mut sink, stop);
    let delivery = courier.finish(LAST_EVENTS)?;
    match log_failure {
        Some(error) => Err(Failure::failed(format!(
            "the run ended, but not all of it is told: {error}"
        ))),
        None => Ok(Ended {
            undelivered: delivery.undelivered,
            log: delivery.log,
        }),
    }
}

fn refusal(error: &PlanError) -> Failure {
    Failure::new(code_of(error.kind()), error)
}

fn no_calibration(error: &CalibrationError) -> Failure {
    Failure::new(code_of(error.kind()), error)
}

fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Failed => FAILED,
        ErrorKind::Unsafe => UNSAFE,
        ErrorKind::Stopped => crate::failure::PARTIAL,
    }
}

/// Wall clock, microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
