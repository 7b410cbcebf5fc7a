//! What trackers answer, and are asked.

use teem_core::tracker::http::parse_response;
use teem_core::tracker::udp::{
    Counts, Request, Response, announce_response, answers, scrape_counts, url_data,
};

use crate::script::Script;

/// Most peers that one answer can yield: one for each six bytes of its input.
const PEER_LEN_MIN: usize = 6;

/// Bodies of answers over HTTP.
pub fn tracker_http(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let status = if script.flag() { 200 } else { 400 };
    let body = script.rest();
    let Ok(answer) = parse_response(body, status) else { return };
    assert_eq!(status, 200, "only that is taken for success");
    assert!(answer.peers.len() <= body.len() / PEER_LEN_MIN);
    let text = answer.warning.as_deref().unwrap_or_default();
    assert!(!text.contains(char::is_control), "{text:?} is fit to be shown");
}

/// Datagrams of the UDP protocol, both ways: what is taken is written, and read back the same.
pub fn tracker_udp(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        let mut out = Vec::new();
        request.write(&mut out);
        assert_eq!(Request::parse(&out), Ok(request.clone()));
        if let Request::Announce { options, .. } = request {
            assert!(url_data(options).len() <= options.len());
        }
    }
    if let Ok(response) = Response::parse(bytes) {
        let mut out = Vec::new();
        response.write(&mut out);
        assert_eq!(Response::parse(&out), Ok(response.clone()));
        assert!(answers(bytes).is_some(), "what parses is an answer");
        match response {
            Response::Announce { interval, leechers, seeders, peers, .. } => {
                for v6 in [false, true] {
                    let answer = announce_response(interval, leechers, seeders, peers, v6);
                    assert!(answer.peers.len() <= peers.len() / PEER_LEN_MIN);
                }
            }
            Response::Scrape { counts, .. } => {
                let count = scrape_counts(counts).count();
                let written = scrape_counts(counts).flat_map(Counts::to_bytes);
                assert!(written.eq(counts[..count * 12].iter().copied()));
            }
            _ => {}
        }
    }
}
