/*
 * fuzz_relay.c - whatever bytes come from outside, the relay's parsers live
 *
 * A libFuzzer program.  The first byte of an input selects a parser, the rest
 * is its input; known properties of the result are asserted.  corpus/ holds one
 * input or more for each parser.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/audit_compare.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "commands/command_line.h"
#include "common/csv.h"
#include "common/json.h"
#include "common/listener.h"
#include "common/rfc3339.h"
#include "common/safe_text.h"
#include "common/spelling.h"
#include "common/usage.h"
#include "config/load.h"
#include "config/metric_table.h"
#include "config/options.h"
#include "db/api.h"

#define WORDS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The rest of the input: a slice, and the same as a C string. */
typedef struct Input
{
	Slice bytes;
	char *text; /* up to its first NUL */
} Input;

/* ---- headers of Kafka records ---- */

/* Packed headers that can be read are the same when packed again. */
static void
fuzz_headers(const Input *input)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
	rd_kafka_headers_t *again = rd_kafka_headers_new(4);
	AuditRecord			record;
	Buf					packed = {0};
	Buf					twice = {0};

	if (headers_unpack(input->bytes, headers))
	{
		Assert(headers_pack(headers, &packed));
		Assert(headers_unpack((Slice){packed.data, packed.len}, again));
		Assert(headers_pack(again, &twice));
		Assert(packed.len == twice.len);
		Assert(packed.len == 0 ||
			   memcmp(packed.data, twice.data, packed.len) == 0);
	}
	audit_read_headers(headers, &record);
	Assert(record.seq >= -1);
	buf_free(&packed);
	buf_free(&twice);
	rd_kafka_headers_destroy(headers);
	rd_kafka_headers_destroy(again);
}

/* ---- rows of the outbox ---- */

static Slice
take(Input *input, size_t len)
{
	Slice taken = {input->bytes.data, Min(len, input->bytes.len)};

	input->bytes.data += taken.len;
	input->bytes.len -= taken.len;
	return taken;
}

/* A row with any bytes in it is a record, or its headers are damaged. */
static void
fuzz_row(const Input *whole)
{
	Input				input = *whole;
	EventRow			row = {.id = take(&input, 16)};
	Slice				numbers = take(&input, 17);
	rd_kafka_headers_t *headers;

	if (numbers.len < 17)
		return;
	row.seq = (int64_t) (read_u64(numbers.data) >> 1);
	row.created_us = (int64_t) read_u64(numbers.data + 8);
	row.format = "jbr"[(uint8_t) numbers.data[16] % 3];
	row.type = take(&input, 13);
	row.key = take(&input, 8);
	row.traceparent = take(&input, 20);
	row.payload = take(&input, 1);
	row.headers = input.bytes;
	Assert(event_end(&row) < EVENT_ENDS);
	headers = record_headers(&row,
							 HEADERS_CLOUDEVENTS | HEADERS_PLAIN |
								 HEADERS_DEBEZIUM,
							 (EventSource){{"/pgstock/shop", 13}, {"1f", 2}});
	if (headers != NULL)
		rd_kafka_headers_destroy(headers);
}

/* ---- a message on its way to relay_apply() ---- */

static void
fuzz_message(const Input *whole)
{
	Input	 input = *whole;
	Slice	 sizes = take(&input, 3);
	PgParam	 params[7];
	ApiBatch batch = {0};

	if (sizes.len < 3)
		return;
	api_batch_begin(&batch);
	for (int i = 0; i < 1 + (sizes.data[0] & 3); i++)
	{
		ApiMessage message = {.topic = {"t", 1}, .offset = i};

		message.key = take(&input, (uint8_t) sizes.data[1]);
		message.value = take(&input, (uint8_t) sizes.data[2]);
		api_batch_add(&batch, &message);
	}
	api_batch_params(&batch, params);
	for (size_t i = 0; i < Lengthof(params); i++)
		Assert(params[i].binary && params[i].length >= 20);
	api_batch_free(&batch);
}

/* ---- answers of the database ---- */

static void
fuzz_answer(const Input *input)
{
	PGresult	*result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc columns[7] = {0};
	ApiHello	 hello;
	char		*rest;
	int			 n = 0;

	for (size_t i = 0; i < Lengthof(columns); i++)
		columns[i].name = (char *) (uintptr_t) "c";
	Assert(PQsetResultAttrs(result, Lengthof(columns), columns) == 1);
	for (char *word = strtok_r(input->text, "\n", &rest);
		 word != NULL && n < (int) Lengthof(columns);
		 word = strtok_r(NULL, "\n", &rest))
		Assert(PQsetvalue(result, 0, n++, word, (int) strlen(word)) == 1);
	if (api_read_hello(result, &hello) && hello.relay_api == API_VERSION)
		Assert(hello.max_event_bytes > 0);
	Assert(!api_page_is_sound(result));
	PQclear(result);
}

/* ---- the command line, the configuration ---- */

