/*-------------------------------------------------------------------------
 *
 * base/disk.c
 *	  How full the server's disks are, for "pgstock-relay check".
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pgstock_disk_unused);

/*
 * disk_unused(part text) RETURNS float8: of the file system with that folder of
 * the data directory, the part that the server may still fill.
 */
Datum
pgstock_disk_unused(PG_FUNCTION_ARGS)
{
	char		  *part = text_to_cstring(PG_GETARG_TEXT_PP(0));
	struct statvfs disk;

	Assert(DataDir != NULL);
	if (statvfs(psprintf("%s/%s", DataDir, part), &disk) != 0 ||
		disk.f_blocks == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8((float8) disk.f_bavail / (float8) disk.f_blocks);
}
