//! Encrypted handshakes: both roles at once, with bytes changed on the way, and each against noise.
//!
//! What is in RC4 changes bit by bit with what carries it, so a change on the way reaches every
//! field: methods, lengths of padding and of the initial payload, the verification constant.

use bytes::Bytes;
use teem_core::ids::InfoHash;
use teem_core::mse::{
    Error, Established, INITIAL_PAYLOAD_MAX, Initiator, Method, PADDING_MAX, PUBLIC_KEY_LEN,
    Responder, torrent_mark,
};
use teem_core::rng::{Rng, Seed};

use crate::script::Script;

const TORRENT: InfoHash = InfoHash([7; 20]);

const METHODS: [&[Method]; 4] = [
    &[Method::Rc4],
    &[Method::Plaintext],
    &[Method::Plaintext, Method::Rc4],
    &[Method::Rc4, Method::Plaintext],
];

/// Most bytes that one side may take before it is through, or gives up: a key, padding twice, the
/// marks, the fields and the initial payload.
const TAKEN_MAX: usize =
    PUBLIC_KEY_LEN + 2 * PADDING_MAX as usize + 20 + 20 + 16 + INITIAL_PAYLOAD_MAX as usize;

/// Most bytes that one side may say.
const SAID_MAX: usize = TAKEN_MAX;

/// Changes on the way.
const EDITS_MAX: usize = 8;

/// What goes wrong between the two.
#[derive(Clone, Copy, Debug, Default)]
struct Edit {
    to_responder: bool,
    at: usize,
    change: u8,
}

/// The two sides' settings.
#[derive(Clone, Copy, Debug)]
struct Setting {
    offer: &'static [Method],
    allowed: &'static [Method],
    seed: u64,
    initial: usize,
}

type End = Result<Option<(Method, Bytes)>, Error>;

/// One end: what it was sent, how far it has read, and what became of it.
#[derive(Debug)]
struct Side {
    input: Vec<u8>,
    edited: usize,
    read: usize,
    left: usize,
    end: End,
}

impl Side {
    const fn new() -> Self {
        Self { input: Vec::new(), edited: 0, read: 0, left: 0, end: Ok(None) }
    }

    /// Changes what is new in the input.
    fn edit(&mut self, edits: &[Edit], responder: bool) {
        for edit in edits.iter().filter(|edit| edit.to_responder == responder) {
            if edit.at >= self.edited
                && let Some(byte) = self.input.get_mut(edit.at)
            {
                *byte ^= edit.change;
            }
        }
        self.edited = self.input.len();
    }

    /// The next bytes, at most `step`.
    fn next(&mut self, step: usize) -> Bytes {
        let end = self.input.len().min(self.read.saturating_add(step));
        let part = Bytes::copy_from_slice(&self.input[self.read..end]);
        self.read = end;
        part
    }

    /// The outcome of a call that left `rest`, and that said `said` bytes in all so far.
    fn note(&mut self, rest: &Bytes, said: usize, result: Result<Option<Established>, Error>) {
        self.left += rest.len();
        assert!(said <= SAID_MAX);
        assert!(self.read - self.left <= TAKEN_MAX, "it takes too much");
        match result {
            Ok(None) => {
                let over = !matches!(self.end, Ok(None));
                assert!(over || rest.is_empty(), "all of it was taken");
                assert!(self.end.is_ok(), "errors are final");
            }
            Ok(Some(established)) => {
                assert!(matches!(self.end, Ok(None)), "once");
                assert_eq!(established.torrent, TORRENT);
                self.end = Ok(Some((established.method(), established.initial)));
            }
            Err(error) => match &self.end {
                Err(before) => assert_eq!(*before, error, "errors are final"),
                Ok(before) => {
                    assert!(before.is_none(), "an end is an end");
                    self.end = Err(error);
                }
            },
        }
    }
}

fn rng(seed: u64) -> Rng {
    Seed::from_number(seed).stream("mse", 0)
}

