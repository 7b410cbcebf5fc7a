//! NATs on the network, held against the RFCs: who reaches whom, and for how long.

mod files;
mod servers;
mod shrinking;
mod station;
mod swarms;
mod tcp;
mod udp;
