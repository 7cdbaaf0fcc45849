//! stub
#![allow(missing_docs, clippy::todo, unused)]
use std::path::Path;
use std::sync::Arc;
pub struct Message<'a> {
    pub topic: &'a [u8],
    pub reply: Option<&'a [u8]>,
    pub headers: &'a [u8],
    pub payload: &'a [u8],
}
pub mod topic {
    pub fn is_valid_topic(_: &[u8]) -> bool {
        todo!()
    }
    pub fn is_valid_pattern(_: &[u8]) -> bool {
        todo!()
    }
    pub fn has_wildcards(_: &[u8]) -> bool {
        todo!()
    }
    pub fn matches(_: &[u8], _: &[u8]) -> bool {
        todo!()
    }
}
pub trait Flush: Send + Sync {
    fn flush(&self) -> bool;
}
#[derive(Default)]
pub struct Batch;
impl Batch {
    pub fn touch(&mut self, _: Arc<dyn Flush>) {}
    pub fn flush(&mut self) -> bool {
        todo!()
    }
}
pub trait Sink: Send + Sync {
    fn deliver(&self, m: &Message<'_>, b: &mut Batch) -> bool;
}
#[derive(Clone)]
pub struct Broker;
#[derive(Default)]
pub struct Options;
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
pub struct Recovery {
    pub damage: Vec<String>,
}
#[derive(Debug)]
pub struct OpenError;
impl std::fmt::Display for OpenError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
#[derive(Clone, Copy)]
pub struct SubscriptionId;
pub enum Start {
    New,
    First,
}
pub type Done = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;
pub type TakeDone = Box<dyn FnOnce(Result<Vec<Stored>, StoreError>) + Send>;
#[derive(Debug)]
pub enum StoreError {
    Full(String),
    Failed(String),
}
impl std::fmt::Display for StoreError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
#[derive(Debug)]
pub enum Error {
    NoSuchQueue,
    Store(StoreError),
    Other,
}
impl std::fmt::Display for Error {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
#[derive(Debug)]
pub enum PublishError {
    QueueLimit { x: u8 },
    Store(StoreError),
    Other,
}
impl std::fmt::Display for PublishError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
pub struct Stored {
    pub seq: u64,
    pub published_us: u64,
    pub topic: Vec<u8>,
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
}
pub struct QueueStatus {
    pub name: String,
    pub waiting: u64,
    pub oldest_seq: Option<u64>,
    pub oldest_us: Option<u64>,
}
pub struct TopicStatus {
    pub topic: Vec<u8>,
    pub live: u64,
    pub queues: Vec<QueueStatus>,
}
pub enum StorageState {
    Ok,
    Full(String),
    Failed(String),
}
pub struct Publisher;
pub struct Published {
    pub live: u32,
    pub queues: u32,
    pub seq: Option<u64>,
}
impl Publisher {
    pub fn publish(
        &mut self,
        _: &Message<'_>,
        _: Option<u64>,
        _: &mut Batch,
        _: Option<Done>,
    ) -> Result<Published, PublishError> {
        todo!()
    }
}
impl Broker {
    pub fn open(_: &Path, _: Options, _: Clock) -> Result<(Broker, Recovery), OpenError> {
        todo!()
    }
    pub fn subscribe(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: u64,
        _: Arc<dyn Sink>,
    ) -> SubscriptionId {
        todo!()
    }
    pub fn unsubscribe(&self, _: SubscriptionId) {}
    pub fn publisher(&self) -> Publisher {
        todo!()
    }
    pub fn create_queue(&self, _: &[u8], _: &str, _: Start, _: Done) -> Result<bool, Error> {
        todo!()
    }
    pub fn delete_queue(&self, _: &[u8], _: &str, _: Done) -> Result<bool, Error> {
        todo!()
    }
    pub fn take(&self, _: &[u8], _: &str, _: usize, _: TakeDone) -> Result<(), Error> {
        todo!()
    }
    pub fn peek(&self, _: &[u8], _: &str, _: usize) -> Result<Vec<Stored>, Error> {
        todo!()
    }
    pub fn consume(&self, _: &[u8], _: &str, _: u64, _: Done) -> Result<(), Error> {
        todo!()
    }
    pub fn notify(&self, _: &[u8], _: &str, _: Box<dyn FnOnce() + Send>) -> Result<(), Error> {
        todo!()
    }
    pub fn topics(&self) -> Vec<TopicStatus> {
        todo!()
    }
    pub fn state(&self) -> StorageState {
        todo!()
    }
    pub fn close(&self) {}
}
