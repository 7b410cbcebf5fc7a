#!/usr/bin/env python3
"""Times one torrent from a seeder to a leecher, for pairs of programs, in round robin.

Every run has a network namespace of its own, with an address each for the tracker (opentracker), the
seeder and the leecher; the files lie on tmpfs. Before each run the amount of memory that the leecher
will fill is touched and freed; before each round the floor is measured (bench/floor: receive, hash,
write, nothing else). MiB/s counts from the first MiB on the wire until the leecher says that it is
complete; CPU is user+sys of the same span, per GiB; RSS is the peak. Every copy is checked after timing.

  cargo build --release -p teem -p teem-bench-floor && interop/install.sh
  bench/transfer.py                                      # every pair of the programs found, 3 rounds
  bench/transfer.py --rounds 5 --pairs libtorrent:teem,teem:libtorrent,libtorrent:libtorrent
  bench/transfer.py --rc4 --pairs libtorrent:teem,teem:teem,libtorrent:libtorrent
  bench/transfer.py --pairs rtorrent:teem,rtorrent:teem-alone   # with hashing in lanes, and without

Prints a Markdown table; --out FILE appends one JSON line per run. The machine's clock drifts by a
third over minutes: all ratios are medians of ratios within a round, and each round begins with another
pair. A run in which not every byte was hashed exactly once counts nowhere.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
PROGRAMS = ["teem", "libtorrent", "rtorrent", "aria2", "rqbit"]
# teem that hashes one piece after the other; only where it is asked for.
ALONE = "teem-alone"
OURS = ["teem", ALONE]
# rtorrent 0.9.8 comes to a halt near the end of 1 GiB from libtorrent, every time; not from the others.
STUCK = {("libtorrent", "rtorrent")}
TRACKER, SEEDER, LEECHER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
TRACKER_PORT, SEEDER_PORT, LEECHER_PORT = 6969, 20002, 20003
REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve()
VENV = Path(os.environ.get("TEEM_INTEROP_VENV", TARGET / "interop-venv")).absolute()
NAME = "payload.bin"


class Trouble(Exception):
    """A run that cannot be counted, and why."""


# --- the programs ---------------------------------------------------------------------------------


def teem():
    named = os.environ.get("TEEM_BIN")
    return Path(named).resolve() if named else TARGET / "release" / "teem"


def floor():
    return TARGET / "release" / "teem-bench-floor"


def missing(program):
    """Why a program cannot run here, or None."""
    if program in OURS:
        return None if teem().is_file() else f"{teem()} is not built (cargo build --release -p teem)"
    if program == "libtorrent":
        return None if (VENV / "bin/python3").exists() else "run interop/install.sh"
    command = {"aria2": "aria2c"}.get(program, program)
    if shutil.which(command):
        return None
    return {"rqbit": "optional; cargo install --locked rqbit"}.get(program, "run interop/install.sh")


def plan(program, role, seat):
    """The command line of a program, and the signs that it is ready (seeder) or complete (leecher).

    A sign is ("listens", port), ("prints", text), ("file", path) or ("exit",).
    """
    own, data, torrent = seat["own"], seat["data"], seat["torrent"]
    address, port = seat["address"], seat["port"]
    seeds = role == "seeder"
    if program in OURS:
        where = ["seed", torrent, data] if seeds else ["get", torrent, "-o", data]
        command = [teem(), *where, "--bind", address, "--port", port, "-vv"]
        command += ["--encryption", "require" if seat["rc4"] else "off"]
        return command, ("listens", port) if seeds else ("exit",)
    if program == "libtorrent":
        script = REPOSITORY / "interop/peers/libtorrent_peer.py"
        command = [VENV / "bin/python3", script, "seed" if seeds else "leech"]
        command += ["--torrent", torrent, "--dir", data, "--bind", address, "--port", port]
        command += ["--transport", "tcp", "--encryption", "rc4" if seat["rc4"] else "plain"]
        return command, ("prints", "ready\n" if seeds else " complete\n")
    if program == "aria2":
        command = ["aria2c", "--no-conf", "--enable-color=false", "--file-allocation=none"]
        command += ["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]
        command += [f"--dir={data}", f"--listen-port={port}", f"--interface={address}"]
        if seat["rc4"]:
            command += ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]
        if seeds:
            command += ["--check-integrity=true", "--seed-ratio=0.0", "--summary-interval=1", torrent]
            return command, ("prints", "SEED(")
        # It says so when it has all; its exit follows up to 3 s later.
        return [*command, "--seed-time=0", torrent], ("prints", "Seeding is over.")
    if program == "rtorrent":
        (own / "session").mkdir()
        encryption = "allow_incoming,try_outgoing,require,require_RC4" if seat["rc4"] else "none"
        (own / "rc").write_text(
            f"""system.daemon.set = true
