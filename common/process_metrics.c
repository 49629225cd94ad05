/*
 * process_metrics.c - the process as Prometheus' client libraries report it
 *
 * Their names, without a prefix of ours, so that dashboards for any process
 * show this one too.  Read when they are requested: /proc/self/stat, and the
 * entries of /proc/self/fd.  Both are there under the unit's ProcSubset=pid;
 * /proc/stat, which has the time of the machine's start, is not.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/process_metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STAT_BYTES_MAX 1024

/* Fields of /proc/PID/stat, numbered as proc(5) does. */
enum
{
	STAT_STATE = 3, /* the first one behind the program's name */
	STAT_UTIME = 14,
	STAT_STIME,
	STAT_THREADS = 20,
	STAT_START = 22,
	STAT_VIRTUAL,
	STAT_RESIDENT,
	STAT_FIELDS
};
_Static_assert(STAT_STIME == 15 && STAT_VIRTUAL == 23 && STAT_RESIDENT == 24,
			   "the numbers of proc(5)");

static void
process_metric(Buf *to, const char *name, const char *type, const char *help,
			   double value)
{
	buf_printf(to, "# HELP process_%s %s\n", name, help);
	buf_printf(to, "# TYPE process_%s %s\n", name, type);
	buf_printf(to, "process_%s %.17g\n", name, value);
}

/* The numbers of /proc/self/stat; false if it cannot be read. */
static bool
process_read_stat(double fields[STAT_FIELDS])
{
	char   text[STAT_BYTES_MAX];
	FILE  *file = fopen("/proc/self/stat", "re");
	size_t len = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;
	char  *at;

	if (file != NULL)
		fclose(file);
	text[len] = '\0';
	/* the name is in parentheses, and may have some of its own */
	at = strrchr(text, ')');
	if (at == NULL || strlen(at) < 4)
		return false;
	at += 3; /* behind the state, a letter */
	for (int i = STAT_STATE + 1; i < STAT_FIELDS; i++)
	{
		char *end;

		fields[i] = strtod(at, &end);
		if (end == at)
			return false;
		at = end;
	}
	return true;
}

static double
process_clock(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) != 0)
		return 0;
	return (double) time.tv_sec + (double) time.tv_nsec * 1e-9;
}

/*
 * Computed once: the difference of the clocks is not the same at each reading,
 * and a start time that changes looks like a restart.
 */
static double
process_start_time(double since_boot)
{
	static double start;

	Assert(since_boot >= 0);
	if (start <= 0)
		start = process_clock(CLOCK_REALTIME) - process_clock(CLOCK_BOOTTIME) +
				since_boot;
	return start;
}

static void
process_render_stat(Buf *to)
{
	const double ticks = (double) sysconf(_SC_CLK_TCK);
	const double page = (double) sysconf(_SC_PAGESIZE);
	double		 fields[STAT_FIELDS] = {0};

	if (ticks <= 0 || !process_read_stat(fields))
		return;
	process_metric(to, "cpu_seconds_total", "counter",
				   "Total user and system CPU time spent in seconds.",
				   (fields[STAT_UTIME] + fields[STAT_STIME]) / ticks);
	process_metric(to, "resident_memory_bytes", "gauge",
				   "Resident memory size in bytes.",
				   fields[STAT_RESIDENT] * page);
	process_metric(to, "virtual_memory_bytes", "gauge",
				   "Virtual memory size in bytes.", fields[STAT_VIRTUAL]);
	process_metric(to, "threads", "gauge", "Number of OS threads.",
				   fields[STAT_THREADS]);
	process_metric(to, "start_time_seconds", "gauge",
				   "Start time of the process since unix epoch in seconds.",
				   process_start_time(fields[STAT_START] / ticks));
}

/* The number of open files, without the one that this reads; -1: unknown. */
static int
process_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int	 n = -1;

	if (dir == NULL)
		return -1;
	for (const struct dirent *entry = readdir(dir); entry != NULL;
		 entry = readdir(dir))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

void
process_metrics_render(Buf *to)
{
	struct rlimit limit;
	int			  fds = process_count_fds();

	process_render_stat(to);
	if (fds >= 0)
		process_metric(to, "open_fds", "gauge",
					   "Number of open file descriptors.", fds);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		process_metric(to, "max_fds", "gauge",
					   "Maximum number of open file descriptors.",
					   (double) limit.rlim_cur);
}
