/*
 * format.c - alerts as the body of a request, for one channel or another
 *
 * json has all details, for programs.  The others are messages for a chat: a
 * heading, a line for each alert as far as they fit, and how many more.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "alerts/format.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "config/config.h"

/* WeCom takes 2,048 bytes of text, and a person not much more. */
#define CHAT_LINES_MAX 10
#define CHAT_LINE_MAX  160 /* bytes of one line */

#define SHA256_BYTES 32

/* ---- bodies ------------------------------------------------------------ */

static void
format_write_json(const AlertBatch *batch, Buf *body)
{
	Assert(batch->count > 0);
	buf_add_str(body, "{\"relay\":");
	json_add_string(body, batch->relay);
	buf_add_str(body, ",\"alerts\":[");
	for (size_t i = 0; i < batch->count; i++)
		buf_printf(body, "%s%s", i > 0 ? "," : "", batch->alerts[i].json);
	buf_add_str(body, "]}");
}

/*
 * These lines quote what senders of messages wrote: it shall neither begin a
 * line of its own nor be a command to the chat, such as <!channel>.
 */
static void
format_add_line(Buf *text, const char *line)
{
	size_t len = strlen(line);
	bool   cut = len > CHAT_LINE_MAX;

	if (cut)
		for (len = CHAT_LINE_MAX; ((unsigned char) line[len] & 0xc0) == 0x80;)
			len--; /* not within a character */
	buf_add_str(text, "\n");
	for (size_t i = 0; i < len; i++)
	{
		char byte = line[i];

		if (byte == '<' || byte == '>')
			byte = byte == '<' ? '(' : ')';
		else if (byte >= 0 && byte < ' ')
			byte = ' ';
		buf_add(text, &byte, 1);
	}
	if (cut)
		buf_add_str(text, " ...");
}

static void
format_write_text(const AlertBatch *batch, Buf *text)
{
	size_t shown = Min(batch->count, CHAT_LINES_MAX);

	Assert(batch->count > 0);
	buf_printf(text, "pgstock (%s): %zu alert%s", batch->relay, batch->count,
			   batch->count > 1 ? "s" : "");
	for (size_t i = 0; i < shown; i++)
		format_add_line(text, batch->alerts[i].line);
	if (batch->count > shown)
		buf_printf(text, "\nand %zu more", batch->count - shown);
	buf_add_str(text, "\npgstock-relay failed list --state archived");
	buf_str(text);
}

static void
format_write_slack(const AlertBatch *batch, Buf *body)
{
	Buf text = {0};

	format_write_text(batch, &text);
	buf_add_str(body, "{\"text\":");
	json_add_string(body, buf_str(&text));
	buf_add_str(body, "}");
	buf_free(&text);
}

/* What DingTalk and WeCom have in common. */
static void
format_write_msgtype(const AlertBatch *batch, Buf *body)
{
	Buf text = {0};

	format_write_text(batch, &text);
	buf_add_str(body, "{\"msgtype\":\"text\",\"text\":{\"content\":");
	json_add_string(body, buf_str(&text));
	buf_add_str(body, "}}");
	buf_free(&text);
}

/* ---- signatures -------------------------------------------------------- */

static void
format_hmac_sha256(const char *secret, const Buf *data, unsigned char *digest)
{
	unsigned len = 0;

	HMAC(EVP_sha256(), secret, (int) strlen(secret),
		 (const unsigned char *) data->data, data->len, digest, &len);
	Assert(len == SHA256_BYTES);
}

void
format_signature(const char *secret, int64_t now_s, const Buf *body,
				 char signature[ALERT_SIGNATURE_LEN + 1])
{
	unsigned char digest[SHA256_BYTES];
	Buf			  content = {0};

	buf_printf(&content, "%" PRId64 ".", now_s);
	buf_add(&content, body->data, body->len);
	format_hmac_sha256(secret, &content, digest);
	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(signature + 2 * i, 3, "%02x", digest[i]);
	buf_free(&content);
}

/* The robot's "additional signature": parameters of its own. */
static void
format_sign_dingtalk(Buf *url, const char *secret, int64_t now_ms)
{
	unsigned char digest[SHA256_BYTES];
	unsigned char base64[(SHA256_BYTES + 2) / 3 * 4 + 1];
	Buf			  content = {0};

	buf_printf(&content, "%" PRId64 "\n%s", now_ms, secret);
	format_hmac_sha256(secret, &content, digest);
	EVP_EncodeBlock(base64, digest, SHA256_BYTES);
	buf_printf(url, "%ctimestamp=%" PRId64 "&sign=",
			   strchr(buf_str(url), '?') != NULL ? '&' : '?', now_ms);
	for (const unsigned char *c = base64; *c != '\0'; c++)
	{
		if (*c == '+' || *c == '/' || *c == '=')
			buf_printf(url, "%%%02X", *c);
		else
			buf_add(url, c, 1);
	}
	buf_str(url);
	buf_free(&content);
}

/* ---- answers ----------------------------------------------------------- */

/* They answer {"errcode":0,...} to a message that they accept. */
static bool
format_errcode_is_zero(const char *answer)
{
	static const char name[] = "\"errcode\"";
	const char		 *at = strstr(answer, name);

	if (at == NULL)
		return false;
	at += strlen(name);
	at += strspn(at, " \t\r\n:");
	return at[0] == '0' && strspn(at, "0123456789") == 1;
}

/* ---- the channels ------------------------------------------------------ */

const AlertFormat alert_formats[] = {
	[ALERT_FORMAT_JSON] = {format_write_json, NULL, NULL},
	[ALERT_FORMAT_DINGTALK] = {format_write_msgtype, format_sign_dingtalk,
							   format_errcode_is_zero},
	[ALERT_FORMAT_WECOM] = {format_write_msgtype, NULL, format_errcode_is_zero},
	[ALERT_FORMAT_SLACK] = {format_write_slack, NULL, NULL},
};
_Static_assert(Lengthof(alert_formats) == ALERT_FORMATS,
			   "a format for each name");
