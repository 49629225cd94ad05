/*
 * file.c - the files of the console
 *
 * A browser runs and loads nothing but these files, and shows the page in no
 * frame: what an order's or a product's id contains cannot become a script.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/file.h"

#include <string.h>

#include "api/problem.h"
#include "console/files.h"

static const char policy[] =
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
	"connect-src 'self'; base-uri 'none'; form-action 'none'; "
	"frame-ancestors 'none'; require-trusted-types-for 'script'; "
	"trusted-types 'none'";

void
file_answer(HttpRequest *request, const Route *route, const char *name)
{
	const ConsoleFile *file = console_file(name != NULL ? name : "");
	const char		  *known = http_request_header(request, "If-None-Match");
	char			   tag[FILE_TAG_BYTES];
	Buf				   body = {0};
	bool			   fresh;

	/* the names of the other files are relative to the page's */
	if (route->answers == ANSWER_ELSEWHERE)
	{
		http_answer_header(request, "Location", "console/");
		http_answer(request, 308, "text/plain", &body);
		return;
	}
	if (file == NULL)
	{
		problem_give(request, PROBLEM_NO_ROUTE, NULL);
		return;
	}
	console_file_tag(file, tag);
	fresh = known != NULL && strstr(known, tag) != NULL;
	if (!fresh)
		buf_add(&body, file->start, (size_t) (file->end - file->start));
	http_answer_header(request, "ETag", tag);
	http_answer_header(request, "Cache-Control", "no-cache");
	http_answer_header(request, "Content-Security-Policy", policy);
	http_answer_header(request, "X-Content-Type-Options", "nosniff");
	http_answer_header(request, "Referrer-Policy", "no-referrer");
	http_answer(request, fresh ? 304 : 200, file->type, &body);
}
