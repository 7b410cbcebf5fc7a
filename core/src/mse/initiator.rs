//! The side that connected.
//!
//! ```text
//!        Yb           PadB, VC           crypto_select              PadD
//!   Key -----> Sync --------------> Select -------------> Padding -------> established
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    Cipher, Error, Established, Held, Method, PrivateKey, Rc4, VERIFICATION, keys, put_key,
    put_methods, read_methods, skip, zero_padding,
};
use crate::ids::InfoHash;
use crate::rng::Rng;

/// A handshake with whom we connected to. See the [module](super).
#[derive(Debug)]
pub struct Initiator {
    torrent: InfoHash,
    offer: &'static [Method],
    key: PrivateKey,
    initial: Vec<u8>,
    padding: u16,
    pub(super) held: Held,
    /// There from the other side's key on.
    cipher: Option<Box<Cipher>>,
    step: Step,
}

/// What is on its way.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The other public key.
    Key,
    /// Padding, and this, which is what zeros become in the other direction.
    Sync([u8; VERIFICATION.len()]),
    /// The answer to what we offered.
    Select,
    /// So much more padding.
    Padding(Method, u16),
    /// Nothing.
    Done,
    Failed(Error),
}

impl Initiator {
    /// Begins, and appends what is sent first to `out`. `offer` holds what may follow, at least
    /// one method; `initial` the first bytes of the stream, which are sent within the handshake.
    /// All randomness is drawn now.
    ///
    /// # Panics
    ///
    /// If `initial` does not fit: see [`INITIAL_PAYLOAD_MAX`](super::INITIAL_PAYLOAD_MAX).
    pub fn new(
        torrent: InfoHash,
        offer: &'static [Method],
        initial: &[u8],
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> Self {
        assert!(initial.len() <= usize::from(super::INITIAL_PAYLOAD_MAX), "the payload fits");
        let key = PrivateKey::random(rng);
        put_key(&key, rng, out);
        Self {
            torrent,
            offer,
            key,
            initial: initial.to_vec(),
            padding: zero_padding(rng),
            held: Held::default(),
            cipher: None,
            step: Step::Key,
        }
    }

    /// Takes the next bytes of the stream, and leaves what follows the handshake. Appends what is
    /// to be sent to `out`. Errors are final; after the end, nothing is taken.
    pub fn receive(
        &mut self,
        input: &mut Bytes,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, Error> {
        loop {
            match self.advance(input, out) {
                Ok(None) => return Ok(None),
                Ok(Some(Step::Padding(method, 0))) => {
                    self.step = Step::Done;
                    let cipher = self.cipher.take().expect("there since the key");
                    return Ok(Some(Established::new(self.torrent, method, cipher, Vec::new())));
                }
                Ok(Some(step)) => self.step = step,
                Err(error) => {
                    self.step = Step::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// The next step, if all bytes of this one are there.
    fn advance(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Result<Option<Step>, Error> {
        match self.step {
            Step::Key => {
                let Some(public) = self.held.array(input) else { return Ok(None) };
                let mark = self.answer(&self.key.agree(&public)?, out);
                Ok(Some(Step::Sync(mark)))
            }
            Step::Sync(mark) => Ok(self.held.sync(input, &mark)?.then_some(Step::Select)),
            Step::Select => {
                let Some(mut field) = self.held.array(input) else { return Ok(None) };
                self.receiving().apply(&mut field);
                let (selected, padding) = read_methods(field)?;
                let method = self.offer.iter().find(|method| method.bit() == selected);
                let method = *method.ok_or(Error::Selected(selected))?;
                Ok(Some(Step::Padding(method, padding)))
            }
            Step::Padding(method, left) => {
                Ok(skip(input, left, self.receiving()).map(|left| Step::Padding(method, left)))
            }
            Step::Done => Ok(None),
            Step::Failed(error) => Err(error),
        }
    }

    /// Appends all that we have to say, and returns what the other side's answer begins with.
    fn answer(&mut self, secret: &keys::Secret, out: &mut Vec<u8>) -> [u8; VERIFICATION.len()] {
        let mut cipher = Box::new(keys::cipher(secret, &self.torrent, true));
        out.extend_from_slice(&keys::sync_mark(secret));
        out.extend_from_slice(&keys::hide(keys::torrent_mark(&self.torrent), secret));
        let hidden = out.len();
        put_methods(Method::bits(self.offer), self.padding, out);
        out.extend_from_slice(&(self.initial.len() as u16).to_be_bytes());
        out.append(&mut self.initial);
        cipher.send.apply(&mut out[hidden..]);
        let mut mark = VERIFICATION;
        cipher.receive.apply(&mut mark);
        self.cipher = Some(cipher);
        mark
    }

    fn receiving(&mut self) -> &mut Rc4 {
        &mut self.cipher.as_mut().expect("there since the key").receive
    }
}
