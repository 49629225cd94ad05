/*
 * browser.h - requests that a page has its reader's browser send
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_BROWSER_H
#define PGSTOCK_GATEWAY_BROWSER_H

#include "http/server.h"

/* Whether the page is of another site than the request's. */
bool browser_is_elsewhere(const HttpRequest *request) MUST_CHECK;

/* Whether the request names this machine, or came by a Unix socket. */
bool browser_names_this_machine(const HttpRequest *request) MUST_CHECK;

#endif
