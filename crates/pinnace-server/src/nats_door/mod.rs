//! The NATS door: accepts connections and runs each as a task of its own.
//!
//! A task reads what is there, carries out every complete operation, and only then writes, once
//! for each receiver it touched, from its own thread; a receiver whose socket is full is finished by
//! that receiver's own task. So a flood costs few system calls and a reader never waits for a
//! slow one.

mod acknowledge;
mod close;
mod connection;
mod counts;
mod held;
mod lagging;
mod outbox;
mod permit;
mod session;
mod sink;
mod slow;

pub(crate) use acknowledge::Acknowledgement;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::harbour::Harbour;
use crate::lanes::Arriving;

/// Accepts until the server stops.
pub(crate) async fn serve(listener: TcpListener, harbour: Arc<Harbour>) {
    let stopped = harbour.stopped();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let Ok(stream) = Arriving::of(stream) else {
                    continue;
                };
                let lane = harbour.lanes.shared();
                lane.spawn(connection::run(stream, address, harbour.clone()));
            }
            Err(error) => crate::server::rest_after_accept_error("nats", &error).await,
        }
    }
}
