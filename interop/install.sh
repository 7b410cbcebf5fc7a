#!/usr/bin/env bash
# Installs the programs that the interoperation tests and bench/transfer.py talk to:
# Debian's transmission-daemon, aria2, rtorrent, opentracker, and libtorrent's Python binding in a
# virtual environment at interop-venv in cargo's target folder (or $TEEM_INTEROP_VENV); and Debian's
# tshark, with which tests read the simulator's captures. Does nothing when they are there.
# Needs root (or sudo) only for Debian packages that are missing.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
venv=${TEEM_INTEROP_VENV:-${CARGO_TARGET_DIR:-$here/target}/interop-venv}
libtorrent=2.1.1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

wanted=()
want() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || wanted+=("$2"); }
want transmission-daemon transmission-daemon
want aria2c aria2
want rtorrent rtorrent
want opentracker opentracker
want tshark tshark
want ip iproute2
want unshare util-linux
want python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)

if [ ${#wanted[@]} -gt 0 ]; then
  # Debian starts what it installs, where there is an init; a test peer must not run by itself.
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
  for unit in transmission-daemon opentracker; do
    if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
      as_root systemctl disable --now "$unit" >/dev/null 2>&1 || true
    fi
  done
fi

if ! "$venv/bin/python3" -c "import libtorrent, sys; sys.exit(not libtorrent.__version__.startswith('$libtorrent'))" 2>/dev/null; then
  python3 -m venv --clear "$venv"
  "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check "libtorrent==$libtorrent"
fi
# The binding can want OpenSSL 1.1 or 3; say at once if it does not load.
"$venv/bin/python3" -c 'import libtorrent; print("libtorrent", libtorrent.__version__)'
echo "interop peers: ready"
