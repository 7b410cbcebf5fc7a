//! Announces over UDP (BEP 15): connection ids, questions, retries.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::{
    Answered, Ask, CONNECTION_LIFE, CONNECTIONS_MAX, Client, Connection, DATAGRAMS_MAX, ExchangeId,
    Net, Question, State, UDP_RETRIES_MAX, UDP_TIMEOUT,
};
use crate::http::url::target;
use crate::rng::Rng;
use crate::time::Instant;
use crate::tracker::announce::{AnnounceError, clean_text};
use crate::tracker::udp::{
    self, Announce, ConnectionId, Request, Response, TransactionId, announce_response,
    scrape_counts, write_url_data,
};

impl<T: Copy> Client<T> {
    /// Asks the address whose turn it is: for peers if its connection id is known, else for that.
    /// Each retry goes to the next address.
    pub(super) fn ask(&mut self, net: &mut dyn Net, id: ExchangeId, tries: u32) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if tries > 0 {
            exchange.at = (exchange.at + 1) % exchange.addresses.len();
        }
        let to = exchange.addresses[exchange.at];
        self.leave_udp(id);
        let now = net.now();
        self.forget_connections(now);
        let connection = self.connections.entry(to).or_default();
        if let Some((connection_id, _)) = connection.id.filter(|(_, until)| *until > now) {
            self.send_question(net, id, to, tries, connection_id, true);
        } else {
            connection.id = None;
            connection.waiting.push(id);
            let just_asked = connection.asked.filter(|(_, at)| now < *at + UDP_TIMEOUT);
            let transaction = match connection.asked {
                Some((transaction, _)) => transaction,
                None => free_transaction(&mut self.rng, &self.questions),
            };
            if just_asked.is_none() {
                connection.asked = Some((transaction, now));
                self.questions.insert(transaction, Question { to, exchange: None });
                let mut bytes = Vec::with_capacity(16);
                Request::Connect { transaction }.write(&mut bytes);
                self.send_datagram(net, to, bytes);
            }
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.state = State::AskingConnection { to, tries };
            }
        }
        self.arm(net, id, Some(UDP_TIMEOUT.saturating_mul(1 << tries.min(UDP_RETRIES_MAX))));
    }

    fn send_question(
        &mut self,
        net: &mut dyn Net,
        id: ExchangeId,
        to: SocketAddr,
        tries: u32,
        connection: ConnectionId,
        cached: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let transaction = free_transaction(&mut self.rng, &self.questions);
        self.questions.insert(transaction, Question { to, exchange: Some(id) });
        exchange.state = State::Announcing { to, tries, transaction, cached };
        let mut bytes = Vec::with_capacity(udp::ANNOUNCE_LEN);
        match &exchange.ask {
            Ask::Announce(request) => {
                let announce = Announce::new(request);
                let mut options = Vec::new();
                write_url_data(&mut options, &target(&exchange.url));
                Request::Announce { connection, transaction, announce, options: &options }
                    .write(&mut bytes);
            }
            Ask::Scrape(info_hash) => {
                Request::Scrape { connection, transaction, hashes: &info_hash.0 }.write(&mut bytes);
            }
        }
        self.send_datagram(net, to, bytes);
    }

    fn send_datagram(&mut self, net: &mut dyn Net, to: SocketAddr, bytes: Vec<u8>) {
        if self.datagrams.len() >= DATAGRAMS_MAX {
            return;
        }
        self.datagrams.push_back((to, Bytes::from(bytes)));
        net.datagrams_wait();
    }

    /// Takes an announce out of the tables of questions.
    pub(super) fn leave_udp(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        match exchange.state {
            State::AskingConnection { to, .. } => {
                exchange.state = State::Queued;
                if let Some(connection) = self.connections.get_mut(&to) {
                    connection.waiting.retain(|waiting| *waiting != id);
                    self.forget_if_unused(to);
                }
            }
            State::Announcing { transaction, .. } => {
                exchange.state = State::Queued;
                self.questions.remove(&transaction);
            }
            _ => {}
        }
    }

    fn forget_if_unused(&mut self, to: SocketAddr) {
        let Some(connection) = self.connections.get(&to) else { return };
        if connection.waiting.is_empty() && connection.id.is_none() {
            if let Some((transaction, _)) = connection.asked {
                self.questions.remove(&transaction);
            }
            self.connections.remove(&to);
        }
    }

    /// Makes room for one more connection: first the old ones go, then all that nobody waits for.
    fn forget_connections(&mut self, now: Instant) {
        if self.connections.len() < CONNECTIONS_MAX {
            return;
        }
        let live = |connection: &Connection| connection.id.is_some_and(|(_, until)| until > now);
        self.connections.retain(|_, connection| !connection.waiting.is_empty() || live(connection));
        if self.connections.len() >= CONNECTIONS_MAX {
            self.connections.retain(|_, connection| !connection.waiting.is_empty());
        }
    }

    pub(super) fn on_connection_answer(
        &mut self,
        net: &mut dyn Net,
        to: SocketAddr,
        answer: &Result<Response<'_>, udp::Error>,
    ) {
        let now = net.now();
        let Some(connection) = self.connections.get_mut(&to) else { return };
        match answer {
            Ok(Response::Connect { connection: connection_id, .. }) => {
                connection.id = Some((*connection_id, now + CONNECTION_LIFE));
                let waiting = core::mem::take(&mut connection.waiting);
                if let Some((transaction, _)) = connection.asked.take() {
                    self.questions.remove(&transaction);
                }
                for id in waiting {
                    let Some(exchange) = self.exchanges.get(id) else { continue };
                    let State::AskingConnection { tries, .. } = exchange.state else { continue };
                    self.send_question(net, id, to, tries, *connection_id, false);
                    let wait = UDP_TIMEOUT.saturating_mul(1 << tries.min(UDP_RETRIES_MAX));
                    self.arm(net, id, Some(wait));
                }
            }
            Ok(Response::Error { reason, .. }) => {
                let error = AnnounceError::Refused { reason: clean_text(reason), retry: None };
                for id in connection.waiting.clone() {
                    self.end(net, id, Err(error.clone()));
                }
            }
            // Anybody could have sent it; the real answer may still come.
            _ => {}
        }
    }

    pub(super) fn on_announce_answer(
        &mut self,
        net: &mut dyn Net,
        id: ExchangeId,
        to: SocketAddr,
        answer: &Result<Response<'_>, udp::Error>,
    ) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let State::Announcing { cached, .. } = exchange.state else { return };
        let result = match answer {
            Ok(Response::Announce { interval, leechers, seeders, peers, .. })
                if matches!(exchange.ask, Ask::Announce(_)) =>
            {
                let v6 = to.is_ipv6();
                let response = announce_response(*interval, *leechers, *seeders, peers, v6);
                Ok(Answered::Announce(response.into()))
            }
            Ok(Response::Scrape { counts, .. }) if matches!(exchange.ask, Ask::Scrape(_)) => {
                let counts = scrape_counts(counts).next();
                let none = AnnounceError::Malformed("it has no counts of this torrent");
                counts.map(Answered::Scrape).ok_or(none)
            }
            Ok(Response::Error { reason, .. }) => {
                if let Some(connection) = self.connections.get_mut(&to) {
                    connection.id = None;
                }
                // The connection id was an old one, and may be what the tracker does not like.
                if cached {
                    self.ask(net, id, 0);
                    return;
                }
                self.forget_if_unused(to);
                Err(AnnounceError::Refused { reason: clean_text(reason), retry: None })
            }
            // Some trackers answer for swarms that they do not serve with a head and nothing more.
            Err(udp::Error::TooShort(_)) => {
                Err(AnnounceError::Malformed("the answer is cut short"))
            }
            _ => return,
        };
        self.end(net, id, result);
    }
}

fn free_transaction(rng: &mut Rng, taken: &BTreeMap<TransactionId, Question>) -> TransactionId {
    loop {
        let id = TransactionId(rng.next_u32());
        if !taken.contains_key(&id) {
            return id;
        }
    }
}
