/*
 * util.c - assertions, memory, growable buffers
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* a single allocation above this is a bug */
#define ALLOCATION_MAX (SIZE_MAX / 4)

void
assert_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "failed assertion %s at %s:%d\n", condition, file, line);
	abort();
}

static void *
util_check_memory(void *memory)
{
	if (memory == NULL)
	{
		fputs("out of memory\n", stderr);
		abort();
	}
	return memory;
}

void *
xmalloc(size_t size)
{
	Assert(size > 0 && size < ALLOCATION_MAX);
	return util_check_memory(malloc(size));
}

void *
xcalloc(size_t count, size_t size)
{
	Assert(count > 0 && size > 0);
	return util_check_memory(calloc(count, size));
}

void *
xrealloc(void *old, size_t size)
{
	Assert(size > 0 && size < ALLOCATION_MAX);
	return util_check_memory(realloc(old, size));
}

char *
xstrdup(const char *string)
{
	Assert(string != NULL);
	return util_check_memory(strdup(string));
}

char *
xasprintf(const char *format, ...)
{
	va_list args;
	char   *string;

	va_start(args, format);
	if (vasprintf(&string, format, args) < 0)
		string = NULL;
	va_end(args);
	return util_check_memory(string);
}

/* Makes room for "more" bytes and one NUL. */
static void
buf_reserve(Buf *buf, size_t more)
{
	size_t needed = buf->len + more + 1;
	size_t size = buf->size == 0 ? 64 : buf->size;

	Assert(more < ALLOCATION_MAX);
	if (needed <= buf->size)
		return;
	while (size < needed)
		size *= 2;
	buf->data = xrealloc(buf->data, size);
	buf->size = size;
	Assert(buf->len + more < buf->size);
}

void
buf_add(Buf *buf, const void *data, size_t len)
{
	Assert(data != NULL || len == 0);
	buf_reserve(buf, len);
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

void
buf_add_str(Buf *buf, const char *string)
{
	buf_add(buf, string, strlen(string));
}

void
buf_vprintf(Buf *buf, const char *format, va_list args)
{
	size_t	room = buf->size - buf->len;
	va_list again;
	int		len;

	va_copy(again, args);
	len = vsnprintf(room > 0 ? buf->data + buf->len : NULL, room, format, args);
	Assert(len >= 0);
	if ((size_t) len >= room)
	{
		buf_reserve(buf, (size_t) len);
		vsnprintf(buf->data + buf->len, (size_t) len + 1, format, again);
	}
	va_end(again);
	buf->len += (size_t) len;
}

void
buf_vline(Buf *buf, const char *format, va_list args)
{
	buf_vprintf(buf, format, args);
	while (buf->len > 0 && buf->data[buf->len - 1] == '\n')
		buf->len--;
}

void
buf_line(Buf *buf, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vline(buf, format, args);
	va_end(args);
}

void
buf_printf(Buf *buf, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(buf, format, args);
	va_end(args);
}

void
buf_add_u16(Buf *buf, uint16_t value)
{
	value = htobe16(value);
	buf_add(buf, &value, sizeof(value));
}

void
buf_add_u32(Buf *buf, uint32_t value)
{
	value = htobe32(value);
	buf_add(buf, &value, sizeof(value));
}

void
buf_add_u64(Buf *buf, uint64_t value)
{
	value = htobe64(value);
	buf_add(buf, &value, sizeof(value));
}

const char *
buf_str(Buf *buf)
{
	buf_reserve(buf, 0);
	buf->data[buf->len] = '\0';
	return buf->data;
}

void
buf_clear(Buf *buf)
{
	buf->len = 0;
}

void
buf_free(Buf *buf)
{
	free(buf->data);
	*buf = (Buf){0};
}

uint16_t
read_u16(const void *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return be16toh(value);
}

uint32_t
read_u32(const void *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return be32toh(value);
}

uint64_t
read_u64(const void *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return be64toh(value);
}

char **
strings_split(const char *list)
{
	char **strings = xcalloc(strlen(list) / 2 + 2, sizeof(char *));
	size_t count = 0;

	for (const char *item = list; *item != '\0';)
	{
		size_t		len = strcspn(item, ",");
		const char *next = item + len + (item[len] == ',');

		while (len > 0 && isspace((unsigned char) item[0]))
			item++, len--;
		while (len > 0 && isspace((unsigned char) item[len - 1]))
			len--;
		if (len > 0)
			strings[count++] = util_check_memory(strndup(item, len));
		item = next;
	}
	return strings;
}

size_t
strings_count(char *const *strings)
{
	size_t count = 0;

	while (strings[count] != NULL)
		count++;
	return count;
}

void
strings_free(char **strings)
{
	if (strings == NULL)
		return;
	for (size_t i = 0; strings[i] != NULL; i++)
		free(strings[i]);
	free(strings);
}

/* ---- values that users write ------------------------------------------- */

uint64_t
hash_text(const char *text, uint64_t seed)
{
	uint64_t hash = UINT64_C(14695981039346656037) ^ seed;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * UINT64_C(1099511628211);
	return hash;
}

void
secret_free(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

bool
is_port(const char *text)
{
	size_t len = strlen(text);
	long   port;

	if (len < 1 || len > 5 || text[strspn(text, "0123456789")] != '\0')
		return false;
	port = strtol(text, NULL, 10);
	return port >= 1 && port <= 65535;
}

bool
parse_number(const char *text, int64_t *number)
{
	char *end;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0;
}
