/*-------------------------------------------------------------------------
 *
 * base/utf8.h
 *	  What jsonb takes of a JSON text, where nothing converts from UTF-8.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef UTF8_H
#define UTF8_H

extern char *json_without_escapes(const char *utf8, int length);
extern bool	 encoding_has_conversion(void);

#endif /* UTF8_H */
