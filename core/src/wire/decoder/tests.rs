use super::super::message::BLOCK_LEN;
use super::super::message::tests::message;
use super::*;
use alloc::sync::Arc;
use proptest::prelude::*;
use std::vec;

/// A receive buffer, and a witness that says whether anything still holds it.
fn buffer(bytes: Vec<u8>) -> (Bytes, Arc<()>) {
    struct Owner(Vec<u8>, #[expect(dead_code, reason = "counts")] Arc<()>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let witness = Arc::new(());
    (Bytes::from_owner(Owner(bytes, witness.clone())), witness)
}

fn held(witness: &Arc<()>) -> bool {
    Arc::strong_count(witness) > 1
}

fn piece(len: usize) -> (Message, Vec<u8>) {
    let block: Vec<u8> = (0..len).map(|at| (at * 31 / 7) as u8).collect();
    let message =
        Message::Piece { piece: PieceIndex(3), begin: 64, block: Bytes::from(block).into() };
    let mut wire = Vec::new();
    message.encode(&mut wire);
    (message, wire)
}

/// Blocks compare by content here, however many parts they came in.
fn flat(message: Message) -> Message {
    match message {
        Message::Piece { piece, begin, block } => {
            Message::Piece { piece, begin, block: block.into_bytes().into() }
        }
        other => other,
    }
}

/// What a decoder makes of `parts`, pushed one after the other.
fn decode<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Result<Message, WireError>>, Decoder) {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for part in parts {
        decoder.push(Bytes::copy_from_slice(part));
        found.extend(decoder.drain(limits).map(|next| next.map(flat)));
        if found.last().is_some_and(Result::is_err) {
            break;
        }
    }
    (found, decoder)
}

fn is_idle(decoder: &Decoder) -> bool {
    matches!(decoder.state, State::Header { len: 0, .. }) && decoder.pending() == 0
}

#[test]
fn an_idle_decoder_is_small_and_owns_nothing() {
    assert!(size_of::<Decoder>() <= 64);
    assert!(size_of::<WireError>() <= 12);
    assert!(size_of::<Result<Option<Message>, WireError>>() <= 64);
    assert!(size_of::<Body>() <= 112);

    let (_, wire) = piece(20_000);
    let (bytes, witness) = buffer([wire, vec![0, 0, 0, 1, 0]].concat());
    let limits = Limits { block_len_max: 20_000, ..Limits::DEFAULT };
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    assert_eq!(decoder.drain(&limits).count(), 2);
    assert!(is_idle(&decoder));
    assert!(!held(&witness));
}

#[test]
fn a_block_in_one_buffer_is_a_slice_of_it() {
    let (expected, wire) = piece(BLOCK_LEN as usize);
    let bytes = Bytes::from([&wire[..], &wire].concat());
    let start = bytes.as_ptr() as usize;
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    for round in 0..2 {
        let found = decoder.next(&Limits::DEFAULT).unwrap().unwrap();
        let Message::Piece { block, .. } = &found else { panic!("{found:?}") };
        assert_eq!(block.parts().len(), 1);
        assert_eq!(block.parts()[0].as_ptr() as usize, start + round * wire.len() + 13);
        assert_eq!(found, expected);
    }
}

#[test]
fn a_block_across_two_buffers_is_a_slice_of_each() {
    let (expected, wire) = piece(BLOCK_LEN as usize);
    let (first, second) = wire.split_at(6000);
    let (first, second) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second));
    let there = [first.as_ptr() as usize + 13, second.as_ptr() as usize];
    let mut decoder = Decoder::new();
    decoder.push(first);
    assert_eq!(decoder.next(&Limits::DEFAULT), Ok(None));
    assert_eq!(decoder.pending(), 6000 - 13);
    let request = BlockRequest { piece: PieceIndex(3), begin: 64, length: BLOCK_LEN };
    assert_eq!(decoder.block_on_its_way(), Some((request, 6000 - 13)));
    decoder.push(second);
    let found = decoder.next(&Limits::DEFAULT).unwrap().unwrap();
    let Message::Piece { block, .. } = &found else { panic!("{found:?}") };
    let parts: Vec<_> = block.parts().iter().map(|part| part.as_ptr() as usize).collect();
    assert_eq!(parts, there);
    assert_eq!(flat(found), expected);
}

