/*
 * form.c - what a value of a request may be: the form of each type of field
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/form.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/option.h"
#include "common/rfc3339.h"
#include "extension/protocol/failed_state.h"
#include "extension/protocol/line_state.h"

#define ID_BYTES_MAX   255
#define TEXT_BYTES_MAX 2000 /* as extension/base/limits.h has it */
#define QUANTITY_MAX   (INT64_C(1) << 53)
#define WAIT_US_MAX	   (60 * SEC_US)
#define TTL_MAX		   INT64_C(315360000) /* ten years of seconds */

_Static_assert(WAIT_US_MAX == 60 * SEC_US,
			   "the pattern in form_add_schema() ends with 60s");

typedef struct FieldRange
{
	int64_t min;
	int64_t max;
} FieldRange;

/* Of those that are integers. */
static const FieldRange ranges[] = {
	[FIELD_QUANTITY] = {1, QUANTITY_MAX},
	[FIELD_AMOUNT] = {0, QUANTITY_MAX},
	[FIELD_DELTA] = {-QUANTITY_MAX, QUANTITY_MAX},
	[FIELD_TTL] = {0, TTL_MAX},
	[FIELD_LIMIT] = {1, FORM_ROWS_MAX},
};

/* Of those that are one of some words. */
static const char *const *const words[] = {
	[FIELD_ORDER_STATE] = line_state_texts,
	[FIELD_FAILURE] = failed_state_texts,
};

/* ---- one value --------------------------------------------------------- */

bool
form_fault(const char *name, Buf *error, const char *what)
{
	buf_printf(error, "\"%s\" %s", name, what);
	return false;
}

static bool
form_check_text(const char *name, const char *text, size_t max, char **value,
				Buf *error)
{
	size_t len = strlen(text);

	if (len == 0)
		return form_fault(name, error, "is empty");
	if (len > max)
	{
		buf_printf(error, "\"%s\" is longer than %zu bytes", name, max);
		return false;
	}
	*value = xstrdup(text);
	return true;
}

bool
form_set_integer(const Field *field, int64_t number, char **value, Buf *error)
{
	const FieldRange *range = &ranges[field->type];

	Assert((size_t) field->type < Lengthof(ranges) && range->min < range->max);
	if (number < range->min || number > range->max)
	{
		buf_printf(error,
				   "\"%s\" must be an integer from %" PRId64 " to %" PRId64,
				   field->name, range->min, range->max);
		return false;
	}
	if (field->type == FIELD_DELTA && number == 0)
		return form_fault(field->name, error, "must not be 0");
	*value = field->type == FIELD_TTL ? xasprintf("%" PRId64 " s", number)
									  : xasprintf("%" PRId64, number);
	return true;
}

static bool
form_set_time(const char *name, const char *text, char **value, Buf *error)
{
	int64_t us;
	Rfc3339 form = rfc3339_parse(text, &us);

	if (form != RFC3339_VALID && form != RFC3339_BEFORE_1970)
		return form_fault(name, error,
						  "must be a time such as 2026-01-31T12:00:00Z");
	*value = xstrdup(text);
	return true;
}

static bool
form_set_word(const char *name, FieldType type, const char *text, char **value,
			  Buf *error)
{
	Assert((size_t) type < Lengthof(words) && words[type] != NULL);
	for (const char *const *word = words[type]; *word != NULL; word++)
		if (strcmp(*word, text) == 0)
		{
			*value = xstrdup(text);
			return true;
		}
	buf_printf(error, "\"%s\" must be one of", name);
	for (const char *const *word = words[type]; *word != NULL; word++)
		buf_printf(error, "%s %s", word > words[type] ? "," : "", *word);
	return false;
}

/*
 * Reads a string of RFC 8941, which begins with a quotation mark: printable
 * ASCII, with a backslash before each quotation mark and backslash.
 */
