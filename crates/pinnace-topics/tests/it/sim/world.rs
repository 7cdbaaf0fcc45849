//! Time, network and accidents: what is sent arrives late, in order on one connection and in any order on
//! several; connections are cut, which each end notices later or never; the server dies and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pinnace_log::twin::{Survival, TwinDisk};

use super::checker::Happened;
use super::client::{Client, Role};
use super::dice::Dice;
use super::server::Server;
use super::wire::{Answer, ConnectionId, Request};

/// When the simulation ends.
const END_US: u64 = 1_600_000;
/// A client that waits longer for an answer gives its connection up.
const PATIENCE_US: u64 = 250_000;
const TICK_US: u64 = 50_000;

enum Event {
    Wake(usize),
    ToServer(ConnectionId, Request),
    ToClient(ConnectionId, Answer),
    ServerSees(ConnectionId),
    ClientSees(ConnectionId),
    /// The disk is done, if the server is still in this life.
    Synced(u32),
    Tick,
    Cut,
    Crash,
    Restart,
}

struct Connection {
    client: usize,
    /// The life of the server in which it was made.
    life: u32,
    /// Nothing arrives after this moment.
    dead_us: u64,
    server_open: bool,
    client_open: bool,
    /// When the latest of each direction arrives: order is kept.
    to_server_us: u64,
    to_client_us: u64,
}

pub(super) struct World {
    dice: Dice,
    now_us: Arc<AtomicU64>,
    epoch: Instant,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    clients: Vec<Client>,
    connections: Vec<Connection>,
    server: Option<Server>,
    life: u32,
    /// What a server that died left.
    disk: Option<TwinDisk>,
    publishers: u32,
    /// Messages of some hundred bytes, so that the log rolls and gives space back.
    large: bool,
    history: Vec<Happened>,
}

/// Everything that happens under a seed.
pub(super) fn run(seed: u64) -> Vec<Happened> {
    let mut dice = Dice(seed);
    let large = dice.chance(40);
    let (now_us, epoch) = (Arc::new(AtomicU64::new(1)), Instant::now());
    let server = Server::start(TwinDisk::new(), &now_us, epoch, large);
    let mut world = World {
        dice,
        now_us,
        epoch,
        events: BTreeMap::new(),
        scheduled: 0,
        clients: Vec::new(),
        connections: Vec::new(),
        server: Some(server),
        life: 0,
        disk: None,
        publishers: 0,
        large,
        history: Vec::new(),
    };
    world.populate();
    while let Some(((at_us, _), event)) = world.events.pop_first() {
        if at_us > END_US {
            break;
        }
        world.now_us.store(at_us, Ordering::Relaxed);
        world.take_place(event);
    }
    world.end()
}

