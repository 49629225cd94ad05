/*
 * loop.h - one thread, one loop: descriptors, timers, signals, the watchdog
 *
 * A thin cover over sd-event, so that no other file depends on it.  Handlers
 * record what happened; the caller of loop_turn() decides what follows from it,
 * after each turn.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_LOOP_H
#define PGSTOCK_COMMON_LOOP_H

#include <pthread.h>

#include "common/util.h"

typedef struct Loop		 Loop;
typedef struct LoopIo	 LoopIo;
typedef struct LoopTimer LoopTimer;

/* events: EPOLLIN, EPOLLOUT, ... */
typedef void (*LoopIoHandler)(void *arg, uint32_t events);
typedef void (*LoopHandler)(void *arg);

Loop *loop_new(void);
void  loop_free(Loop *loop);

/* Waits until something happens, runs its handler. */
void loop_turn(Loop *loop);

/* CLOCK_MONOTONIC in microseconds, as of the present turn */
int64_t loop_now(const Loop *loop);

LoopIo *loop_io_new(Loop *loop, int fd, uint32_t events, LoopIoHandler handler,
					void *arg);
void	loop_io_want(LoopIo *io, uint32_t events);
void	loop_io_free(LoopIo *io); /* NULL is fine */

LoopTimer *loop_timer_new(Loop *loop, LoopHandler handler, void *arg);
void	   loop_timer_set(LoopTimer *timer, int64_t at); /* NEVER: off */
void	   loop_timer_free(LoopTimer *timer);

/* The signal is blocked in this thread and in all that it starts. */
void loop_signal(Loop *loop, int signo, LoopHandler handler, void *arg);

/*
 * An eventfd that threads of a library write to.  The handler runs after the
 * counter was read.
 */
typedef struct LoopWake LoopWake;
LoopWake *loop_wake_new(Loop *loop, LoopHandler handler, void *arg);
int		  loop_wake_fd(const LoopWake *wake);
void	  loop_wake_up(LoopWake *wake); /* as if it had been written to */
void	  loop_wake_free(LoopWake *wake);

/* A thread, which its owner joins; without one the process ends. */
void loop_thread(pthread_t *thread, void *(*run)(void *), void *arg);

/* systemd: nothing happens where it is not there */
void	loop_notify(const char *format, ...) PRINTF_LIKE(1, 2);
int64_t loop_watchdog_us(void); /* between two WATCHDOG=1; 0: not enabled */

#endif
