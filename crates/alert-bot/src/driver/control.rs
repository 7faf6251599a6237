//! The handle by which the API gives orders and looks at what is in force.
//!
//! Orders go through the task that owns the state: they are decided on like any event, written to
//! the journal, and answered after that.

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Driver;
use crate::{
    engine::{Event, Freeze, Incident, OperatorCommand, Order, Overview, possible},
    timestamp::Timestamp,
};

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// There is no open incident of this id.
    #[error("there is no open incident of this id")]
    NotFound,
    /// The incident's state does not allow it.
    #[error("{0}")]
    NotPossible(String),
    /// The bot is ending, or another one acts.
    #[error("this bot does not act at present")]
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

/// That something has changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Which incident, where it is about one.
    pub incident: Option<String>,
    /// incident, freeze, policy.
    pub kind: &'static str,
}

pub(super) enum Ask {
    Operate(Order, oneshot::Sender<Result<Option<Incident>, OperateError>>),
    Freeze(FreezeOrder, String, oneshot::Sender<Option<Freeze>>),
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
    /// The bot is ending.
    pub async fn freeze(&self, order: FreezeOrder, by: &str) -> Result<Option<Freeze>, OperateError> {
        self.ask(|reply| Ask::Freeze(order, by.to_owned(), reply)).await
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
                let now = Timestamp::now();
                let freeze = order.frozen.then(|| Freeze {
                    by: by.clone(),
                    why: order.why,
                    since: now,
                    until: order.until,
                    storm: false,
                });
                if freeze.is_some() || self.state.freeze().is_some() {
                    self.turn(vec![Event::Frozen { freeze, by }], Vec::new()).await;
                }
                let _ = reply.send(self.state.freeze().cloned());
            }
            Ask::Overview(reply) => {
                let _ = reply.send(self.state.overview(Timestamp::now()));
            }
        }
    }

    async fn operate(&mut self, order: Order) -> Result<Option<Incident>, OperateError> {
        let id = order.incident.clone();
        let incident = self.state.incident(&id).ok_or(OperateError::NotFound)?;
        possible(incident, order.command).map_err(OperateError::NotPossible)?;
        self.turn(vec![Event::Ordered(order)], Vec::new()).await;
        Ok(self.state.incident(&id).cloned())
    }
}
