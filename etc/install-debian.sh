#!/bin/sh
# install-debian.sh LIST...: installs the Debian packages of these files beside it that are missing.
# None of their services is started: the cloud runs its own.
set -eu
cd "$(dirname "$0")"

wanted=$(cat "$@" | grep -v '^#')
missing=
for package in $wanted; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are missing, and only root can install them; going on without:$missing" >&2
    exit 0
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
enabled() {
    systemctl --root=/ --no-legend --state=enabled list-unit-files 2>/dev/null | cut -d' ' -f1
}
before=$(enabled || true)
began=$(date +%s)
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words
if ! { apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=600 --no-install-recommends install $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
if command -v systemctl >/dev/null; then
    for unit in $(enabled | grep -vxF "$before" | grep -E '^(mariadb|postgresql|rabbitmq|epmd|libvirt|virtlo)'); do
        systemctl --root=/ --quiet disable "$unit"
    done
fi
echo "Debian packages installed ($(($(date +%s) - began)) s)"
