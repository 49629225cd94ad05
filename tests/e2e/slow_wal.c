/*
 * slow_wal.c
 *	  Preloaded into a server: a disk that is slow, or stands still.
 *
 * A killed process loses nothing that it has written: the page cache remains.
 * Bytes that a power cut would lose must therefore not be written at all.  So
 * while the file SLOW_WAL_GATE exists, no byte of WAL is written; each flush
 * takes SLOW_WAL_FLUSH_US; at most SLOW_WAL_BYTES of WAL are written in a
 * second, because the server writes them one after another.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GATE_LOOK_US 1000

/* These are the C library's own names. */
int		fdatasync(int fd);
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset);
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset);

static int
is_wal(int fd)
{
	char	link[64];
	char	path[4096];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = '\0';
	return strstr(path, "/pg_wal/") != NULL;
}

static void
wait_at_gate(int fd)
{
	const char *gate = getenv("SLOW_WAL_GATE");

	if (gate == NULL || access(gate, F_OK) != 0 || !is_wal(fd))
		return;
	while (access(gate, F_OK) == 0)
		usleep(GATE_LOOK_US);
}

static void
wait_for_bytes(int fd, size_t size)
{
	const char *rate = getenv("SLOW_WAL_BYTES");

	if (rate != NULL && is_wal(fd))
		usleep((useconds_t) (1e6 * (double) size / strtod(rate, NULL)));
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	static ssize_t (*next)(int, const void *, size_t, off64_t) = NULL;

	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "pwrite64");
	wait_at_gate(fd);
	wait_for_bytes(fd, size);
	return next(fd, data, size, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite64(fd, data, size, offset);
}

int
fdatasync(int fd)
{
	static int (*next)(int) = NULL;
	const char *us = getenv("SLOW_WAL_FLUSH_US");

	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "fdatasync");
	if (us != NULL)
		usleep((useconds_t) strtoul(us, NULL, 10));
	return next(fd);
}
