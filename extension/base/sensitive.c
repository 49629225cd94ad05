/*-------------------------------------------------------------------------
 *
 * base/sensitive.c
 *	  Recognizes JSON that may hold a card number or a secret, by its names and
 *	  its values.
 *
 * Events are kept for days and read by many, so what looks like a secret must
 * not enter one by accident.  The rules prefer to find too much:
 *
 *	  names		a word of sensitive_words, where words are separated by case or
 *				by other characters than letters ("cardNo", "user-pin"), or one
 *				of sensitive_parts anywhere, whatever stands between the letters
 *	  values	13 to 19 digits whose check digit is that of a card (Luhn), of a
 *				number that begins as those of card networks do: with 2 to 6.
 *				A time in milliseconds begins with 1.  Groups of four to six
 *				digits may be separated by a space, a hyphen or a period; the
 *				number may begin and end at any group.  Digits that are a part
 *				of a word or follow "+" are no card number.
 *				Texts that are a JSON web token, "Bearer" and a token, or a key
 *				in PEM form; and JSON in a string, by the same rules.
 *
 * Names and texts are compared as they are meant: escapes are read.  One pass
 * over the text finds the names and values of all depths.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/base.h"

#define CARD_DIGITS_MIN 13
#define CARD_DIGITS_MAX 19
#define CARD_GROUP_MIN	4
#define CARD_GROUP_MAX	6

/* One more than fit would be too many. */
#define DIGITS_MAX (CARD_DIGITS_MAX + 1)

/* Longer names are read up to here. */
#define NAME_BYTES_MAX 128

/* A character beyond ASCII: it counts as a letter. */
#define OTHER_LETTER 'x'

static const char *const sensitive_words[] = {
	"card",	  "cards", "pan", "cvv",  "cvc", "csc", "pin",	  "pwd",
	"cardno", "iban",  "ssn", "auth", "jwt", "otp", "cookie", "cookies",
};
static const char *const sensitive_parts[] = {
	"password",		"passwd",		 "passphrase", "secret",
	"token",		"credential",	 "cardnumber", "creditcard",
	"debitcard",	"apikey",		 "accesskey",  "privatekey",
	"securitycode", "authorization", "passcode",   "sessionid",
};

/* ---- Characters ---- */

static bool
sensitive_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
sensitive_is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
sensitive_is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || sensitive_is_upper(c);
}