impl World {
    fn now(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at_us, self.scheduled), event);
    }

    fn next_publisher(&mut self) -> u32 {
        self.publishers += 1;
        self.publishers
    }

    /// Clients and accidents.
    fn populate(&mut self) {
        for tries_again in [true, true, false] {
            let publisher = self.next_publisher();
            self.clients.push(Client::new(Role::Publisher {
                publisher,
                sent: 0,
                tries_again,
                unanswered: Default::default(),
            }));
        }
        for queue in [0, 2] {
            self.clients.push(Client::new(Role::Fetcher { queue }));
        }
        for queue in [1, 1, 2] {
            self.clients.push(Client::new(Role::Worker {
                queue,
                holds: None,
                unanswered: None,
            }));
        }
        self.clients
            .push(Client::new(Role::Listener { listens: false }));
        for client in 0..self.clients.len() {
            let at_us = self.dice.between(2, 50_000);
            self.schedule(at_us, Event::Wake(client));
        }
        for _ in 0..self.dice.below(16) {
            let at_us = self.dice.below(END_US);
            self.schedule(at_us, Event::Cut);
        }
        for _ in 0..self.dice.below(5) {
            let at_us = self.dice.below(END_US);
            self.schedule(at_us, Event::Crash);
        }
        self.schedule(TICK_US, Event::Tick);
    }

    fn take_place(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Wake(client) => self.wake(client),
            Event::ToServer(from, request) => {
                let connection = &self.connections[from];
                if now <= connection.dead_us && connection.server_open {
                    self.handle(from, request);
                }
            }
            Event::ToClient(to, answer) => {
                let connection = &self.connections[to];
                if now <= connection.dead_us && connection.client_open {
                    self.clients[connection.client].told(answer);
                }
            }
            Event::ServerSees(connection) => self.close_at_server(connection),
            Event::ClientSees(connection) => self.close_at_client(connection),
            Event::Synced(life) if life == self.life => {
                if let Some(server) = &mut self.server {
                    server.finish_sync();
                }
                self.answer();
            }
            Event::Synced(_) => {}
            Event::Tick => {
                if let Some(server) = &self.server {
                    server.tick();
                }
                self.schedule(now + TICK_US, Event::Tick);
            }
            Event::Cut => {
                let open = |connection: &Connection| connection.client_open;
                let open: Vec<_> = (0..self.connections.len())
                    .filter(|n| open(&self.connections[*n]))
                    .collect();
                if !open.is_empty() {
                    let which = open[self.dice.below(open.len() as u64) as usize];
                    self.cut(which);
                }
            }
            Event::Crash => self.crash(),
            Event::Restart => {
                let disk = self.disk.take().expect("left by the crash");
                let server = Server::start(disk, &self.now_us, self.epoch, self.large);
                self.server = Some(server);
            }
        }
    }

    /// A client does something.
    fn wake(&mut self, which: usize) {
        let now = self.now();
        let again_us = now + self.dice.between(3_000, 50_000);
        self.schedule(again_us, Event::Wake(which));
        let client = &mut self.clients[which];
        let Some(connection) = client.connection else {
            if self.server.is_some() {
                self.connect(which);
            }
            return;
        };
        if client.asked_at_us.is_some_and(|at| at + PATIENCE_US < now) {
            self.cut(connection);
            self.close_at_client(connection);
        } else if let Some(request) = client.next(&mut self.dice) {
            client.asked_at_us.get_or_insert(now);
            if let Request::Publish { id, on, .. } = &request {
                self.history.push(Happened::Sent(*id, on));
            }
            self.send_to_server(connection, request);
        }
    }

    fn connect(&mut self, which: usize) {
        let id = self.connections.len();
        self.connections.push(Connection {
            client: which,
            life: self.life,
            dead_us: u64::MAX,
            server_open: true,
            client_open: true,
            to_server_us: 0,
            to_client_us: 0,
        });
        self.clients[which].connection = Some(id);
        for request in self.clients[which].connected() {
            self.clients[which].asked_at_us = Some(self.now());
            self.send_to_server(id, request);
        }
    }

    /// How long something travels.
    fn delay(&mut self) -> u64 {
        match self.dice.chance(5) {
            true => self.dice.between(5_000, 60_000),
            false => self.dice.between(100, 3_000),
        }
    }

    fn send_to_server(&mut self, over: ConnectionId, request: Request) {
        let at_us = self.now() + self.delay();
        let connection = &mut self.connections[over];
        connection.to_server_us = at_us.max(connection.to_server_us);
        let at_us = connection.to_server_us;
        self.schedule(at_us, Event::ToServer(over, request));
    }

    fn send_to_client(&mut self, over: ConnectionId, answer: Answer) {
        let at_us = self.now() + self.delay();
        let connection = &mut self.connections[over];
        connection.to_client_us = at_us.max(connection.to_client_us);
        let at_us = connection.to_client_us;
        self.schedule(at_us, Event::ToClient(over, answer));
    }

    fn handle(&mut self, from: ConnectionId, request: Request) {
        let server = self.server.as_mut().expect("an open connection");
        let answer = server.handle(from, request, &mut self.history);
        if let Some(answer) = answer {
            self.send_to_client(from, answer);
        }
        self.answer();
    }

    /// Lets the disk work, and sends what can be answered.
    fn answer(&mut self) {
        let connections = &self.connections;
        let is_open = |over: ConnectionId| connections[over].server_open;
        let Some(server) = &mut self.server else {
            return;
        };
        let answers = server.answers(is_open, &mut self.history);
        if server.begins_sync() {
            let at_us = self.now() + self.dice.between(500, 20_000);
            self.schedule(at_us, Event::Synced(self.life));
        }
        for (to, answer) in answers {
            self.send_to_client(to, answer);
        }
    }

    /// The line is cut; each end sees it in its time.
    fn cut(&mut self, over: ConnectionId) {
        let dead_us = self.now() + self.dice.below(5_000);
        self.connections[over].dead_us = dead_us;
        for event in [Event::ServerSees(over), Event::ClientSees(over)] {
            let most_us = if self.dice.chance(50) { 3_000 } else { 400_000 };
            let at_us = dead_us + self.dice.between(1, most_us);
            self.schedule(at_us, event);
        }
    }

    fn close_at_server(&mut self, over: ConnectionId) {
        let connection = &mut self.connections[over];
        if std::mem::take(&mut connection.server_open)
            && connection.life == self.life
            && let Some(server) = &mut self.server
        {
            server.close(over);
        }
    }

    fn close_at_client(&mut self, over: ConnectionId) {
        if std::mem::take(&mut self.connections[over].client_open) {
            let next = self.next_publisher();
            self.clients[self.connections[over].client].disconnected(next);
        }
    }

    fn crash(&mut self) {
        let now = self.now();
        let Some(server) = self.server.take() else {
            return;
        };
        let survival = match self.dice.below(4) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Random(self.dice.below(u64::MAX)),
        };
        let (disk, forgets) = server.crash(survival, &mut self.history);
        if forgets {
            let again = self.clients.iter().flat_map(Client::may_repeat);
            self.history.extend(again.map(Happened::Forgotten));
        }
        self.disk = Some(disk);
        self.life += 1;
        for over in 0..self.connections.len() {
            if self.connections[over].dead_us > now {
                self.connections[over].dead_us = now;
                let at_us = now + self.dice.between(1, 100_000);
                self.schedule(at_us, Event::ClientSees(over));
            }
            self.connections[over].server_open = false;
        }
        let at_us = now + self.dice.between(1, 150_000);
        self.schedule(at_us, Event::Restart);
    }

    /// A last crash; what a last server finds is left.
    fn end(mut self) -> Vec<Happened> {
        self.crash();
        let disk = self.disk.take().expect("left by the crash");
        let server = Server::start(disk, &self.now_us, self.epoch, self.large);
        server.drain(&mut self.history);
        self.history
    }
}
