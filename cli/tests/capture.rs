//! Captures of simulated hosts, read by the real tshark.
//!
//! Where there is no tshark these tests say that they were left out; with `TEEM_INTEROP=1`, they
//! fail.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{code, stderr, teem};
use serde_json::Value;
use teem_core::ids::CommandToken;
use teem_core::machine::Application as _;
use teem_core::rng::Seed;
use teem_core::session::Config;
use teem_core::time::Instant;
use teem_core::tracker::server::{self, Server};
use teem_sim::capture::Capture;
use teem_sim::swarm::Swarm;

/// A seeder, a client that has some of it, and a tracker: hosts 0, 1 and 2.
const PAIR: &str = r#"
about = "one has it all, one some of it"
content = "1 MiB"
piece = "64 KiB"
tracker = true
[[peers]]
role = "seeder"
up = "2 MB/s"
[[peers]]
role = "leecher"
preload = "25 %"
latency = "10 ms"
"#;

/// Bytes of a block, and of a piece of [`PAIR`].
const BLOCK: u64 = 16 * 1024;
const PIECE: u64 = 64 * 1024;

/// What no packet is: against the rules of a protocol, other than it was the first time, an answer
/// to what nobody said, or without a right checksum.
const BROKEN: &str = "_ws.malformed or _ws.unreassembled \
                      or tcp.segment.overlap.conflict or tcp.analysis.ack_lost_segment \
                      or not (ip.checksum.status == \"Good\" or ipv6) \
                      or not (tcp.checksum.status == \"Good\" or udp.checksum.status == \"Good\")";

/// What is sent again, however its sender knew.
const RETRANSMISSION: &str = "tcp.analysis.retransmission or tcp.analysis.fast_retransmission";

/// Whether tshark is here. Says so if it is not, and fails if it must be.
fn has_tshark() -> bool {
    let is_here = Command::new("tshark").arg("--version").output().is_ok();
    let must = std::env::var_os("TEEM_INTEROP").is_some_and(|value| value != "0");
    let missing = "there is no tshark; interop/install.sh installs it (Debian: tshark)";
    assert!(is_here || !must, "{missing}");
    if !is_here {
        println!("left out: {missing}");
    }
    is_here
}

/// A row of these fields for each packet that the filter lets through.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    for check in ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"] {
        command.args(["-o", &format!("{check}:TRUE")]);
    }
    // Messages of several segments, of which one comes late or again.
    command.args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    command.arg("-nr").arg(file).args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{filter}: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// Nothing is broken, and nothing is lost, late or twice.
