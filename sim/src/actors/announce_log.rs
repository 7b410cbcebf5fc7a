//! An honest tracker that writes down what it is told, and notices what must not be.
//!
//! It is `teem-core`'s own tracker with an ear at its streams: what is asked is read a second time
//! beside it, and what it answers is not touched.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::http::url::{percent_decode, query_pairs};
use teem_core::http::{Item, Limits, RequestParser};
use teem_core::ids::{CommandToken, InfoHash, PeerId, StreamId};
use teem_core::machine::{Application, Deadline, Incoming, Input, Machine, Output, StreamInput};
use teem_core::rng::Seed;
use teem_core::time::Instant;
use teem_core::tracker::announce::AnnounceEvent;
use teem_core::tracker::server::{Command, Config, Server, Stats};

/// Announces that are kept; later ones are checked and [counted](AnnounceLog::forgotten).
pub const ANNOUNCES_MAX: usize = 1_000_000;

/// Violations that are kept.
const VIOLATIONS_MAX: usize = 1_000;

/// One announce, as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// When it was read.
    pub at: Instant,
    /// Where the stream came from.
    pub from: SocketAddr,
    /// The swarm.
    pub info_hash: InfoHash,
    /// Who says so.
    pub peer_id: PeerId,
    /// Where it listens.
    pub port: u16,
    /// Why it announces.
    pub event: AnnounceEvent,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes missing.
    pub left: u64,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The announce in question; none if it could not be read as one.
    pub announce: Option<Announced>,
    /// What is wrong with it.
    pub rule: Rule,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.announce {
            Some(Announced { at, from, peer_id, .. }) => {
                write!(f, "{at:?}, {from} ({peer_id}): {}", self.rule)
            }
            None => write!(f, "{}", self.rule),
        }
    }
}

/// A rule of BEP 3 for the announces of one peer about one torrent.
///
/// That `started` or `completed` comes twice in a row is none of them: one whose answer was lost says
/// it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// The first announce of a run is `started`.
    #[error("announced without having started")]
    StartsFirst,
    /// Nothing but another `started` comes after `stopped`.
    #[error("announced after it had stopped")]
    StopsLast,
    /// A run is completed once.
    #[error("completed twice")]
    CompletesOnce,
    /// What is completed lacks nothing.
    #[error("completed with bytes missing")]
    CompletesWithNothingLeft,
    /// What was complete when it started is not completed.
    #[error("completed what was complete from the start")]
    CompletesWhatWasNot,
    /// What was sent and received only grows within a run.
    #[error("counters went backwards")]
    CountersGrow,
    /// An announce names swarm, peer and port, and numbers are numbers.
    #[error("an announce that cannot be read")]
    Readable,
}

/// An honest tracker that writes down what it is told, and which rules were broken.
///
/// It is `teem-core`'s own tracker with an ear at its streams; what it answers is not touched.
#[derive(Debug)]
pub struct AnnounceLog {
    server: Server,
    ears: BTreeMap<StreamId, (SocketAddr, RequestParser)>,
    ledger: Ledger,
    now: Instant,
}

/// All announces, and how far each peer is.
#[derive(Debug, Default)]
struct Ledger {
    announces: Vec<Announced>,
    forgotten: u64,
    runs: BTreeMap<(InfoHash, PeerId), Run>,
    violations: Vec<Violation>,
}

/// One peer's run, from its last `started` on.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: Announced,
    started_complete: bool,
    completed: bool,
    stopped: bool,
}

impl AnnounceLog {
    /// A tracker that listens there.
    pub fn new(listen: SocketAddr, config: Config, seed: &Seed) -> Self {
        let now = Instant::ORIGIN;
        let mut server = Server::new(now, config, seed);
        server.handle_command(now, Command::Listen(CommandToken(0), listen));
        Self { server, ears: BTreeMap::new(), ledger: Ledger::default(), now }
    }

    /// All announces, oldest first.
    pub fn announces(&self) -> &[Announced] {
        &self.ledger.announces
    }

    /// Announces that were not kept.
    pub const fn forgotten(&self) -> u64 {
        self.ledger.forgotten
    }

    /// What was not as it must be, oldest first; the first thousand.
    pub fn violations(&self) -> &[Violation] {
        &self.ledger.violations
    }

    /// Peers that started and did not stop.
    pub fn running(&self) -> usize {
        self.ledger.runs.values().filter(|run| !run.stopped).count()
    }

    /// What the tracker itself counts.
    pub fn stats(&self) -> Stats {
        self.server.stats()
    }

    fn overhear(&mut self, id: StreamId, mut bytes: Bytes) {
        let Some((from, parser)) = self.ears.get_mut(&id) else { return };
        while let Ok(Some(item)) = parser.next(&mut bytes) {
            let Item::Head(head) = item else { continue };
            let path = head.target.split(|byte| *byte == b'?').next().unwrap_or_default();
            if !path.ends_with(b"/announce") {
                continue;
            }
            let query = head.target.get(path.len() + 1..).unwrap_or_default();
            match read(query, self.now, *from) {
                Some(announce) => self.ledger.enter(announce),
                None => self.ledger.violated(None, Rule::Readable),
            }
        }
    }
}

/// An announce out of its query.
fn read(query: &[u8], at: Instant, from: SocketAddr) -> Option<Announced> {
    let value = |wanted: &str| {
        query_pairs(query).find(|(key, _)| *key == wanted.as_bytes()).map(|(_, value)| value)
    };
    let name = |key| <[u8; 20]>::try_from(percent_decode(value(key)?).as_ref()).ok();
    let number = |key| std::str::from_utf8(value(key)?).ok()?.parse::<u64>().ok();
    Some(Announced {
        at,
        from,
        info_hash: InfoHash(name("info_hash")?),
        peer_id: PeerId(name("peer_id")?),
        port: u16::try_from(number("port")?).ok()?,
        event: match value("event") {
            None | Some(b"" | b"empty") => AnnounceEvent::None,
            Some(b"started") => AnnounceEvent::Started,
            Some(b"completed") => AnnounceEvent::Completed,
            Some(b"stopped") => AnnounceEvent::Stopped,
            Some(_) => return None,
        },
        uploaded: number("uploaded")?,
        downloaded: number("downloaded")?,
        left: number("left")?,
    })
}

