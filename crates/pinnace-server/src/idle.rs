//! Ends a server nobody uses: after a time without connections, counted anew whenever the last one
//! leaves, stopped by each that comes.

use std::time::Duration;

use tokio::sync::watch;

/// Returns once there was no connection for `patience`.
pub(crate) async fn idle_for(patience: Duration, mut connections: watch::Receiver<usize>) {
    loop {
        if connections.wait_for(|open| *open == 0).await.is_err() {
            return;
        }
        let somebody = connections.wait_for(|open| *open > 0);
        if tokio::time::timeout(patience, somebody).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn nobody_ever_came() {
        let (_connections, watched) = watch::channel(0);
        let began = Instant::now();
        idle_for(PATIENCE, watched).await;
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_client_resets_the_time() {
        let (connections, watched) = watch::channel(0);
        let began = Instant::now();
        let idle = tokio::spawn(idle_for(PATIENCE, watched));
        for (after_s, open) in [(29, 1), (100, 0), (20, 1), (1, 2), (5, 0)] {
            tokio::time::advance(Duration::from_secs(after_s)).await;
            connections.send_replace(open);
            // Lets the watch see it, as it would between two packets of the network.
            tokio::task::yield_now().await;
        }
        idle.await.unwrap();
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(29 + 100 + 20 + 1 + 5) + PATIENCE
        );
    }
}
