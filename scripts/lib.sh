# Shared by the scripts beside this file: Python environments, and RabbitMQ where it is missing.
#
# Source it; it defines functions and `root`, the folder of the checkout.
# shellcheck shell=bash

# Without it each process of the tests compiles all of them anew.
unset PYTHONDONTWRITEBYTECODE

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
newest_pythons="python3 python3.13 python3.12 python3.11 python3.10"

say() { printf '%s\n' "==> $*" >&2; }

fail() {
    printf '%s\n' "${0##*/}: $*" >&2
    exit 1
}

# --- packages of the system

can_apt() { command -v apt-get >/dev/null && { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }; }

# apt_install PACKAGE... : for what is installed here, no service is started, now or at the next
# boot: the machine may have a broker of its own, and the nodes we start are private ones.
apt_install() {
    local sudo=()
    [[ $(id -u) == 0 ]] || sudo=(sudo -n)
    say "installing $* (once)"
    ${sudo[@]+"${sudo[@]}"} bash -s -- "$@" >&2 <<'ROOT'
        set -u
        policy=/usr/sbin/policy-rc.d
        if [[ ! -e $policy ]]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update || echo "apt-get update failed; trying with the lists that are there"
        apt-get -qq install --no-install-recommends "$@" </dev/null >/dev/null || exit 1
        if [[ " $* " == *" rabbitmq-server "* && -d /run/systemd/system ]]; then
            systemctl --quiet disable rabbitmq-server
        fi
ROOT
}

has_rabbitmq() {
    PATH=$PATH:/usr/sbin:/usr/lib/rabbitmq/bin command -v rabbitmq-server >/dev/null ||
        [[ -x ${RABBITMQ_HOME:-/nonexistent}/sbin/rabbitmq-server ]]
}

need_rabbitmq() {
    has_rabbitmq && return
    can_apt || fail "RabbitMQ is needed: run 'sudo apt-get install rabbitmq-server' (macOS:" \
        "'brew install rabbitmq') and start this again"
    apt_install rabbitmq-server
    has_rabbitmq || fail "apt-get could not install rabbitmq-server: see above"
}

# --- Python

is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# find_python [NAME...] : prints the first of these that is there and new enough.
find_python() {
    local candidate
    for candidate in "$@"; do
        if is_usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# need_python : prints $PYTHON, or else the first Python that will do.
need_python() {
    if [[ -n ${PYTHON:-} ]]; then
        is_usable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 or later"
        printf '%s\n' "$PYTHON"
        return
    fi
    # shellcheck disable=SC2086 # a list of names
    find_python $newest_pythons && return
    can_apt || fail "Python 3.10 or later is needed: install it and start this again"
    apt_install python3 python3-venv
    find_python python3 || fail "apt-get could not install a Python 3.10 or later: see above"
}

# Debian keeps what `python -m venv` needs in a package of its own.
need_venv_module() {
    local python=$1 package
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$(basename "$python")-venv
    can_apt || fail "$python cannot make environments: run 'sudo apt-get install $package' and" \
        "start this again"
    apt_install "$package"
    "$python" -c 'import ensurepip, venv' || fail "apt-get could not install $package: see above"
}

checksum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# use_environment NAME PYTHON EXTRAS [OPTION...] : makes the environment $root/NAME with this checkout
# (editable) and its extras, unless it is there and made from the same; sets `env_bin`. Options are
# pip's, with paths that are relative to $root: --requirement FILE, --constraint FILE.
use_environment() {
    local name=$1 python=$2 extras=$3 venv=$root/$1 wanted
    shift 3
    env_bin=$venv/bin
    wanted=$(wanted_environment "$python" "$extras" "$@")
    is_made "$venv" "$wanted" && return
    need_venv_module "$python"
    (
        # Two runs may start at once; the second then finds it made.
        exec 9<"$root/pyproject.toml"
        if command -v flock >/dev/null; then flock 9; fi
        is_made "$venv" "$wanted" && exit
        say "making $name with $("$python" --version) (once)"
        rm -rf "$venv"
        "$python" -m venv "$venv" || exit 1
        cd "$root" && "$env_bin/python" -m pip --disable-pip-version-check install --quiet "$@" \
            --editable "$root${extras:+[$extras]}" >&2 || exit 1
        printf '%s\n' "$wanted" >"$venv/made-from"
    ) || fail "could not make $name: see above"
}

is_made() { [[ -r $1/made-from && $(<"$1/made-from") == "$2" ]]; }

# Everything that decides what is in an environment, as one line.
wanted_environment() {
    local python=$1
    shift
    {
        "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
        printf '%s\n' "$root" "$@"
        cat "$root"/pyproject.toml "$root"/setup.py "$root"/requirements/*.txt \
            "$root"/neon_mq_connector/version.py
    } | checksum | cut -d' ' -f1
}

# How pytest shares the work; tests/conftest.py deals it out.
# shellcheck disable=SC2034 # used by those who source this
side_by_side=(-n 4 -q)
