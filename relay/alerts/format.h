/*
 * format.h - alerts as the body of a request, for one channel or another
 *
 * A further channel is a function that writes its body, a line in the table of
 * format.c and a name in that of config/options.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_ALERTS_FORMAT_H
#define PGSTOCK_ALERTS_FORMAT_H

#include "common/util.h"

typedef struct Alert
{
	const char *json; /* an object with all details */
	const char *line; /* a summary for a person */
} Alert;

typedef struct AlertBatch
{
	const char	*relay; /* the sender's name */
	const Alert *alerts;
	size_t		 count; /* at least 1 */
} AlertBatch;

typedef struct AlertFormat
{
	void (*write)(const AlertBatch *batch, Buf *body);
	/* The channel's own signature, where it wants it in the url; or NULL. */
	void (*sign_url)(Buf *url, const char *secret, int64_t now_ms);
	/*
	 * Whether the body of a response with status 200 reports success; NULL:
	 * the status is enough.
	 */
	bool (*is_accepted)(const char *answer);
} AlertFormat;

/* By [webhook] format. */
extern const AlertFormat alert_formats[];

#define ALERT_SIGNATURE_LEN 64 /* hexadecimal digits */

/* HMAC-SHA256 of "<seconds>.<body>" under the secret. */
void format_signature(const char *secret, int64_t now_s, const Buf *body,
					  char signature[ALERT_SIGNATURE_LEN + 1]);

#endif
