#!/bin/sh
# tools/venv.sh PYTHON NAME LOCK: .venv with exactly what LOCK says (hashes checked) and this package, editable.
set -eu
python=$1 name=$2 lock=$3
cd "$(dirname "$0")/.."

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit("error: Python 3.11 or later is needed, this is %s; try: make PYTHON=python3.12" % sys.version.split()[0])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("error: this Python has no venv; on Debian: apt-get install python3-venv")
PY
[ -x .venv/bin/python ] || "$python" -m venv .venv

total=$(grep -c '==' "$lock")
echo "installing $total Python packages from $lock (first run only)"
log=.venv/pip.log
if ! { .venv/bin/python -m pip install --disable-pip-version-check --no-input --require-hashes -r "$lock" 2>"$log" \
       && echo "Collecting sipagent" \
       && .venv/bin/python -m pip install --disable-pip-version-check --no-input -q --no-deps --no-build-isolation -e . 2>>"$log"; } |
     { if [ -t 1 ]; then awk -v total="$total" '/^Collecting|^Requirement already/ {n++; printf "\r  %d %-50.50s", n, $2; fflush()} END {print ""}'
       else awk '/^Successfully/ {print "  " $0}' | cut -c1-120; fi; }; then :; fi
# The pipe hides pip's exit code; what it was to install tells.
if ! .venv/bin/python -c 'import sipagent.cli' 2>>"$log"; then
    grep -v '^WARNING' "$log" | tail -20 >&2
    echo "error: the packages could not be installed; the whole log is in $log" >&2
    exit 1
fi
touch ".venv/$name.stamp"
