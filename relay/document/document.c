/*
 * document.c - makes the relay's manual pages and completion out of its tables
 *
 * A program of the build.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/document/document.h"

#include <inttypes.h>
#include <string.h>

#include "commands/command_line.h"
#include "config/kafka_property.h"
#include "config/options.h"

/* Which values a property takes. */
static void
document_add_values(Buf *text, const KafkaProperty *property)
{
	switch (property->value)
	{
		case KAFKA_TEXT:
			manual_add_text(text, "As librdkafka takes it.");
			break;
		case KAFKA_ADDRESSES:
			manual_add_text(text, "host:port, ...");
			break;
		case KAFKA_URL:
			manual_add_text(text, "A URL without user and password.");
			break;
		case KAFKA_FLAG:
			manual_add_text(text, "true or false");
			break;
		case KAFKA_NUMBER:
		case KAFKA_NUMBER_0:
			buf_printf(text, "%s%" PRId64 " to %" PRId64 "\n",
					   property->value == KAFKA_NUMBER_0 ? "0, or " : "",
					   property->min, property->max);
			break;
		case KAFKA_CHOICE:
			manual_add_text(text, property->choices);
			break;
	}
}

static void
document_add_properties(Buf *text)
{
	buf_add_str(text, ".Bl -tag -width Ds -compact\n");
	for (size_t i = 0; i < kafka_properties_count; i++)
	{
		buf_printf(text, ".It Cm %s\n", kafka_properties[i].name);
		document_add_values(text, &kafka_properties[i]);
	}
	buf_add_str(text, ".El\n");
}

static bool
document_add_part(const char *name, Buf *text)
{
	if (strcmp(name, "properties") != 0)
		return false;
	document_add_properties(text);
	return true;
}

int
main(int argc, char **argv)
{
	const DocumentSource source = {
		.commands = &command_line,
		.options = &relay_options,
		.properties_help = "Properties of librdkafka by their own names, such "
						   "as bootstrap.servers. Those that may be set are "
						   "listed below. A change needs a restart.",
		.add_part = document_add_part,
	};

	return document_main(&source, argc, argv);
}
