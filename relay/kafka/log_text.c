/*
 * log_text.c - the few facts that librdkafka gives only as English text
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/log_text.h"

#include <librdkafka/rdkafka.h>
#include <string.h>

char *
log_text_refused_topic(const char *facility, const char *text)
{
	static const char before[] = "Failed to add partition \"";
	const char		 *why = rd_kafka_err2str(
			  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	const char *name;
	const char *end;

	if (strcmp(facility, "ADDPARTS") != 0 || strstr(text, why) == NULL)
		return NULL;
	name = strstr(text, before);
	if (name == NULL)
		return NULL;
	name += strlen(before);
	end = strchr(name, '"');
	return end != NULL ? xasprintf("%.*s", (int) (end - name), name) : NULL;
}

const char *
log_text_reason(const char *text)
{
	const char *after = text[0] == '[' ? strstr(text, "]: ") : NULL;

	return after != NULL ? after + 3 : text;
}

bool
log_text_is_tls(const char *text)
{
	return strstr(text, "SSL") != NULL || strstr(text, "certificate") != NULL;
}

bool
log_text_names(const char *text, const char *property)
{
	return strstr(text, property) != NULL;
}

bool
log_text_is_unknown_host(const char *text)
{
	return strstr(text, "resolve") != NULL;
}

bool
log_text_is_refused_connection(const char *text)
{
	return strstr(text, "Connection refused") != NULL;
}

bool
log_text_is_tls_eof(const char *text)
{
	return strstr(text, "unexpected eof") != NULL;
}

bool
log_text_is_own_certificate(const char *text)
{
	/* OpenSSL's names of the alerts, as "tlsv13 alert certificate required" */
	static const char *const alerts[] = {
		"alert certificate",
		"alert bad certificate",
		"alert unsupported certificate",
		"alert unknown ca",
	};

	for (size_t i = 0; i < Lengthof(alerts); i++)
		if (strstr(text, alerts[i]) != NULL)
			return true;
	return false;
}

bool
log_text_is_mechanism(const char *text)
{
	return strstr(text, "mechanism handshake failed") != NULL ||
		   strstr(text, "not supported by broker") != NULL;
}
