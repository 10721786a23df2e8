#!/bin/sh
# tools/venv.sh PYTHON NAME LOCK [VENV]: a virtual environment (.venv) with exactly what LOCK says, hashes checked,
# and this package, editable. Ends at once when VENV/NAME.stamp says that it is all there: the same lock, folder
# and Python.
set -eu
python=$1 name=$2 lock=$3 venv=${4:-.venv}
cd "$(dirname "$0")/.."
stamp=$venv/$name.stamp log=$venv/pip.log

# A venv's programs hold its path, its packages lie in a folder named after the Python: a checkout that was
# moved or copied, and a system that got another Python, would run other code or none.
place() { pwd -P && $venv/bin/python -V 2>/dev/null; }
# The modules that are compiled are compiled anew when one of them changes.
compiled() { cat hatch_build.py sipagent/native.h; find sipagent -name '*.pxd' | sort | while read -r pxd; do cat "$pxd" "${pxd%.pxd}.py"; done; }
content() { place && cksum <"$lock" && cksum <pyproject.toml && compiled | cksum; }
fresh() { [ -f "$stamp" ] && [ "$(content)" = "$(cat "$stamp")" ]; }

fresh && exit

# One at a time: two makes in one checkout would unpack into each other.
if command -v flock >/dev/null; then
    exec 9<tools/venv.sh
    flock -n 9 || { echo "another make is installing into $venv; waiting for it" && flock 9; }
    fresh && exit
fi

if [ -e "$venv/place" ] && [ "$(place)" != "$(cat "$venv/place")" ]; then
    echo "$venv was made in another folder or by another Python: making it anew"
    rm -rf "$venv"
fi
if ! $venv/bin/python -m pip --version >/dev/null 2>&1; then  # also after a Ctrl-C half-way
    if ! command -v "$python" >/dev/null; then
        echo "error: no $python here; on Debian: apt-get install python3 python3-venv (or name one: make PYTHON=...)" >&2
        exit 1
    fi
    "$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit("error: Python 3.11 or later is needed, this is %s; try: make PYTHON=python3.12" % sys.version.split()[0])
try:
    import ensurepip, venv
    ensurepip.version()  # a package that was removed may leave its folder, which still imports
except (ImportError, AttributeError):
    sys.exit("error: this Python has no venv; on Debian: apt-get install python3-venv")
PY
    echo "making $venv"
    "$python" -m venv --clear "$venv" || { echo "error: $venv could not be made in $(pwd -P), see above" >&2; exit 1; }
fi
place >$venv/place

install() {
    $venv/bin/python -m pip install --disable-pip-version-check --no-input --require-hashes -r "$lock" &&
        echo "Installing sipagent itself" &&
        $venv/bin/python -m pip install --disable-pip-version-check --no-input -q --no-deps --no-build-isolation -e .
}
show() {  # what pip is at; without a terminal a line now and then
    if [ -t 1 ]; then
        awk -v total="$total" '
            /^Collecting|^Requirement already/ {printf "\r\033[K  %d of %d  %.50s", ++n, total, $2; fflush()}
            /^Installing/ {printf "\r\033[K  %.60s", $1 " " $2 " " $3; fflush()}
            /^WARNING: Retrying/ {printf "\r\033[K  the package index does not answer, trying again"; fflush()}
            END {print ""}'
    else
        awk '/^Installing/ {print "  " $1 " " $2 " " $3; fflush()}
             /^WARNING: Retrying/ {print "  the package index does not answer, trying again"; fflush()}'
    fi
}

total=$(grep -c '==' "$lock")
echo "installing $total Python packages from $lock (once)"
rm -f $venv/installed
# A pipe's exit code is its last program's, so pip's own success is a file.
{ install && : >$venv/installed; } 2>&1 | tee "$log" | show
if [ ! -e $venv/installed ] || ! $venv/bin/python -c 'import sipagent.cli' 2>>"$log"; then
    grep -v '^WARNING\|^Looking\|^Collecting\|^Requirement already\|^  *Using cached\|^  *Downloading\|^Install' "$log" |
        tail -20 >&2
    if grep -q 'Retrying\|ConnectionError\|Name resolution\|timed out' "$log"; then
        echo "error: the Python package index does not answer: check the network and pip's settings" \
             "($venv/bin/pip config list), then run make again" >&2
    else
        echo "error: the packages could not be installed; the whole log is in $log" >&2
    fi
    exit 1
fi
content >"$stamp"
if [ -z "$(find sipagent -name '*.so')" ]; then
    echo "note: nothing was compiled, so calls cost more of the processor (docs/tuning.md); to mend it, on Debian:" \
         "apt-get install gcc python3-dev, then rm $stamp and make again"
fi
