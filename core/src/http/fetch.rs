//! One file over HTTP, such as a torrent: a root machine of its own.
//!
//! ```text
//!   Get(url) --> locate --> connect --> exchange --+--> Done(body)
//!                  ^  ^        |  ^        |       +--> Failed(why)
//!                  |  |        |  +--------+ next address
//!                  |  +--------+-----------+ redirect
//! ```
//!
//! It does one `GET` at a time, follows redirects under the rules of [`url`](super::url), tries
//! the addresses of a host one after the other, and holds the body in memory. It refuses bodies
//! beyond [`Config::body_max`], compressed or not.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use ::url::Url;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::gzip::{Encoding, GzipError};
use super::url::{
    REDIRECTS_MAX, RedirectError, Scope, URL_MAX, is_reachable, is_redirect, literal_address,
    redirect, target,
};
use super::{Error, Item, Limits, ResponseParser, write};
use crate::ids::{JobId, Slab, StreamId, TimerId};
use crate::machine::{
    Application, Clock, Connect, Deadline, Input, Job, JobOutput, JobResult, Jobs, Machine, Outbox,
    Output, SendQueue, Shutdown, StreamError, StreamInput,
};
use crate::time::{Duration, Instant};
use crate::timers::Timers;

/// Bytes that are read at a time.
pub const RECV_CREDIT: usize = 64 * 1024;

/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// How far a [`Fetch`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest body, in bytes.
    pub body_max: u64,
    /// Time for one address to accept a connection.
    pub connect_timeout: Duration,
    /// Time for all of it, redirects included.
    pub total_timeout: Duration,
}

impl Default for Config {
    /// 10 MiB, 10 seconds, 60 seconds.
    fn default() -> Self {
        Self {
            body_max: 10 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_mins(1),
        }
    }
}

/// What a [`Fetch`] can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Get what is at this URL: one [`Event::Done`] or [`Event::Failed`]. Ends a `GET` that is
    /// under way without one.
    Get(Box<str>),
}

