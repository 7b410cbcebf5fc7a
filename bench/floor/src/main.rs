//! The floor under every leecher and seeder: one process receives a file over loopback TCP, hashes its
//! pieces and writes it to a new file; another reads it and sends it. No protocol, one thread each.
//! `bench/transfer.py` runs the two before each round and gives every figure as a ratio to theirs.
//!
//! - `teem-bench-floor receive ADDRESS FILE PIECE_LEN`: prints `listening`, then one line of JSON: bytes,
//!   seconds from the first byte to the last one written, and the SHA-1 of all piece hashes in a row.
//! - `teem-bench-floor send ADDRESS FILE`

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use sha1::{Digest, Sha1};

/// Bytes in one read, hash and write. 128 to 512 KiB are equally fast; smaller costs system calls.
const BUFFER_LEN: usize = 256 * 1024;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["receive", address, file, piece_len] => {
            let piece_len = piece_len.parse().map_err(io::Error::other)?;
            if piece_len == 0 {
                return Err(io::Error::other("a piece has at least one byte"));
            }
            receive(address, file, piece_len)
        }
        ["send", address, file] => send(address, file),
        _ => Err(io::Error::other("usage: receive ADDRESS FILE PIECE_LEN | send ADDRESS FILE")),
    }
}

fn receive(address: &str, file: &str, piece_len: usize) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    io::stdout().flush()?;
    let (mut stream, _) = listener.accept()?;
    let mut file = File::create_new(file)?;
    let mut buffer = vec![0; BUFFER_LEN];
    let (mut piece, mut in_piece) = (Sha1::new(), 0);
    let mut all = Sha1::new();
    let mut total = 0_u64;
    let mut begin = None;
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        begin.get_or_insert_with(Instant::now);
        file.write_all(&buffer[..n])?;
        total += n as u64;
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(piece_len - in_piece));
            piece.update(now);
            in_piece += now.len();
            rest = later;
            if in_piece == piece_len {
                all.update(piece.finalize_reset());
                in_piece = 0;
            }
        }
    }
    if in_piece > 0 {
        all.update(piece.finalize_reset());
    }
    let seconds = begin.map_or(0.0, |begin| begin.elapsed().as_secs_f64());
    print!(r#"{{"bytes": {total}, "seconds": {seconds:.6}, "pieces": ""#);
    for byte in all.finalize() {
        print!("{byte:02x}");
    }
    println!(r#""}}"#);
    Ok(())
}

fn send(address: &str, file: &str) -> io::Result<()> {
    let mut file = File::open(file)?;
    let mut stream = TcpStream::connect(address)?;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}