network.bind_address.set = {address}
network.port_range.set = {port}-{port}
network.port_random.set = no
directory.default.set = "{data}"
session.path.set = "{own}/session"
dht.mode.set = disable
protocol.encryption.set = {encryption}
method.set_key = event.download.hash_done, checked, "execute2={{touch,{own}/checked}}"
method.set_key = event.download.finished, done, "execute2={{touch,{own}/done}}"
schedule2 = load, 0, 0, "load.start=\\"{torrent}\\""
"""
        )
        command = ["rtorrent", "-n", "-o", f"import={own}/rc"]
        return command, ("file", own / ("checked" if seeds else "done"))
    if program == "rqbit":
        # It binds no outgoing socket, so the tracker sees the tracker's own address: listen on all.
        command = ["rqbit", "--listen-port", port, "--listen-ip", "0.0.0.0", "--disable-dht"]
        command += ["--disable-lsd", "--disable-upnp-port-forward"]
        command += ["--http-api-listen-addr", f"{address}:{port + 1000}"]
        command += ["download", "-o", data, "--overwrite"]
        if seeds:
            return [*command, torrent], ("listens", port)
        return [*command, "-e", torrent], ("exit",)
    raise Trouble(f"no such program: {program}")


def environment(program):
    """What a program finds in its environment beside the usual."""
    return {"TEEM_LANES": "off"} if program == ALONE else {}


# --- one process ----------------------------------------------------------------------------------


class Running:
    """A child process with its log, CPU time and peak memory."""

    ticks = os.sysconf("SC_CLK_TCK")

    def __init__(self, name, own, command, more=None):
        self.name, self.log = name, own / "log"
        self.rss_kib = self.anon_kib = 0
        self.status = self.usage = None
        environment = {"PATH": os.environ["PATH"], "HOME": str(own), "LANG": "C.UTF-8", **(more or {})}
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command], cwd=own, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        self.pid = self.child.pid

    def poll(self):
        """The exit status, once there is one; takes CPU time and peak memory with it."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status = self.child.returncode = os.waitstatus_to_exitcode(status)
                self.usage = usage
        return self.status

    def cpu(self):
        """User and system seconds so far."""
        if self.poll() is None:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / self.ticks
        return self.usage.ru_utime + self.usage.ru_stime

    def sample_memory(self):
        """VmHWM is the program's own peak; wait4's counts what it inherited before exec."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.rss_kib = max(self.rss_kib, int(line.split()[1]))
                elif line.startswith("RssAnon:"):
                    self.anon_kib = max(self.anon_kib, int(line.split()[1]))
        except (FileNotFoundError, ProcessLookupError):
            pass

    def has(self, sign):
        kind = sign[0]
        if kind == "exit":
            return self.poll() == 0
        if kind == "file":
            return sign[1].exists()
        if kind == "prints":
            return sign[1].encode() in self.log.read_bytes()
        return listens(sign[1])

    def await_sign(self, sign, seconds):
        deadline = time.monotonic() + seconds
        while not self.has(sign):
            if self.poll() is not None:
                raise Trouble(f"{self.name} ended early ({self.status}): {self.tail()}")
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name}: no {sign[0]} within {seconds} s: {self.tail()}")
            time.sleep(0.01)

    def tail(self):
        return self.log.read_bytes()[-800:].decode(errors="replace")

    def stop(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 3
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)


class Cores:
    """How busy all cores of the machine are from now on, whoever keeps them so."""

    def __init__(self):
        self.before = self.read()

    def busy(self):
        idle, total = (now - then for now, then in zip(self.read(), self.before))
        return 1 - idle / max(total, 1)

    @staticmethod
    def read():
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)


def listens(port):
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
                return True
    return False


def bytes_on_the_wire():
    """What the loopback device of this namespace has carried."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[0])
    raise Trouble("no loopback device")


