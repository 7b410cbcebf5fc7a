//! Those who take part in a swarm and are not sessions: scripted peers, attackers, trackers.
//!
//! Each is a machine under the same contract as everybody else ([`teem_core::machine`]), speaks
//! the wire protocol with `teem_core::wire` and nothing of the session, and draws what is random
//! from a seed of its own. [`Swarm::actor`](crate::swarm::Swarm::actor) gives one a host.
//!
//! - [`Puppet`] does what a test tells it and remembers what it was told: for cases about single
//!   messages.
//! - [`Attacker`]s, one [`Kind`] for each thing that strangers do to a swarm, with counters that
//!   prove that it was done. [`Mix`] draws up a crowd: `"10 % poisoner, 5 % slow-loris"`.

mod attacker;
mod drains;
mod floods;
mod idlers;
mod kind;
mod liars;
mod links;
mod mix;
mod puppet;

pub use attacker::{Attacker, CONNECTIONS_MAX, Counters, REDIAL_AFTER, Setup};
pub use kind::{Kind, UnknownKind};
pub use mix::{Mix, MixError, Share};
pub use puppet::{Conn, Puppet, PuppetConfig, RECORDS_MAX, Received};
