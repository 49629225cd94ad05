/*-------------------------------------------------------------------------
 *
 * base/shared_memory.c
 *	  What this module keeps in shared memory, where it is preloaded.
 *
 * A file that has such a structure asks for its size when the module is loaded,
 * and gets it from the postmaster once, and in an EXEC_BACKEND build in each
 * backend, under AddinShmemInitLock.  Where the module is not preloaded, or
 * pg_upgrade works, nothing is asked for, and the structure stays NULL.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/base.h"

#define STRUCTURES_MAX 4

static struct
{
	Size size;
	void (*attach)(void);
} structures[STRUCTURES_MAX];
static int structure_count = 0;

static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

static void
shared_memory_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	for (int i = 0; i < structure_count; i++)
		RequestAddinShmemSpace(structures[i].size);
}

static void
shared_memory_startup(void)
{
	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < structure_count; i++)
		structures[i].attach();
	LWLockRelease(AddinShmemInitLock);
}

/* attach() calls ShmemInitStruct(), once in each process that needs it. */
void
shared_memory_use(Size size, void (*attach)(void))
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	Assert(structure_count < STRUCTURES_MAX);
	if (structure_count == 0)
	{
		next_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = shared_memory_request;
		next_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = shared_memory_startup;
	}
	structures[structure_count].size = size;
	structures[structure_count].attach = attach;
	structure_count++;
}