/* The character that \uxxxx means; *at is behind the u, then behind all. */
static char
sensitive_read_code(const char **at, const char *end)
{
	int code = 0;

	for (int i = 0; i < 4 && *at < end; i++, (*at)++)
	{
		char c = **at;

		code = code * 16 +
			   (sensitive_is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
	}
	return code > 0 && code < 128 ? (char) code : OTHER_LETTER;
}

/* The next character of a string; zero at its closing quote. */
static char
sensitive_read(const char **at, const char *end)
{
	char c;

	if (*at >= end || **at == '"')
		return '\0';
	c = *(*at)++;
	if (IS_HIGHBIT_SET(c))
		return OTHER_LETTER;
	if (c != '\\' || *at >= end)
		return c;
	c = *(*at)++;
	if (c == 'u')
		return sensitive_read_code(at, end);
	return strchr("bfnrt", c) != NULL ? ' ' : c;
}

/* ---- Values ---- */

/*
 * The last digits that were read, as far as they can be one number: whole
 * groups, and the one that is being read.
 */
typedef struct Digits
{
	char text[DIGITS_MAX];
	int	 n;
	int	 ends[DIGITS_MAX / CARD_GROUP_MIN]; /* of the groups, in text */
	int	 groups;
	int	 group;	 /* digits since the last separator */
	char before; /* the character before this one */
	bool word;	 /* they are a part of a word, or follow "+" */
} Digits;

/* Luhn: from the right, each second digit counts twice. */
static bool
sensitive_is_card(const char *at, int n)
{
	int sum = 0;

	if (n < CARD_DIGITS_MIN || n > CARD_DIGITS_MAX || at[0] < '2' ||
		at[0] > '6')
		return false;
	for (int i = 0; i < n; i++)
	{
		int digit = at[n - 1 - i] - '0';

		if (i % 2 == 1)
			digit = digit > 4 ? 2 * digit - 9 : 2 * digit;
		sum += digit;
	}
	return sum % 10 == 0;
}

/* Whether those from the beginning of a group on are a card number. */
static bool
sensitive_has_card(const Digits *digits)
{
	if (digits->word)
		return false;
	for (int i = 0; i < digits->groups; i++)
	{
		int end = digits->ends[i];

		if (sensitive_is_card(digits->text + end, digits->n - end))
			return true;
	}
	return sensitive_is_card(digits->text, digits->n);
}

/* Drops the first group. */
static void
sensitive_drop_group(Digits *digits)
{
	int length = digits->ends[0];

	Assert(digits->groups > 0 && length <= digits->n);
	memmove(digits->text, digits->text + length, digits->n - length);
	digits->n -= length;
	digits->groups--;
	for (int i = 0; i < digits->groups; i++)
		digits->ends[i] = digits->ends[i + 1] - length;
}

static void
sensitive_add_digit(Digits *digits, char c)
{
	if (digits->n == DIGITS_MAX && digits->groups > 0)
		sensitive_drop_group(digits);
	if (digits->n < DIGITS_MAX)
		digits->text[digits->n++] = c;
	digits->group++;
}

/* Ends a group at a separator, behind which the number may go on. */
static void
sensitive_end_group(Digits *digits)
{
	Assert(digits->groups < (int) lengthof(digits->ends));
	digits->ends[digits->groups++] = digits->n;
	digits->group = 0;
}

/* Reads one more character; whether the digits before it are a card number. */
static bool
sensitive_read_digit(Digits *digits, char c)
{
	char before = digits->before;
	bool found;

	digits->before = c;
	if (sensitive_is_digit(c))
	{
		sensitive_add_digit(digits, c);
		digits->word = digits->word || before == '+';
		return false;
	}
	if (sensitive_is_letter(c))
	{
		digits->word = true;
		return false;
	}
	found = sensitive_has_card(digits);
	if ((c == ' ' || c == '-' || c == '.') && !digits->word &&
		digits->group >= CARD_GROUP_MIN && digits->group <= CARD_GROUP_MAX)
	{
		sensitive_end_group(digits);
		return found;
	}
	*digits = (Digits){.before = c};
	return found;
}

/* ---- Names ---- */

static bool
sensitive_has_word(const char *word, int length)
{
	/* "card1" and "cvv2" are words of the list too */
	while (length > 0 && sensitive_is_digit(word[length - 1]))
		length--;
	for (int i = 0; i < lengthof(sensitive_words); i++)
	{
		if ((int) strlen(sensitive_words[i]) == length &&
			pg_strncasecmp(sensitive_words[i], word, length) == 0)
			return true;
	}
	return false;
}

/* Whether a word ends before name[i], as in cardNo and PANCode. */
static bool
sensitive_ends_word(const char *name, int i)
{
	if (!sensitive_is_upper(name[i]) || i == 0)
		return false;
	return !sensitive_is_upper(name[i - 1]) ||
		   (name[i + 1] >= 'a' && name[i + 1] <= 'z');
}

/* The name as it is read, which ends with a zero. */
static bool
sensitive_is_name(const char *name)
{
	char joined[NAME_BYTES_MAX];
	int	 n = 0;
	int	 word = 0;

	for (int i = 0;; i++)
	{
		bool is_part = sensitive_is_letter(name[i]) ||
					   sensitive_is_digit(name[i]);

		if (!is_part || sensitive_ends_word(name, i))
		{
			if (sensitive_has_word(name + word, i - word))
				return true;
			word = is_part ? i : i + 1;
		}
		if (name[i] == '\0')
			break;
		if (is_part)
			joined[n++] = pg_ascii_tolower(name[i]);
	}
	Assert(n < NAME_BYTES_MAX);
	joined[n] = '\0';
	for (int i = 0; i < lengthof(sensitive_parts); i++)
	{
		if (strstr(joined, sensitive_parts[i]) != NULL)
			return true;
	}
	return false;
}

/* ---- A text ---- */

/* Whether a string, or its beginning, is a secret by its form. */
static bool
sensitive_is_secret(const char *string)
{
	static const char web_token[] = "eyJ"; /* an object's brace, in base64 */
	static const char bearer[] = "bearer ";

	return (strncmp(string, web_token, strlen(web_token)) == 0 &&
			strchr(string, '.') != NULL) ||
		   pg_strncasecmp(string, bearer, strlen(bearer)) == 0 ||
		   strstr(string, "-----BEGIN ") != NULL;
}

/*
 * Whether a string holds JSON with something sensitive, from behind the
 * string's opening quote.  One level of escapes is read.
 */
static bool
sensitive_nested(const char *at, const char *end)
{
	StringInfoData json;
	char		   c;

	if (at >= end || (*at != '{' && *at != '['))
		return false;
	check_stack_depth();
	initStringInfo(&json);
	while ((c = sensitive_read(&at, end)) != '\0')
		appendStringInfoChar(&json, c);
	return sensitive_json(json.data, json.len);
}

/*
 * A string from behind its opening quote; *at is then behind the closing one.
 * It is a name if a colon follows.
 */
static bool
sensitive_string(const char **at, const char *end)
{
	char		name[NAME_BYTES_MAX];
	int			n = 0;
	Digits		digits = {.n = 0};
	bool		found = sensitive_nested(*at, end);
	char		c;
	const char *behind;

	while ((c = sensitive_read(at, end)) != '\0')
	{
		if (n < NAME_BYTES_MAX - 1)
			name[n++] = c;
		found = sensitive_read_digit(&digits, c) || found;
	}
	name[n] = '\0';
	found = sensitive_read_digit(&digits, '\0') || sensitive_is_secret(name) ||
			found;
	*at = Min(*at + 1, end);
	behind = *at;
	while (behind < end && strchr(" \t\r\n", *behind) != NULL)
		behind++;
	if (behind < end && *behind == ':' && sensitive_is_name(name))
		return true;
	return found;
}

/*
 * Whether a name or a value in a valid JSON text, or in a member of an object,
 * looks like a card number or a secret.
 */
bool
sensitive_json(const char *json, int length)
{
	const char *end = json + length;
	Digits		digits = {.n = 0};

	for (const char *at = json; at < end;)
	{
		char c = *at++;

		if (sensitive_read_digit(&digits, c))
			return true;
		if (c == '"' && sensitive_string(&at, end))
			return true;
	}
	return sensitive_read_digit(&digits, '\0');
}
