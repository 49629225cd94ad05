/*-------------------------------------------------------------------------
 *
 * worker/worker.h
 *	  The background processes, where the module is preloaded.
 *
 * They call the layers below by SQL only.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "postgres.h"

#include "base/base.h"

/* in launcher.c */
#define LOOK_EVERY_MS 60000 /* a look at a database, at the latest */

extern void launcher_init(void);

#endif /* WORKER_WORKER_H */
