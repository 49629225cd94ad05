/*
 * embed.h - files that a binary contains
 *
 * They are included by the assembler as they are: no step of a build changes
 * them, and nothing is read from the disk at run time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_EMBED_H
#define PGSTOCK_COMMON_EMBED_H

/*
 * path: from the Makefile's directory.  The NUL behind the file is no part of
 * it.
 */
#define EMBED(symbol, path)                            \
	extern const char symbol[], symbol##_end[];        \
	__asm__(".pushsection .rodata\n" #symbol ":\n"     \
			".incbin \"" path "\"\n" #symbol "_end:\n" \
			".byte 0\n"                                \
			".popsection\n")

#endif
