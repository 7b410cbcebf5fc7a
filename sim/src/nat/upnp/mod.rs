//! UPnP IGD:1, the server: discovery (SSDP), the description of the device, and the service
//! WANIPConnection:1 (SOAP), as far as port mapping needs it.
//!
//! It answers each search once and at once, not within `MX` seconds, and announces nothing. It has
//! no events. Mappings are for any remote host and always enabled; asking otherwise is error 402.

mod soap;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use teem_core::http::write::{Status, response};
use teem_core::http::{Item, Limits, RequestHead, RequestParser};

use super::Nat;
use crate::time::Nanos;

pub use self::soap::ARGUMENTS_MAX;

/// The TCP port of the gateway that speaks HTTP.
pub const HTTP_PORT: u16 = 5000;

/// Where the description is.
const DESCRIPTION_PATH: &str = "/rootDesc.xml";

/// Where the service is controlled.
const CONTROL_PATH: &str = "/ctl/IPConn";

/// What the service is called.
pub(super) const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

const DEVICE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

const UUID: &str = "uuid:7465656d-0000-4000-8000-000000000001";

/// Bytes of a search at most.
const SEARCH_MAX: usize = 2_048;

/// How much a request may be.
const LIMITS: Limits = Limits { head: 8 * 1024, body: 16 * 1024 };

/// The answer to a search (UPnP Device Architecture 1.0, section 1.2); none: it is not for us.
pub fn discover(gateway: IpAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > SEARCH_MAX {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    if lines.next()? != "M-SEARCH * HTTP/1.1" {
        return None;
    }
    let (mut discovers, mut target) = (false, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "man" => discovers = value.trim() == "\"ssdp:discover\"",
            "st" => target = Some(value.trim()),
            _ => {}
        }
    }
    let target = target.filter(|_| discovers)?;
    let target = match target {
        "ssdp:all" | "upnp:rootdevice" => "upnp:rootdevice",
        DEVICE | SERVICE | UUID => target,
        _ => return None,
    };
    let name = if target == UUID { UUID.to_owned() } else { format!("{UUID}::{target}") };
    let location = SocketAddr::new(gateway, HTTP_PORT);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n\
         LOCATION: http://{location}{DESCRIPTION_PATH}\r\n\
         SERVER: simulated UPnP/1.0 gateway/1.0\r\nST: {target}\r\nUSN: {name}\r\n\r\n"
    );
    Some(answer.into_bytes())
}

/// One TCP connection to the gateway's HTTP port.
#[derive(Debug)]
pub struct Conversation {
    parser: RequestParser,
    head: Option<RequestHead>,
    body: Vec<u8>,
    closed: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { parser: RequestParser::new(LIMITS), head: None, body: Vec::new(), closed: false }
    }
}

impl Conversation {
    /// Whether the server has closed it.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes from an inside host: what is to be sent back. What cannot be read is answered with
    /// 400 and closes the connection.
    pub fn receive(
        &mut self,
        nat: &mut Nat,
        now: Nanos,
        from: IpAddr,
        mut bytes: Bytes,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        while !self.closed {
            match self.parser.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Item::Head(head))) => {
                    self.head = Some(head);
                    self.body.clear();
                }
                Ok(Some(Item::Body(part))) => self.body.extend_from_slice(&part),
                Ok(Some(Item::End)) => {
                    if let Some(head) = self.head.take() {
                        self.closed = !head.keep_alive;
                        serve(nat, now, from, &head, &self.body, &mut out);
                    }
                }
                Err(_) => {
                    self.closed = true;
                    response(&mut out, Status::BadRequest, "text/plain", b"", false);
                }
            }
        }
        out
    }
}

