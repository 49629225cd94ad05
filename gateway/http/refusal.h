/*
 * refusal.h - what the server refuses without its handler
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_REFUSAL_H
#define PGSTOCK_GATEWAY_REFUSAL_H

#include "http/server.h"

/* Answers with a problem: urn:pgstock:problem:NAME. */
void refusal_answer(HttpRequest *request, unsigned status, const char *name,
					const char *title, const char *hint);

/* False if the head is too long, or does not say clearly where the request
 * ends; that was answered then.  version: as HTTP/1.1. */
bool refusal_check_head(HttpRequest *request, const char *version) MUST_CHECK;

#endif
