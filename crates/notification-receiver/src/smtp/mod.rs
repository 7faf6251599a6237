//! A mail server small enough to read: it takes every mail and sends none (RFC 5321).

mod data;
mod server;
mod session;

pub use data::{Data, DataReader};
pub use server::serve;
pub use session::{Envelope, Next, Session};
