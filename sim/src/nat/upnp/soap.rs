//! Calls of WANIPConnection:1 (UPnP Forum, 2001, section 2.4), as SOAP 1.1.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use teem_core::time::Duration;

use super::SERVICE;
use crate::nat::leases::{MapError, Owner, Request};
use crate::nat::{Nat, Protocol};
use crate::time::Nanos;

/// Arguments that a call has at most.
pub const ARGUMENTS_MAX: usize = 32;

/// Elements within one another at most.
const DEPTH_MAX: usize = 16;

/// Why a call fails, with UPnP's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpnpError {
    InvalidAction = 401,
    InvalidArgs = 402,
    ActionFailed = 501,
    NoSuchEntry = 714,
    Conflict = 718,
    OnlyPermanentLeases = 725,
}

impl From<MapError> for UpnpError {
    fn from(why: MapError) -> Self {
        match why {
            MapError::Taken | MapError::NotYours => Self::Conflict,
            MapError::OutOfRange => Self::InvalidArgs,
            MapError::HostFull | MapError::Full => Self::ActionFailed,
        }
    }
}

impl UpnpError {
    const fn description(self) -> &'static str {
        match self {
            Self::InvalidAction => "Invalid Action",
            Self::InvalidArgs => "Invalid Args",
            Self::ActionFailed => "Action Failed",
            Self::NoSuchEntry => "NoSuchEntryInArray",
            Self::Conflict => "ConflictInMappingEntry",
            Self::OnlyPermanentLeases => "OnlyPermanentLeasesSupported",
        }
    }

    /// The fault that says so.
    pub(super) fn body(self) -> String {
        envelope(&format!(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
             <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{}</errorCode>\
             <errorDescription>{}</errorDescription></UPnPError></detail></s:Fault>",
            self as u16,
            self.description()
        ))
    }
}

/// Does what a call asks for. `action` is the header `SOAPACTION`.
pub(super) fn control(
    nat: &mut Nat,
    now: Nanos,
    from: IpAddr,
    action: &[u8],
    body: &[u8],
) -> Result<String, UpnpError> {
    let body = std::str::from_utf8(body).map_err(|_| UpnpError::InvalidArgs)?;
    let call = parse(body).ok_or(UpnpError::InvalidArgs)?;
    // In quotes, which some leave out.
    let named = action.trim_ascii();
    let named =
        named.strip_prefix(b"\"").and_then(|named| named.strip_suffix(b"\"")).unwrap_or(named);
    if named != format!("{SERVICE}#{}", call.action).as_bytes() {
        return Err(UpnpError::InvalidAction);
    }
    match call.action {
        "GetExternalIPAddress" => {
            let ip = nat.external_of(from);
            Ok(answer(call.action, &[("NewExternalIPAddress", &ip.to_string())]))
        }
        "AddPortMapping" => {
            add(nat, now, &call)?;
            Ok(answer(call.action, &[]))
        }
        "DeletePortMapping" => {
            call.any_remote()?;
            let outside =
                SocketAddr::new(nat.external_of(from).into(), call.port("NewExternalPort")?);
            match nat.unmap_outside(now, call.protocol()?, outside, Owner::Upnp) {
                Ok(true) => Ok(answer(call.action, &[])),
                Ok(false) => Err(UpnpError::NoSuchEntry),
                Err(_) => Err(UpnpError::ActionFailed),
            }
        }
        _ => Err(UpnpError::InvalidAction),
    }
}

fn add(nat: &mut Nat, now: Nanos, call: &Call<'_>) -> Result<(), UpnpError> {
    call.any_remote()?;
    let client: IpAddr = call.get("NewInternalClient")?.parse().map_err(|_| INVALID)?;
    if !nat.is_inside(client) || call.get("NewEnabled")? != "1" {
        return Err(INVALID);
    }
    call.get("NewPortMappingDescription")?;
    let seconds: u32 = call.get("NewLeaseDuration")?.parse().map_err(|_| INVALID)?;
    if seconds != 0 && nat.config().servers.permanent_only {
        return Err(UpnpError::OnlyPermanentLeases);
    }
    let wish = Request {
        protocol: call.protocol()?,
        inside: SocketAddr::new(client, call.port("NewInternalPort")?),
        port: call.port("NewExternalPort")?,
        exact: true,
        lifetime: (seconds != 0).then(|| Duration::from_secs(seconds.into())),
        owner: Owner::Upnp,
    };
    nat.map(now, &wish)?;
    Ok(())
}

const INVALID: UpnpError = UpnpError::InvalidArgs;

/// A call: the action and its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Call<'a> {
    action: &'a str,
    arguments: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    fn get(&self, name: &str) -> Result<&'a str, UpnpError> {
        let found = self.arguments.iter().find(|(argument, _)| *argument == name);
        found.map(|(_, value)| value.trim()).ok_or(INVALID)
    }

    /// A port above zero: zero would mean all of them.
    fn port(&self, name: &str) -> Result<u16, UpnpError> {
        self.get(name)?.parse().ok().filter(|port| *port != 0).ok_or(INVALID)
    }

    fn protocol(&self) -> Result<Protocol, UpnpError> {
        match self.get("NewProtocol")? {
            "TCP" => Ok(Protocol::Tcp),
            "UDP" => Ok(Protocol::Udp),
            _ => Err(INVALID),
        }
    }

    fn any_remote(&self) -> Result<(), UpnpError> {
        if self.get("NewRemoteHost")?.is_empty() { Ok(()) } else { Err(INVALID) }
    }
}