# --- one run, inside its namespace ----------------------------------------------------------------


def run_inside(job):
    for args in (["link", "set", "lo", "up"],
                 *(["addr", "add", f"{a}/32", "dev", "lo"] for a in (TRACKER, SEEDER, LEECHER))):
        subprocess.run(["ip", *args], check=True)
    work = Path(job["work"])
    touch_and_free(work, job["size"])
    return run_floor(job, work) if job["pair"] is None else run_pair(job, work)


def touch_and_free(work, size):
    """New tmpfs pages cost what the host makes of them: fetch them once before they count."""
    scratch = work / "touch"
    block = b"\1" * MIB
    with open(scratch, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    scratch.unlink()


def run_floor(job, work):
    content = Path(job["content"]) / NAME
    where = f"{LEECHER}:{LEECHER_PORT}"
    for role in ("receive", "send"):
        (work / role).mkdir()
    copy = work / "copy"
    receiver = Running("floor", work / "receive", [floor(), "receive", where, copy, job["piece"]])
    receiver.await_sign(("prints", "listening\n"), 5)
    cores = Cores()
    sender = Running("floor's sender", work / "send", [floor(), "send", where, content])
    wait_while_sampling([receiver, sender], lambda: receiver.poll() is not None, job["limit"])
    busy = cores.busy()
    while sender.poll() is None:
        time.sleep(0.001)
    if receiver.status or sender.status:
        raise Trouble(f"floor: {receiver.tail()} {sender.tail()}")
    said = json.loads(receiver.log.read_text().splitlines()[-1])
    if said["pieces"] != job["pieces"] or said["bytes"] != job["size"]:
        raise Trouble("the floor received other bytes")
    verify(copy, job)
    return figures(job, said["seconds"], sender.cpu(), receiver.cpu(), busy, sender, receiver)


def run_pair(job, work):
    seeding, leeching = job["pair"]
    running = []
    seats = {}
    for role, address, port in (("tracker", TRACKER, TRACKER_PORT), ("seeder", SEEDER, SEEDER_PORT),
                                ("leecher", LEECHER, LEECHER_PORT)):
        own = work / role
        own.mkdir()
        os.chmod(own, 0o755)
        data = Path(job["content"]) if role == "seeder" else own / "data"
        data.mkdir(exist_ok=True)
        seats[role] = {"own": own, "data": data, "torrent": Path(job["torrent"]),
                       "address": address, "port": port, "rc4": job["rc4"]}
    try:
        own = seats["tracker"]["own"]
        (own / "white").write_text(job["info_hash"] + "\n")
        # It refuses to run as root; in a user namespace it needs one in which it is somebody else.
        nobody = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
        tracker = [*(nobody if job["rootless"] else []), "opentracker", "-i", TRACKER, "-p", TRACKER_PORT,
                   "-P", TRACKER_PORT, "-d", own, "-w", "white", "-u", "nobody"]
        running.append(Running("tracker", own, tracker))
        running[-1].await_sign(("listens", TRACKER_PORT), 5)

        command, sign = plan(seeding, "seeder", seats["seeder"])
        seeder = Running(f"seeder {seeding}", seats["seeder"]["own"], command, environment(seeding))
        running.append(seeder)
        seeder.await_sign(sign, 60)
        await_announce(job["info_hash"], 60)
        # A rehash of the content or a start-up must not reach into the measurement.
        time.sleep(0.3)

        before = bytes_on_the_wire()
        command, sign = plan(leeching, "leecher", seats["leecher"])
        leecher = Running(f"leecher {leeching}", seats["leecher"]["own"], command, environment(leeching))
        running.append(leecher)
        deadline = time.monotonic() + job["limit"]
        while bytes_on_the_wire() < before + MIB:
            if leecher.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"nothing moved; {leecher.tail()}")
            time.sleep(0.002)
        begin, cpu_seeder, cpu_leecher = time.monotonic(), seeder.cpu(), leecher.cpu()
        cores = Cores()
        wait_while_sampling([seeder, leecher], lambda: leecher.has(sign), job["limit"], leecher)
        seconds, busy = time.monotonic() - begin, cores.busy()
        cpu_seeder, cpu_leecher = seeder.cpu() - cpu_seeder, leecher.cpu() - cpu_leecher
        seeder.sample_memory()
        leecher.sample_memory()
        if seeder.poll() is not None:
            raise Trouble(f"the seeder ended: {seeder.tail()}")
        result = figures(job, seconds, cpu_seeder, cpu_leecher, busy, seeder, leecher)
        leecher.stop()
        if leeching in OURS:
            result["hashed"] = hashed(leecher.log.read_text(), job["size"])
        verify(seats["leecher"]["data"] / NAME, job)
        return result
    finally:
        for it in reversed(running):
            it.stop()