/// What a [`Fetch`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The body.
    Done(Bytes),
    /// Why there is none.
    Failed(FetchError),
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It is not a URL with a host, or too long.
    #[error("not a URL")]
    BadUrl,
    /// It is a URL of another kind than HTTP.
    #[error("only http and https addresses are supported")]
    UnsupportedScheme,
    /// The host has no address, or none that can be used.
    #[error("no such host")]
    NoSuchHost,
    /// The host's addresses were not reached, or the stream broke.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// It took too long.
    #[error("timed out")]
    TimedOut,
    /// The answer is not HTTP, or too long.
    #[error("{0}")]
    Http(#[from] Error),
    /// A redirect is not followed.
    #[error("{0}")]
    Redirect(#[from] RedirectError),
    /// The server answered with another status than success.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The body is compressed in a way that was not asked for.
    #[error("the server sent a body in an encoding that was not asked for")]
    Encoding,
    /// The compressed body is broken, or longer than [`Config::body_max`].
    #[error("{0}")]
    Gzip(#[from] GzipError),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Fetch {
    config: Config,
    clock: Clock,
    out: Outbox,
    jobs: Jobs<()>,
    timers: Timers<Due>,
    connecting: TimerId,
    total: TimerId,
    /// Names streams; holds none but the one in use.
    streams: Slab<StreamId, SendQueue>,
    get: Option<Get>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Connect,
    Total,
}

#[derive(Debug)]
struct Get {
    url: Url,
    redirects: u8,
    /// A redirect came from the internet.
    from_global: bool,
    resolving: Option<JobId>,
    addresses: VecDeque<SocketAddr>,
    /// The address in use.
    at: Option<SocketAddr>,
    stream: Option<StreamId>,
    parser: ResponseParser,
    encoding: Encoding,
    body: Vec<u8>,
}

impl Fetch {
    /// Does nothing yet.
    pub fn new(now: Instant, config: Config) -> Self {
        let mut timers = Timers::new();
        Self {
            connecting: timers.insert(Due::Connect),
            total: timers.insert(Due::Total),
            config,
            clock: Clock::new(now),
            out: Outbox::default(),
            jobs: Jobs::new(),
            timers,
            streams: Slab::new(),
            get: None,
            events: VecDeque::new(),
        }
    }

    fn limits(&self) -> Limits {
        Limits { head: Limits::TRACKER.head, body: self.config.body_max }
    }

    fn arm(&mut self, timer: TimerId, wait: Option<Duration>) {
        let now = self.clock.now();
        self.timers.set(timer, now, wait.map(|wait| now + wait));
    }

    fn drop_stream(&mut self) {
        self.arm(self.connecting, None);
        if let Some(stream) = self.get.as_mut().and_then(|get| get.stream.take())
            && self.streams.remove(stream).is_some()
        {
            self.out.push(Output::Close { stream, how: Shutdown::Abort });
        }
    }

    /// Ends the `GET` under way, without a word.
    fn abandon(&mut self) {
        self.drop_stream();
        self.arm(self.total, None);
        if let Some(job) = self.get.take().and_then(|get| get.resolving) {
            self.out.push(Output::CancelJob(job));
        }
    }

    fn end(&mut self, result: Result<Bytes, FetchError>) {
        self.abandon();
        self.events.push_back(match result {
            Ok(body) => Event::Done(body),
            Err(error) => Event::Failed(error),
        });
    }

    fn begin(&mut self, url: &str) -> Result<(), FetchError> {
        if url.len() > URL_MAX {
            return Err(FetchError::BadUrl);
        }
        let url = Url::parse(url.trim()).map_err(|_| FetchError::BadUrl)?;
        self.get = Some(Get {
            url,
            redirects: 0,
            from_global: false,
            resolving: None,
            addresses: VecDeque::new(),
            at: None,
            stream: None,
            parser: ResponseParser::new(self.limits()),
            encoding: Encoding::Identity,
            body: Vec::new(),
        });
        self.arm(self.total, Some(self.config.total_timeout));
        self.locate()
    }

    fn locate(&mut self) -> Result<(), FetchError> {
        let Some(get) = &mut self.get else { return Ok(()) };
        match get.url.scheme() {
            "http" | "https" => {}
            _ => return Err(FetchError::UnsupportedScheme),
        }
        let host = get.url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(FetchError::BadUrl)?;
        let port = get.url.port_or_known_default().unwrap_or_default();
        if let Some(address) = literal_address(&get.url) {
            return self.on_addresses(&[SocketAddr::new(address, port)]);
        }
        let job = Job::Resolve { host: host.into(), port };
        get.resolving = Some(self.jobs.submit((), job, &mut self.out));
        Ok(())
    }

    fn on_addresses(&mut self, found: &[SocketAddr]) -> Result<(), FetchError> {
        let Some(get) = &mut self.get else { return Ok(()) };
        let mut error = FetchError::NoSuchHost;
        get.addresses.clear();
        for address in found {
            if get.from_global && Scope::of(address.ip()) != Scope::Global {
                error = RedirectError::Private.into();
            } else if is_reachable(*address) && get.addresses.len() < ADDRESSES_MAX {
                get.addresses.push_back(*address);
            }
        }
        self.connect(error)
    }

    /// Tries the next address; after the last one, `error` is the outcome.
    fn connect(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.drop_stream();
        let limits = self.limits();
        let Some(get) = &mut self.get else { return Ok(()) };
        let to = get.addresses.pop_front().ok_or(error)?;
        let stream = self.streams.insert(SendQueue::new());
        (get.at, get.stream) = (Some(to), Some(stream));
        get.parser = ResponseParser::new(limits);
        get.body.clear();
        let tls = (get.url.scheme() == "https").then(|| get.url.host_str().map(Into::into));
        let connect = Connect { stream, to, from: None, tls: tls.flatten() };
        self.out.push(Output::Connect(connect.into()));
        self.arm(self.connecting, Some(self.config.connect_timeout));
        Ok(())
    }

    fn on_stream(&mut self, id: StreamId, input: StreamInput) -> Result<(), FetchError> {
        let Some(send) = self.streams.get_mut(id) else { return Ok(()) };
        let Some(get) = &mut self.get else { return Ok(()) };
        match input {
            StreamInput::Connected { .. } => {
                let mut request = Vec::with_capacity(256);
                write::get(&mut request, &get.url, &target(&get.url), write::USER_AGENT);
                if send.push(request.into()) {
                    self.out.push(Output::WantWrite(id));
                }
                self.arm(self.connecting, None);
                Ok(())
            }
            StreamInput::Sent(count) => {
                send.settle(count);
                Ok(())
            }
            StreamInput::Received(bytes) => self.on_received(bytes),
            StreamInput::ConnectFailed(error) => {
                self.streams.remove(id);
                self.connect(error.into())
            }
            StreamInput::ReadClosed => self.on_end(Error::Truncated.into()),
            StreamInput::Closed(error) => {
                self.streams.remove(id);
                self.on_end(error.into())
            }
        }
    }

    fn on_received(&mut self, mut bytes: Bytes) -> Result<(), FetchError> {
        while let Some(get) = &mut self.get {
            match get.parser.next(&mut bytes)? {
                None => break,
                Some(Item::Head(head)) if is_redirect(head.status) => {
                    let to = redirect(&get.url, head.headers.get("location"))?;
                    if get.redirects >= REDIRECTS_MAX {
                        return Err(RedirectError::TooMany.into());
                    }
                    get.redirects += 1;
                    let global = |at: SocketAddr| Scope::of(at.ip()) == Scope::Global;
                    get.from_global |= get.at.is_some_and(global);
                    get.url = to;
                    self.drop_stream();
                    return self.locate();
                }
                Some(Item::Head(head)) => {
                    if head.status != 200 {
                        return Err(FetchError::Status(head.status));
                    }
                    get.encoding = Encoding::of(&head.headers).ok_or(FetchError::Encoding)?;
                }
                Some(Item::Body(part)) => get.body.extend_from_slice(&part),
                Some(Item::End) => return self.whole(),
            }
        }
        Ok(())
    }

    /// The stream brings no more.
    fn on_end(&mut self, error: FetchError) -> Result<(), FetchError> {
        let Some(get) = &mut self.get else { return Ok(()) };
        // A body may last as long as its stream, but for one with TLS that was cut.
        let closed = !matches!(error, FetchError::Stream(StreamError::Tls(_)));
        if closed && let Ok(Some(Item::End)) = get.parser.finish() {
            return self.whole();
        }
        self.connect(error)
    }

    /// The body is here.
    fn whole(&mut self) -> Result<(), FetchError> {
        let Some(get) = &mut self.get else { return Ok(()) };
        let body = core::mem::take(&mut get.body);
        let max = usize::try_from(self.config.body_max).unwrap_or(usize::MAX);
        let body = get.encoding.undo(body, max)?;
        self.end(Ok(body.into()));
        Ok(())
    }

    fn on_job(&mut self, id: JobId, result: JobResult) -> Result<(), FetchError> {
        self.jobs.complete(id);
        let Some(get) = self.get.as_mut().filter(|get| get.resolving == Some(id)) else {
            return Ok(());
        };
        get.resolving = None;
        match result {
            Ok(JobOutput::Resolved(addresses)) => self.on_addresses(&addresses),
            _ => Err(FetchError::NoSuchHost),
        }
    }

    /// Takes all that is due, also once it ended: what is left would be due for ever.
    fn on_timeout(&mut self) {
        let now = self.clock.now();
        while let Some(due) = self.timers.pop(now) {
            let result = match due {
                Due::Connect => self.connect(StreamError::TimedOut.into()),
                Due::Total => Err(FetchError::TimedOut),
            };
            if let Err(error) = result {
                self.end(Err(error));
            }
        }
    }
}

impl Machine for Fetch {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.clock.advance(now);
        let result = match input {
            Input::Timeout => {
                self.on_timeout();
                Ok(())
            }
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Job(id, result) => self.on_job(id, result),
            Input::Datagram(_) | Input::Listener(..) | Input::Socket(..) | Input::WallClock(_) => {
                Ok(())
            }
        };
        if let Err(error) = result {
            self.end(Err(error));
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.jobs.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next().map(|(at, due)| {
            let reason = match due {
                Due::Connect => "connecting",
                Due::Total => "whole fetch",
            };
            Deadline { at, reason }
        })
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.clock.advance(now);
        self.streams.get_mut(id).map_or(0, |send| send.lend(max, out))
    }

    fn recv_credit(&self, id: StreamId) -> usize {
        if self.streams.contains(id) { RECV_CREDIT } else { 0 }
    }
}

impl Application for Fetch {
    type Command = Command;
    type Event = Event;

    fn handle_command(&mut self, now: Instant, command: Command) {
        self.clock.advance(now);
        let Command::Get(url) = command;
        self.abandon();
        if let Err(error) = self.begin(&url) {
            self.end(Err(error));
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const NOW: Instant = Instant::ORIGIN;

    fn fetch(url: &str) -> Fetch {
        let mut fetch = Fetch::new(NOW, Config::default());
        fetch.handle_command(NOW, Command::Get(url.into()));
        fetch
    }

    fn connect(fetch: &mut Fetch) -> (StreamId, SocketAddr) {
        let (stream, to, tls) = connect_to(fetch);
        assert_eq!(tls, None);
        (stream, to)
    }

    fn connect_to(fetch: &mut Fetch) -> (StreamId, SocketAddr, Option<Box<str>>) {
        loop {
            match fetch.poll_output() {
                Some(Output::Connect(connect)) => return (connect.stream, connect.to, connect.tls),
                Some(_) => {}
                None => panic!("no connection was asked for: {:?}", fetch.poll_event()),
            }
        }
    }

    fn up(fetch: &mut Fetch, stream: StreamId) -> Vec<u8> {
        let local = ([127, 0, 0, 1], 9).into();
        fetch.handle_input(NOW, Input::Stream(stream, StreamInput::Connected { local }));
        let mut parts = vec![];
        let len = fetch.poll_send(NOW, stream, usize::MAX, &mut parts);
        fetch.handle_input(NOW, Input::Stream(stream, StreamInput::Sent(len)));
        parts.concat()
    }

    fn receive(fetch: &mut Fetch, stream: StreamId, answer: &'static str) {
        let received = StreamInput::Received(Bytes::from_static(answer.as_bytes()));
        fetch.handle_input(NOW, Input::Stream(stream, received));
    }

    #[test]
    fn a_body_is_fetched() {
        let mut fetch = fetch("http://127.0.0.1:81/a.torrent?x=1");
        let (stream, to) = connect(&mut fetch);
        assert_eq!(to, ([127, 0, 0, 1], 81).into());
        assert!(up(&mut fetch, stream).starts_with(b"GET /a.torrent?x=1 HTTP/1.1\r\n"));
        receive(&mut fetch, stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
        assert_eq!(fetch.poll_event(), None);
        receive(&mut fetch, stream, "dy");
        assert_eq!(fetch.poll_event(), Some(Event::Done(Bytes::from_static(b"body"))));
        assert_eq!(fetch.recv_credit(stream), 0);
    }

    #[test]
    fn a_driver_that_slept_past_both_timers_is_not_woken_for_them_again() {
        let mut fetch = fetch("http://127.0.0.1/");
        connect(&mut fetch);
        fetch.handle_input(NOW + Duration::from_hours(1), Input::Timeout);
        assert_eq!(fetch.poll_event(), Some(Event::Failed(StreamError::TimedOut.into())));
        assert_eq!(fetch.poll_event(), None);
        assert_eq!(fetch.poll_timeout(), None);
    }

    #[test]
    fn a_body_without_a_length_lasts_as_long_as_its_stream() {
        let mut fetch = fetch("http://127.0.0.1/");
        let (stream, _) = connect(&mut fetch);
        up(&mut fetch, stream);
        receive(&mut fetch, stream, "HTTP/1.1 200 OK\r\n\r\nbody");
        fetch.handle_input(NOW, Input::Stream(stream, StreamInput::ReadClosed));
        assert_eq!(fetch.poll_event(), Some(Event::Done(Bytes::from_static(b"body"))));
    }

    #[test]
    fn a_body_that_is_cut_off_or_too_long_fails() {
        let mut cut = fetch("http://127.0.0.1/");
        let (stream, _) = connect(&mut cut);
        up(&mut cut, stream);
        receive(&mut cut, stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody");
        cut.handle_input(NOW, Input::Stream(stream, StreamInput::Closed(StreamError::Reset)));
        assert_eq!(cut.poll_event(), Some(Event::Failed(StreamError::Reset.into())));

        let mut long = fetch("http://127.0.0.1/");
        let (stream, _) = connect(&mut long);
        up(&mut long, stream);
        receive(&mut long, stream, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n");
        assert_eq!(long.poll_event(), Some(Event::Failed(Error::BodyTooLong.into())));
    }

    #[test]
    fn redirects_are_followed_but_not_for_ever_and_to_tls_but_not_back() {
        let mut fetch = fetch("http://127.0.0.1/a/b");
        for _ in 0..REDIRECTS_MAX {
            let (stream, _) = connect(&mut fetch);
            up(&mut fetch, stream);
            receive(&mut fetch, stream, "HTTP/1.1 302 Found\r\nLocation: c\r\n\r\n");
        }
        let (stream, _) = connect(&mut fetch);
        assert!(up(&mut fetch, stream).starts_with(b"GET /a/c "));
        receive(&mut fetch, stream, "HTTP/1.1 302 Found\r\nLocation: c\r\n\r\n");
        assert_eq!(fetch.poll_event(), Some(Event::Failed(RedirectError::TooMany.into())));

        fetch.handle_command(NOW, Command::Get("http://127.0.0.1/".into()));
        let (stream, _) = connect(&mut fetch);
        up(&mut fetch, stream);
        receive(&mut fetch, stream, "HTTP/1.1 301 x\r\nLocation: https://127.0.0.1/\r\n\r\n");
        let (stream, to, tls) = connect_to(&mut fetch);
        assert_eq!((to.port(), tls.as_deref()), (443, Some("127.0.0.1")));
        up(&mut fetch, stream);
        receive(&mut fetch, stream, "HTTP/1.1 301 x\r\nLocation: http://127.0.0.1/\r\n\r\n");
        assert_eq!(fetch.poll_event(), Some(Event::Failed(RedirectError::Downgrade.into())));
    }

    #[test]
    fn the_addresses_of_a_host_are_tried_in_turn() {
        let mut fetch = fetch("http://host.example/");
        let Some((job, Job::Resolve { port: 80, .. })) = fetch.poll_job() else { panic!("a name") };
        let addresses = [([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into()];
        let found = JobOutput::Resolved(addresses.into());
        fetch.handle_input(NOW, Input::Job(job, Ok(found)));
        let (stream, to) = connect(&mut fetch);
        assert_eq!(to, addresses[0]);
        let refused = StreamInput::ConnectFailed(StreamError::Refused);
        fetch.handle_input(NOW, Input::Stream(stream, refused));
        let (_, to) = connect(&mut fetch);
        assert_eq!(to, addresses[1]);
        // The second one never answers.
        let late = fetch.poll_timeout().expect("a limit for connecting").at;
        fetch.handle_input(late, Input::Timeout);
        assert_eq!(fetch.poll_event(), Some(Event::Failed(StreamError::TimedOut.into())));
    }

    #[test]
    fn urls_that_are_not_http_are_refused() {
        for (url, error) in
            [("ftp://host/", FetchError::UnsupportedScheme), ("no url", FetchError::BadUrl)]
        {
            assert_eq!(fetch(url).poll_event(), Some(Event::Failed(error)), "{url}");
        }
        let mut missing = fetch("http://127.0.0.1/");
        let (stream, _) = connect(&mut missing);
        up(&mut missing, stream);
        receive(&mut missing, stream, "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(missing.poll_event(), Some(Event::Failed(FetchError::Status(404))));
    }
}
