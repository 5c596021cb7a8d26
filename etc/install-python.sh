#!/bin/sh
# install-python.sh BIN STAMP: installs this checkout and all it needs into the virtual environment of BIN, says how far
# it is, and touches STAMP. All that pip says is in .cache/pip.log. Nothing is done where STAMP is newer than every
# source: then another make has done it while this one waited.
set -eu
cd "$(dirname "$0")/.."
if [ -e "$2" ] && [ -z "$(find pyproject.toml setup.py cellcloud/*.pyx cellcloud/*.pxi -newer "$2")" ]; then
    exit 0
fi
log=.cache/pip.log
mkdir -p .cache
began=$(date +%s)
tell() {
    printf '%6.1f s  %s\n' $(($(date +%s) - began)) "$*"
}

echo "Installing Python packages and building the kernel (a minute or more the first time)"
while sleep 15 >/dev/null 2>&1; do
    tell "still at it: $(tail -n 1 $log | sed 's/^ *//' | cut -c 1-80)"
done &
ticker=$!
trap 'kill $ticker 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM
{
    CELLCLOUD_REQUIRE_EXT=1 "$1/pip" install --disable-pip-version-check --no-input --progress-bar off \
        --editable '.[test]' 2>&1 && echo "all is done"
} | tee $log | {
    found=0
    while read -r line; do
        case $line in
        "Collecting "*)
            found=$((found + 1))
            [ $((found % 25)) != 0 ] || tell "$found packages found"
            ;;
        "Building wheels for"*) tell "building what comes as source" ;;
        "Installing collected packages"*) tell "installing" ;;
        esac
    done
}
if ! tail -n 1 $log | grep -qx "all is done"; then
    grep -v "^WARNING" $log | tail -n 20 >&2
    echo "pip failed; all it said is in $log" >&2
    exit 1
fi
tell "Python packages installed"
touch "$2"
