//! The side that was connected to.
//!
//! ```text
//!        Ya           PadA, req1           req2, req3             VC, crypto_provide
//!   Key -----> Sync ----------------> Torrent ----------> Methods -----------------> Padding
//!                                                                                       |  PadC
//!                            established <------- Initial <------- InitialLen <---------+
//!                                            IA            len(IA)
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::keys::{MARK_LEN, Secret};
use super::{
    Cipher, Error, Established, Held, INITIAL_PAYLOAD_MAX, Method, PUBLIC_KEY_LEN, PrivateKey, Rc4,
    VERIFICATION, keys, put_key, put_methods, read_methods, skip, zero_padding,
};
use crate::ids::InfoHash;
use crate::rng::Rng;

/// A handshake with whoever connected to us. See the [module](super).
#[derive(Debug)]
pub struct Responder {
    /// In the order of our preference.
    allowed: &'static [Method],
    key: PrivateKey,
    /// Our public key and padding, until the other key is here.
    pub(super) greeting: Vec<u8>,
    pub(super) padding: u16,
    secret: Secret,
    /// The torrent that was asked for, from then on.
    agreed: Option<(InfoHash, Box<Cipher>)>,
    pub(super) held: Held,
    step: Step,
}

/// What is on its way.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The other public key.
    Key,
    /// Padding, and this.
    Sync([u8; MARK_LEN]),
    /// The torrent, hidden by the secret.
    Torrent,
    /// What the initiator offers.
    Methods,
    /// So much more padding.
    Padding(Method, u16),
    /// The length of the initial payload.
    InitialLen(Method),
    /// The initial payload, of this length.
    Initial(Method, u16),
    /// Nothing.
    Done,
    Failed(Error),
}

impl Responder {
    /// Waits for an initiator. `allowed` holds what may follow, what we like best first. All
    /// randomness is drawn now.
    pub fn new(allowed: &'static [Method], rng: &mut Rng) -> Self {
        let key = PrivateKey::random(rng);
        let mut greeting = Vec::new();
        put_key(&key, rng, &mut greeting);
        Self {
            allowed,
            key,
            greeting,
            padding: zero_padding(rng),
            secret: [0; PUBLIC_KEY_LEN],
            agreed: None,
            held: Held::default(),
            step: Step::Key,
        }
    }

    /// Takes the next bytes of the stream, and leaves what follows the handshake. Appends what is
    /// to be sent to `out`. `torrent` finds a torrent by its [mark](super::torrent_mark). Errors
    /// are final; after the end, nothing is taken.
    pub fn receive(
        &mut self,
        input: &mut Bytes,
        torrent: impl Fn(&[u8; MARK_LEN]) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, Error> {
        loop {
            match self.advance(input, &torrent, out) {
                Ok(None) => return Ok(None),
                Ok(Some(Step::Initial(method, len))) => {
                    self.step = Step::Initial(method, len);
                    let Some(mut initial) = self.held.field(input, usize::from(len)) else {
                        return Ok(None);
                    };
                    self.step = Step::Done;
                    let (torrent, mut cipher) = self.agreed.take().expect("there is a torrent");
                    cipher.receive.apply(&mut initial);
                    let start = out.len();
                    put_methods(method.bit(), self.padding, out);
                    cipher.send.apply(&mut out[start..]);
                    return Ok(Some(Established::new(torrent, method, cipher, initial)));
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
    fn advance(
        &mut self,
        input: &mut Bytes,
        torrent: &impl Fn(&[u8; MARK_LEN]) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Step>, Error> {
        match self.step {
            Step::Key => {
                let Some(public) = self.held.array(input) else { return Ok(None) };
                self.secret = self.key.agree(&public)?;
                out.append(&mut self.greeting);
                self.greeting = Vec::new();
                Ok(Some(Step::Sync(keys::sync_mark(&self.secret))))
            }
            Step::Sync(mark) => Ok(self.held.sync(input, &mark)?.then_some(Step::Torrent)),
            Step::Torrent => {
                let Some(hidden) = self.held.array(input) else { return Ok(None) };
                let mark = keys::hide(hidden, &self.secret);
                let torrent = torrent(&mark).ok_or(Error::UnknownTorrent)?;
                let cipher = keys::cipher(&self.secret, &torrent, false);
                self.agreed = Some((torrent, Box::new(cipher)));
                Ok(Some(Step::Methods))
            }
            Step::Methods => {
                let Some(mut field) = self.held.array::<14>(input) else { return Ok(None) };
                self.receiving().apply(&mut field);
                let (verification, methods) = field.split_first_chunk().expect("14 bytes");
                if *verification != VERIFICATION {
                    return Err(Error::Verification);
                }
                let methods = *methods.first_chunk().expect("six more bytes");
                let (offered, padding) = read_methods(methods)?;
                let method = self.allowed.iter().find(|method| offered & method.bit() != 0);
                let method = *method.ok_or(Error::NothingInCommon(offered))?;
                Ok(Some(Step::Padding(method, padding)))
            }
            Step::Padding(method, 0) => Ok(Some(Step::InitialLen(method))),
            Step::Padding(method, left) => {
                Ok(skip(input, left, self.receiving()).map(|left| Step::Padding(method, left)))
            }
            Step::InitialLen(method) => {
                let Some(mut field) = self.held.array(input) else { return Ok(None) };
                self.receiving().apply(&mut field);
                let len = u16::from_be_bytes(field);
                if len > INITIAL_PAYLOAD_MAX {
                    return Err(Error::InitialPayload(len));
                }
                Ok(Some(Step::Initial(method, len)))
            }
            Step::Initial(..) => Ok(Some(self.step)),
            Step::Done => Ok(None),
            Step::Failed(error) => Err(error),
        }
    }

    fn receiving(&mut self) -> &mut Rc4 {
        let (_, cipher) = self.agreed.as_mut().expect("there is a torrent");
        &mut cipher.receive
    }
}
