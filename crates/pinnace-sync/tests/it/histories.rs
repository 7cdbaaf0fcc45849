//! Random histories: whatever happened to a source, the share is equal afterwards.
//!
//! `PROPTEST_CASES=5000 cargo nextest run -p pinnace-sync histories` runs more of each.

use proptest::prelude::*;

use crate::pair::Pair;
use crate::story::{Step, apply, step};

fn cases(count: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(count),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_share_is_equal_after_each_run(steps in prop::collection::vec(step(), 1..30)) {
        let pair = Pair::new();
        for (seed, step) in steps.iter().chain([&Step::Sync]).enumerate() {
            match step {
                Step::Sync => {
                    pair.once();
                    pair.assert_equal();
                }
                step => apply(&pair.source(), step, seed),
            }
        }
    }

    #[test]
    fn a_share_follows_what_happens_without_a_pause(steps in prop::collection::vec(step(), 1..40)) {
        let pair = Pair::new();
        let live = pair.live(pair.settings());
        live.wait_for("synced");
        for (seed, step) in steps.iter().chain([&Step::Sync]).enumerate() {
            match step {
                Step::Sync => {
                    pair.wait();
                    pair.assert_equal();
                }
                step => apply(&pair.source(), step, seed),
            }
        }
    }
}
