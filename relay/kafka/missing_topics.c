/*
 * missing_topics.c - topics that are to be consumed and are not there
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/missing_topics.h"

#include <stdlib.h>
#include <string.h>

bool
missing_topics_add(MissingTopics *missing, const char *topic)
{
	size_t count = 0;

	for (; missing->topics != NULL && missing->topics[count] != NULL; count++)
		if (strcmp(missing->topics[count], topic) == 0)
			return false;
	Assert(missing->topics == NULL || count > 0);
	missing->topics = xrealloc(missing->topics, (count + 2) * sizeof(char *));
	missing->topics[count] = xstrdup(topic);
	missing->topics[count + 1] = NULL;
	return true;
}

void
missing_topics_clear(MissingTopics *missing)
{
	strings_free(missing->topics);
	missing->topics = NULL;
}

void
missing_topics_describe(const MissingTopics *missing, Buf *sentence)
{
	if (missing->topics == NULL)
		return;
	Assert(missing->topics[0] != NULL);
	buf_add_str(sentence, ", topics are missing: ");
	for (char **topic = missing->topics; *topic != NULL; topic++)
		buf_printf(sentence, "%s%s", topic == missing->topics ? "" : ", ",
				   *topic);
}
