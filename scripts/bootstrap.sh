#!/bin/sh
# Checks that the packages which the build needs are there; installs the missing ones with apt where that is allowed (root
# or sudo without a password), otherwise prints the line to type and ends with an error. Needs nothing but a POSIX shell.
#   SEMIVOX_SKIP_BOOTSTRAP=1   trusts the machine: CMake then says what it misses
set -eu

[ "${SEMIVOX_SKIP_BOOTSTRAP:-0}" = 1 ] && exit 0

# package, and the command or header by which an installation from elsewhere is recognised
needed='
g++                  g++
cmake                cmake
ninja-build          ninja
pkg-config           pkg-config
libdnnl-dev          oneapi/dnnl/dnnl.hpp
libnifti2-dev        nifti/nifti2_io.h
libhdf5-dev          hdf5.h
zlib1g-dev           zlib.h
libpng-dev           png.h
libeigen3-dev        eigen3/Eigen/Core
nlohmann-json3-dev   nlohmann/json.hpp
libcli11-dev         CLI/CLI.hpp
libtomlplusplus-dev  toml++/toml.h
doctest-dev          doctest/doctest.h
'

is_there() {  # package, command or header
  case $2 in
    *.h | *.hpp | */*) ;;
    *) command -v "$2" >/dev/null 2>&1; return ;;
  esac
  if command -v dpkg-query >/dev/null 2>&1; then
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] && return 0
  fi
  command -v g++ >/dev/null 2>&1 && echo "#include <$2>" | g++ -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1
}

missing=''
while read -r package witness; do
  [ -n "$package" ] || continue
  is_there "$package" "$witness" || missing="$missing $package"
done <<LIST
$needed
LIST
[ -n "$missing" ] || exit 0

echo "semivox needs packages that are not installed:$missing"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "There is no apt-get here. Please install what these Debian packages contain, then try again" >&2
  echo "(SEMIVOX_SKIP_BOOTSTRAP=1 switches this check off)." >&2
  exit 1
fi

sudo=''
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    echo "Please type this line, then try again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
fi

apt() {
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

echo "Installing them with apt-get ..."
attempt=1
# shellcheck disable=SC2086
until apt -qq update && apt -qq -y install --no-install-recommends $missing; do
  if [ "$attempt" -ge 3 ]; then
    echo "apt-get failed three times. Is the network up, and on Ubuntu the component 'universe' enabled? By hand:" >&2
    echo "    $sudo apt-get update && $sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
  attempt=$((attempt + 1))
  sleep 5
done
