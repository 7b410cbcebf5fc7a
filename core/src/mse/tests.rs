//! Both sides at once, and each against somebody who breaks the rules.

use super::*;
use crate::rng::{Rng, Seed};
use proptest::collection;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::vec;

const TORRENT: InfoHash = InfoHash([7; 20]);
const HELLO: &[u8] = b"the handshake of BitTorrent";

const PLAINTEXT: &[Method] = &[Method::Plaintext];
const RC4: &[Method] = &[Method::Rc4];
const EITHER: &[Method] = &[Method::Plaintext, Method::Rc4];
const RC4_FIRST: &[Method] = &[Method::Rc4, Method::Plaintext];

fn rng(number: u64) -> Rng {
    Seed::from_number(number).stream("mse", 0)
}

fn find(mark: &[u8; 20]) -> Option<InfoHash> {
    (*mark == torrent_mark(&TORRENT)).then_some(TORRENT)
}

/// One side of a stream: what it is to receive, and what became of it.
#[derive(Default)]
struct Side {
    input: Vec<u8>,
    established: Option<Established>,
    rest: Vec<u8>,
}

/// Both sides, the bytes between them cut as `cuts` say.
fn shake(
    offer: &'static [Method],
    allowed: &'static [Method],
    seed: u64,
    cuts: &[usize],
) -> Result<[Side; 2], Error> {
    let mut rng = rng(seed);
    let (mut a, mut b) = (Side::default(), Side::default());
    let mut initiator = Initiator::new(TORRENT, offer, HELLO, &mut rng, &mut b.input);
    let mut responder = Responder::new(allowed, &mut rng);
    let mut cuts = cuts.iter().copied().cycle();
    while !a.input.is_empty() || !b.input.is_empty() {
        for (ours, at_responder) in [(true, true), (false, false)] {
            let (side, other) = if at_responder { (&mut b, &mut a) } else { (&mut a, &mut b) };
            let take = cuts.next().unwrap_or(usize::MAX).min(side.input.len());
            let mut part = Bytes::from(side.input.drain(..take).collect::<Vec<_>>());
            let established = if ours {
                responder.receive(&mut part, find, &mut other.input)?
            } else {
                initiator.receive(&mut part, &mut other.input)?
            };
            if established.is_some() {
                assert!(side.established.is_none(), "once");
                side.established = established;
            }
            side.rest.extend_from_slice(&part);
        }
    }
    Ok([a, b])
}

/// A responder that got this far with an initiator that keeps the rules, its secret, and what the
/// initiator is about to say: the part that hides the torrent, and what is encrypted, not yet so.
struct Scripted {
    responder: Responder,
    cipher: Cipher,
    marks: Vec<u8>,
}

fn scripted(allowed: &'static [Method]) -> Scripted {
    let mut rng = rng(5);
    let mut responder = Responder::new(allowed, &mut rng);
    let key = PrivateKey::random(&mut rng);
    let mut answer = Vec::new();
    let mut input = Bytes::copy_from_slice(&key.public());
    let none = responder.receive(&mut input, find, &mut answer).expect("a good key");
    assert!(none.is_none());
    let theirs = answer.first_chunk().expect("a key");
    let secret = key.agree(theirs).expect("a good key");
    let marks = [keys::sync_mark(&secret), keys::hide(torrent_mark(&TORRENT), &secret)].concat();
    Scripted { responder, cipher: keys::cipher(&secret, &TORRENT, true), marks }
}

impl Scripted {
    /// Says what was left of the script, and `fields` encrypted.
    fn say(&mut self, fields: &[u8]) -> Result<Option<Established>, Error> {
        let mut fields = fields.to_vec();
        self.cipher.send.apply(&mut fields);
        self.marks.extend(fields);
        let mut input = Bytes::from(core::mem::take(&mut self.marks));
        let result = self.responder.receive(&mut input, find, &mut Vec::new());
        if let Err(error) = result {
            // It is final, and takes nothing.
            let mut more = Bytes::from_static(&[0; 2000]);
            let again = self.responder.receive(&mut more, find, &mut Vec::new());
            assert_eq!(again.err(), Some(error));
        }
        result
    }
}

