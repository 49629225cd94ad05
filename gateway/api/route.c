/*
 * route.c - finds the route of a request
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/route.h"

#include <string.h>

Role
route_role(const Route *route)
{
	int role = 0;

	Assert(route->roles != 0);
	while ((route->roles & ROLE_BIT(role)) == 0)
		role++;
	Assert(role < ROLES);
	return (Role) role;
}

/* The statement that a flag may choose; NULL: the route has none. */
static const RouteFlag *
route_flag(const Route *route)
{
	for (int i = 0; i < route_flag_count; i++)
		if (strcmp(route_flags[i].operation, route->operation) == 0)
			return &route_flags[i];
	return NULL;
}

/* Its parameters; the flag is the value after them. */
static int
route_params(const Route *route)
{
	int count = 0;

	while (route->fields[count].name != NULL &&
		   route->fields[count].type != FIELD_WAIT)
		count++;
	Assert(count > 0 || route_flag(route) == NULL);
	return route_flag(route) != NULL ? count - 1 : count;
}

/* The flag, where the values have it; or NULL. */
static const RouteFlag *
route_chosen(const Route *route, const Values *values)
{
	const RouteFlag *flag = route_flag(route);
	const char *value = flag != NULL ? values->text[route_params(route)] : NULL;

	return value != NULL && strcmp(value, "true") == 0 ? flag : NULL;
}

unsigned
route_roles(const Route *route, const Values *values)
{
	const RouteFlag *flag = route_chosen(route, values);

	return flag != NULL ? flag->roles : route->roles;
}

PgStatement
route_statement(const Route *route, const Values *values)
{
	const RouteFlag *flag = route_chosen(route, values);

	Assert(route->sql != NULL);
	Assert(route >= routes && route < routes + route_count);
	return (PgStatement){
		.name = flag != NULL ? flag->name : route->operation,
		.sql = flag != NULL ? flag->sql : route->sql,
		.id = flag != NULL ? ROUTES_MAX + (int) (flag - route_flags)
						   : (int) (route - routes),
		.nparams = route_params(route),
	};
}

/* The index of the field that a segment "{name}" of a route stands for. */
static int
route_path_field(const Route *route, const char *segment, size_t len)
{
	Assert(len > 2 && segment[len - 1] == '}');
	for (int i = 0; route->fields[i].name != NULL; i++)
		if (route->fields[i].place == IN_PATH &&
			strlen(route->fields[i].name) == len - 2 &&
			strncmp(route->fields[i].name, segment + 1, len - 2) == 0)
			return i;
	Assert(!"the field of a path is in the route's fields");
	return -1;
}

/*
 * Whether the path is the route's; what "{name}" stands for is not looked at.
 */
static bool
route_fits(const char *template, const char *path)
{
	while (*template == '/' && *path == '/')
	{
		size_t expected = strcspn(template + 1, "/");
		size_t found = strcspn(path + 1, "/");

		if (template[1] == '{'
				? found == 0
				: expected != found ||
					  strncmp(template + 1, path + 1, found) != 0)
			return false;
		template += 1 + expected;
		path += 1 + found;
	}
	return *template == '\0' && *path == '\0';
}

static bool
route_read_path(const Route *route, const char *path, Values *values,
				Buf *error)
{
	for (const char *template = route->path; *template == '/';)
	{
		size_t expected = strcspn(template + 1, "/");
		size_t found = strcspn(path + 1, "/");

		Assert(*path == '/'); /* the path fits */
		if (template[1] == '{')
		{
			int i = route_path_field(route, template + 1, expected);

			if (!field_set_path(&route->fields[i], path + 1, found,
								&values->text[i], error))
				return false;
		}
		template += 1 + expected;
		path += 1 + found;
	}
	return true;
}

const Route *
route_find(const char *method, const char *path, unsigned without,
		   Values *values, Buf *allowed, Buf *error)
{
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (int i = 0; i < route_count; i++)
	{
		const Route *route = &routes[i];

		if ((KIND_BIT(route->kind) & without) != 0 ||
			!route_fits(route->path, path))
			continue;
		if (strcmp(route->method, method) == 0)
			return route_read_path(route, path, values, error) ? route : NULL;
		buf_printf(allowed, "%s%s", allowed->len > 0 ? ", " : "",
				   route->method);
	}
	return NULL;
}
