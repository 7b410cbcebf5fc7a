//! Announces over HTTP: one stream per address, redirects, the answer.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ::url::Url;
use bytes::Bytes;

use super::{Answer, Answered, Ask, Client, ExchangeId, GENERIC_USER_AGENT, Net, State};
use crate::http::gzip::Encoding;
use crate::http::url::{
    REDIRECTS_MAX, RedirectError, Scope, is_redirect, query_pairs, redirect, target,
};
use crate::http::{Item, Limits, ResponseParser, write};
use crate::ids::StreamId;
use crate::machine::{Shutdown, StreamError};
use crate::tracker::announce::AnnounceError;
use crate::tracker::http::{announce_target, parse_response, parse_scrape, scrape_target};
use crate::tracker::url::Transport;

impl<T: Copy> Client<T> {
    pub(super) fn connect(&mut self, net: &mut dyn Net, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let to = exchange.addresses[exchange.at];
        let tls = match exchange.transport {
            Transport::Https => exchange.url.host_str(),
            Transport::Http | Transport::Udp => None,
        };
        let Some(stream) = net.connect(to, tls) else {
            self.end_active(id, Err(StreamError::OutOfResources.into()));
            return;
        };
        exchange.state = State::Connecting(stream);
        self.streams.insert(stream, id);
        self.arm(net, id, Some(self.config.connect_timeout));
    }

    pub(super) fn on_connected(&mut self, net: &mut dyn Net, id: ExchangeId, stream: StreamId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        if !matches!(exchange.state, State::Connecting(_)) {
            return;
        }
        let own = target(&exchange.url);
        let query = exchange.url.query().unwrap_or_default().as_bytes();
        // A redirect may carry the query along.
        let carried = query_pairs(query).any(|(key, _)| key == b"info_hash");
        let asked = match &exchange.ask {
            _ if carried => own,
            Ask::Announce(request) => announce_target(&own, request),
            Ask::Scrape(info_hash) => scrape_target(&own, info_hash),
        };
        let mut bytes = Vec::with_capacity(512);
        let user_agent = if exchange.anonymous { GENERIC_USER_AGENT } else { &self.user_agent };
        write::get(&mut bytes, &exchange.url, &asked, user_agent);
        let parser = ResponseParser::new(Limits::TRACKER);
        let encoding = Encoding::Identity;
        let answer = Answer { parser, status: 0, encoding, body: Vec::new() };
        exchange.state = State::Exchanging(stream, Box::new(answer));
        net.send(stream, Bytes::from(bytes));
        self.arm(net, id, Some(self.config.exchange_timeout));
    }

    pub(super) fn on_received(&mut self, net: &mut dyn Net, id: ExchangeId, mut bytes: Bytes) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let State::Exchanging(stream, answer) = &mut exchange.state else { return };
        let stream = *stream;
        loop {
            match answer.parser.next(&mut bytes) {
                Ok(Some(Item::Head(head))) => {
                    if is_redirect(head.status) {
                        let location = head.headers.get("location");
                        let to = redirect(&exchange.url, location);
                        self.drop_stream(net, stream, Shutdown::Abort);
                        self.on_redirect(net, id, to);
                        return;
                    }
                    let Some(encoding) = Encoding::of(&head.headers) else {
                        self.end(net, id, Err(AnnounceError::Encoding));
                        return;
                    };
                    answer.encoding = encoding;
                    answer.status = head.status;
                }
                Ok(Some(Item::Body(part))) => answer.body.extend_from_slice(&part),
                Ok(Some(Item::End)) => {
                    self.on_answer(net, id);
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    self.end(net, id, Err(error.into()));
                    return;
                }
            }
        }
    }

    /// The stream will bring no more.
    pub(super) fn on_end_of_answer(
        &mut self,
        net: &mut dyn Net,
        id: ExchangeId,
        error: AnnounceError,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        // A body may last as long as its stream. Some servers end that with a reset; one with TLS
        // that was cut is worth nothing.
        let closed = !matches!(error, AnnounceError::Stream(StreamError::Tls(_)));
        let whole = match &mut exchange.state {
            State::Exchanging(_, answer) => {
                closed && matches!(answer.parser.finish(), Ok(Some(Item::End)))
            }
            _ => false,
        };
        if whole {
            self.on_answer(net, id);
            return;
        }
        if let State::Exchanging(stream, _) | State::Connecting(stream) = exchange.state {
            self.drop_stream(net, stream, Shutdown::Abort);
            self.next_address(net, id, error);
        }
    }

    fn on_answer(&mut self, net: &mut dyn Net, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let State::Exchanging(_, answer) = &mut exchange.state else { return };
        let (status, body) = (answer.status, core::mem::take(&mut answer.body));
        let body = answer.encoding.undo(body, Limits::TRACKER.body as usize);
        let result = body.map_err(AnnounceError::from).and_then(|body| match &exchange.ask {
            Ask::Announce(_) => {
                parse_response(&body, status).map(|response| Answered::Announce(response.into()))
            }
            Ask::Scrape(info_hash) => parse_scrape(&body, status, info_hash).map(Answered::Scrape),
        });
        self.end(net, id, result);
    }

    /// The stream to where we were is closed already.
    fn on_redirect(&mut self, net: &mut dyn Net, id: ExchangeId, to: Result<Url, RedirectError>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.state = State::Queued;
        let room = exchange.redirects < REDIRECTS_MAX;
        let to = to.and_then(|to| if room { Ok(to) } else { Err(RedirectError::TooMany) });
        match to {
            Ok(to) => {
                let from = exchange.addresses[exchange.at].ip();
                exchange.from_global |= Scope::of(from) == Scope::Global;
                exchange.redirects += 1;
                exchange.transport = match to.scheme() {
                    "https" => Transport::Https,
                    _ => Transport::Http,
                };
                *exchange.url = to;
                self.locate(net, id);
            }
            Err(error) => self.end_active(id, Err(error.into())),
        }
    }
}
