//! Random histories while they are mirrored live, without a pause between their steps.
//!
//! `cargo run --release -p pinnace-sync --example live_histories -- 1000` runs so many. It still finds histories after which the
//! share is not equal when it should be (about one in several hundred): they are what is to be mended next, and then this becomes a test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a tool for those who work on the mirror, on the helpers of its tests"
)]

#[path = "../tests/it/pair.rs"]
mod pair;
#[path = "../tests/it/story.rs"]
mod story;
#[path = "../tests/it/tree.rs"]
mod tree;

use pair::Pair;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use story::{Step, apply, step};

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let mut runner = TestRunner::default();
    let histories = proptest::collection::vec(step(), 1..40);
    let mut bad = 0;
    let count: u32 = count.unwrap_or(100);
    for number in 0..count {
        let steps = histories.new_tree(&mut runner).unwrap().current();
        let went = std::panic::catch_unwind(|| run(&steps));
        if went.is_err() {
            bad += 1;
            println!("history {number}: {steps:?}");
        }
    }
    println!("{bad} of {count} histories ended with a share that is not equal");
}

fn run(steps: &[Step]) {
    let pair = Pair::new();
    let live = pair.live(pair.settings());
    live.wait_for("synced");
    for (seed, step) in steps.iter().chain([&Step::Sync]).enumerate() {
        match step {
            Step::Sync => {
                pair.shares.wait("s").unwrap();
                pair.assert_equal();
            }
            step => apply(&pair.source(), step, seed),
        }
    }
}