/// The first element within the element `Body`, and the text of those within that. No argument of
/// ours needs an entity, so none is resolved; attributes and namespaces are passed over.
fn parse(text: &str) -> Option<Call<'_>> {
    let mut rest = text;
    let mut open: Vec<&str> = Vec::new();
    let mut call: Option<Call<'_>> = None;
    while let Some(at) = rest.find('<') {
        let (before, tag) = (&rest[..at], &rest[at + 1..]);
        if let Some(comment) = tag.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
            continue;
        }
        let (tag, after) = tag.split_once('>')?;
        rest = after;
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop()? != local(name)? {
                return None;
            }
            fill(&mut call, &open, local(name)?, before);
            continue;
        }
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let name = local(tag)?;
        if let [.., "Body"] = open[..]
            && call.is_none()
        {
            call = Some(Call { action: name, arguments: Vec::new() });
        } else if let [.., "Body", action] = open[..]
            && let Some(call) = call.as_mut().filter(|call| call.action == action)
        {
            if call.arguments.len() == ARGUMENTS_MAX {
                return None;
            }
            call.arguments.push((name, ""));
        }
        if !is_empty {
            if open.len() == DEPTH_MAX {
                return None;
            }
            open.push(name);
        }
    }
    call.filter(|_| open.is_empty())
}

/// An element ends: if it is the argument that began last, `text` is what it says.
fn fill<'a>(call: &mut Option<Call<'a>>, open: &[&str], name: &str, text: &'a str) {
    let Some(call) = call else { return };
    if let [.., "Body", action] = open
        && *action == call.action
        && let Some((argument, value)) = call.arguments.last_mut()
        && *argument == name
    {
        *value = text;
    }
}

/// A tag's name without prefix and attributes.
fn local(tag: &str) -> Option<&str> {
    let name = tag.split_ascii_whitespace().next()?;
    let name = name.rsplit(':').next()?;
    (!name.is_empty()).then_some(name)
}

fn answer(action: &str, values: &[(&str, &str)]) -> String {
    let mut inner = format!("<u:{action}Response xmlns:u=\"{SERVICE}\">");
    for (name, value) in values {
        write!(inner, "<{name}>{value}</{name}>").expect("a string takes it");
    }
    write!(inner, "</u:{action}Response>").expect("a string takes it");
    envelope(&inner)
}

fn envelope(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>{inner}</s:Body>\
         </s:Envelope>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arguments(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
        parse(text).map(|call| (call.action, call.arguments))
    }

    #[test]
    fn a_call_is_what_is_in_the_body_whatever_its_prefixes() {
        let text = "<?xml version=\"1.0\"?>\n<!-- <s:Body> --><SOAP-ENV:Envelope a=\"b\">\
                    <SOAP-ENV:Header><x>1</x></SOAP-ENV:Header>\
                    <SOAP-ENV:Body>\n <m:Do xmlns:m=\"y\"> <A>1</A> <m:B c=\"d\"/> <C> two </C>\
                    </m:Do></SOAP-ENV:Body></SOAP-ENV:Envelope>";
        let expected = vec![("A", "1"), ("B", ""), ("C", " two ")];
        assert_eq!(arguments(text), Some(("Do", expected)));
    }

    #[test]
    fn what_is_not_well_formed_or_too_much_is_no_call() {
        for text in [
            "",
            "text",
            "<Body>",
            "<Body><Do></Body></Do>",
            "<Body><Do></Do>",
            "<Body></Body>",
            "</Body>",
            "<Body><Do><A>1</B></Do></Body>",
            "<Body><!-- <Do></Do></Body>",
            "<Body><>",
        ] {
            assert_eq!(arguments(text), None, "{text}");
        }
        let deep = format!("<Body><Do>{}{}</Do></Body>", "<a>".repeat(20), "</a>".repeat(20));
        assert_eq!(arguments(&deep), None);
        let many = |count| format!("<Body><Do>{}</Do></Body>", "<a/>".repeat(count));
        assert!(arguments(&many(ARGUMENTS_MAX)).is_some());
        assert_eq!(arguments(&many(ARGUMENTS_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "<", ">", "/", "<Body>", "</Body>", "<u:Do>", "</u:Do>", "<A>", "</A>", "<B/>",
                    "<!--", "-->", "<?", "é", " ", "=", ":", "1",
                ]),
                0..40,
            ),
        ) {
            if let Some(call) = parse(&parts.concat()) {
                prop_assert!(call.arguments.len() <= ARGUMENTS_MAX);
                prop_assert!(!call.action.is_empty());
            }
        }
    }
}
