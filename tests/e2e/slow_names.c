/*
 * slow_names.c
 *	  Preloaded into a relay: a resolver that does not answer, for names that
 *	  end in ".slow".
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#define SLOW_S 25

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
			struct addrinfo **answer)
{
	int (*next)(const char *, const char *, const struct addrinfo *,
				struct addrinfo **) = NULL;
	size_t len = name != NULL ? strlen(name) : 0;

	if (len > 5 && strcmp(name + len - 5, ".slow") == 0)
	{
		sleep(SLOW_S);
		return EAI_AGAIN;
	}
	*(void **) &next = dlsym(RTLD_NEXT, "getaddrinfo");
	return next(name, service, hints, answer);
}
