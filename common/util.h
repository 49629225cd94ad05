/*
 * util.h - assertions, memory, growable buffers
 *
 * Lack of memory ends the process: nothing else could be done without memory,
 * and the state that counts is in the database.  Assertions are always on; they
 * cost little and turn corruption into a restart.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_UTIL_H
#define PGSTOCK_COMMON_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define MUST_CHECK		  __attribute__((warn_unused_result))
#define NORETURN		  __attribute__((noreturn))
#define UNUSED			  __attribute__((unused))

#define Lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define Min(a, b)		((a) < (b) ? (a) : (b))
#define Max(a, b)		((a) > (b) ? (a) : (b))

/* The value of a macro, as a string literal. */
#define STRING_OF(macro)	 STRING_OF_TEXT(macro)
#define STRING_OF_TEXT(text) #text

#define MS_US  INT64_C(1000)
#define SEC_US INT64_C(1000000)

/* "never", for a moment in microseconds */
#define NEVER INT64_MAX

#define Assert(condition) \
	((condition) ? (void) 0 : assert_failed(#condition, __FILE__, __LINE__))

NORETURN void assert_failed(const char *condition, const char *file, int line);

/* the same as without x, but never NULL */
void *xmalloc(size_t size) __attribute__((malloc));
void *xcalloc(size_t count, size_t size) __attribute__((malloc));
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *string) __attribute__((malloc));
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

/*
 * Bytes that grow at their end.  After buf_str() they are a C string as well.
 * A Buf of zeros is an empty one.
 */
typedef struct Buf
{
	char  *data; /* NULL while nothing was ever added */
	size_t len;	 /* bytes in use */
	size_t size; /* bytes allocated */
} Buf;

/* Bytes that another object owns; data NULL: null, in the sense of SQL. */
typedef struct Slice
{
	const char *data;
	size_t		len;
} Slice;

void buf_add(Buf *buf, const void *data, size_t len);
void buf_add_str(Buf *buf, const char *string);
void buf_printf(Buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(Buf *buf, const char *format, va_list args) PRINTF_LIKE(2, 0);
/* One line: a message of libpq's or librdkafka's may end in newlines. */
void buf_vline(Buf *buf, const char *format, va_list args) PRINTF_LIKE(2, 0);
void buf_line(Buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_add_u16(Buf *buf, uint16_t value); /* network byte order */
void buf_add_u32(Buf *buf, uint32_t value);
void buf_add_u64(Buf *buf, uint64_t value);
const char *buf_str(Buf *buf);
void		buf_clear(Buf *buf); /* keeps the memory */
void		buf_free(Buf *buf);

/* network byte order, from memory of any alignment */
uint16_t read_u16(const void *from);
uint32_t read_u32(const void *from);
uint64_t read_u64(const void *from);

/*
 * FNV-1a: for tables whose names no client can choose to collide, or where that
 * does no harm.  seed: another one gives other hashes.
 */
uint64_t hash_text(const char *text, uint64_t seed);

/* Overwrites the secret before its memory is freed; NULL is fine. */
void secret_free(char *secret);

/* 1 to 65535, digits only: strtoul() and getaddrinfo() take more, modulo. */
bool is_port(const char *text) MUST_CHECK;

/* A number of at least 0, all digits. */
bool parse_number(const char *text, int64_t *number) MUST_CHECK;

/*
 * A list of strings, NULL at its end; split at commas, blanks around each
 * taken off, empty ones left out.
 */
char **strings_split(const char *list);
size_t strings_count(char *const *strings);
void   strings_free(char **strings);

#endif
