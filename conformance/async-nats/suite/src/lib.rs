//! Holds nothing itself: its tests are those of async-nats.
