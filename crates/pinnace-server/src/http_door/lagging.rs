//! A stream whose messages go to a queue while its client is behind.
//!
//! Left to others: what waits (`feed`), reading the queue (`slow::spill`).

use pinnace_topics::{QueueId, Stored};

use super::feed::Feed;
use super::form::Reason;
use crate::harbour::Harbour;
use crate::metrics::DoorMetrics;
use crate::slow::behind::{Look, Subscriber};
use crate::slow::spill::{Failed, Spilling};

impl Feed {
    /// Returns once `is_there` says so; it is asked whenever something was taken.
    async fn reached(&self, mut is_there: impl FnMut() -> bool + Send) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if is_there() {
                return;
            }
            progress.await;
        }
    }
}

impl Subscriber for Feed {
    fn look(&self) -> Look {
        self.lock().backlog.look()
    }
}

impl Spilling for Feed {
    async fn overflowed(&self) {
        self.overflowed.notified().await;
    }

    fn begin(&self) {
        self.lock().backlog.begin_spill();
    }

    fn spill_to(&self, queue: QueueId) {
        let mut state = self.lock();
        state.backlog.spill_to(queue);
        self.advance(&mut state);
        state.wake();
    }

    fn end(&self) {
        let mut state = self.lock();
        if state.backlog.end_spill() {
            self.overflowed.notify_one();
        }
        self.advance(&mut state);
        state.wake();
    }

    async fn room(&self) {
        self.reached(|| {
            let mut state = self.lock();
            self.advance(&mut state);
            state.wake();
            state.backlog.is_empty() && self.has_room(&state)
        })
        .await;
    }

    fn tell(&self, message: &Stored) -> bool {
        Feed::tell(self, message);
        self.closed().is_none()
    }

    async fn sent(&self) {
        let mut taken_at = 0;
        self.reached(|| {
            let state = self.lock();
            taken_at = state.taken_at;
            state.bytes.is_empty()
        })
        .await;
        std::future::poll_fn(|cx| self.line.poll_flushed_since(taken_at, cx)).await;
    }

    fn fail(&self, why: Failed) {
        match why {
            Failed::NoQueue => self.give_up_locked(&mut self.lock()),
            Failed::Replaced => {
                self.close(Reason::Replaced);
                self.line.condemn();
            }
        }
    }

    fn metrics<'a>(&self, harbour: &'a Harbour) -> &'a DoorMetrics {
        &harbour.metrics.http
    }
}