/// An initiator that has the other key, and the cipher of who answers.
fn asked(offer: &'static [Method]) -> (Initiator, Cipher) {
    let mut rng = rng(6);
    let mut out = Vec::new();
    let mut initiator = Initiator::new(TORRENT, offer, HELLO, &mut rng, &mut out);
    let key = PrivateKey::random(&mut rng);
    let secret = key.agree(out.first_chunk().expect("a key")).expect("a good key");
    let mut input = Bytes::copy_from_slice(&key.public());
    assert!(initiator.receive(&mut input, &mut out).expect("a good key").is_none());
    (initiator, keys::cipher(&secret, &TORRENT, false))
}

fn select(initiator: &mut Initiator, cipher: &mut Cipher, fields: &[u8]) -> Result<bool, Error> {
    let mut fields = fields.to_vec();
    cipher.send.apply(&mut fields);
    let result = initiator.receive(&mut fields.into(), &mut Vec::new());
    result.map(|established| established.is_some())
}

fn methods(bits: u32, padding: u16) -> Vec<u8> {
    [&[0; 8][..], &bits.to_be_bytes(), &padding.to_be_bytes()].concat()
}

#[test]
fn every_pair_agrees_on_what_the_responder_likes_best_of_what_it_was_offered() {
    use Method::{Plaintext, Rc4};
    let all = [PLAINTEXT, RC4, EITHER, RC4_FIRST];
    let wanted = [
        [Some(Plaintext), None, Some(Plaintext), Some(Plaintext)],
        [None, Some(Rc4), Some(Rc4), Some(Rc4)],
        [Some(Plaintext), Some(Rc4), Some(Plaintext), Some(Rc4)],
        [Some(Plaintext), Some(Rc4), Some(Plaintext), Some(Rc4)],
    ];
    let mut pairs = 0;
    for (offer, row) in all.iter().zip(wanted) {
        for (allowed, wanted) in all.iter().zip(row) {
            pairs += 1;
            let Some(wanted) = wanted else {
                let error = shake(offer, allowed, 1, &[usize::MAX]).err();
                assert_eq!(error, Some(Error::NothingInCommon(Method::bits(offer))));
                continue;
            };
            let sides = shake(offer, allowed, 1, &[usize::MAX]).expect("both keep the rules");
            for side in sides {
                let established = side.established.expect("agreed");
                assert_eq!((established.torrent, established.method()), (TORRENT, wanted));
            }
        }
    }
    assert_eq!(pairs, 16);
}

#[test]
fn what_follows_is_the_same_at_both_ends() {
    let [a, b] = shake(RC4, RC4, 3, &[usize::MAX]).expect("both keep the rules");
    let (a, b) = (a.established.expect("agreed"), b.established.expect("agreed"));
    assert_eq!((&a.initial[..], &b.initial[..]), (&b""[..], HELLO));
    let (mut a, mut b) = (a.cipher.expect("RC4"), b.cipher.expect("RC4"));
    for _ in 0..2 {
        let mut text = *b"some bytes";
        a.send.apply(&mut text);
        assert_ne!(text, *b"some bytes");
        assert_eq!(b.open(&text), b"some bytes"[..]);
        core::mem::swap(&mut a, &mut b);
    }
}

#[test]
fn padding_is_random_and_within_its_bounds() {
    let mut lengths = vec![];
    for seed in 0..200 {
        let mut out = Vec::new();
        Initiator::new(TORRENT, RC4, HELLO, &mut rng(seed), &mut out);
        lengths.push(out.len() - PUBLIC_KEY_LEN);
        let responder = Responder::new(RC4, &mut rng(seed));
        assert!(responder.padding <= ZERO_PADDING_MAX);
        assert!(responder.greeting.len() - PUBLIC_KEY_LEN <= usize::from(PADDING_MAX));
    }
    assert!(*lengths.iter().max().expect("some") <= usize::from(PADDING_MAX));
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 100, "{} lengths", lengths.len());
}

