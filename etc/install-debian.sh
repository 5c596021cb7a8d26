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
    echo "These Debian packages are missing; install them as root:$missing" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
# Debian makes a database cluster and starts it as the package is set up; ours are made when the cloud starts.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.conf
fi
began=$(date +%s)
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of words
apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install $missing >/dev/null
if [ -d /run/systemd/system ]; then
    for pair in mariadb-server:mariadb postgresql:postgresql rabbitmq-server:rabbitmq-server rabbitmq-server:epmd \
        libvirt-daemon-system:libvirtd libvirt-daemon-system:virtlogd.socket libvirt-daemon-system:libvirtd.socket; do
        case " $missing " in
        *" ${pair%:*} "*) systemctl -q disable --now "${pair#*:}" || true ;;
        esac
    done
fi
echo "Debian packages installed ($(($(date +%s) - began)) s)"