static bool
form_read_string(const char *text, Buf *string)
{
	Assert(*text == '"');
	for (text++; *text >= ' ' && *text <= '~'; text++)
	{
		if (*text == '"')
			return text[1 + strspn(text + 1, " ")] == '\0'; /* no parameters */
		if (*text == '\\' && *++text != '"' && *text != '\\')
			return false;
		buf_add(string, text, 1);
	}
	return false;
}

/* As the draft of the IETF has it, "k" with quotation marks; or k. */
static bool
form_set_key(const Field *field, const char *text, char **value, Buf *error)
{
	Buf	 string = {0};
	bool good;

	if (*text != '"')
		return form_check_text(field->name, text, ID_BYTES_MAX, value, error);
	if (form_read_string(text, &string))
		good = form_check_text(field->name, buf_str(&string), ID_BYTES_MAX,
							   value, error);
	else
		good = form_fault(field->name, error,
						  "begins with a quotation mark, but is no string of "
						  "RFC 8941: send printable ASCII in quotation marks, "
						  "with \\ before each \" and \\ in it");
	buf_free(&string);
	return good;
}

/* An entity tag that the API has given: "7"; or * for any. */
static bool
form_set_version(const char *name, const char *text, char **value, Buf *error)
{
	size_t	len = strlen(text);
	char   *digits;
	int64_t version;
	bool	good;

	if (strcmp(text, "*") == 0)
		return true;
	digits = len > 2 && text[0] == '"' && text[len - 1] == '"'
				 ? xasprintf("%.*s", (int) len - 2, text + 1)
				 : xstrdup("");
	good = parse_number(digits, &version);
	if (good)
		*value = digits;
	else
	{
		free(digits);
		(void) form_fault(name, error,
						  "must be * or an ETag that was given for the stock, "
						  "such as \"7\" with its quotation marks");
	}
	return good;
}

static bool
form_set_uuid(const char *name, const char *text, char **value, Buf *error)
{
	static const char form[] = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
	size_t			  at = 0;

	while (form[at] != '\0' &&
		   (form[at] == 'h' ? isxdigit((unsigned char) text[at])
							: text[at] == '-'))
		at++;
	if (form[at] != '\0' || text[at] != '\0')
		return form_fault(name, error, "must be a UUID");
	*value = xstrdup(text);
	return true;
}

static bool
form_set_flag(const char *name, const char *text, char **value, Buf *error)
{
	if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
		return form_fault(name, error, "must be 0 or 1");
	*value = xstrdup(text[0] == '1' ? "true" : "false");
	return true;
}

/* Microseconds. */
static bool
form_set_wait(const char *name, const char *text, char **value, Buf *error)
{
	int64_t us;

	if (!option_parse_duration(text, &us) || us > WAIT_US_MAX)
		return form_fault(name, error,
						  "must be a duration of at most 1m, such as 5s or "
						  "250ms");
	*value = xasprintf("%" PRId64, us);
	return true;
}

static bool
form_set_digits(const Field *field, const char *text, char **value, Buf *error)
{
	int64_t number;

	if (!parse_number(text, &number))
		return form_fault(field->name, error, "must be an integer");
	return form_set_integer(field, number, value, error);
}

bool
form_set_text(const Field *field, const char *text, char **value, Buf *error)
{
	Assert(*value == NULL); /* a field is set once */
	switch (field->type)
	{
		case FIELD_ID:
			return form_check_text(field->name, text, ID_BYTES_MAX, value,
								   error);
		case FIELD_KEY:
			return form_set_key(field, text, value, error);
		case FIELD_VERSION:
			return form_set_version(field->name, text, value, error);
		case FIELD_UUID:
			return form_set_uuid(field->name, text, value, error);
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_LIMIT:
			return form_set_digits(field, text, value, error);
		case FIELD_BOOLEAN:
			return form_set_flag(field->name, text, value, error);
		case FIELD_FAILURE:
		case FIELD_ORDER_STATE:
			return form_set_word(field->name, field->type, text, value, error);
		case FIELD_WAIT:
			return form_set_wait(field->name, text, value, error);
		case FIELD_TEXT:
			return form_check_text(field->name, text, TEXT_BYTES_MAX, value,
								   error);
		case FIELD_TIME:
			return form_set_time(field->name, text, value, error);
		case FIELD_DELTA:
		case FIELD_TTL:
		case FIELD_ITEMS:
		case FIELD_OBJECT:
			break;
	}
	Assert(!"no text");
	return false;
}

