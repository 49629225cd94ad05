# shellcheck shell=bash
# SPDX-License-Identifier: PostgreSQL
#
# tests/packages/chroot.sh - a bare Debian to try the packages in; sourced
#
# For root.  The script that sources it sets suite and root, the directory of
# that Debian, and is run again with mounts of its own, which end with it.
# Debian's packages that were fetched once are kept beside the bare Debian in
# the cache, so that a run fetches only what is new.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../dev/lib.sh"

if [[ -z ${PGSTOCK_UNSHARED:-} ]]; then
	PGSTOCK_UNSHARED=yes exec unshare --mount "$0" "$@"
fi

inside=(/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin
	LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)

in_root() { chroot "${root:?}" "${inside[@]}" "$@"; }

as_postgres() { in_root runuser -u postgres -- "$@"; }

# Makes the Debian.  Nothing in it need outlive a power failure.
open_root()
{
	archives=$(cache_dir)/${suite:?}-archives
	"$HERE/dev/bare" "$root" "$suite"
	mount -t proc proc "$root/proc"
	echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
	mkdir -p "$archives"
	find "$archives" -name '*.deb' \
		-exec cp -t "$root/var/cache/apt/archives" {} +
}

# Keeps what was fetched.
keep_archives()
{
	rsync -a --ignore-existing --include='*.deb' --exclude='*' \
		"$root/var/cache/apt/archives/" "$archives/"
}

# Runs apt-get, and shows what it wrote only if it fails.
apt()
{
	in_root apt-get -qq -y --no-install-recommends \
		-o Dpkg::Options::=--force-confold "$@" \
		</dev/null >"${work:?}/apt.log" 2>&1 && return
	tail -n 30 "$work/apt.log" >&2
	return 1
}

start_postgresql()
{
	version=$(in_root ls /usr/lib/postgresql)
	as_postgres pg_ctlcluster --skip-systemctl-redirect "$version" main start
}

stop_postgresql()
{
	[[ -z ${version:-} ]] || as_postgres pg_ctlcluster \
		--skip-systemctl-redirect -m fast "$version" main stop
	version=
}

close_root()
{
	stop_postgresql 2>/dev/null || true
	umount "$root/proc" 2>/dev/null || true
	rm -rf "$root"
}