#[test]
fn the_longest_padding_is_taken_and_one_byte_more_is_not() {
    for (extra, wanted) in [(0, None), (1, Some(Error::NoSync))] {
        let mut script = scripted(RC4);
        let padding = vec![0; usize::from(PADDING_MAX) + extra];
        script.marks.splice(0..0, padding);
        assert_eq!(script.say(&[]).err(), wanted);
    }
    // The same at the other end, where the mark is the verification constant itself.
    for (extra, wanted) in [(0, Ok(true)), (1, Err(Error::NoSync))] {
        let (mut initiator, mut cipher) = asked(RC4);
        let mut padding = Bytes::from(vec![0; usize::from(PADDING_MAX) + extra]);
        assert!(matches!(initiator.receive(&mut padding, &mut Vec::new()), Ok(None)));
        assert_eq!(select(&mut initiator, &mut cipher, &methods(2, 0)), wanted);
    }
}

#[test]
fn padding_that_is_announced_is_skipped_up_to_its_bound() {
    for (len, wanted) in [(512, None), (513, Some(Error::Padding(513)))] {
        let padding = vec![9; usize::from(len)];
        let fields = [&methods(2, len)[..], &padding, &[0, 3], b"abc"].concat();
        let result = scripted(RC4).say(&fields);
        assert_eq!(result.as_ref().err().copied(), wanted);
        if let Ok(established) = result {
            assert_eq!(established.expect("all of it").initial, b"abc"[..]);
        }
        let (mut initiator, mut cipher) = asked(RC4);
        let fields = [&methods(2, len)[..], &padding].concat();
        let result = select(&mut initiator, &mut cipher, &fields);
        assert_eq!(result, wanted.map_or(Ok(true), Err));
    }
}

#[test]
fn initial_payload_has_a_bound() {
    let fields = |len: u16| [methods(2, 0), len.to_be_bytes().to_vec()].concat();
    let over = INITIAL_PAYLOAD_MAX + 1;
    assert_eq!(scripted(RC4).say(&fields(over)).err(), Some(Error::InitialPayload(over)));
    let mut script = scripted(RC4);
    assert!(script.say(&fields(INITIAL_PAYLOAD_MAX)).expect("a legal length").is_none());
    let payload = vec![1; usize::from(INITIAL_PAYLOAD_MAX)];
    let established = script.say(&payload).expect("legal").expect("all of it is there");
    assert_eq!(established.initial, payload);
}

#[test]
fn whoever_has_other_keys_or_wants_another_torrent_is_refused() {
    let mut script = scripted(RC4);
    script.marks[39] ^= 1;
    assert_eq!(script.say(&[]).err(), Some(Error::UnknownTorrent));
    let mut fields = methods(2, 0);
    fields[7] = 1;
    assert_eq!(scripted(RC4).say(&fields).err(), Some(Error::Verification));
    let error = scripted(RC4).say(&methods(0xffff_fffd, 0)).err();
    assert_eq!(error, Some(Error::NothingInCommon(0xffff_fffd)));
}

#[test]
fn a_selection_must_be_one_of_the_methods_that_were_offered() {
    for (offer, bits) in [(RC4, 1), (PLAINTEXT, 2), (EITHER, 3), (EITHER, 0), (EITHER, 4)] {
        let (mut initiator, mut cipher) = asked(offer);
        let result = select(&mut initiator, &mut cipher, &methods(bits, 0));
        assert_eq!(result, Err(Error::Selected(bits)));
        let again = initiator.receive(&mut Bytes::from_static(b"more"), &mut Vec::new());
        assert_eq!(again.err(), Some(Error::Selected(bits)));
    }
}

#[test]
fn a_public_key_that_fixes_the_secret_ends_either_role() {
    for byte in [0, 0xff] {
        let bad = Bytes::from(vec![byte; PUBLIC_KEY_LEN]);
        let mut out = Vec::new();
        let mut initiator = Initiator::new(TORRENT, RC4, HELLO, &mut rng(1), &mut out);
        let result = initiator.receive(&mut bad.clone(), &mut out);
        assert_eq!(result.err(), Some(Error::PublicKey));
        let mut responder = Responder::new(RC4, &mut rng(1));
        let mut out = Vec::new();
        let result = responder.receive(&mut bad.clone(), find, &mut out);
        assert_eq!(result.err(), Some(Error::PublicKey));
        assert!(out.is_empty(), "nothing is said to whom it is of no use");
    }
}

