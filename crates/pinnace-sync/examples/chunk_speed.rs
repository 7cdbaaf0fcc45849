//! How fast content is cut and hashed on one core: `chunk_speed [MIB] [ROUNDS]` prints the best round of each
//! in GB/s, and how long the chunks are on average.

#![allow(
    clippy::print_stdout,
    reason = "the lines it prints are what it is for"
)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use pinnace_sync::chunk::{ChunkId, Chunker, Class, content_of};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: usize| arguments.next().map_or(Ok(usual), |word| word.parse());
    let (mib, rounds) = (number(64)?, number(7)?);
    let mut bytes = vec![0; mib << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);

    for class in [Class::Fine, Class::Coarse] {
        let cuts = cut(class, &bytes);
        let average = bytes.len() / cuts.len().max(1);
        let cutting = best(rounds, || cut(class, &bytes).len());
        let hashing = best(rounds, || hash(&cuts, &bytes));
        let speed = |seconds: f64| bytes.len() as f64 / seconds / 1e9;
        println!(
            "{class:?}: average {average} bytes, cut {:.2} GB/s, hash {:.2} GB/s",
            speed(cutting),
            speed(hashing)
        );
    }
    let both = best(rounds, || {
        content_of(&bytes).1.map_or(0, |r| r.chunks.len())
    });
    println!("cut and hash: {:.2} GB/s", bytes.len() as f64 / both / 1e9);
    Ok(())
}

fn cut(class: Class, bytes: &[u8]) -> Vec<usize> {
    let mut chunker = Chunker::new(class);
    let mut ends = Vec::new();
    let mut start = 0;
    while let Some(len) = chunker.cut(&bytes[start..], true) {
        start += len;
        ends.push(start);
    }
    ends
}

fn hash(ends: &[usize], bytes: &[u8]) -> usize {
    let mut start = 0;
    for end in ends {
        black_box(ChunkId::of(&bytes[start..*end]));
        start = *end;
    }
    ends.len()
}

fn best(rounds: usize, work: impl Fn() -> usize) -> f64 {
    let round = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..rounds.max(1)).map(round).fold(f64::INFINITY, f64::min)
}
