//! Trackers (BEP 3, 7, 12, 15, 23, 24, 31, 41, 48): asking them, and being one.
//!
//! ```text
//!   one per torrent and way        one per session                   on its own
//!   tiers::AnnounceList  --what--> client::Client --streams, UDP-->  server::Server
//!     when, to whom,     <-result-   DNS, HTTP, UDP,                   swarm::Swarms
//!     which event                    retries, limits
//! ```
//!
//! [`ways`] has one list for each hash and family of addresses of a torrent. [`announce`] has what is asked and answered, whatever the transport; [`http`] and [`udp`] put
//! it into bytes and back; [`url`] says which URLs are taken.

pub mod announce;
pub mod client;
pub mod http;
pub mod server;
pub mod swarm;
pub mod tiers;
pub mod udp;
pub mod url;
pub mod ways;
