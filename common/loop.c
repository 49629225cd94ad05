/*
 * loop.c - one thread, one loop: descriptors, timers, signals, the watchdog
 *
 * sd-event's calls fail only for lack of memory or descriptors, or where they
 * are used wrongly: both end the process, the former, as the lack of a thread,
 * with EXIT_RUNTIME.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "common/exit_code.h"
#include "common/log.h"

#define LOG_MODULE "loop"

struct Loop
{
	sd_event *event;
};

struct LoopIo
{
	sd_event_source *source;
	LoopIoHandler	 handler;
	void			*arg;
	uint32_t		 events; /* wanted now */
};

struct LoopTimer
{
	sd_event_source *source;
	LoopHandler		 handler;
	void			*arg;
	int64_t			 at; /* NEVER: off */
};

struct LoopWake
{
	int			fd;
	LoopIo	   *io;
	LoopHandler handler;
	void	   *arg;
};

static bool
loop_is_shortage(int reason)
{
	return reason == EMFILE || reason == ENFILE || reason == ENOMEM ||
		   reason == ENOSPC || reason == EAGAIN;
}

/* At once: other threads work on. */
static void
loop_check(int result, const char *what)
{
	if (result >= 0)
		return;
	log_error("could not %s: %s", what, strerror(-result));
	if (loop_is_shortage(-result))
		_exit(EXIT_RUNTIME);
	abort();
}

Loop *
loop_new(void)
{
	Loop *loop = xcalloc(1, sizeof(Loop));

	loop_check(sd_event_new(&loop->event), "make an event loop");
	return loop;
}

void
loop_free(Loop *loop)
{
	if (loop == NULL)
		return;
	sd_event_unref(loop->event);
	free(loop);
}

void
loop_turn(Loop *loop)
{
	loop_check(sd_event_run(loop->event, UINT64_MAX), "wait for events");
}

int64_t
loop_now(const Loop *loop)
{
	uint64_t now;

	loop_check(sd_event_now(loop->event, CLOCK_MONOTONIC, &now),
			   "read the clock");
	return (int64_t) now;
}

/* ---- descriptors ------------------------------------------------------- */

static int
loop_io_ready(sd_event_source *source UNUSED, int fd UNUSED, uint32_t events,
			  void *arg)
{
	LoopIo *io = arg;

	io->handler(io->arg, events);
	return 0;
}

LoopIo *
loop_io_new(Loop *loop, int fd, uint32_t events, LoopIoHandler handler,
			void *arg)
{
	LoopIo *io = xcalloc(1, sizeof(LoopIo));

	Assert(fd >= 0 && handler != NULL);
	io->handler = handler;
	io->arg = arg;
	io->events = events;
	loop_check(sd_event_add_io(loop->event, &io->source, fd, events,
							   loop_io_ready, io),
			   "watch a descriptor");
	return io;
}

void
loop_io_want(LoopIo *io, uint32_t events)
{
	Assert((events & ~(uint32_t) (EPOLLIN | EPOLLOUT)) == 0);
	if (io->events == events)
		return;
	loop_check(sd_event_source_set_io_events(io->source, events),
			   "watch a descriptor");
	io->events = events;
}

void
loop_io_free(LoopIo *io)
{
	if (io == NULL)
		return;
	sd_event_source_disable_unref(io->source);
	free(io);
}

/* ---- timers ------------------------------------------------------------ */

static int
loop_timer_due(sd_event_source *source UNUSED, uint64_t at UNUSED, void *arg)
{
	LoopTimer *timer = arg;

	Assert(timer->at != NEVER); /* a stopped timer does not fire */
	timer->at = NEVER;
	timer->handler(timer->arg);
	return 0;
}

