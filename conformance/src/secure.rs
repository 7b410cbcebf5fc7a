//! Puts TLS below the streams of a machine that does not ask for it, and certificates to test with.

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use teem_core::ids::{JobId, SocketId, StreamId};
use teem_core::machine::{
    Application, Deadline, Incoming, Input, Job, Machine, Output, StreamError, StreamInput,
    Transmit, TransmitLimit,
};
use teem_core::time::Instant;
use teem_io::tls::TlsConfig;

/// The name that good certificates are for.
pub const NAME: &str = "conformance.example";

/// A machine whose streams all have TLS: those that it asks for, with a server of this name, and
/// those that it listens for.
#[derive(Debug)]
pub struct Secure<M> {
    /// The machine.
    pub machine: M,
    name: Option<&'static str>,
    /// Why streams did not come up, or went away.
    pub errors: Vec<StreamError>,
}

impl<M> Secure<M> {
    /// `machine`, asking for servers called `name`; none: it dials in the open.
    pub const fn new(machine: M, name: Option<&'static str>) -> Self {
        Self { machine, name, errors: Vec::new() }
    }
}

impl<M: Machine> Machine for Secure<M> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if let Input::Stream(_, StreamInput::ConnectFailed(why) | StreamInput::Closed(why)) = &input
        {
            self.errors.push(*why);
        }
        self.machine.handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.machine.accept(now, incoming)
    }

    fn poll_output(&mut self) -> Option<Output> {
        let mut output = self.machine.poll_output()?;
        match &mut output {
            Output::Connect(connect) => connect.tls = self.name.map(Into::into),
            Output::Listen(listen) => listen.tls = true,
            _ => {}
        }
        Some(output)
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.machine.poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.machine.poll_transmit(now, on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.machine.poll_send(now, id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine.recv_credit(stream)
    }
}

impl<M: Application> Application for Secure<M> {
    type Command = M::Command;
    type Event = M::Event;

    fn handle_command(&mut self, now: Instant, command: M::Command) {
        self.machine.handle_command(now, command);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        self.machine.poll_event()
    }
}

/// A certificate authority of a test.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }
}

impl Authority {
    /// Trusts this authority only.
    pub fn client(&self) -> TlsConfig {
        TlsConfig::new().trust_pem(self.pem.as_bytes()).expect("an authority").trust_no_others()
    }

    /// Shows a certificate for `name`, from this authority; one that was good once, if `expired`.
    pub fn server(&self, name: &str, expired: bool) -> TlsConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
        if expired {
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let config = TlsConfig::new().identity_pem(pem.as_bytes(), key.serialize_pem().as_bytes());
        config.expect("they go together")
    }
}