fn assert_sound(file: &Path) {
    let wrong = format!("tcp.analysis.flags or {BROKEN}");
    let wrong = tshark(file, &wrong, &["frame.number", "_ws.col.Info"]);
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// How many messages of this type an address sent.
fn count(messages: &[Vec<String>], from: &str, kind: &str) -> u64 {
    let own = messages.iter().filter(|row| row[0] == from);
    own.flat_map(|row| row[1].split(',')).filter(|found| *found == kind).count() as u64
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self::with(PAIR)
    }

    /// With this for the pair.
    fn with(scenario: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        fs::write(folder.0.path().join("pair.toml"), scenario).expect("written");
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Runs the pair; what the run says of itself.
    fn run(&self, extra: &[&str]) -> Value {
        let scenario = self.path("pair.toml");
        let run = teem(&[&["sim", "run", &scenario, "--json", "-"], extra].concat());
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON")
    }
}

#[test]
fn tshark_reads_every_message_of_a_transfer_in_both_directions() {
    if !has_tshark() {
        return;
    }
    let folder = Folder::new();
    // As the seeder sees it, as the leecher does, and both at once: everything once.
    let mut cells = 0;
    for fidelity in ["message", "flow", "packet"] {
        let without = folder.run(&["--fidelity", fidelity]);
        for hosts in ["0", "1", "0..2"] {
            let file = folder.path("it.pcapng");
            let extra = ["--fidelity", fidelity, "--capture", &file, "--capture-hosts", hosts];
            let run = folder.run(&extra);
            assert_eq!(run["digest"], without["digest"], "a capture changes nothing");
            let file = Path::new(&file);
            assert_sound(file);
            let handshakes = tshark(file, "bittorrent.protocol.name", &["ip.src"]);
            for from in ["10.0.0.1", "10.0.0.2"] {
                // Each tells the other, on each connection that there was.
                let told = handshakes.iter().filter(|row| row[0] == from).count();
                assert!((1..=2).contains(&told), "{from}: {told} handshakes");
            }
            let messages = tshark(file, "bittorrent.msg.type", &["ip.src", "bittorrent.msg.type"]);
            let blocks = run["blocks"].as_u64().expect("a number");
            assert!(blocks > 32 && blocks < 64, "it had a quarter: {blocks}");
            let (seeder, leecher) = ("10.0.0.1", "10.0.0.2");
            // Request, piece, have, bitfield, and have all.
            assert_eq!(count(&messages, leecher, "6"), blocks, "{fidelity} {hosts}");
            assert_eq!(count(&messages, seeder, "7"), blocks, "{fidelity} {hosts}");
            assert_eq!(count(&messages, leecher, "7"), 0);
            let haves = count(&messages, leecher, "4");
            // The run ends when all is there: the last ones are not told any more.
            assert!((1..=blocks * BLOCK / PIECE).contains(&haves), "{haves}");
            assert!(count(&messages, leecher, "5") >= 1, "it has some");
            assert!(count(&messages, seeder, "14") >= 1, "it has all");
            cells += 1;
        }
    }
    assert_eq!(cells, 9);
}

#[test]
fn tshark_finds_what_was_lost_and_sent_again_and_reads_all_the_rest() {
    if !has_tshark() {
        return;
    }
    let folder = Folder::with(&PAIR.replace("latency", "loss = \"1 %\"\nlatency"));
    let without = folder.run(&["--fidelity", "packet"]);
    for hosts in ["0", "1", "0..2"] {
        let file = folder.path("it.pcapng");
        let run =
            folder.run(&["--fidelity", "packet", "--capture", &file, "--capture-hosts", hosts]);
        assert_eq!(run["digest"], without["digest"], "a capture changes nothing");
        let file = Path::new(&file);
        let wrong = tshark(file, BROKEN, &["frame.number", "_ws.col.Info"]);
        assert!(wrong.is_empty(), "{hosts}: {wrong:?}");
        let found = |filter: &str| tshark(file, filter, &["frame.number"]).len();
        assert!(found(RETRANSMISSION) > 0, "{hosts}");
        assert!(found("tcp.options.sack_le") > 0, "{hosts}");
        // The receiver alone does not see what was lost, and so nothing that comes twice.
        assert_eq!(found("tcp.analysis.lost_segment") > 0, hosts == "1", "{hosts}");
        let sent = tshark(file, "ip.src == 10.0.0.1 and tcp.len > 0", &["tcp.stream", "tcp.seq"]);
        let places: BTreeSet<_> = sent.iter().collect();
        assert_eq!(places.len() < sent.len(), hosts != "1", "{hosts}");
        let messages = tshark(file, "bittorrent.msg.type", &["ip.src", "bittorrent.msg.type"]);
        let blocks = run["blocks"].as_u64().expect("a number");
        assert_eq!(count(&messages, "10.0.0.2", "6"), blocks, "{hosts}");
        assert_eq!(count(&messages, "10.0.0.1", "7"), blocks, "{hosts}");
    }
}

#[test]
fn tshark_reads_what_is_said_to_a_tracker_and_which_host_saw_it() {
    if !has_tshark() {
        return;
    }
    let folder = Folder::new();
    let file = folder.path("it.pcapng");
    folder.run(&["--capture", &file, "--capture-hosts", "1..3"]);
    let file = Path::new(&file);
    let asked = tshark(
        file,
        "http.request.uri contains \"/announce\"",
        &["ip.src", "ip.dst", "frame.interface_name", "frame.interface_description"],
    );
    // The seeder as the tracker sees it, the other as it sees itself.
    let mut asked: Vec<_> = asked.iter().map(|row| row.join(" ")).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["10.0.0.1 10.0.0.3 host2 tracker", "10.0.0.2 10.0.0.3 host1 leecher"]);
    let answers = tshark(file, "http.response.code == 200", &["ip.src"]);
    assert_eq!(answers, [["10.0.0.3"], ["10.0.0.3"]]);
    // The clock on the wall begins there, and counts nanoseconds.
    let first = &tshark(file, "frame.number == 1", &["frame.time_epoch"])[0][0];
    assert!(first.starts_with("1800000000.000"), "{first}");
    let whole = tshark(file, "frame", &["frame.time_epoch"]);
    assert!(whole.iter().any(|row| !row[0].ends_with("000")), "finer than microseconds");
}

