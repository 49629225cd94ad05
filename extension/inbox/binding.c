/*-------------------------------------------------------------------------
 *
 * inbox/binding.c
 *	  Bindings: which handler a message of a topic has, and how it is read.
 *
 * A topic has bindings by event type, and one for all other types.  They are
 * compiled once for each batch of messages (binding_table.c), so a change
 * counts from the next batch on, in every session.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "inbox/inbox.h"

#define ATTRIBUTES_HINT \
	"It is \"all\", \"none\", or an array of names of members."
#define ATTRIBUTE_NAMES_MAX 100
#define ORDER_WAIT_MS_MAX	(INT64CONST(30) * 24 * 60 * 60 * 1000)

/* ---- A binding's argument "options" ---- */

pg_noreturn static void
binding_refuse_option(const char *name, const char *fault, const char *hint);

static void
binding_refuse_option(const char *name, const char *fault, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" %s", name, fault), errhint("%s", hint)));
}

/* "15m" in milliseconds; -1 if it is no duration. */
static int64
binding_duration_ms(const char *string)
{
	static const struct
	{
		const char *unit;
		int64		ms;
	} units[] = {
		{"ms", 1},
		{"s", 1000},
		{"m", 60000},
		{"h", 60 * 60000},
		{"d", 24 * 60 * 60000},
	};
	int64 n = 0;

	if (*string < '0' || *string > '9')
		return -1;
	for (; *string >= '0' && *string <= '9'; string++)
	{
		n = n * 10 + (*string - '0');
		if (n > ORDER_WAIT_MS_MAX)
			return -1;
	}
	for (int i = 0; i < lengthof(units); i++)
	{
		if (strcmp(string, units[i].unit) == 0)
			return n * units[i].ms <= ORDER_WAIT_MS_MAX ? n * units[i].ms : -1;
	}
	return -1;
}

static void
binding_read_listed(AttributePolicy *policy, JsonbContainer *names)
{
	policy->mode = ATTRIBUTES_LISTED;
	policy->n = JsonContainerSize(names);
	if (policy->n > ATTRIBUTE_NAMES_MAX)
		binding_refuse_option("attributes", "lists more than 100 names",
							  "\"all\" is what is not known to pgstock.");
	policy->names = palloc(sizeof(char *) * Max(1, policy->n));
	for (int i = 0; i < policy->n; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(names, i);
		char	   *string;
		int			length;

		if (name->type != jbvString || name->val.string.len == 0)
			binding_refuse_option("attributes",
								  "lists something that is no "
								  "name",
								  ATTRIBUTES_HINT);
		string = pnstrdup(name->val.string.val, name->val.string.len);
		if (!text_is_convertible(string))
			binding_refuse_option("attributes",
								  "lists a name that UTF-8 does not have",
								  ATTRIBUTES_HINT);
		string = text_to_utf8(string, strlen(string), &length);
		policy->names[i] = pnstrdup(string, length);
	}
}

static bool
binding_is_text(const JsonbValue *value, const char *string)
{
	return value->type == jbvString &&
		   value->val.string.len == (int) strlen(string) &&
		   memcmp(value->val.string.val, string, strlen(string)) == 0;
}

static void
binding_read_attributes(AttributePolicy *policy, const JsonbValue *value)
{
	if (value->type == jbvBinary &&
		JsonContainerIsArray(value->val.binary.data))
		binding_read_listed(policy, value->val.binary.data);
	else if (binding_is_text(value, "all"))
		policy->mode = ATTRIBUTES_ALL;
	else if (binding_is_text(value, "none"))
		policy->mode = ATTRIBUTES_NONE;
	else
		binding_refuse_option("attributes",
							  "has another value than those it can have",
							  ATTRIBUTES_HINT);
}