static void
fuzz_arguments(const Input *input)
{
	char	 *words[WORDS_MAX + 2] = {(char *) (uintptr_t) "pgstock-relay"};
	int		  count = 1;
	char	 *rest;
	Arguments arguments;
	Buf		  error = {0};
	Buf		  usage = {0};

	for (char *word = strtok_r(input->text, "\n", &rest);
		 word != NULL && count <= WORDS_MAX; word = strtok_r(NULL, "\n", &rest))
		words[count++] = word;
	Assert(arguments_parse(&command_line, count, words, &arguments, &error) ==
		   (error.len == 0));
	usage_add_pointer(&command_line, &arguments, &usage);
	Assert(usage.len > 0);
	buf_free(&error);
	buf_free(&usage);
}

/* A configuration is the same when it is printed and read again. */
static void
fuzz_config(const Input *input)
{
	int				file = memfd_create("config", 0);
	char		   *path = xasprintf("/proc/self/fd/%d", file);
	ConfigOverrides from = {.path = path, .kafka = "localhost:9092"};
	Buf				error = {0};
	Buf				text = {0};
	Config		   *config;

	Assert(file >= 0 && write(file, input->bytes.data, input->bytes.len) ==
							(ssize_t) input->bytes.len);
	config = config_load(&from, &error);
	Assert((config == NULL) == (error.len > 0));
	for (size_t i = 0; config != NULL && i < relay_options.option_count; i++)
	{
		const Option *option = &relay_options.options[i];

		option_get(option, config, &text);
		Assert(option_set(option, config, buf_str(&text), &error));
	}
	config_free(config);
	buf_free(&text);
	buf_free(&error);
	free(path);
	close(file);
}

static void
fuzz_values(const Input *input)
{
	Buf		error = {0};
	int64_t number;

	if (parse_number(input->text, &number))
		Assert(number >= 0);
	if (rfc3339_parse(input->text, &number) == RFC3339_VALID)
		Assert(number >= 0);
	Assert(listener_check(input->text, &error) == (error.len == 0));
	(void) spelling_distance(input->text, "bootstrap.servers");
	buf_free(&error);
}

/* ---- output ---- */

/* Behind the cell that begins here; what it holds goes to *cell. */
static const char *
read_cell(const char *at, Buf *cell)
{
	Assert(*at == '"');
	for (at++; *at != '"' || at[1] == '"'; at++)
	{
		Assert(*at != '\0');
		buf_add(cell, at, 1);
		at += *at == '"';
	}
	return at + 1;
}

/*
 * Whether a cell, for a reader that also separates by ';', a tab or '|', begins
 * here and is a formula.
 */
static bool
is_formula(const char *cell, const char *at)
{
	if (at > cell && strchr(";\t\r\n|", at[-1]) == NULL)
		return false;
	at += strspn(at, " \"");
	return *at != '\0' && strchr("=+-@", *at) != NULL;
}

/* A cell is read back as it was, with a ' before what begins a formula. */
static void
fuzz_csv(const Input *input)
{
	Buf			line = {0};
	Buf			cell = {0};
	Buf			json = {0};
	const char *at;
	const char *text = input->text;

	csv_add_cell(&line, "a");
	csv_add_cell(&line, input->text);
	csv_end_line(&line);
	at = read_cell(buf_str(&line), &cell);
	buf_clear(&cell);
	Assert(*at == ',');
	at = read_cell(at + 1, &cell);
	Assert(strcmp(at, "\r\n") == 0);
	for (at = buf_str(&cell); *at != '\0'; at++)
	{
		Assert(!is_formula(buf_str(&cell), at));
		if (*at == *text)
			text++;
		else
			Assert(*at == '\'');
	}
	Assert(*text == '\0');
	json_add_string(&json, input->text);
	for (size_t i = 0; i < json.len;)
	{
		int32_t code;

		i += safe_decode(json.data + i, json.len - i, &code);
		Assert(safe_is_plain(code));
	}
	buf_free(&line);
	buf_free(&cell);
	buf_free(&json);
}

/* A label's value cannot end its line. */
static void
fuzz_metrics(const Input *input)
{
	Metrics *metrics = metrics_new(&metric_table);
	Buf		 plain = {0};
	Buf		 page = {0};
	size_t	 lines = 0;

	metrics_render(metrics, &plain);
	for (size_t i = 0; i < plain.len; i++)
		lines += plain.data[i] == '\n';
	*metrics_cell(metrics, METRIC_PUBLISHED, "topic", input->text, NULL) = 1;
	metrics_render(metrics, &page);
	for (size_t i = 0; i < page.len; i++)
		lines -= page.data[i] == '\n';
	Assert(lines + 1 == 0 || lines + 3 == 0);
	buf_free(&plain);
	buf_free(&page);
	metrics_free(metrics);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct
	{
		char letter;
		void (*parser)(const Input *input);
	} targets[] = {
		{'h', fuzz_headers}, {'r', fuzz_row},		{'m', fuzz_message},
		{'q', fuzz_answer},	 {'a', fuzz_arguments}, {'c', fuzz_config},
		{'v', fuzz_values},	 {'s', fuzz_csv},		{'l', fuzz_metrics},
	};

	for (size_t i = 0; size > 0 && i < Lengthof(targets); i++)
	{
		Input input = {{(const char *) data + 1, size - 1}, NULL};

		if ((char) data[0] != targets[i].letter)
			continue;
		input.text = xmalloc(size);
		memcpy(input.text, data + 1, size - 1);
		input.text[size - 1] = '\0';
		targets[i].parser(&input);
		free(input.text);
	}
	return 0;
}
