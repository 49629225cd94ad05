/*-------------------------------------------------------------------------
 *
 * inbox/options.c
 *	  The relay's settings, which each of its calls passes as jsonb.
 *
 * An option that is missing or of the wrong type is an error of the relay, not
 * of a message: it is raised before any message is looked at.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "inbox/inbox.h"

/* Stands for the topic in the name of its dead letter topic. */
#define TOPIC_PLACEHOLDER "{topic}"

/* The option's value, or NULL. */
static JsonbValue *
options_find(Jsonb *options, const char *name)
{
	return getKeyJsonValueFromContainer(&options->root, name, strlen(name),
										NULL);
}

static JsonbValue *
options_require(Jsonb *options, const char *name)
{
	JsonbValue *value = options_find(options, name);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is missing", name)));
	return value;
}

static int64
options_int64(const JsonbValue *value, const char *name)
{
	if (value->type != jbvNumeric)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is not a number", name)));
	return DatumGetInt64(
		DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

static char *
options_text(const JsonbValue *value, const char *name)
{
	if (value->type != jbvString)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is not a string", name)));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* A text that may be missing: then it is empty. */
static char *
options_optional_text(Jsonb *options, const char *name)
{
	const JsonbValue *value = options_find(options, name);

	return value != NULL ? options_text(value, name) : pstrdup("");
}

/* A switch; one that is missing is off. */
static bool
options_switch(Jsonb *options, const char *name)
{
	const JsonbValue *value = options_find(options, name);

	return value != NULL && value->type == jbvBool && value->val.boolean;
}

static void
options_read_delays(InboxOptions *options, const JsonbValue *delays)
{
	const char *name = "retry_delays_ms";

	if (delays->type != jbvBinary ||
		!JsonContainerIsArray(delays->val.binary.data))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is not an array", name)));
	options->retry_count = JsonContainerSize(delays->val.binary.data);
	options->retry_delays_ms = palloc(sizeof(int64) *
									  Max(1, options->retry_count));
	for (int i = 0; i < options->retry_count; i++)
	{
		const JsonbValue
			*delay = getIthJsonbValueFromContainer(delays->val.binary.data, i);

		options->retry_delays_ms[i] = options_int64(delay, name);
	}
}

/*
 * The dead letter topic of a topic.  The longest topic names are cut, so that
 * what is added to them still fits.
 */
char *
options_dead_letter_topic(const InboxOptions *options, const char *topic)
{
	const char *pattern = options->dlq_topic;
	const char *placeholder = strstr(pattern, TOPIC_PLACEHOLDER);
	int			added = (int) strlen(pattern) - strlen(TOPIC_PLACEHOLDER);

	if (placeholder == NULL)
		return pstrdup(pattern);
	Assert(added >= 0 && topic[0] != '\0');
	return psprintf("%.*s%.*s%s", (int) (placeholder - pattern), pattern,
					OUTBOX_TOPIC_MAX - added, topic,
					placeholder + strlen(TOPIC_PLACEHOLDER));
}

/* Reads and checks all options. */
InboxOptions
options_from_jsonb(Jsonb *object)
{
	InboxOptions options = {0};

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options must be a JSON object")));
	options.group = options_text(options_require(object, "group"), "group");
	options.relay = options_optional_text(object, "relay");
	options.dlq_topic = options_text(options_require(object, "dlq_topic"),
									 "dlq_topic");
	if (outbox_topic_fault(options_dead_letter_topic(&options, "x")) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" makes no legal topic name",
							   "dlq_topic")));
	options.order_wait_ms = options_int64(options_require(object,
														  "order_wait_ms"),
										  "order_wait_ms");
	options.count_attempts = options_switch(object, "count_attempts");
	options.alert = options_switch(object, "alert");
	options.one_by_one = options_switch(object, "careful");
	options_read_delays(&options, options_require(object, "retry_delays_ms"));
	Assert(options.retry_count >= 0);
	return options;
}
