//! Random histories: whatever happened to a source, the share is equal afterwards.

use proptest::prelude::*;

use crate::pair::Pair;
use crate::story::{Step, apply, step};

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

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
}
