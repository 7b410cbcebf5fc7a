//! What peers send: the stream of messages, and the two handshakes.

use bytes::Bytes;
use teem_core::bencode::Tape;
use teem_core::wire::{
    Decoder, ExtensionHandshake, HANDSHAKE_LEN, Handshake, HandshakeParser, Limits, Message,
    MetadataMessage, PARTS_MAX, WireError, metadata_pieces, metadata_range,
};

use crate::script::Script;

/// The stream decoder: the same messages however the stream is split, and blocks in few parts.
///
/// Two bytes choose the limits, one seeds the splits; the rest is the stream.
pub fn peer_stream(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut limits = Limits::DEFAULT;
    let choice = script.byte();
    if choice & 1 == 1 {
        limits.pieces = Some(u32::from(script.byte()));
    }
    if choice & 2 == 2 {
        limits.block_len_max = 64;
        limits.extended_len_max = 64;
        limits.other_len_max = 64;
        limits.bitfield_len_max = 8;
    }
    let mut splits = u32::from(script.byte()) | 1;
    let stream = script.rest();

    let whole = decode([stream], &limits);
    let single = decode(stream.chunks(1), &limits);
    let mut rest = stream;
    let parts = std::iter::from_fn(|| {
        splits = splits.wrapping_mul(0x9e37_79b1).rotate_left(7);
        let len = ((splits >> 8) as usize % 40 + 1).min(rest.len());
        let (part, behind) = rest.split_at(len);
        rest = behind;
        (len > 0).then_some(part)
    });
    let uneven = decode(parts, &limits);
    assert_eq!(whole, single, "byte by byte");
    assert_eq!(whole, uneven, "in uneven parts");

    // What was understood says the same once more.
    let mut again = Vec::new();
    let known = whole.iter().filter_map(|next| next.as_ref().ok());
    let known: Vec<_> = known.filter(|m| !matches!(m, Message::Unknown { .. })).cloned().collect();
    for message in &known {
        let before = again.len();
        message.encode(&mut again);
        assert_eq!(again.len() - before, message.encoded_len());
    }
    let read: Result<Vec<_>, _> = decode([&again[..]], &limits).into_iter().collect();
    assert_eq!(read, Ok(known));
}

fn decode<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Vec<Result<Message, WireError>> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for part in parts {
        decoder.push(Bytes::copy_from_slice(part));
        for next in decoder.drain(limits) {
            found.push(next.map(flat));
        }
        let held = limits.block_len_max.max(limits.extended_len_max).max(limits.bitfield_len_max);
        assert!(decoder.pending() <= held.max(32) as usize, "holds {}", decoder.pending());
        if found.last().is_some_and(Result::is_err) {
            break;
        }
    }
    found
}

/// Blocks compare by content, however many parts they came in.
fn flat(message: Message) -> Message {
    match message {
        Message::Piece { piece, begin, block } => {
            assert!(block.parts().len() <= PARTS_MAX);
            Message::Piece { piece, begin, block: block.into_bytes().into() }
        }
        other => other,
    }
}

/// The handshake: the same however it is split, written back the same, and what follows it stays.
pub fn handshake(bytes: &[u8]) {
    let mut whole = Bytes::copy_from_slice(bytes);
    let at_once = HandshakeParser::new().push(&mut whole);
    let mut parser = HandshakeParser::new();
    let mut bit_by_bit = Ok(None);
    let mut taken = 0;
    for byte in bytes {
        let mut part = Bytes::copy_from_slice(&[*byte]);
        bit_by_bit = parser.push(&mut part);
        taken += usize::from(part.is_empty());
        if !matches!(bit_by_bit, Ok(None)) {
            break;
        }
    }
    assert_eq!(at_once.is_err(), bit_by_bit.is_err());
    let start = &bytes[..bytes.len().min(HANDSHAKE_LEN)];
    assert_eq!(Handshake::check_start(start).is_err(), at_once.is_err());
    let (Ok(at_once), Ok(bit_by_bit)) = (at_once, bit_by_bit) else { return };
    assert_eq!(at_once, bit_by_bit);
    assert_eq!(at_once.is_some(), bytes.len() >= HANDSHAKE_LEN);
    if let Some(handshake) = at_once {
        assert_eq!(taken, HANDSHAKE_LEN);
        assert_eq!(handshake.encode(), bytes[..HANDSHAKE_LEN]);
        assert_eq!(whole, bytes[HANDSHAKE_LEN..]);
    }
}

/// The handshake of extensions: what is taken is written, and read back the same.
pub fn extension_handshake(bytes: &[u8]) {
    let mut tape = Tape::new();
    let Ok(handshake) = ExtensionHandshake::parse(bytes, &mut tape) else { return };
    let mut out = Vec::new();
    handshake.encode(&mut out);
    assert_eq!(ExtensionHandshake::parse(&out, &mut tape), Ok(handshake));
}

/// Messages about metadata: what is taken is written, and read back the same.
pub fn metadata_message(bytes: &[u8]) {
    let mut tape = Tape::new();
    let payload = Bytes::copy_from_slice(bytes);
    let Ok(Some(message)) = MetadataMessage::parse(&payload, &mut tape) else { return };
    let again = message.to_payload();
    assert_eq!(MetadataMessage::parse(&again, &mut tape), Ok(Some(message.clone())));
    if let MetadataMessage::Data { piece, total_len: Some(len), .. } = message
        && let Ok(len) = u32::try_from(len)
    {
        let range = metadata_range(len, piece);
        assert_eq!(range.is_some(), piece < metadata_pieces(len));
        assert!(range.is_none_or(|range| !range.is_empty() && range.end <= len));
    }
}