#[test]
fn tshark_finds_nothing_wrong_with_what_goes_wrong() {
    if !has_tshark() {
        return;
    }
    let folder = Folder::new();
    let file = folder.path("it.pcapng");
    for scenario in ["faults", "faults-message"] {
        // Crashes, cuts, losses, moves: connections that begin and end in every way.
        let args = ["sim", "run", scenario, "--seed", "3", "--capture", &file];
        let run = teem(&[&args[..], &["--capture-hosts", "3,17"]].concat());
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        assert_sound(Path::new(&file));
        let resets = tshark(Path::new(&file), "tcp.flags.reset == 1", &["frame.number"]);
        assert!(!resets.is_empty(), "{scenario}");
    }
    // There, what was lost was lost.
    let args = ["sim", "run", "faults", "--seed", "3", "--fidelity", "packet", "--capture", &file];
    let run = teem(&[&args[..], &["--capture-hosts", "3,17"]].concat());
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    for (filter, is_there) in
        [(BROKEN, false), (RETRANSMISSION, true), ("tcp.flags.reset == 1", true)]
    {
        let found = tshark(Path::new(&file), filter, &["frame.number", "_ws.col.Info"]);
        assert_eq!(!found.is_empty(), is_there, "{filter}: {:?}", found.first());
    }
}

#[test]
fn tshark_reads_what_is_said_to_a_tracker_over_udp() {
    if !has_tshark() {
        return;
    }
    let folder = Folder::new();
    for is_v6 in [false, true] {
        let path = folder.path("udp.pcapng");
        let mut swarm = Swarm::new(1 << 18, 1 << 14, 1);
        if is_v6 {
            swarm = swarm.over_ipv6();
        }
        let at = swarm.address(0);
        let tracker = swarm.actor(|_| {
            let seed = Seed::from_number(1);
            let mut server = Server::new(Instant::ORIGIN, server::Config::default(), &seed);
            server.handle_command(Instant::ORIGIN, server::Command::Bind(CommandToken(0), at));
            server
        });
        let url = format!("udp://{at}/announce");
        let content = swarm.content().clone();
        let seeder = swarm.add(Some(&content), Config::default(), |add| {
            add.trackers = vec![url.clone()];
        });
        let file = fs::File::create(&path).expect("made");
        let mut capture = Capture::new(Box::new(file), "a tracker over UDP");
        // The leecher that is about to come.
        let leecher = seeder + 1;
        capture.add_host(leecher, swarm.address(leecher).ip(), "");
        swarm.net.capture(capture);
        let added = swarm.add(None, Config::default(), |add| add.trackers = vec![url.clone()]);
        assert_eq!((tracker, added), (0, leecher));
        assert!(swarm.run(600, |swarm| swarm.is_complete(leecher)), "it found the seeder");
        swarm.net.finish_capture().expect("it goes on").expect("written");
        let file = Path::new(&path);
        assert_sound(file);
        // Connect, then announce; requests begin with a number of 64 bits (BEP 15).
        let said = tshark(file, "udp", &["udp.dstport", "udp.payload"]);
        let port = at.port().to_string();
        for action in ["00000000", "00000001"] {
            let is_asked = |row: &Vec<String>| row[0] == port && &row[1][16..24] == action;
            let is_answered = |row: &Vec<String>| row[0] != port && &row[1][..8] == action;
            assert!(said.iter().any(is_asked) && said.iter().any(is_answered), "{said:?}");
        }
        let blocks = tshark(file, "bittorrent.msg.type == 7", &["bittorrent.msg.type"]);
        let blocks = blocks.iter().flat_map(|row| row[0].split(',')).filter(|kind| *kind == "7");
        assert_eq!(blocks.count(), 16, "over either family");
    }
}

