//! NATs on the network, held against the RFCs: who reaches whom, and for how long.

mod servers;
mod station;
mod swarms;
mod tcp;
mod udp;