#[test]
fn a_short_fragment_does_not_hold_its_buffer() {
    let (expected, wire) = piece(BLOCK_LEN as usize);
    let whole: Vec<u8> = std::iter::repeat_n([0, 0, 0, 1, 2], 50_000).flatten().collect();
    for cut in [1, 4, 5, 12, 13, 14, 100, 4000, wire.len() - 4000, wire.len() - 1] {
        let mut decoder = Decoder::new();
        let (first, first_held) = buffer([&whole[..], &wire[..cut]].concat());
        decoder.push(first);
        assert_eq!(decoder.drain(&Limits::DEFAULT).count(), 50_000);
        let early = cut < 13 + FRAGMENT_LEN_MIN;
        assert_eq!(held(&first_held), !early, "cut at {cut}");
        assert!(decoder.pending() <= cut);

        let (second, second_held) = buffer([&wire[cut..], &[0, 0]].concat());
        decoder.push(second);
        let found = decoder.next(&Limits::DEFAULT).unwrap().unwrap();
        assert_eq!(decoder.next(&Limits::DEFAULT), Ok(None));
        assert_eq!(decoder.pending(), 2);
        assert_eq!(held(&second_held), wire.len() - cut >= FRAGMENT_LEN_MIN, "cut at {cut}");
        assert_eq!(flat(found), expected);
    }
}

#[test]
fn a_short_block_does_not_hold_its_buffer() {
    let (expected, wire) = piece(100);
    let (bytes, witness) = buffer(wire);
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    assert_eq!(decoder.next(&Limits::DEFAULT), Ok(Some(expected)));
    assert!(!held(&witness));
}

#[test]
fn a_block_is_never_more_than_eight_parts() {
    let len = 128 * 1024;
    let limits = Limits { block_len_max: len as u32, ..Limits::DEFAULT };
    let (expected, wire) = piece(len);
    for step in [FRAGMENT_LEN_MIN, FRAGMENT_LEN_MIN + 1, 16 * 1024, 18 * 1024, 19 * 1024] {
        // Long and short fragments in turn are the worst case.
        for short in [0, 1] {
            let mut decoder = Decoder::new();
            let mut rest = Bytes::copy_from_slice(&wire);
            let mut long = true;
            let found = loop {
                let cut = if long || short == 0 { step } else { short };
                long = !long;
                decoder.push(rest.split_to(cut.min(rest.len())));
                if let Some(found) = decoder.next(&limits).unwrap() {
                    break found;
                }
            };
            let Message::Piece { block, .. } = &found else { panic!("{found:?}") };
            assert!(block.parts().len() <= PARTS_MAX, "{block:?}");
            assert_eq!(flat(found), expected);
        }
    }
}

#[test]
fn memory_grows_with_what_came_and_not_with_what_was_announced() {
    let mut decoder = Decoder::new();
    let limits = Limits { block_len_max: u32::MAX, ..Limits::DEFAULT };
    decoder.push(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, id::PIECE]));
    assert_eq!(decoder.next(&limits), Ok(None));
    decoder.push(Bytes::from_static(&[0; 8]));
    assert_eq!(decoder.next(&limits), Ok(None));
    assert!(matches!(decoder.state, State::Header { len: 13, .. }));
    for came in 1..3000 {
        decoder.push(Bytes::from_static(&[0]));
        assert_eq!(decoder.next(&limits), Ok(None));
        let State::Body(body) = &decoder.state else { panic!("{decoder:?}") };
        assert!(body.own.capacity() <= 2 * came);
        assert_eq!(decoder.pending(), came);
    }
}

