/* SPDX-License-Identifier: PostgreSQL */
/* What cppcheck must know about headers that it does not read. */

#define PG_VERSION_NUM 150000
#define ERROR 21
#define ereport(level, ...) \
	do { if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) ereport(level, 0)
