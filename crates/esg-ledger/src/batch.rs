//! Many senders, one writer: entries that arrive while a batch is being written go into the next.
//!
//! Everybody waits for the commit that holds their entries; nobody waits for more than one
//! commit besides it. The disk's syncs are shared by all entries of a batch.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    entry::{Entry, Heartbeat},
    ingest::Policy,
    log::{Log, LogError, Outcome, Place},
    note::Signature,
};

/// What the writer answers: one outcome an entry, or why nothing was written.
pub type Answer = Result<Vec<Outcome>, String>;

type Reply = Box<dyn FnOnce(Answer) + Send>;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries in one batch, about.
    pub entries: usize,
    /// A batch waits this long for company.
    pub window: Duration,
    /// Requests that may wait; more are refused at once.
    pub waiting: usize,
    /// A heartbeat is written this often.
    pub heartbeat: Duration,
    /// A machine silent for longer has a gap.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 16_384,
            window: Duration::from_millis(5),
            waiting: 1_024,
            heartbeat: Duration::from_secs(300),
            silence: Duration::from_secs(60),
        }
    }
}

/// Hears of what the writer does.
pub trait Observer: Send {
    /// A batch was committed, or the log was opened.
    fn committed(&mut self, log: &Log, outcomes: &[Outcome], took: Duration);
    /// The log could not be opened or written. It will be tried again.
    fn failed(&mut self, error: &LogError);
}

impl Observer for () {
    fn committed(&mut self, _: &Log, _: &[Outcome], _: Duration) {}
    fn failed(&mut self, _: &LogError) {}
}

enum Message {
    Entries(Vec<Vec<u8>>, Reply),
    Cosigned(String, Signature),
    Stop,
}

/// The senders' side.
#[derive(Clone)]
pub struct Sender(SyncSender<Message>);

/// The queue in front of the writer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Sender {
    /// Hands over entries; `reply` is called when they are durable, or never will be.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn send(&self, entries: Vec<Vec<u8>>, reply: impl FnOnce(Answer) + Send + 'static) -> Result<(), Busy> {
        match self.0.try_send(Message::Entries(entries, Box::new(reply))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }

    /// Hands over entries and waits, for callers without a runtime.
    ///
    /// # Errors
    /// Why nothing was written.
    pub fn append(&self, entries: Vec<Vec<u8>>) -> Answer {
        let (tx, rx) = sync_channel(1);
        let reply = move |answer| {
            // The caller waits right below.
            let _ = tx.send(answer);
        };
        self.0.send(Message::Entries(entries, Box::new(reply))).map_err(|_| "the writer has stopped".to_owned())?;
        rx.recv().unwrap_or_else(|_| Err("the writer has stopped".to_owned()))
    }

    /// Ends the writer after what waits already; waits for a place in the queue.
    pub fn stop(&self) {
        // It may have ended.
        let _ = self.0.send(Message::Stop);
    }

    /// Publishes a witness's cosignature. Lost if the queue is full: the next checkpoint is cosigned again.
    pub fn cosigned(&self, text: String, signature: Signature) {
        let _ = self.0.try_send(Message::Cosigned(text, signature));
    }
}

/// Starts the writer's thread. It ends when it is told to or when all senders are gone, and closes the log.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    place: Place,
    policy: Policy,
    limits: Limits,
    observer: impl Observer + 'static,
    clock: impl Fn() -> i64 + Send + 'static,
) -> std::io::Result<(Sender, JoinHandle<()>)> {
    let (tx, rx) = sync_channel(limits.waiting);
    let writer =
        Writer { place, policy, limits, observer, clock, log: None, heartbeat: Instant::now(), stopped: false };
    let thread = std::thread::Builder::new().name("ledger-writer".to_owned()).spawn(move || writer.run(&rx))?;
    Ok((Sender(tx), thread))
}

struct Writer<O, C> {
    place: Place,
    policy: Policy,
    limits: Limits,
    observer: O,
    clock: C,
    log: Option<Log>,
    heartbeat: Instant,
    stopped: bool,
}

/// How often the writer looks for silence, and for a log that could not be opened.
const TICK: Duration = Duration::from_secs(1);

impl<O: Observer, C: Fn() -> i64> Writer<O, C> {
    fn run(mut self, rx: &Receiver<Message>) {
        // A broken log is found at the start, not by the first sender.
        self.open();
        let mut tick = Instant::now() + TICK;
        while !self.stopped {
            match rx.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(first) => self.batch(first, rx),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= tick {
                self.tick();
                tick = Instant::now() + TICK;
            }
        }
        if let Some(Err(error)) = self.log.take().map(Log::close) {
            self.observer.failed(&error);
        }
    }

    fn open(&mut self) -> bool {
        if self.log.is_none() {
            let started = Instant::now();
            match Log::open(self.place.clone()) {
                Ok(log) => {
                    self.observer.committed(&log, &[], started.elapsed());
                    self.log = Some(log);
                }
                Err(error) => self.observer.failed(&error),
            }
        }
        self.log.is_some()
    }

    fn batch(&mut self, first: Message, rx: &Receiver<Message>) {
        let until = Instant::now() + self.limits.window;
        let (mut entries, mut replies, mut cosignatures) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Entries(more, reply) => {
                    replies.push((more.len(), reply));
                    entries.extend(more);
                }
                Message::Cosigned(text, signature) => cosignatures.push((text, signature)),
                Message::Stop => self.stopped = true,
            }
            if !self.stopped && entries.len() < self.limits.entries {
                next = rx.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
        }
        let answer = self.write(&entries);
        match answer {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, reply) in replies {
                    reply(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(reason) => replies.into_iter().for_each(|(_, reply)| reply(Err(reason.clone()))),
        }
        for (text, signature) in cosignatures {
            let Some(log) = &mut self.log else { return };
            match log.cosigned(&text, signature) {
                Ok(true) => self.observer.committed(log, &[], Duration::ZERO),
                Ok(false) => {}
                Err(error) => {
                    self.observer.failed(&error);
                    self.log = None;
                }
            }
        }
    }

    fn write(&mut self, entries: &[Vec<u8>]) -> Answer {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.open();
        let Some(log) = &mut self.log else { return Err("the log cannot be written now".to_owned()) };
        let started = Instant::now();
        match log.submit(entries, &self.policy, (self.clock)()) {
            Ok(outcomes) => {
                self.observer.committed(log, &outcomes, started.elapsed());
                Ok(outcomes)
            }
            Err(error) => {
                self.observer.failed(&error);
                self.log = None;
                Err("the log cannot be written now".to_owned())
            }
        }
    }

    /// Says that the ledger lives, and which machines do not.
    fn tick(&mut self) {
        if !self.open() {
            return;
        }
        let now = (self.clock)();
        let silence = i64::try_from(self.limits.silence.as_micros()).unwrap_or(i64::MAX);
        let mut records = self.log.as_ref().map(|l| l.history().silent(now, silence)).unwrap_or_default();
        if self.heartbeat.elapsed() >= self.limits.heartbeat {
            self.heartbeat = Instant::now();
            records.push(Entry::Heartbeat(Heartbeat { at_us: now }));
        }
        let records: Vec<Vec<u8>> = records.iter().map(Entry::to_bytes).collect();
        // What goes wrong has been told to the observer.
        let _ = self.write(&records);
    }
}