fn find(mark: &[u8; 20]) -> Option<InfoHash> {
    (*mark == torrent_mark(&TORRENT)).then_some(TORRENT)
}

/// Both sides until nobody has anything to say: initiator and responder.
fn shake(setting: Setting, edits: &[Edit], step: usize) -> [Side; 2] {
    let mut rng = rng(setting.seed);
    let (mut a, mut b) = (Side::new(), Side::new());
    let initial = vec![0xaa; setting.initial];
    let mut initiator = Initiator::new(TORRENT, setting.offer, &initial, &mut rng, &mut b.input);
    let mut responder = Responder::new(setting.allowed, &mut rng);
    loop {
        a.edit(edits, false);
        b.edit(edits, true);
        if a.read == a.input.len() && b.read == b.input.len() {
            return [a, b];
        }
        if b.read < b.input.len() {
            let mut part = b.next(step);
            let result = responder.receive(&mut part, find, &mut a.input);
            b.note(&part, a.input.len(), result);
        }
        a.edit(edits, false);
        if a.read < a.input.len() {
            let mut part = a.next(step);
            let result = initiator.receive(&mut part, &mut b.input);
            a.note(&part, b.input.len(), result);
        }
    }
}

/// Encrypted handshakes: the same end however the bytes are cut, errors that are final, bounds, and
/// agreement if nothing was changed on the way.
pub fn mse(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let setting = Setting {
        offer: METHODS[script.below(4)],
        allowed: METHODS[script.below(4)],
        seed: script.byte().into(),
        initial: usize::from(script.u16() % (INITIAL_PAYLOAD_MAX + 1)),
    };
    let step = usize::from(script.byte()) + 1;
    let mut edits = [Edit::default(); EDITS_MAX];
    let count = script.below(EDITS_MAX + 1);
    for edit in &mut edits[..count] {
        let at = usize::from(script.u16());
        *edit = Edit { to_responder: script.flag(), at, change: script.byte() };
    }
    let whole = shake(setting, &edits, usize::MAX);
    let cut = shake(setting, &edits, step);
    for (whole, cut) in whole.iter().zip(&cut) {
        assert_eq!(whole.end, cut.end, "in steps of {step}");
        // Whoever fails may not have heard all that the other said before it failed.
        if whole.end.is_ok() {
            assert_eq!(whole.read - whole.left, cut.read - cut.left);
        }
    }
    if edits.iter().all(|edit| edit.change == 0) {
        let common = setting.allowed.iter().find(|method| setting.offer.contains(method));
        let [a, b] = whole;
        if let Some(method) = common {
            assert_eq!(a.end, Ok(Some((*method, Bytes::new()))));
            assert_eq!(b.end, Ok(Some((*method, vec![0xaa; setting.initial].into()))));
        } else {
            assert!(matches!(b.end, Err(Error::NothingInCommon(_))));
        }
    }
    noise(setting, script.rest(), step);
}

/// Each role against bytes that are no handshake.
fn noise(setting: Setting, bytes: &[u8], step: usize) {
    let mut out = Vec::new();
    let mut rng = rng(setting.seed);
    let mut initiator = Initiator::new(TORRENT, setting.offer, b"", &mut rng, &mut out);
    let mut responder = Responder::new(setting.allowed, &mut rng);
    let (mut a, mut b) = (Side::new(), Side::new());
    (a.input, b.input) = (bytes.to_vec(), bytes.to_vec());
    while a.read < bytes.len() {
        let (mut to_a, mut to_b) = (a.next(step), b.next(step));
        let result = initiator.receive(&mut to_a, &mut out);
        a.note(&to_a, 0, result);
        let result = responder.receive(&mut to_b, find, &mut out);
        b.note(&to_b, 0, result);
        assert!(out.len() <= 2 * SAID_MAX);
    }
    assert!(!matches!((a.end, b.end), (Ok(Some(_)), _) | (_, Ok(Some(_)))), "nobody guesses that");
}
