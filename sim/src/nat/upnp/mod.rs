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