#[test]
fn a_replay_is_captured_like_a_run() {
    let folder = Folder::new();
    let (scenario, one, other) =
        (folder.path("pair.toml"), folder.path("one.pcapng"), folder.path("other.pcapng"));
    let capture = |command: &[&str], file: &str| {
        let args = ["--seed", "5", "--capture", file, "--capture-hosts", "1"];
        let done = teem(&[command, &args].concat());
        assert_eq!(code(&done), 0, "{}", stderr(&done));
        assert!(stderr(&done).contains(" packets of one host, "), "{}", stderr(&done));
        fs::read(file).expect("written")
    };
    let run = capture(&["sim", "run", &scenario], &one);
    let trace = folder.path("trace");
    assert!(run.len() > 700_000, "most of a MiB: {}", run.len());
    assert!(run == capture(&["sim", "replay", &scenario, "--host", "1"], &other));
    assert!(run == capture(&["sim", "run", &scenario, "--trace", &trace], &other));
    let part = capture(&["sim", "replay", &scenario, "--until", "0.3"], &other);
    assert!(part.len() < run.len() && part[..1_000] == run[..1_000]);
}

#[test]
fn a_capture_that_cannot_be_is_refused_and_one_that_fails_leaves_the_run_as_it_is() {
    let folder = Folder::new();
    let (scenario, file) = (folder.path("pair.toml"), folder.path("it.pcapng"));
    for (command, args, hint) in [
        ("run", vec!["--capture", &file], "--capture-hosts"),
        ("run", vec!["--capture-hosts", "0"], "--capture"),
        ("run", vec!["--capture", &file, "--capture-hosts", "3"], "there are hosts 0 to 2"),
        ("run", vec!["--capture", &file, "--capture-hosts", "0,x"], "such as 0,3..5"),
        (
            "run",
            vec!["--capture", &file, "--capture-hosts", "0", "--seeds", "0..2"],
            "a capture is of one seed",
        ),
        ("run", vec!["--capture", "/nowhere/it", "--capture-hosts", "0"], "/nowhere/it"),
        (
            "replay",
            vec!["--seed", "0", "--capture", &file, "--capture-hosts", "0..9"],
            "there are hosts 0 to 2",
        ),
    ] {
        let refused = teem(&[&["sim", command, &scenario], &args[..]].concat());
        assert_eq!(code(&refused), 2, "{args:?}");
        assert!(stderr(&refused).contains(hint), "{args:?}: {}", stderr(&refused));
        assert!(!Path::new(&file).exists(), "{args:?}");
    }
    if !Path::new("/dev/full").exists() {
        println!("left out: there is no /dev/full");
        return;
    }
    let args = ["sim", "run", &scenario, "--json", "-", "--capture", "/dev/full"];
    let full = teem(&[&args[..], &["--capture-hosts", "0"]].concat());
    assert_eq!(code(&full), 2);
    assert_eq!(stderr(&full).matches("/dev/full").count(), 1, "once: {}", stderr(&full));
    let text = String::from_utf8_lossy(&full.stdout).into_owned();
    let run: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&run["failed"], &run["complete"]), (&false.into(), &2.into()));
    assert_eq!(run["digest"], folder.run(&[])["digest"]);
}