static char *
binding_text(const char *name, const JsonbValue *value, const char *hint)
{
	if (value->type != jbvString)
		binding_refuse_option(name, "is not a string", hint);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
binding_read_option(Binding *binding, const char *name, const JsonbValue *value)
{
	const BuiltinHandler *builtin = binding->builtin;
	bool				  applies = builtin == NULL || builtin->apply != NULL;

	if (strcmp(name, "source") == 0)
	{
		const char *hint = "It is a name that takes the topic's place where "
						   "messages are identified.";

		binding->source = binding_text(name, value, hint);
		if (args_id_fault(binding->source) != NULL)
			binding_refuse_option(name, args_id_fault(binding->source), hint);
	}
	else if (strcmp(name, "order_wait") == 0)
	{
		const char *hint = "It is a duration such as 30s, 15m or 2h, of at "
						   "most 30d.";

		if (!applies || (builtin != NULL && builtin->opens_order))
			binding_refuse_option(name, "has no meaning for this handler",
								  "Its messages wait for no order.");
		binding->order_wait_ms = binding_duration_ms(
			binding_text(name, value, hint));
		if (binding->order_wait_ms < 0)
			binding_refuse_option(name, "is not a duration", hint);
	}
	else if (strcmp(name, "attributes") == 0)
	{
		if (builtin == NULL || !applies)
			binding_refuse_option(name, "has no meaning for this handler",
								  "The other built-in handlers publish "
								  "attributes.");
		binding_read_attributes(&binding->attributes, value);
	}
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no option \"%s\"", name),
						errhint("The options are attributes, order_wait and "
								"source.")));
}

/* Reads the options of a binding whose handler is set; NULL: there are none. */
static void
binding_read_options(Binding *binding, Jsonb *object)
{
	JsonbIterator	  *it;
	JsonbValue		   key;
	JsonbValue		   value;
	JsonbIteratorToken token;

	if (object == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options must be a JSON object"),
						errhint("The options are attributes, order_wait and "
								"source.")));
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		binding_read_option(binding,
							pnstrdup(key.val.string.val, key.val.string.len),
							&value);
	}
}

/* ---- Bindings ---- */

/*
 * A binding to one of two handlers, with its arguments as they are stored;
 * 22023 if they are not valid.
 */
Binding *
binding_new(const char *event_type, const BuiltinHandler *builtin,
			const RegisteredHandler *registered, Jsonb *fields, Jsonb *options)
{
	Binding	   *binding = palloc0(sizeof(Binding));
	const char *unused;

	Assert((builtin == NULL) != (registered == NULL));
	binding->event_type = event_type;
	binding->builtin = builtin;
	binding->registered = registered;
	binding->order_wait_ms = -1;
	binding->attributes.mode = builtin == NULL || builtin->hides_attributes
								   ? ATTRIBUTES_NONE
								   : ATTRIBUTES_ALL;
	binding_read_options(binding, options);
	if (fields != NULL)
		binding->fields = field_map_from_jsonb(fields);
	unused = field_map_unused(binding->fields,
							  builtin == NULL || builtin->apply == NULL);
	if (unused != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("field \"%s\" has no meaning for this handler", unused),
				 errhint("Only order_id and event_id are read for it.")));
	return binding;
}

/* The bindings of a topic; those of the topic as a whole come last. */
TopicBindings *
binding_topic(List *bindings, bool is_bound)
{
	TopicBindings *topic = palloc0(sizeof(TopicBindings));
	ListCell	  *cell;

	topic->is_bound = is_bound;
	topic->bindings = bindings;
	foreach(cell, bindings)
	{
		const Binding *binding = lfirst(cell);

		topic->has_registered |= binding->registered != NULL;
		topic->has_types |= binding->event_type[0] != '\0';
	}
	return topic;
}

/* The binding of an event type, else that of the whole topic, else NULL. */
const Binding *
binding_choose(const TopicBindings *topic, const char *event_type)
{
	const Binding *of_topic = NULL;
	ListCell	  *cell;

	foreach(cell, topic->bindings)
	{
		const Binding *binding = lfirst(cell);

		if (binding->event_type[0] == '\0')
			of_topic = binding;
		else if (event_type != NULL &&
				 strcmp(binding->event_type, event_type) == 0)
			return binding;
	}
	return of_topic;
}
