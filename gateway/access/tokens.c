/*
 * tokens.c - who a client is, by its bearer token (RFC 6750) or certificate
 *
 * The file holds a line "role name sha256-hex" for each token, where the hash
 * is that of the token's bytes: a copy of the file opens nothing.  A token must
 * be drawn at random, for a hash without salt hides no password of a person.
 *
 * A line "role name cert:subject" stands for the certificates that name that
 * subject.  The subject and not the certificate's hash, for certificates are
 * renewed every few weeks, and their subject stays.
 *
 * Every line's hash is compared to its end, whether it fits or not.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "access/tokens.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HASH_BYTES	 32
#define NAME_MAX_LEN 63
#define TOKENS_MAX	 1000
#define CERTIFICATE	 "cert:"

typedef struct Token
{
	Role		  role;
	char		  name[NAME_MAX_LEN + 1];
	char		 *subject; /* of a certificate; NULL: it is a token */
	unsigned char hash[HASH_BYTES];
} Token;

struct Tokens
{
	size_t count;
	Token  tokens[TOKENS_MAX];
};

const char *const role_names[] = {
	[ROLE_READER] = "reader",
	[ROLE_APP] = "app",
	[ROLE_ADMIN] = "admin",
	[ROLES] = NULL,
};

static bool
tokens_read_role(const char *text, Role *role)
{
	for (int i = 0; i < ROLES; i++)
		if (strcmp(text, role_names[i]) == 0)
		{
			*role = (Role) i;
			return true;
		}
	return false;
}

static bool
tokens_name_is_good(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	return strlen(name) <= NAME_MAX_LEN && strspn(name, legal) == strlen(name);
}

static bool
tokens_read_hash(const char *hex, unsigned char *hash)
{
	const gnutls_datum_t text = {(unsigned char *) (uintptr_t) hex,
								 2 * HASH_BYTES};
	size_t				 len = HASH_BYTES;

	/* GnuTLS leaves out what is no digit */
	if (strlen(hex) != text.size ||
		strspn(hex, "0123456789abcdefABCDEF") != text.size ||
		gnutls_hex_decode(&text, hash, &len) != 0)
		return false;
	Assert(len == HASH_BYTES);
	return true;
}

/* The third word: a hash, or the subject of a certificate. */
static const char *
tokens_read_proof(Token *token, const char *word)
{
	const size_t prefix = strlen(CERTIFICATE);

	token->subject = NULL;
	if (strncmp(word, CERTIFICATE, prefix) != 0)
		return tokens_read_hash(word, token->hash)
				   ? NULL
				   : "the hash must be the 64 hexadecimal digits that "
					 "sha256sum prints for the token";
	if (word[prefix] == '\0')
		return "give the name that the certificate is for behind \"cert:\"";
	token->subject = xstrdup(word + prefix);
	return NULL;
}

/*
 * Whether an earlier line has the same hash or subject: which role it had would
 * depend on the order of the lines.
 */
static bool
tokens_is_repeated(const Tokens *tokens, const Token *token)
{
	for (size_t i = 0; i < tokens->count; i++)
	{
		const Token *other = &tokens->tokens[i];

		if (token->subject != NULL && other->subject != NULL
				? strcmp(token->subject, other->subject) == 0
				: token->subject == other->subject &&
					  memcmp(token->hash, other->hash, HASH_BYTES) == 0)
			return true;
	}
	return false;
}