#[test]
fn a_message_of_an_unknown_type_is_skipped_and_holds_nothing() {
    let len = 100_000_u32;
    let wire = [&(len + 1).to_be_bytes()[..], &[99], &vec![1; len as usize], &[0; 4]].concat();
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for part in wire.chunks(5000) {
        decoder.push(Bytes::copy_from_slice(part));
        found.extend(decoder.drain(&Limits::DEFAULT));
        assert_eq!(decoder.pending(), 0);
    }
    assert_eq!(found, [Ok(Message::Unknown { id: 99, len }), Ok(Message::KeepAlive)]);
}

#[test]
fn a_length_that_does_not_fit_its_type_is_an_error_at_once_and_for_good() {
    let limits = Limits {
        pieces: None,
        bitfield_len_max: 10,
        block_len_max: 100,
        extended_len_max: 20,
        other_len_max: 30,
    };
    let known = Limits { pieces: Some(17), ..limits };
    let fixed = |id, len| WireError::FixedLength { id, len };
    let cases = [
        (&limits, 0, 2, Some(fixed(0, 2))),
        (&limits, 1, 1, None),
        (&limits, 4, 4, Some(fixed(4, 4))),
        (&limits, 6, 12, Some(fixed(6, 12))),
        (&limits, 6, u32::MAX, Some(fixed(6, u32::MAX))),
        (&limits, 9, 2, Some(fixed(9, 2))),
        (&limits, 14, 2, Some(fixed(14, 2))),
        (&limits, 16, 17, Some(fixed(16, 17))),
        (&limits, 7, 8, Some(WireError::TooShort { id: 7, len: 8 })),
        (&limits, 7, 109, None),
        (&limits, 7, 110, Some(WireError::BlockTooLong { len: 110 })),
        (&limits, 5, 11, None),
        (&limits, 5, 12, Some(WireError::BitfieldTooLong { len: 12 })),
        (&known, 5, 4, None),
        (&known, 5, 3, Some(WireError::BitfieldLength { len: 3, pieces: 17 })),
        (&known, 5, 5, Some(WireError::BitfieldLength { len: 5, pieces: 17 })),
        (&limits, 20, 1, Some(WireError::TooShort { id: 20, len: 1 })),
        (&limits, 20, 22, None),
        (&limits, 20, 23, Some(WireError::ExtendedTooLong { len: 23 })),
        (&limits, 21, 49, None),
        (&limits, 21, 48, Some(WireError::HashesLength { id: 21, len: 48 })),
        (&limits, 22, 49 + 32 * 552, None),
        (&limits, 22, 49 + 32 * 553, Some(WireError::HashesLength { id: 22, len: 49 + 32 * 553 })),
        (&limits, 22, 50, Some(WireError::HashesLength { id: 22, len: 50 })),
        (&limits, 22, 1, Some(WireError::HashesLength { id: 22, len: 1 })),
        (&limits, 23, 49, None),
        (&limits, 23, 81, Some(WireError::HashesLength { id: 23, len: 81 })),
        (&limits, 24, 31, None),
        (&limits, 24, 32, Some(WireError::OtherTooLong { id: 24, len: 32 })),
        (&limits, 255, u32::MAX, Some(WireError::OtherTooLong { id: 255, len: u32::MAX })),
    ];
    for (limits, id, len, error) in cases {
        let wire = [&len.to_be_bytes()[..], &[id]].concat();
        for split in [false, true] {
            let parts = wire.chunks(if split { 1 } else { 5 });
            let (found, mut decoder) = decode(parts, limits);
            let Some(error) = error else {
                assert!(found.iter().all(Result::is_ok), "type {id}, length {len}: {found:?}");
                continue;
            };
            assert_eq!(found, [Err(error)], "type {id}, length {len}");
            let (more, witness) = buffer(vec![0; 4]);
            decoder.push(more);
            assert_eq!(decoder.next(limits), Err(error));
            assert_eq!(decoder.drain(limits).count(), 1);
            assert!(!held(&witness));
            assert_eq!(decoder.pending(), 0);
        }
    }
}