LoopTimer *
loop_timer_new(Loop *loop, LoopHandler handler, void *arg)
{
	LoopTimer *timer = xcalloc(1, sizeof(LoopTimer));

	Assert(handler != NULL);
	timer->handler = handler;
	timer->arg = arg;
	timer->at = NEVER;
	loop_check(sd_event_add_time(loop->event, &timer->source, CLOCK_MONOTONIC,
								 UINT64_MAX, 1, loop_timer_due, timer),
			   "make a timer");
	loop_check(sd_event_source_set_enabled(timer->source, SD_EVENT_OFF),
			   "stop a timer");
	return timer;
}

void
loop_timer_set(LoopTimer *timer, int64_t at)
{
	Assert(at >= 0);
	if (timer->at == at)
		return;
	timer->at = at;
	if (at != NEVER)
		loop_check(sd_event_source_set_time(timer->source, (uint64_t) at),
				   "set a timer");
	loop_check(sd_event_source_set_enabled(timer->source,
										   at == NEVER ? SD_EVENT_OFF
													   : SD_EVENT_ONESHOT),
			   "set a timer");
}

void
loop_timer_free(LoopTimer *timer)
{
	if (timer == NULL)
		return;
	sd_event_source_disable_unref(timer->source);
	free(timer);
}

/* ---- signals and wake-ups ---------------------------------------------- */

typedef struct LoopSignal
{
	LoopHandler handler;
	void	   *arg;
} LoopSignal;

static int
loop_signal_received(sd_event_source			   *source,
					 const struct signalfd_siginfo *info, void *arg)
{
	const LoopSignal *watch = arg;

	(void) source;
	(void) info;
	watch->handler(watch->arg);
	return 0;
}

void
loop_signal(Loop *loop, int signo, LoopHandler handler, void *arg)
{
	LoopSignal		*watch = xcalloc(1, sizeof(LoopSignal));
	sd_event_source *source;
	sigset_t		 set;

	Assert(handler != NULL && signo > 0);
	watch->handler = handler;
	watch->arg = arg;
	sigemptyset(&set);
	sigaddset(&set, signo);
	loop_check(sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0,
			   "block a signal");
	loop_check(sd_event_add_signal(loop->event, &source, signo,
								   loop_signal_received, watch),
			   "watch a signal");
	/* it lives as long as the loop, which frees it with its memory */
	sd_event_source_set_destroy_callback(source, free);
	sd_event_source_set_floating(source, 1);
	sd_event_source_unref(source);
}

static void
loop_wake_received(void *arg, uint32_t events UNUSED)
{
	LoopWake *wake = arg;
	uint64_t  count;

	if (read(wake->fd, &count, sizeof(count)) > 0)
		wake->handler(wake->arg);
}

LoopWake *
loop_wake_new(Loop *loop, LoopHandler handler, void *arg)
{
	LoopWake *wake = xcalloc(1, sizeof(LoopWake));

	wake->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop_check(wake->fd < 0 ? -errno : 0, "make an eventfd");
	wake->handler = handler;
	wake->arg = arg;
	wake->io = loop_io_new(loop, wake->fd, EPOLLIN, loop_wake_received, wake);
	return wake;
}

int
loop_wake_fd(const LoopWake *wake)
{
	return wake->fd;
}

void
loop_wake_up(LoopWake *wake)
{
	const uint64_t one = 1;

	if (write(wake->fd, &one, sizeof(one)) < 0)
		Assert(errno ==
			   EAGAIN); /* the counter is at its maximum: awake already */
}

void
loop_wake_free(LoopWake *wake)
{
	if (wake == NULL)
		return;
	loop_io_free(wake->io);
	close(wake->fd);
	free(wake);
}

void
loop_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	loop_check(-pthread_create(thread, NULL, run, arg), "start a thread");
}

/* ---- systemd ----------------------------------------------------------- */

void
loop_notify(const char *format, ...)
{
	Buf		state = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&state, format, args);
	va_end(args);
	sd_notify(0, buf_str(&state));
	buf_free(&state);
}

int64_t
loop_watchdog_us(void)
{
	uint64_t limit;

	if (sd_watchdog_enabled(0, &limit) <= 0)
		return 0;
	return (int64_t) limit;
}
