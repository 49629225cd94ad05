/*
 * document.c - makes the gateway's manual pages and completion out of its
 * tables
 *
 * A program of the build.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/document/document.h"

#include "commands/command_line.h"
#include "config/options.h"

int
main(int argc, char **argv)
{
	const DocumentSource source = {
		.commands = &command_line,
		.options = &gateway_options,
	};

	return document_main(&source, argc, argv);
}
