/*
 * process_metrics.h - the process as Prometheus' client libraries report it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_PROCESS_METRICS_H
#define PGSTOCK_COMMON_PROCESS_METRICS_H

#include "common/util.h"

/* What cannot be read is left out. */
void process_metrics_render(Buf *to);

#endif