fn serve(
    nat: &mut Nat,
    now: Nanos,
    from: IpAddr,
    head: &RequestHead,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let keep = head.keep_alive;
    let xml = "text/xml; charset=\"utf-8\"";
    match (&head.method[..], &head.target[..]) {
        (b"GET", target) if target == DESCRIPTION_PATH.as_bytes() => {
            response(out, Status::Ok, xml, description().as_bytes(), keep);
        }
        (b"POST", target) if target == CONTROL_PATH.as_bytes() => {
            let action = head.headers.get("soapaction").unwrap_or_default();
            match soap::control(nat, now, from, action, body) {
                Ok(body) => response(out, Status::Ok, xml, body.as_bytes(), keep),
                Err(error) => {
                    // A SOAP fault is a 500 (SOAP 1.1, section 6.2).
                    let body = error.body();
                    let connection = if keep { "keep-alive" } else { "close" };
                    let head = format!(
                        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: {xml}\r\n\
                         Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
                        body.len()
                    );
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(body.as_bytes());
                }
            }
        }
        (b"GET" | b"POST", _) => response(out, Status::NotFound, "text/plain", b"", keep),
        _ => response(out, Status::MethodNotAllowed, "text/plain", b"", keep),
    }
}

fn description() -> String {
    let device = |kind: &str, number: u8, rest: &str| {
        format!(
            "<device><deviceType>urn:schemas-upnp-org:device:{kind}:1</deviceType>\
             <friendlyName>{kind}</friendlyName><manufacturer>none</manufacturer>\
             <modelName>simulated</modelName>\
             <UDN>uuid:7465656d-0000-4000-8000-00000000000{number}</UDN>{rest}</device>"
        )
    };
    let service = format!(
        "<serviceList><service><serviceType>{SERVICE}</serviceType>\
         <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>\
         <SCPDURL>/WANIPCn.xml</SCPDURL><controlURL>{CONTROL_PATH}</controlURL>\
         <eventSubURL>/evt/IPConn</eventSubURL></service></serviceList>"
    );
    let inside = |device: &str| format!("<deviceList>{device}</deviceList>");
    let connection = device("WANConnectionDevice", 3, &service);
    let wan = device("WANDevice", 2, &inside(&connection));
    let root = device("InternetGatewayDevice", 1, &inside(&wan));
    format!(
        "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">\
         <specVersion><major>1</major><minor>0</minor></specVersion>{root}</root>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{Kind, NatConfig, Servers};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use teem_core::rng::Seed;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));
    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));

    fn nat() -> Nat {
        let config = NatConfig { servers: Servers::ALL, ..NatConfig::of(Kind::FullCone) };
        let outside = [Ipv4Addr::new(198, 51, 100, 7)];
        Nat::new(config, &outside, Seed::from_number(1), Nanos::ZERO)
    }

    fn search(target: &str) -> String {
        format!(
            "M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n\
             MX: 2\r\nST: {target}\r\n\r\n"
        )
    }

    /// Two requests, one after the other.
    fn requests() -> Vec<u8> {
        let body = format!(
            "<s:Envelope><s:Body><u:AddPortMapping xmlns:u=\"{SERVICE}\">\
             <NewRemoteHost/><NewExternalPort>7000</NewExternalPort><NewProtocol>UDP</NewProtocol>\
             <NewInternalPort>6881</NewInternalPort><NewInternalClient>{CLIENT}</NewInternalClient>\
             <NewEnabled>1</NewEnabled><NewPortMappingDescription>t</NewPortMappingDescription>\
             <NewLeaseDuration>0</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>"
        );
        let head = |method: &str, more: &str| {
            format!("{method} HTTP/1.1\r\nHost: {GATEWAY}:{HTTP_PORT}\r\n{more}\r\n")
        };
        let more = format!(
            "SOAPAction: \"{SERVICE}#AddPortMapping\"\r\nContent-Length: {}\r\n",
            body.len()
        );
        let get = head(&format!("GET {DESCRIPTION_PATH}"), "");
        format!("{get}{}{body}", head(&format!("POST {CONTROL_PATH}"), &more)).into_bytes()
    }

    #[test]
    fn a_search_for_a_gateway_is_answered_and_another_is_not() {
        for target in ["ssdp:all", "upnp:rootdevice", DEVICE, SERVICE, UUID] {
            let answer = discover(GATEWAY, search(target).as_bytes()).expect(target);
            let answer = String::from_utf8(answer).expect("it is text");
            let at = format!("LOCATION: http://{GATEWAY}:{HTTP_PORT}{DESCRIPTION_PATH}\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&at), "{answer}");
        }
        let printer = search("urn:schemas-upnp-org:device:Printer:1");
        assert_eq!(discover(GATEWAY, printer.as_bytes()), None);
        let quiet = search(DEVICE).replace("MAN: \"ssdp:discover\"\r\n", "");
        assert_eq!(discover(GATEWAY, quiet.as_bytes()), None);
        let notify = search(DEVICE).replace("M-SEARCH", "NOTIFY");
        assert_eq!(discover(GATEWAY, notify.as_bytes()), None);
    }

    #[test]
    fn one_connection_serves_one_request_after_the_other() {
        let (mut nat, mut talk) = (nat(), Conversation::default());
        let out = talk.receive(&mut nat, Nanos::ZERO, CLIENT, requests().into());
        let out = String::from_utf8(out).expect("it is text");
        assert_eq!(out.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{out}");
        assert!(out.contains(SERVICE) && out.contains("AddPortMappingResponse"), "{out}");
        assert!(!talk.is_closed());
        assert_eq!(nat.mappings(Nanos::ZERO), 1);
    }

    #[test]
    fn what_is_not_there_is_not_found_and_what_is_no_http_ends_the_connection() {
        let (mut nat, mut talk) = (nat(), Conversation::default());
        let mut ask = |text: &'static str| {
            let out =
                talk.receive(&mut nat, Nanos::ZERO, CLIENT, Bytes::from_static(text.as_bytes()));
            (String::from_utf8(out).expect("it is text"), talk.is_closed())
        };
        let (out, closed) = ask("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(out.starts_with("HTTP/1.1 404 ") && !closed, "{out}");
        let (out, closed) = ask("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(out.starts_with("HTTP/1.1 405 ") && !closed, "{out}");
        let (out, closed) = ask("\u{1}\r\n\r\n");
        assert!(out.starts_with("HTTP/1.1 400 ") && closed, "{out}");
        assert_eq!(ask("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"), (String::new(), true));
    }

    proptest! {
        #[test]
        fn requests_may_be_split_anywhere(cuts in prop::collection::vec(0..1_000_usize, 0..6)) {
            let (mut whole, mut nat_of_whole) = (Conversation::default(), nat());
            let expected =
                whole.receive(&mut nat_of_whole, Nanos::ZERO, CLIENT, requests().into());
            let (mut talk, mut nat, mut out) = (Conversation::default(), nat(), Vec::new());
            let mut rest = Bytes::from(requests());
            for cut in cuts {
                let part = rest.split_to(cut.min(rest.len()));
                out.extend(talk.receive(&mut nat, Nanos::ZERO, CLIENT, part));
            }
            out.extend(talk.receive(&mut nat, Nanos::ZERO, CLIENT, rest));
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn any_bytes_are_taken(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            changes in prop::collection::vec((0..900_usize, any::<u8>()), 0..8),
        ) {
            discover(GATEWAY, &noise);
            let mut text = search(DEVICE).into_bytes();
            for (at, byte) in &changes {
                let at = at % text.len();
                text[at] = *byte;
            }
            discover(GATEWAY, &text);
            let mut bytes = requests();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            for bytes in [bytes, noise] {
                let (mut nat, mut talk) = (nat(), Conversation::default());
                let out = talk.receive(&mut nat, Nanos::ZERO, CLIENT, bytes.into());
                prop_assert!(out.is_empty() || out.starts_with(b"HTTP/1.1 "));
                prop_assert!(nat.mappings(Nanos::ZERO) <= 1);
            }
        }
    }
}
