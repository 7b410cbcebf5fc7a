//! Those who take part in a swarm and are not sessions: scripted peers, attackers, trackers.
//!
//! Each is a machine under the same contract as everybody else ([`teem_core::machine`]), speaks
//! the wire protocol with `teem_core::wire` and nothing of the session, and draws what is random
//! from a seed of its own. [`Swarm::actor`](crate::swarm::Swarm::actor) gives one a host.
//!
//! - [`Puppet`] does what a test tells it and remembers what it was told: for cases about single
//!   messages.

mod links;
mod puppet;

pub use puppet::{Conn, Puppet, PuppetConfig, RECORDS_MAX, Received};