#[test]
fn a_responder_that_never_synchronises_is_given_up_after_the_padding() {
    let (mut initiator, _) = asked(RC4);
    let mut noise = Bytes::from(vec![0x55; 2000]);
    let result = initiator.receive(&mut noise, &mut Vec::new());
    assert_eq!(result.err(), Some(Error::NoSync));
    assert_eq!(2000 - noise.len(), usize::from(PADDING_MAX) + VERIFICATION.len());
}

#[test]
fn marks_are_hashes_of_a_name_and_what_they_mark() {
    // What plain hashing (coreutils' sha1sum) gives for a secret of 96 bytes 0x01 and a torrent
    // of 20 bytes 0x02.
    let secret = [1; PUBLIC_KEY_LEN];
    let torrent = InfoHash([2; 20]);
    let hex = |bytes| std::format!("{}", InfoHash(bytes));
    assert_eq!(hex(keys::sync_mark(&secret)), "9ccfd0c27d80ebf95c871922da64f88a8a2faddd");
    assert_eq!(hex(torrent_mark(&torrent)), "b117ed9221ce77a025c2ddcf374bef56c5789c24");
    assert_eq!(hex(keys::hide([0; 20], &secret)), "2859857d4c04a5e989e3e83a50ad3d7503c8830d");
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_ends_the_same(
        seed in 0_u64..1000,
        cuts in collection::vec(1_usize..300, 1..20),
    ) {
        let [a, b] = shake(EITHER, RC4_FIRST, seed, &cuts).expect("both keep the rules");
        prop_assert!(a.rest.is_empty() && b.rest.is_empty());
        let (a, b) = (a.established.expect("agreed"), b.established.expect("agreed"));
        prop_assert_eq!(&b.initial[..], HELLO);
        prop_assert_eq!(a.method(), Method::Rc4);
        let mut text = *b"some bytes";
        a.cipher.expect("RC4").send.apply(&mut text);
        prop_assert_eq!(&b.cipher.expect("RC4").open(&text)[..], &b"some bytes"[..]);
    }

    #[test]
    fn what_follows_the_handshake_is_left(seed in 0_u64..200, after in 1_usize..100, cut in 1_usize..200) {
        // An initiator that sends on at once, without waiting to hear what was selected.
        let mut script = scripted(RC4);
        script.marks.splice(0..0, vec![0; (seed % 512) as usize]);
        let mut fields = [&methods(2, 5)[..], &[0; 5], &[0, 2], b"ab"].concat();
        script.cipher.send.apply(&mut fields);
        let tail = vec![0xee; after];
        let all = [core::mem::take(&mut script.marks), fields, tail.clone()].concat();
        let mut rest = Vec::new();
        let mut established = None;
        for part in all.chunks(cut) {
            let mut part = Bytes::copy_from_slice(part);
            let result = script.responder.receive(&mut part, find, &mut Vec::new());
            if let Some(end) = result.expect("it keeps the rules") {
                established = Some(end);
            }
            rest.extend_from_slice(&part);
        }
        prop_assert_eq!(&established.expect("all of it").initial[..], b"ab");
        prop_assert_eq!(rest, tail);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_never_held_beyond_the_bounds(
        parts in collection::vec(collection::vec(any::<u8>(), 0..400), 0..8),
    ) {
        let mut out = Vec::new();
        let mut initiator = Initiator::new(TORRENT, EITHER, HELLO, &mut rng(1), &mut out);
        let mut responder = Responder::new(EITHER, &mut rng(2));
        for part in parts {
            let mut input = Bytes::from(part);
            let _ = initiator.receive(&mut input.clone(), &mut out);
            let _ = responder.receive(&mut input, find, &mut out);
            prop_assert!(initiator.held.0.len() <= 520 && responder.held.0.len() <= 532);
        }
        prop_assert!(out.len() <= 3 * 1024);
    }
}
