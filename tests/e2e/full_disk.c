/*
 * full_disk.c
 *	  Preloaded into a server: every disk is nearly full.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#define _GNU_SOURCE
#include <sys/statvfs.h>

static int
nearly_full(struct statvfs *disk)
{
	*disk = (struct statvfs){.f_blocks = 1000, .f_bavail = 20};
	return 0;
}

int
statvfs(const char *path, struct statvfs *disk)
{
	(void) path;
	return nearly_full(disk);
}

int
statvfs64(const char *path, struct statvfs64 *disk)
{
	(void) path;
	return nearly_full((struct statvfs *) disk);
}
