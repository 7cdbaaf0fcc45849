//! Clients, a network and the server under accidents, from a seed: 5,000 stories, each checked.
//!
//! The broker and its log are the real ones, on a disk in memory; clients, network and time are simulated.
//! A story depends on its seed alone. One that ends badly says how it is told again.

mod checker;
mod client;
mod dice;
mod disk;
mod server;
mod wire;
mod world;

use std::panic::catch_unwind;

use checker::{Happened, MessageId, check};

const SEEDS: u64 = 5_000;
/// Tests that share the seeds, so that they run side by side.
const PARTS: u64 = 10;
const VARIABLE: &str = "PINNACE_SIMULATION_SEED";

/// Tells the story of a seed; a bad end says how to see it again.
fn tell(seed: u64) -> Vec<Happened> {
    let told = catch_unwind(|| {
        let history = world::run(seed);
        if let Err(complaint) = check(&history) {
            panic!("{complaint}, in {history:#?}");
        }
        history
    });
    told.unwrap_or_else(|_| {
        panic!(
            "seed {seed} ends badly; repeat it with: \
             {VARIABLE}={seed} cargo test -p pinnace-topics --test it the_seed_of_the_environment"
        )
    })
}

fn tell_part(part: u64) {
    for seed in (0..SEEDS).filter(|seed| seed % PARTS == part) {
        tell(seed);
    }
}

macro_rules! parts {
    ($($name:ident: $part:expr;)*) => {$(
        #[test]
        fn $name() {
            tell_part($part);
        }
    )*};
}

parts! {
    seeds_0: 0;
    seeds_1: 1;
    seeds_2: 2;
    seeds_3: 3;
    seeds_4: 4;
    seeds_5: 5;
    seeds_6: 6;
    seeds_7: 7;
    seeds_8: 8;
    seeds_9: 9;
}

#[test]
fn the_seed_of_the_environment() {
    let seed = std::env::var(VARIABLE).map_or(SEEDS, |seed| seed.parse().unwrap());
    assert!(!tell(seed).is_empty());
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..40 {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}

/// In some stories everything happens that can.
#[test]
fn stories_are_eventful() {
    let mut counts = [0; 9];
    for happened in (0..100).flat_map(tell) {
        counts[match happened {
            Happened::Sent(..) => 0,
            Happened::Stored(_) => 1,
            Happened::Offered(..) => 2,
            Happened::Fetched(..) => 3,
            Happened::Settled(..) => 4,
            Happened::InDoubt(..) => 5,
            Happened::Left(..) => 6,
            Happened::Live(..) => 7,
            Happened::Forgotten(_) => 8,
        }] += 1;
    }
    assert!(counts.iter().all(|count| *count > 9), "{counts:?}");
}

/// The checker complains about each thing that must not happen.
#[test]
fn bad_stories_are_seen() {
    use Happened::{Fetched, Forgotten, InDoubt, Left, Live, Offered, Sent, Settled, Stored};
    let [one, two] = [1, 2].map(|number| MessageId {
        publisher: 1,
        number,
    });
    // On a topic of the second queue only.
    let good = [
        Sent(one, "u"),
        Live(7, one),
        Stored(one),
        Sent(two, "u"),
        Live(7, two),
        Stored(two),
        Offered(1, one),
        Offered(1, two),
        Fetched(1, one),
        Settled(1, two),
    ];
    assert_eq!(check(&good), Ok(()));
    let with = |at: usize, more: &[Happened]| {
        let mut story = good.to_vec();
        story.splice(at..at, more.iter().cloned());
        story
    };
    let without = |at: usize| {
        let mut story = good.to_vec();
        story.remove(at);
        story
    };
    for (story, complaint) in [
        (without(8), "lost it"),
        (without(9), "lost it"),
        (without(0), "never sent"),
        (without(6), "without being offered"),
        (with(10, &[Offered(1, two)]), "came again"),
        (with(10, &[Fetched(1, one)]), "came twice"),
        (with(10, &[Left(1, one)]), "came twice"),
        (with(6, &[Offered(1, two)]), "came behind"),
        (with(6, &[Offered(0, one)]), "is in queue 0"),
        (with(6, &[Live(7, two)]), "came live behind"),
        (with(6, &[Live(7, one)]), "came live behind"),
    ] {
        let found = check(&story).unwrap_err();
        assert!(found.contains(complaint), "{found}, not {complaint}");
    }
    // And about nothing else.
    let mut doubtful = with(8, &[InDoubt(1, one), Offered(1, one)]);
    assert_eq!(check(&doubtful), Ok(()));
    doubtful.retain(|happened| *happened != Fetched(1, one));
    assert_eq!(check(&doubtful), Ok(()));
    let repeated = [Forgotten(two), Offered(1, two), Fetched(1, two)];
    assert_eq!(check(&with(10, &repeated)), Ok(()));
}

/// A message that comes once more in a true story is seen, whichever it is.
#[test]
fn no_change_of_a_true_story_goes_unseen() {
    let story = tell(3);
    let mut changes = 0;
    for (at, happened) in story.iter().enumerate() {
        if let Happened::Fetched(..) | Happened::Settled(..) | Happened::Left(..) = happened {
            let mut twice = story.clone();
            twice.insert(at, happened.clone());
            assert!(check(&twice).is_err(), "{happened:?} twice");
            changes += 1;
        }
    }
    assert!(changes > 40, "{changes} changes");
}