def wait_while_sampling(processes, done, seconds, must_run=None):
    """Glances every 5 ms at the end, every 50 ms at memory: a 2-core machine feels more."""
    deadline = time.monotonic() + seconds
    for glance in itertools.count():
        if done():
            return
        if must_run is not None and must_run.poll() is not None and not done():
            raise Trouble(f"{must_run.name} ended early ({must_run.status}): {must_run.tail()}")
        if time.monotonic() > deadline:
            raise Trouble(f"not complete within {seconds} s; {processes[-1].tail()}")
        if glance % 10 == 0:
            for process in processes:
                process.sample_memory()
        time.sleep(0.005)


def await_announce(info_hash, seconds):
    """Until the tracker knows a complete peer: a leecher that asks earlier asks again much later."""
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))
    escaped = "".join(f"%{info_hash[i:i + 2]}" for i in range(0, 40, 2))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = opener.open(f"http://{TRACKER}:{TRACKER_PORT}/scrape?info_hash={escaped}", timeout=5)
        if b"8:completei" in (body := answer.read()) and b"8:completei0e" not in body:
            return
        time.sleep(0.05)
    raise Trouble("the seeder did not announce")


def hashed(log, size):
    """Blocks of 64 bytes that the leecher hashed in lanes, had room for in them, and hashed alone."""
    said = re.findall(r"in_lanes: (\d+), room: (\d+), alone: (\d+)", log)
    if not said:
        raise Trouble("the leecher does not say how it hashed")
    lanes, room, alone = (int(count) for count in said[-1])
    if (lanes + alone) * 64 != size:
        raise Trouble(f"the leecher hashed {(lanes + alone) * 64} bytes of {size}")
    return [lanes, room, alone]


