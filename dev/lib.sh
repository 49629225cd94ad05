# shellcheck shell=bash
# SPDX-License-Identifier: PostgreSQL
#
# dev/lib.sh - what the scripts beside it share; sourced, never run.
#
# Where things live.  Servers do not start as root, and the user that they run
# as may be unable to read this checkout (/root/pgstock, mode 700).  So nothing
# is built or run in the checkout: it is copied into the run directory, a
# short path without spaces under /tmp (a Unix socket's path has room for 107
# bytes, and make cannot do with spaces), and .run is a link to there.
# PGSTOCK_RUN names another place.
#
# Who does it.  Root only installs packages and makes directories; all the
# rest is done by $TESTER.  Started by somebody else, it is done by them.

set -euo pipefail
shopt -s inherit_errexit # what fails within $(...) fails
umask 022

# The caller's own settings for PostgreSQL and make must not reach ours.
for name in ${!PG@} ${!MAKE@} MFLAGS DESTDIR DEV SAN CC CFLAGS; do
	[[ $name == PGSTOCK_* ]] || unset "$name"
done
unset name

# shellcheck disable=SC2034 # used by those that source this
{
	HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
	PG_LIB=/usr/lib/postgresql/15
	PG_SHARE=/usr/share/postgresql/15
	TESTER=nobody
}
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

say() { printf '%s\n' "$*" >&2; }

die()
{
	say "${0##*/}: $*"
	exit 1
}

# Prints the version of the extension in release $1: the first two numbers.
script_version() { cut -d. -f1,2 <<<"$1"; }

# Prints the pid of a server that lives in the run directory $1, if one does.
server_in()
{
	local file pid

	for file in "$1"/*/pid "$1"/*/*/pid; do
		pid=$(cat "$file" 2>/dev/null || true)
		if [[ $pid =~ ^[0-9]+$ && -d /proc/$pid ]]; then
			printf '%s\n' "$pid"
			return
		fi
	done
}

# Prints the directory that .run leads to, whoever made it, if it is this
# checkout's: a copied checkout brings the link along.
known_run_dir()
{
	local dir

	dir=$(readlink "$HERE/.run" || true)
	if [[ -f $dir/checkout && $(<"$dir/checkout") == "$HERE" ]]; then
		printf '%s\n' "$dir"
	fi
}

# Makes a run directory and the link to it.
new_run_dir()
{
	local dir

	[[ -w $HERE ]] || die "$(id -un) cannot write $HERE: do it as" \
		"$(stat -c %U "$HERE"), name a directory in PGSTOCK_RUN, or copy it"
	dir=$(mktemp -d /tmp/pgstock-XXXXXX)
	chmod 755 "$dir"
	printf '%s\n' "$HERE" >"$dir/checkout"
	ln -sfn "$dir" "$HERE/.run"
	printf '%s\n' "$dir"
}

# Prints the run directory of this checkout; makes it when it is not there.
# One of another user is left to them, and not at all while servers run in it:
# nobody would find those again.
run_dir()
{
	local dir=${PGSTOCK_RUN:-} fd

	if [[ -n $dir ]]; then
		mkdir -p "$dir"
		(cd "$dir" && pwd -P)
		return
	fi

	# Two that start at once shall agree on one directory.
	exec {fd}<"$HERE"
	flock "$fd"
	dir=$(known_run_dir)
	if [[ -n $dir && ! -O $dir/checkout ]]; then
		[[ -z $(server_in "$dir") ]] || die "servers of" \
			"$(stat -c %U "$dir/checkout") run in $dir: stop them first," \
			"as that user (dev/demo-stop, dev/cluster stop)"
		dir=
	fi
	[[ -n $dir ]] || dir=$(new_run_dir)
	exec {fd}<&-
	printf '%s\n' "$dir"
}

# Prints where what is fetched is kept, for all checkouts.
cache_dir()
{
	local default=/var/cache

	((EUID == 0)) || default=${XDG_CACHE_HOME:-$HOME/.cache}
	printf '%s\n' "${PGSTOCK_CACHE:-$default/pgstock}"
}

