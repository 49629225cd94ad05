/*
 * files.c - the files of the console, which the binary contains
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "console/files.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

#include "common/embed.h"

#define HASH_BYTES 32
#define TAG_DIGITS 32

EMBED(console_index_html, "console/index.html");
EMBED(console_style_css, "console/style.css");
EMBED(console_icon_svg, "console/icon.svg");
EMBED(console_main_js, "console/main.js");
EMBED(console_api_js, "console/api.js");
EMBED(console_dom_js, "console/dom.js");
EMBED(console_plot_js, "console/plot.js");
EMBED(console_stock_js, "console/stock.js");
EMBED(console_list_js, "console/list.js");
EMBED(console_orders_js, "console/orders.js");
EMBED(console_failed_js, "console/failed.js");
EMBED(console_sales_js, "console/sales.js");
EMBED(console_relays_js, "console/relays.js");
EMBED(console_acts_js, "console/acts.js");
EMBED(console_report_js, "console/report.js");

#define FILE_ROW(name, type, symbol)      \
	{                                     \
		name, type, symbol, symbol##_end, \
	}

static const char html[] = "text/html; charset=utf-8";
static const char css[] = "text/css; charset=utf-8";
static const char script[] = "text/javascript; charset=utf-8";

static const ConsoleFile files[] = {
	FILE_ROW("", html, console_index_html),
	FILE_ROW("style.css", css, console_style_css),
	FILE_ROW("icon.svg", "image/svg+xml", console_icon_svg),
	FILE_ROW("main.js", script, console_main_js),
	FILE_ROW("api.js", script, console_api_js),
	FILE_ROW("dom.js", script, console_dom_js),
	FILE_ROW("plot.js", script, console_plot_js),
	FILE_ROW("stock.js", script, console_stock_js),
	FILE_ROW("list.js", script, console_list_js),
	FILE_ROW("orders.js", script, console_orders_js),
	FILE_ROW("failed.js", script, console_failed_js),
	FILE_ROW("sales.js", script, console_sales_js),
	FILE_ROW("relays.js", script, console_relays_js),
	FILE_ROW("acts.js", script, console_acts_js),
	FILE_ROW("report.js", script, console_report_js),
};

const ConsoleFile *
console_file(const char *name)
{
	for (size_t i = 0; i < Lengthof(files); i++)
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
	return NULL;
}

void
console_file_tag(const ConsoleFile *file, char tag[FILE_TAG_BYTES])
{
	unsigned char hash[HASH_BYTES] = {0};

	_Static_assert(TAG_DIGITS + 3 <= FILE_TAG_BYTES, "room for the tag");
	Assert(file->end > file->start);
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, file->start,
						 (size_t) (file->end - file->start), hash) != 0)
		Assert(!"SHA-256 is there");
	tag[0] = '"';
	for (unsigned i = 0; i < TAG_DIGITS / 2; i++)
		snprintf(tag + 1 + 2 * i, 3, "%02x", hash[i]);
	memcpy(tag + 1 + TAG_DIGITS, "\"", 2);
}