impl Ledger {
    fn violated(&mut self, announce: Option<Announced>, rule: Rule) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { announce, rule });
        }
    }

    fn enter(&mut self, now: Announced) {
        if self.announces.len() < ANNOUNCES_MAX {
            self.announces.push(now);
        } else {
            self.forgotten += 1;
        }
        let key = (now.info_hash, now.peer_id);
        let before = self.runs.get(&key).copied();
        let mut broken = Vec::new();
        // One whose first announce was held up may have become complete meanwhile.
        let started_complete = now.left == 0 && now.downloaded == 0;
        let fresh = Run { last: now, started_complete, completed: false, stopped: false };
        let mut run = match (before, now.event) {
            (None, AnnounceEvent::Started) => fresh,
            (Some(run), AnnounceEvent::Started) if run.stopped => fresh,
            (Some(run), AnnounceEvent::Started) => run,
            (Some(run), _) => {
                if run.stopped {
                    broken.push(Rule::StopsLast);
                }
                run
            }
            (None, _) => {
                broken.push(Rule::StartsFirst);
                // How it was when it should have started is not known.
                Run { started_complete: false, ..fresh }
            }
        };
        if now.uploaded < run.last.uploaded || now.downloaded < run.last.downloaded {
            broken.push(Rule::CountersGrow);
        }
        match now.event {
            AnnounceEvent::Completed => {
                let said_again = run.last.event == AnnounceEvent::Completed
                    && run.last.downloaded == now.downloaded;
                if run.completed && !said_again {
                    broken.push(Rule::CompletesOnce);
                }
                if now.left > 0 {
                    broken.push(Rule::CompletesWithNothingLeft);
                }
                if run.started_complete {
                    broken.push(Rule::CompletesWhatWasNot);
                }
                run.completed = true;
            }
            AnnounceEvent::Stopped => run.stopped = true,
            AnnounceEvent::None | AnnounceEvent::Started => {}
        }
        run.last = now;
        self.runs.insert(key, run);
        for rule in broken {
            self.violated(Some(now), rule);
        }
    }
}

impl Machine for AnnounceLog {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        match &input {
            Input::Stream(id, StreamInput::Received(bytes)) => self.overhear(*id, bytes.clone()),
            Input::Stream(id, StreamInput::Closed(_)) => {
                self.ears.remove(id);
            }
            _ => {}
        }
        self.server.handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        let id = self.server.accept(now, incoming)?;
        self.ears.insert(id, (incoming.from, RequestParser::new(Limits::GET)));
        Some(id)
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.server.poll_output()?;
        if let Output::Close { stream, .. } = &output {
            self.ears.remove(stream);
        }
        Some(output)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.server.poll_timeout()
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.server.poll_send(now, id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.server.recv_credit(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=%62bbbbbbbbbbbbbbbbbbb&port=6881";

    fn announce(rest: &str) -> Option<Announced> {
        let query = format!("{QUERY}&uploaded=0&downloaded=0&{rest}");
        read(query.as_bytes(), Instant::ORIGIN, "192.0.2.1:5".parse().expect("an address"))
    }

    /// The rules that a peer breaks that announces so.
    fn broken(announces: &[&str]) -> Vec<Rule> {
        let mut ledger = Ledger::default();
        for rest in announces {
            ledger.enter(announce(rest).expect("it can be read"));
        }
        ledger.violations.iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn an_announce_is_read_as_it_is_written() {
        let read = announce("left=7&event=started&compact=1").expect("it can be read");
        assert_eq!(read.info_hash, InfoHash([b'a'; 20]));
        assert_eq!(read.peer_id, PeerId([b'b'; 20]));
        assert_eq!((read.port, read.left, read.event), (6881, 7, AnnounceEvent::Started));
        assert_eq!(announce("event=started"), None, "nothing said of what is left");
        assert_eq!(announce("left=7&event=paused"), None);
        assert_eq!(announce("left=-7"), None);
    }

    #[test]
    fn runs_by_the_book_break_nothing() {
        let run = ["left=9&event=started", "left=5", "left=0&event=completed", "left=0"];
        assert_eq!(broken(&run), []);
        let twice = ["left=0&event=started", "left=0&event=stopped", "left=0&event=started"];
        assert_eq!(broken(&twice), []);
        assert_eq!(broken(&["left=9&event=started", "left=9&event=started"]), []);
    }

    #[test]
    fn each_rule_is_held() {
        assert_eq!(broken(&["left=9"]), [Rule::StartsFirst]);
        let late = ["left=9&event=started", "left=9&event=stopped", "left=9"];
        assert_eq!(broken(&late), [Rule::StopsLast]);
        let again = ["left=9&event=started", "left=0&event=completed", "left=0&event=completed"];
        assert_eq!(broken(&again), []);
        let twice = [&again[..2], &["left=0"], &again[2..]].concat();
        assert_eq!(broken(&twice), [Rule::CompletesOnce]);
        let early = ["left=9&event=started", "left=1&event=completed"];
        assert_eq!(broken(&early), [Rule::CompletesWithNothingLeft]);
        let seed = ["left=0&event=started", "left=0&event=completed"];
        assert_eq!(broken(&seed), [Rule::CompletesWhatWasNot]);
    }
}