/* What is wrong with the line, or NULL; an empty one adds nothing. */
static const char *
tokens_read_line(Tokens *tokens, char *line)
{
	Token	   *token = &tokens->tokens[tokens->count];
	char	   *rest = line;
	char	   *words[4] = {NULL};
	const char *fault;

	for (size_t i = 0; i < Lengthof(words); i++)
		words[i] = strtok_r(i == 0 ? line : NULL, " \t\r\n", &rest);
	if (words[0] == NULL || words[0][0] == '#')
		return NULL;
	if (words[2] == NULL || words[3] != NULL)
		return "give role, name and hash of the token, or role, name and "
			   "cert:SUBJECT";
	if (tokens->count == TOKENS_MAX)
		return "there are more than 1000 tokens";
	if (!tokens_read_role(words[0], &token->role))
		return "the role must be reader, app or admin";
	if (!tokens_name_is_good(words[1]))
		return "the name must be of up to 63 letters, digits, \".\", \"_\" and "
			   "\"-\"";
	fault = tokens_read_proof(token, words[2]);
	if (fault != NULL)
		return fault;
	if (tokens_is_repeated(tokens, token))
	{
		free(token->subject);
		return "an earlier line has the same token or subject";
	}
	Assert(tokens->count < TOKENS_MAX);
	memcpy(token->name, words[1], strlen(words[1]) + 1);
	tokens->count++;
	return NULL;
}

static bool
tokens_read(Tokens *tokens, FILE *file, const char *path, Buf *error)
{
	char   *line = NULL;
	size_t	size = 0;
	int		number = 0;
	ssize_t len;

	while (error->len == 0 && (len = getline(&line, &size, file)) >= 0)
	{
		const char *fault;

		number++;
		fault = strlen(line) == (size_t) len ? tokens_read_line(tokens, line)
											 : "it holds a NUL byte";
		if (fault != NULL)
			buf_printf(error, "%s:%d: %s", path, number, fault);
	}
	if (error->len == 0 && ferror(file))
		buf_printf(error, "could not read \"%s\": %s", path, strerror(errno));
	free(line);
	return error->len == 0;
}

void
tokens_free(Tokens *tokens)
{
	if (tokens == NULL)
		return;
	for (size_t i = 0; i < tokens->count; i++)
		free(tokens->tokens[i].subject);
	free(tokens);
}

Tokens *
tokens_load(const char *path, Buf *error)
{
	FILE   *file = fopen(path, "re");
	Tokens *tokens;
	bool	good;

	if (file == NULL)
	{
		buf_printf(error, "could not open the tokens \"%s\": %s", path,
				   strerror(errno));
		return NULL;
	}
	tokens = xcalloc(1, sizeof(Tokens));
	good = tokens_read(tokens, file, path, error);
	fclose(file);
	if (good && tokens->count > 0)
		return tokens;
	if (good)
		buf_printf(error, "there is no token in \"%s\"", path);
	tokens_free(tokens);
	return NULL;
}

const char *
tokens_find(const Tokens *tokens, const char *authorization, Role *role)
{
	static const char scheme[] = "Bearer ";
	unsigned char	  hash[HASH_BYTES];
	const char		 *name = NULL;

	if (authorization == NULL ||
		strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	authorization += sizeof(scheme) - 1;
	/* its hash is in a file that was written while a variable was not set */
	if (authorization[0] == '\0')
		return NULL;
	Assert(tokens->count > 0);
	Assert(gnutls_hash_get_len(GNUTLS_DIG_SHA256) == HASH_BYTES);
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, authorization,
						 strlen(authorization), hash) != 0)
		return NULL;
	for (size_t i = 0; i < tokens->count; i++)
		if (tokens->tokens[i].subject == NULL &&
			gnutls_memcmp(tokens->tokens[i].hash, hash, HASH_BYTES) == 0)
		{
			name = tokens->tokens[i].name;
			*role = tokens->tokens[i].role;
		}
	return name;
}

const char *
tokens_find_certificate(const Tokens *tokens, char *const *names, Role *role)
{
	Assert(names != NULL && tokens->count > 0);
	for (size_t i = 0; i < tokens->count; i++)
		for (char *const *name = names; *name != NULL; name++)
			if (tokens->tokens[i].subject != NULL &&
				strcmp(tokens->tokens[i].subject, *name) == 0)
			{
				*role = tokens->tokens[i].role;
				return tokens->tokens[i].name;
			}
	return NULL;
}
