#!/bin/sh
# install-python.sh BIN STAMP: installs this checkout and all it needs into the virtual environment of BIN, says how far
# it is, and touches STAMP. The kernel is built while packages are fetched; what is said of both is in .cache/kernel.log
# and .cache/pip.log. Nothing is done where STAMP is newer than every source: then another make has done it while this
# one waited.
set -eu
cd "$(dirname "$0")/.."
if [ -e "$2" ] && [ -z "$(find pyproject.toml setup.py cellcloud/*.pyx cellcloud/*.pxi -newer "$2")" ]; then
    exit 0
fi
bin=$1
export CELLCLOUD_REQUIRE_EXT=1
mkdir -p .cache
rm -f .cache/pip.log .cache/kernel.log
began=$(date +%s)
tell() {
    printf '%6.1f s  %s\n' $(($(date +%s) - began)) "$*"
}
# needs KEYS...: what pyproject.toml asks for at these keys, one a line
needs() {
    "$bin/python" -c '
import functools, sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
for keys in sys.argv[1:]:
    print(*functools.reduce(dict.__getitem__, keys.split("."), project), sep="\n")' "$@"
}
# install LOG OPTIONS...: one run of pip
install() {
    said=$1
    shift
    "$bin/pip" install --disable-pip-version-check --no-input --progress-bar off "$@" >>"$said" 2>&1 && return
    grep -v "^WARNING" "$said" | tail -n 20 >&2
    echo "pip failed; all it said is in $said" >&2
    exit 1
}

echo "Installing Python packages and building the kernel (a minute or more the first time)"
while sleep 15 >/dev/null 2>&1; do
    tell "$(grep -c "^Collecting" .cache/pip.log || :) packages found: $(tail -n 1 .cache/pip.log | cut -c 1-80)"
done &
beside=$!
trap 'kill $beside 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM

needs build-system.requires >.cache/builders.txt
needs project.dependencies project.optional-dependencies.test >.cache/requirements.txt
sed 's/\[.*\]//' .cache/requirements.txt >.cache/bounds.txt # pip takes no extras in what only bounds
install .cache/pip.log --requirement .cache/builders.txt --constraint .cache/bounds.txt
install .cache/kernel.log --no-deps --no-build-isolation --editable . &
kernel=$!
beside="$beside $kernel"
install .cache/pip.log --requirement .cache/requirements.txt
"$bin/python" -m compileall -q cellcloud top_api cell
wait $kernel
tell "Python packages installed"
touch "$2"
