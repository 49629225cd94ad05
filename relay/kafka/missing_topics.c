/*
 * missing_topics.c - topics that are to be consumed and are not there
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/missing_topics.h"

#include <stdlib.h>
#include <string.h>

bool
absent_note(Absent *absent, const char *topic)
{
	size_t count = 0;

	for (; absent->topics != NULL && absent->topics[count] != NULL; count++)
		if (strcmp(absent->topics[count], topic) == 0)
			return false;
	absent->topics = xrealloc(absent->topics, (count + 2) * sizeof(char *));
	absent->topics[count] = xstrdup(topic);
	absent->topics[count + 1] = NULL;
	return true;
}

void
absent_forget_all(Absent *absent)
{
	strings_free(absent->topics);
	absent->topics = NULL;
}

void
absent_sentence(const Absent *absent, Buf *sentence)
{
	if (absent->topics == NULL)
		return;
	buf_add_str(sentence, ", topics are missing: ");
	for (char **topic = absent->topics; *topic != NULL; topic++)
		buf_printf(sentence, "%s%s", topic == absent->topics ? "" : ", ",
				   *topic);
}