# Prints the directory $1 of the cache.  If it is not there yet, the caller's
# function fetch fills it: it runs in a new directory, and what it leaves in
# all/ becomes the directory $1, by a rename when it is complete; runs at the
# same time wait for the first one.  $2 says what it is.  A subshell, so that
# its traps and its working directory are its own.
from_cache()
(
	local found what=$2 cache lock new

	cache=$(cache_dir)
	found=$cache/$1
	if [[ ! -d $found ]]; then
		mkdir -p "$cache"
		exec {lock}>"$cache/lock"
		flock "$lock"
	fi
	if [[ ! -d $found ]]; then
		say "fetching $what into $cache"
		new=$(mktemp -d "$cache/fetch-XXXXXX")
		trap 'end_fetch "$new" "$what"' EXIT
		trap 'exit 1' INT TERM HUP
		cd "$new"
		mkdir all
		# not within a condition: what fails in it must end it; a subshell, for
		# end_fetch would write to the log, too
		(fetch) >log 2>&1 </dev/null
		mv all "$found"
	fi
	printf '%s\n' "$found"
)

# Ends from_cache: where all/ is still there, something failed.
end_fetch()
{
	local failed=

	if [[ -d $1/all ]]; then
		tail -n 20 "$1/log" >&2
		failed=yes
	fi
	rm -rf "$1"
	[[ -z $failed ]] || die "could not fetch $2"
}

# Fetches PACKAGE... of Debian, which are unpacked into the directory NAME-* of
# the cache, and not installed; prints it.
from_debian()
{
	local name=$1 wanted
	shift
	local packages=("$@")

	fetch()
	{
		local package

		# an empty machine has no package lists yet
		apt-get -q download "${packages[@]}" || {
			((EUID == 0))
			apt-get -q -o DPkg::Lock::Timeout=600 update
			apt-get -q download "${packages[@]}"
		}
		for package in *.deb; do
			dpkg-deb --extract "$package" all
		done
	}
	wanted=$(sha256sum <<<"$*" | cut -c1-12)
	from_cache "$name-$wanted" "$*"
}

# Prints the mirror of Debian that apt uses here.
debian_mirror()
{
	# shellcheck disable=SC2016 # apt-get expands it
	apt-get indextargets --format '$(RELEASE) $(REPO_URI)' \
		'Created-By: Packages' |
		awk '$1 == "bookworm" || $2 ~ /\/debian\/?$/ {
			sub("/$", "", $2); print $2; exit }'
}

# Makes a directory that $TESTER can write.
tester_dir()
{
	mkdir -p "$1"
	if ((EUID == 0)); then
		chown "$TESTER:" "$1"
	fi
}

# Runs a command as $TESTER, with a home that is its own.
as_tester()
{
	local home=${TESTER_HOME:?}

	if ((EUID == 0)); then
		setpriv --reuid="$TESTER" --regid="$(id -g "$TESTER")" --clear-groups \
			env HOME="$home" TMPDIR="$home" USER="$TESTER" LOGNAME="$TESTER" \
			"$@"
	else
		env HOME="$home" TMPDIR="$home" "$@"
	fi
}

# Copies the checkout to $1, without what git ignores.  What was built there
# stays.  Only a file with other bytes is copied, and it gets the present time:
# make sees what changed, even if it changed to something older.
copy_tree()
{
	local owner=()

	tester_dir "$1"
	if ((EUID == 0)); then
		owner=(--chown="$TESTER:$(id -gn "$TESTER")")
	fi
	rsync -rlp --checksum --delete --exclude=.git --filter=':- .gitignore' \
		--chmod=u+rwX,go+rX "${owner[@]}" "$HERE/" "$1/"
}

# Ends every process that was started with PGSTOCK_MARK=$1 in its environment,
# daemons too: first asked, then made to.  The mark is a directory made for
# one run, so no other run's process carries it.
end_marked()
{
	local mark=$1 pids tries

	for tries in TERM 50 KILL 20; do
		case $tries in
			TERM | KILL)
				mapfile -t pids < <(marked "$mark")
				((${#pids[@]})) || return 0
				kill "-$tries" "${pids[@]}" 2>/dev/null || true
				;;
			*)
				while ((tries-- > 0)) && [[ -n $(marked "$mark") ]]; do
					sleep 0.2
				done
				;;
		esac
	done
}

# Prints the ids of the processes with that mark, this shell's own excepted.
marked()
{
	local file pid

	for file in /proc/[0-9]*/environ; do
		pid=${file#/proc/}
		pid=${pid%/environ}
		if ((pid != $$ && pid != BASHPID)) &&
			grep -qzxF "PGSTOCK_MARK=$1" "$file" 2>/dev/null; then
			printf '%s\n' "$pid"
		fi
	done
}
