//! Both ends of a mirror, joined by socket pairs.

mod first;
mod histories;
mod live;
mod pair;
mod safety;
mod tree;