#[test]
fn a_push_before_the_last_was_drained_loses_nothing() {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0]));
    decoder.push(Bytes::from_static(&[0, 1]));
    decoder.push(Bytes::from_static(&[1]));
    assert_eq!(decoder.pending(), 10);
    let found: Vec<_> = decoder.drain(&Limits::DEFAULT).collect();
    assert_eq!(found, [Ok(Message::Choke), Ok(Message::Unchoke)]);
}

/// A message and its bytes; also one of a type that is not known.
fn framed() -> impl Strategy<Value = (Message, Vec<u8>)> {
    let unknown = (24_u8.., prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(id, body)| {
        let wire = [&(body.len() as u32 + 1).to_be_bytes()[..], &[id], &body].concat();
        (Message::Unknown { id, len: body.len() as u32 }, wire)
    });
    let known = |payload_max| {
        message(payload_max).prop_map(|message| {
            let mut wire = Vec::with_capacity(message.encoded_len());
            message.encode(&mut wire);
            (message, wire)
        })
    };
    prop_oneof![8 => known(40), 1 => known(12_000), 1 => unknown]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_a_stream_gives_the_same_messages(
        framed in prop::collection::vec(framed(), 1..8),
        steps in prop::collection::vec(prop_oneof![1_usize..40, 1000_usize..9000], 1..20),
    ) {
        let expected: Vec<_> = framed.iter().map(|(message, _)| Ok(message.clone())).collect();
        let wire: Vec<u8> = framed.iter().flat_map(|(_, wire)| wire.clone()).collect();
        let (found, decoder) = decode([&wire[..]], &Limits::DEFAULT);
        prop_assert_eq!(&found, &expected);
        prop_assert!(is_idle(&decoder));

        let (found, decoder) = decode(wire.chunks(1), &Limits::DEFAULT);
        prop_assert_eq!(&found, &expected);
        prop_assert!(is_idle(&decoder));

        let mut rest = &wire[..];
        let parts = steps.iter().cycle().map_while(|step| {
            let (part, after) = rest.split_at((*step).min(rest.len()));
            rest = after;
            (!part.is_empty()).then_some(part)
        });
        let (found, decoder) = decode(parts, &Limits::DEFAULT);
        prop_assert_eq!(&found, &expected);
        prop_assert!(is_idle(&decoder));
    }

    #[test]
    fn a_stream_cut_in_two_at_every_place_gives_the_same_messages(
        framed in prop::collection::vec(message(8), 1..5),
    ) {
        let mut wire = Vec::new();
        for message in &framed {
            message.encode(&mut wire);
        }
        let expected: Vec<_> = framed.into_iter().map(Ok).collect();
        for cut in 0..=wire.len() {
            let (first, second) = wire.split_at(cut);
            let (found, decoder) = decode([first, second], &Limits::DEFAULT);
            prop_assert_eq!(&found, &expected);
            prop_assert!(is_idle(&decoder));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_split_to_the_same_end(
        parts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                (0_u32..40, 0_u8..24, prop::collection::vec(any::<u8>(), 0..40))
                    .prop_map(|(len, id, body)| [&len.to_be_bytes()[..], &[id], &body].concat()),
            ],
            0..8,
        ),
    ) {
        let all = parts.concat();
        let (expected, whole) = decode([&all[..]], &Limits::DEFAULT);
        let (found, split) = decode(parts.iter().map(|part| &part[..]), &Limits::DEFAULT);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(split.pending(), whole.pending());
        prop_assert!(whole.pending() <= all.len());
        let (found, _) = decode(all.chunks(1), &Limits::DEFAULT);
        prop_assert_eq!(&found, &expected);
    }
}
