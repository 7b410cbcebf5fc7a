#!/usr/bin/env python3
"""Counts the instructions of the hot parts, and holds them against the committed baseline.

Runs each case of io/benches/costs.rs once under callgrind (Debian: valgrind), counting inside of it
only. Counts are the same on every run of one build, whatever else the machine does; another compiler
moves them by a few percent. A case that is called like another and "beside" something may cost a
tenth more than that one, and no more.

  bench/instructions.py            # compares; a case that costs over 3 % more than it did fails
  bench/instructions.py --write    # makes what is counted now the baseline, bench/instructions.json

callgrind knows neither AVX-512 nor SHA-NI, so hashing is counted as other processors do it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BASELINE = REPOSITORY / "bench/instructions.json"
# What a case may cost more before it is a finding, and less before the baseline is out of date.
SLACK = 0.03
# What the case of that name may cost beside something: others, which do nothing.
BESIDE = " beside "
BESIDE_SLACK = 0.10


def build():
    """The program of the cases."""
    command = [*os.environ.get("CARGO", "cargo").split(), "bench", "--package", "teem-io", "--bench", "costs",
               "--no-run", "--locked", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "costs" and message.get("executable"):
            return message["executable"]
    raise SystemExit("cargo built no `costs`")


def count(program, case):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               "--toggle-collect=costs::measured*", program, "--once", case]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if done.returncode or not found or int(found[1]) == 0:
        raise SystemExit(f"{case}: not counted\n{done.stderr}")
    return int(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make this the baseline")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        print("no valgrind; apt-get install valgrind", file=sys.stderr)
        return 2
    program = build()
    listed = subprocess.run([program, "--list"], check=True, stdout=subprocess.PIPE, text=True)
    cases = listed.stdout.splitlines()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(cases, pool.map(lambda case: count(program, case), cases)))
    if args.write:
        BASELINE.write_text(json.dumps(counts, indent=2) + "\n")
    baseline = json.loads(BASELINE.read_text())
    worse = [case for case in baseline if case not in counts]
    for case, now in counts.items():
        before = baseline.get(case)
        change = f"{now / before - 1:+.1%}" if before else "new"
        if before is None or now > before * (1 + SLACK):
            worse.append(case)
        print(f"{now:>12,} {change:>8}  {case}")
        if before and now < before * (1 - SLACK):
            print(f"{'':>22} cheaper than the baseline: write a new one")
    flat = True
    for case in (case for case in counts if BESIDE in case):
        ratio = counts[case] / counts[case.split(BESIDE)[0]]
        print(f"{ratio:>12.3f} {'times':>8}  {case}")
        if ratio > 1 + BESIDE_SLACK:
            flat = False
            print(f"costs {ratio:.3f} times what it costs alone: {case}", file=sys.stderr)
    for case in worse:
        print(f"costs more than it did, or is not in the baseline: {case}", file=sys.stderr)
    return 1 if worse or not flat else 0


if __name__ == "__main__":
    sys.exit(main())
