//! The handle by which the API gives orders and looks at what is in force.
//!
//! Orders go through the task that owns the state: they are decided on like any event, written to
//! the journal, and answered after that.

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Driver;
use crate::{
    engine::{
        Event, Freeze, Incident, OperatorCommand, Order, Overview, Reason, Release, ReleaseOrder, Unreleasable,
        possible, release,
    },
    timestamp::Timestamp,
};

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// There is no open incident of this id.
    #[error("there is no open incident of this id")]
    NotFound,
    /// No container of the project goes by this name.
    #[error("no container of the project goes by this name")]
    NoTarget,
    /// The incident's state does not allow it.
    #[error("{0}")]
    NotPossible(String),
    /// Another bot acts: it is the one to ask.
    #[error("not_leader: this bot stands by, {} acts", .0.as_deref().unwrap_or("another one"))]
    NotLeader(Option<String>),
    /// The bot is ending.
    #[error("this bot is ending")]
    Unavailable,
}

/// To freeze or to unfreeze.
#[derive(Clone, Debug)]
pub struct FreezeOrder {
    /// Nothing is acted on from now on.
    pub frozen: bool,
    /// Why.
    pub why: String,
    /// It ends by itself then.
    pub until: Option<Timestamp>,
}

/// As the kind of a change: another bot has written something, and the record says what.
pub(crate) const RECORD: &str = "record";

/// That something has changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Which incident, where it is about one.
    pub incident: Option<String>,
    /// incident, freeze, targets, policy, reset, or that another bot has written something.
    pub kind: &'static str,
}

pub(super) enum Ask {
    Operate(Order, oneshot::Sender<Result<Option<Incident>, OperateError>>),
    Freeze(FreezeOrder, String, oneshot::Sender<Result<Option<Freeze>, OperateError>>),
    Release(ReleaseOrder, oneshot::Sender<Result<Release, OperateError>>),
    Overview(oneshot::Sender<Overview>),
}

/// A handle to the driver; clones share it.
#[derive(Clone)]
pub struct Control {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) changes: broadcast::Sender<Change>,
}

impl Control {
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, queue) = mpsc::channel(64);
        // A reader that lags behind is told so and reads everything anew.
        let (changes, _) = broadcast::channel(1024);
        (Self { asks, changes }, queue)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, OperateError> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(make(reply)).await.map_err(|_| OperateError::Unavailable)?;
        answer.await.map_err(|_| OperateError::Unavailable)
    }

    /// Gives an order about an incident. Answers with the incident after it, once it is on disk;
    /// `None`: the order has closed it.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn operate(
        &self,
        incident: &str,
        command: OperatorCommand,
        by: &str,
        note: Option<String>,
    ) -> Result<Option<Incident>, OperateError> {
        let order = Order { incident: incident.to_owned(), command, by: by.to_owned(), note };
        self.ask(|reply| Ask::Operate(order, reply)).await?
    }

    /// Freezes everything, or ends that. Answers with what is in force afterwards.
    ///
    /// # Errors
    /// The bot stands by, or is ending.
    pub async fn freeze(&self, order: FreezeOrder, by: &str) -> Result<Option<Freeze>, OperateError> {
        self.ask(|reply| Ask::Freeze(order, by.to_owned(), reply)).await?
    }

    /// Gives a target its budget back. Answers with what does not count any more, once it is on disk.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn release(&self, order: ReleaseOrder) -> Result<Release, OperateError> {
        self.ask(|reply| Ask::Release(order, reply)).await?
    }

    /// What is in force now.
    ///
    /// # Errors
    /// The bot is ending.
    pub async fn overview(&self) -> Result<Overview, OperateError> {
        self.ask(Ask::Overview).await
    }

    /// Told of every change, after it is on disk.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

impl Driver {
    pub(super) async fn answer(&mut self, ask: Ask) {
        // Whoever does not wait for the answer any more has hung up.
        match ask {
            Ask::Operate(order, reply) => {
                let _ = reply.send(self.operate(order).await);
            }
            Ask::Freeze(order, by, reply) => {
                let _ = reply.send(self.set_freeze(order, by).await);
            }
            Ask::Release(order, reply) => {
                let _ = reply.send(self.release(order).await);
            }
            Ask::Overview(reply) => {
                let _ = reply.send(self.state.overview(self.tools.lease.view(), Timestamp::now()));
            }
        }
    }

    async fn set_freeze(&mut self, order: FreezeOrder, by: String) -> Result<Option<Freeze>, OperateError> {
        self.must_lead()?;
        let since = Timestamp::now();
        let freeze =
            order.frozen.then(|| Freeze { by: by.clone(), why: order.why, since, until: order.until, storm: false });
        if freeze.is_some() || self.state.freeze().is_some() {
            self.turn(vec![Event::Frozen { freeze, by }], Vec::new()).await;
        }
        // It may have turned out while it was being written down.
        self.must_lead()?;
        Ok(self.state.freeze().cloned())
    }

    async fn release(&mut self, order: ReleaseOrder) -> Result<Release, OperateError> {
        self.must_lead()?;
        let released = release(&self.state, &order, Timestamp::now()).map_err(|error| match error {
            Unreleasable::Unknown => OperateError::NoTarget,
            Unreleasable::Busy(why) => OperateError::NotPossible(why),
        })?;
        self.turn(vec![Event::Released(order)], Vec::new()).await;
        self.must_lead()?;
        Ok(released)
    }

    async fn operate(&mut self, order: Order) -> Result<Option<Incident>, OperateError> {
        self.must_lead()?;
        let id = order.incident.clone();
        let incident = self.state.incident(&id).ok_or(OperateError::NotFound)?;
        possible(incident, order.command).map_err(OperateError::NotPossible)?;
        self.turn(vec![Event::Ordered(order)], Vec::new()).await;
        self.must_lead()?;
        Ok(self.state.incident(&id).cloned())
    }

    fn must_lead(&self) -> Result<(), OperateError> {
        if self.tools.lease.held().is_some() {
            return Ok(());
        }
        self.tools.metrics.refusals.with_label_values(&[Reason::NotLeader.as_str()]).inc();
        Err(OperateError::NotLeader(self.tools.lease.view().holder))
    }
}
