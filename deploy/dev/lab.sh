#!/usr/bin/env bash
# Makes sure of what the lab needs from the system: root, and Debian's nftables, iproute2 and iptables. The NTP daemons
# conflict as packages and are unpacked side by side by tests/lab/packages.py instead.
# Exit 0: the lab can run. Exit 3: it cannot; the reason and the remedy are on stderr.
set -euo pipefail

if [ "$(uname -s)" != Linux ]; then
  echo "lab: network namespaces need Linux; this is $(uname -s)" >&2
  exit 3
fi
if [ "$(id -u)" != 0 ]; then
  echo "lab: network namespaces need root; run the same command with sudo" >&2
  exit 3
fi
if ! unshare --net true 2>/dev/null; then
  echo "lab: this root may not make network namespaces (a container without CAP_SYS_ADMIN?); use a machine or container that may" >&2
  exit 3
fi

missing=()
for pair in nft:nftables ip:iproute2 iptables:iptables; do
  PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "lab: missing ${missing[*]}, and no apt-get here; install them with your system's package tool" >&2
  exit 3
fi
echo "lab: installing ${missing[*]}"
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
  </dev/null >/dev/null; then
  echo "lab: could not install ${missing[*]}; try: apt-get update && apt-get install ${missing[*]}" >&2
  exit 3
fi
