use super::*;

fn entry(source: &str, body: Vec<u8>) -> Entry {
    Entry { source: source.into(), received_at: Timestamp(7), event: NewEvent::alert(body) }
}

fn stored(packed: &Packed) -> Vec<u8> {
    packed
        .writes(b"c", 5)
        .into_iter()
        .flat_map(|write| match write {
            Write::Put(_, value) => value,
            Write::Remove(_) => Vec::new(),
        })
        .collect()
}

#[test]
fn a_chunk_gives_back_its_events_byte_for_byte() {
    let entries = [
        entry("a", b"{\"x\":\"\xff\"}".to_vec()),
        entry("b", vec![]),
        entry("a", vec![b'x'; 90_000]),
    ];
    let packed = Packed::new(&entries).unwrap();
    let bytes = stored(&packed);
    let head = Head::decode(b"c", &bytes).unwrap();
    assert_eq!((head.count, head.events_before, head.last_received), (3, 5, Timestamp(7)));
    assert_eq!(head.size(), packed.size());
    let events = unpack(b"c", 40, &bytes).unwrap();
    let seen: Vec<_> = events.iter().map(|e| (e.seq, &*e.source, e.body.clone())).collect();
    let expected: Vec<_> =
        entries.iter().zip(40..).map(|(e, seq)| (seq, &*e.source, e.event.body.clone())).collect();
    assert_eq!(seen, expected);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let packed = Packed::new(&[entry("a", b"{\"x\":1}".to_vec())]).unwrap();
    let good = stored(&packed);
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        assert!(unpack(b"c", 1, &bad).is_err(), "byte {position}");
    }
}

#[test]
fn cutting_respects_both_limits_and_loses_nothing() {
    let sizes = [10, CHUNK_BYTES_MAX, 10, CHUNK_BYTES_MAX * 3, 5];
    let mut entries: Vec<_> = sizes.iter().map(|n| entry("a", vec![b'x'; *n])).collect();
    entries.extend((0..200).map(|_| entry("a", vec![b'y'; 4])));
    let cut: Vec<_> = cut(&entries).collect();
    assert_eq!(cut.iter().map(|chunk| chunk.len()).sum::<usize>(), entries.len());
    for chunk in cut {
        let bytes: usize = chunk.iter().map(|e| e.event.body.len()).sum();
        assert!(chunk.len() <= CHUNK_EVENTS_MAX && (bytes <= CHUNK_BYTES_MAX || chunk.len() == 1));
    }
}