def verify(copy, job):
    with open(copy, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != job["sha256"]:
            raise Trouble("the copy has the wrong bytes")


def figures(job, seconds, cpu_seeder, cpu_leecher, busy, seeder, leecher):
    gib = job["size"] / GIB
    return {
        "mib_per_s": job["size"] / MIB / seconds,
        "seconds": seconds,
        "cpu_seeder": cpu_seeder / gib,
        "cpu_leecher": cpu_leecher / gib,
        "cores_busy": busy,
        "rss_seeder_mib": seeder.rss_kib / 1024,
        "rss_leecher_mib": leecher.rss_kib / 1024,
        "anon_seeder_mib": seeder.anon_kib / 1024,
        "anon_leecher_mib": leecher.anon_kib / 1024,
    }


# --- the whole, outside ---------------------------------------------------------------------------


def make_content(folder, size, piece):
    """One file of `size` bytes from a fixed seed, its torrent, and what is needed to check a copy."""
    rng = random.Random(0x7465656D)
    pieces, whole, block = bytearray(), hashlib.sha256(), b""
    (folder / "content").mkdir()
    with open(folder / "content" / NAME, "wb") as file:
        for at in range(0, size, piece):
            block = rng.randbytes(min(piece, size - at))
            file.write(block)
            whole.update(block)
            pieces += hashlib.sha1(block).digest()
    info = b"d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:%se" % (
        size, len(NAME), NAME.encode(), piece, len(pieces), bytes(pieces))
    url = f"http://{TRACKER}:{TRACKER_PORT}/announce".encode()
    torrent = folder / "payload.torrent"
    torrent.write_bytes(b"d8:announce%d:%s4:info%se" % (len(url), url, info))
    return {
        "content": str(folder / "content"), "torrent": str(torrent), "size": size, "piece": piece,
        "info_hash": hashlib.sha1(info).hexdigest(), "sha256": whole.hexdigest(),
        "pieces": hashlib.sha1(pieces).hexdigest(),
    }


def unshare():
    """The command that makes fresh namespaces. A process namespace ends with all in it, but needs its own
    /proc, which not every sandbox allows."""
    network = "--net" if os.geteuid() == 0 else "-rn"
    for more in (["--pid", "--fork", "--kill-child", "--mount-proc"], []):
        command = ["unshare", network, *more]
        if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0:
            return command
    raise SystemExit("no network namespace to be had here")


def run_in_namespace(job, folder, namespace):
    """One run in a process of its own, in namespaces that end with it."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as work:
        os.chmod(work, 0o755)
        job = dict(job, work=work, rootless=not root)
        done = subprocess.run(
            [*namespace, sys.executable, __file__, "--inside", json.dumps(job)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
    if done.returncode:
        raise Trouble("the run inside the namespace broke")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "trouble" in answer:
        raise Trouble(answer["trouble"])
    return answer


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def table(results, floors):
    """Markdown; each ratio is a median of ratios to the floor of the same round."""
    lines = [
        "| seeder → leecher | runs | MiB/s min / median / max | of floor | CPU s/GiB seeder (× floor) "
        "| CPU s/GiB leecher (× floor) | cores busy | peak RSS MiB seeder / leecher (anon) "
        "| against the best other |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def row(name, runs, other):
        speed = sorted(run["mib_per_s"] for run in runs)
        ratio = {
            key: statistics.median(run[key] / max(floors[run["round"]][key], 0.01) for run in runs)
            for key in ("mib_per_s", "cpu_seeder", "cpu_leecher")
        }
        lines.append(
            f"| {name} | {len(runs)} | {speed[0]:.0f} / {statistics.median(speed):.0f} / {speed[-1]:.0f} "
            f"| {ratio['mib_per_s']:.2f} "
            f"| {median(runs, 'cpu_seeder'):.2f} ({ratio['cpu_seeder']:.2f}) "
            f"| {median(runs, 'cpu_leecher'):.2f} ({ratio['cpu_leecher']:.2f}) | {median(runs, 'cores_busy'):.0%} "
            f"| {median(runs, 'rss_seeder_mib'):.0f} ({median(runs, 'anon_seeder_mib'):.0f}) "
            f"/ {median(runs, 'rss_leecher_mib'):.0f} ({median(runs, 'anon_leecher_mib'):.0f}) | {other} |"
        )

    if floors:
        row("floor", list(floors.values()), "")
    for pair, runs in results.items():
        if runs:
            row(" → ".join(pair), runs, against_best_other(pair, runs, results))
    return "\n".join(lines)


def in_lanes(run):
    """How much of the content was hashed in lanes, and how full they were."""
    if "hashed" not in run:
        return ""
    lanes, room, alone = run["hashed"]
    return f", {lanes / max(lanes + alone, 1):.0%} in lanes, {lanes / max(room, 1):.0%} full"


def against_best_other(pair, runs, results):
    """teem against the best program in the same place, everything else being equal."""
    places = [place for place in (0, 1) if pair[place] in OURS]
    if not places:
        return ""
    said = []
    if len(places) == 2:
        rivals = {p: r for p, r in results.items() if r and not {*OURS} & {*p}}
        compared = [("mib_per_s", "MiB/s", max), ("cpu_seeder", "CPU S", min), ("cpu_leecher", "CPU L", min)]
    else:
        place = places[0]
        rivals = {p: r for p, r in results.items()
                  if r and p[1 - place] == pair[1 - place] and p[place] not in OURS}
        cpu = ("cpu_seeder", "CPU S", min) if place == 0 else ("cpu_leecher", "CPU L", min)
        compared = [("mib_per_s", "MiB/s", max), cpu]
    for key, label, best in compared:
        if rivals:
            rival = best(rivals, key=lambda p: median(rivals[p], key))
            theirs = {run["round"]: run[key] for run in rivals[rival]}
            ratios = [run[key] / max(theirs[run["round"]], 0.01) for run in runs if run["round"] in theirs]
            if not ratios:
                continue
            value = statistics.median(ratios)
            who = "→".join(rival) if len(places) == 2 else rival[places[0]]
            said.append(f"{label} {value:.2f}× ({who})")
    return ", ".join(said) or "none measured"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="MiB to move (1024)")
    parser.add_argument("--piece", type=int, default=1024, metavar="KIB", help="KiB in a piece (1024)")
    parser.add_argument("--pairs", help="seeder:leecher,...; * stands for all programs found")
    parser.add_argument("--rc4", action="store_true", help="everybody insists on RC4 (rqbit cannot)")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one run (120)")
    parser.add_argument("--dir", default="/dev/shm", help="where files lie; a tmpfs")
    parser.add_argument("--out", help="append one JSON line per run to this file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_pairs(asked):
    found = []
    for program in [*PROGRAMS, ALONE]:
        if why := missing(program):
            print(f"left out: {program}: {why}", file=sys.stderr)
        else:
            found.append(program)
    both = [program for program in found if program != ALONE]
    if asked is None:
        pairs = [pair for pair in itertools.product(both, both) if pair not in STUCK]
    else:
        pairs = []
        for text in asked.split(","):
            seeder, leecher = text.strip().split(":")
            pairs += itertools.product(both if seeder == "*" else [seeder], both if leecher == "*" else [leecher])
    return [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(found)]


def main():
    args = arguments()
    if args.inside:
        try:
            print(json.dumps(run_inside(json.loads(args.inside))))
        except Trouble as trouble:
            print(json.dumps({"trouble": str(trouble)}))
        return 0
    # An interrupt must pass through `finally`, so that no gigabyte stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not floor().is_file():
        print(f"{floor()} is not built (cargo build --release -p teem-bench-floor)", file=sys.stderr)
        return 2
    if not shutil.which("opentracker"):
        print("no opentracker; run interop/install.sh", file=sys.stderr)
        return 2
    pairs = chosen_pairs(args.pairs)
    namespace = unshare()
    results, floors = {pair: [] for pair in pairs}, {}
    failed = 0
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="teem-bench-") as folder:
        folder = Path(folder)
        os.chmod(folder, 0o755)
        base = make_content(folder, args.size * MIB, args.piece * 1024)
        base["limit"] = args.limit
        base["rc4"] = args.rc4
        for number in range(1, args.rounds + 1):
            first = number % len(pairs)
            for pair in [None, *pairs[first:], *pairs[:first]]:
                name = "floor" if pair is None else " → ".join(pair)
                try:
                    run = run_in_namespace(dict(base, pair=pair), folder, namespace)
                except Trouble as trouble:
                    failed += 1
                    print(f"round {number}: {name}: {trouble}", file=sys.stderr, flush=True)
                    if pair is None:
                        return 1
                    continue
                run["round"] = number
                if pair is None:
                    floors[number] = run
                else:
                    results[pair].append(run)
                print(f"round {number}: {name}: {run['mib_per_s']:.0f} MiB/s, CPU s/GiB "
                      f"{run['cpu_seeder']:.2f} + {run['cpu_leecher']:.2f}, cores {run['cores_busy']:.0%} busy"
                      f"{in_lanes(run)}",
                      file=sys.stderr, flush=True)
                if args.out:
                    line = {"seeder": pair and pair[0], "leecher": pair and pair[1],
                            "size": base["size"], "piece": base["piece"], **run}
                    with open(args.out, "a") as out:
                        out.write(json.dumps(line) + "\n")
    print(table(results, floors))
    if failed:
        print(f"\n{failed} runs failed and count nowhere.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