/* ---- description ------------------------------------------------------- */

static void
form_add_words(const char *const *word, Buf *json)
{
	buf_add_str(json, "{\"type\":\"string\",\"enum\":");
	for (const char *const *first = word; *word != NULL; word++)
		buf_printf(json, "%s\"%s\"", word == first ? "[" : ",", *word);
	buf_add_str(json, "]}");
}

/* JSON Schema counts characters: a text of more bytes is refused too. */
static void
form_add_text(int max, Buf *json)
{
	buf_printf(json,
			   "{\"type\":\"string\",\"minLength\":1,\"maxLength\":%d,"
			   "\"pattern\":\"^[^\\u0000]*$\"}",
			   max);
}

void
form_add_schema(const Field *field, Buf *json)
{
	switch (field->type)
	{
		case FIELD_ID:
			if (field->place == IN_BODY)
				buf_add_str(json, "{\"$ref\":\"#/components/schemas/Id\"}");
			else
				form_add_text(ID_BYTES_MAX, json);
			break;
		case FIELD_KEY:
			buf_printf(
				json,
				"{\"type\":\"string\",\"minLength\":1,"
				"\"maxLength\":%d,\"pattern\":\""
				"^([^\\\"\\u0000][^\\u0000]*|"
				"\\\"([ !#-\\\\[\\\\]-~]|\\\\\\\\[\\\"\\\\\\\\])+\\\")$\"}",
				ID_BYTES_MAX);
			break;
		case FIELD_TEXT:
			form_add_text(TEXT_BYTES_MAX, json);
			break;
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_DELTA:
		case FIELD_TTL:
		case FIELD_LIMIT:
			buf_printf(json,
					   "{\"type\":\"integer\",\"minimum\":%" PRId64
					   ",\"maximum\":%" PRId64 "%s}",
					   ranges[field->type].min, ranges[field->type].max,
					   field->type == FIELD_DELTA ? ",\"not\":{\"const\":0}"
												  : "");
			break;
		case FIELD_BOOLEAN:
			buf_add_str(json, field->place == IN_BODY
								  ? "{\"type\":\"boolean\"}"
								  : "{\"type\":\"integer\",\"enum\":[0,1]}");
			break;
		case FIELD_FAILURE:
		case FIELD_ORDER_STATE:
			form_add_words(words[field->type], json);
			break;
		case FIELD_WAIT:
			buf_add_str(json, "{\"type\":\"string\",\"pattern\":"
							  "\"^(([1-5]?[0-9]|60)s|[1-5]?[0-9]{1,4}ms)$\"}");
			break;
		case FIELD_TIME:
			buf_add_str(json, "{\"type\":\"string\",\"format\":\"date-time\"}");
			break;
		case FIELD_ITEMS:
			buf_add_str(json, "{\"$ref\":\"#/components/schemas/Items\"}");
			break;
		case FIELD_OBJECT:
			buf_add_str(json, "{\"type\":\"object\"}");
			break;
		case FIELD_UUID:
			buf_add_str(json, "{\"type\":\"string\",\"format\":\"uuid\"}");
			break;
		case FIELD_VERSION:
			buf_add_str(json, "{\"type\":\"string\","
							  "\"pattern\":\"^(\\\\*|\\\"[0-9]+\\\")$\"}");
			break;
	}
}
