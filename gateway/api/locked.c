/*
 * locked.c - products that another session has locked
 *
 * The list is forgotten where no request fails for LOCKED_US.  It decides only
 * where a request waits, so a product that is wrongly in it costs some time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/locked.h"

#include <jansson.h>

#include "api/reserve.h"
#include "common/clock.h"

#define LOCKED_US (10 * SEC_US)

/*
 * A line of the request; the items of an order are a copy of our own
 * (api/field.c).
 */
typedef struct Products
{
	json_t *items; /* NULL: the request is one line */
	size_t	count;
} Products;

static Products
locked_products_open(const ApiRequest *request)
{
	Products products = {.count = 1};

	if (request->route->fields[RESERVE_ITEMS].type != FIELD_ITEMS)
		return products;
	products.items = json_loads(request->values.text[RESERVE_ITEMS], 0, NULL);
	products.count = json_array_size(products.items);
	Assert(products.count > 0); /* the field was read */
	return products;
}

static uint64_t
locked_products_get(const Products *products, const ApiRequest *request,
					size_t i)
{
	const json_t *item = json_array_get(products->items, i);
	const char	 *id = json_string_value(json_object_get(item, "product_id"));

	Assert(i < products->count && (products->items == NULL || id != NULL));
	return hash_text(products->items == NULL
						 ? request->values.text[RESERVE_PRODUCT_ID]
						 : id,
					 1) |
		   1;
}

static void
locked_products_close(Products *products)
{
	json_decref(products->items);
}

/* The place of the product; NULL: it is not locked. */
static LockedProduct *
locked_find(LockedProducts *locked, uint64_t product, int64_t now)
{
	for (size_t i = 0; i < LOCKED_MAX; i++)
		if (locked->products[i].product == product &&
			locked->products[i].until > now)
			return &locked->products[i];
	return NULL;
}

static void
locked_set(LockedProducts *locked, uint64_t product, int64_t now)
{
	LockedProduct *place = locked_find(locked, product, now);

	if (place == NULL)
		place = &locked->products[0];
	for (size_t i = 0; i < LOCKED_MAX && place->product != product; i++)
		if (locked->products[i].until < place->until)
			place = &locked->products[i];
	locked->until = now + LOCKED_US;
	*place = (LockedProduct){.product = product, .until = locked->until};
	Assert(locked_find(locked, product, now) == place);
}

uint64_t
locked_product(ApiRequest *request)
{
	Products products;
	uint64_t only;

	if (request->product_known)
		return request->product;
	products = locked_products_open(request);
	only = locked_products_get(&products, request, 0);
	for (size_t i = 1; i < products.count && only != 0; i++)
		if (locked_products_get(&products, request, i) != only)
			only = 0;
	locked_products_close(&products);
	request->product = only;
	request->product_known = true;
	return only;
}

/* How many of its products are locked; what becomes of those that are. */
static int
locked_count(LockedProducts *locked, const ApiRequest *request, int64_t now,
			 int64_t until)
{
	Products products = locked_products_open(request);
	int		 count = 0;

	for (size_t i = 0; i < products.count; i++)
	{
		LockedProduct *place = locked_find(locked,
										   locked_products_get(&products,
															   request, i),
										   now);

		if (place == NULL)
			continue;
		count++;
		place->until = until;
	}
	locked_products_close(&products);
	return count;
}

bool
locked_is_named(const LockedProducts *locked, const ApiRequest *request)
{
	int64_t	 now = clock_monotonic();
	bool	 named = false;
	Products products;

	if (locked->until <= now)
		return false;
	products = locked_products_open(request);
	for (size_t i = 0; i < products.count && !named; i++)
		named = locked_find((LockedProducts *) (uintptr_t) locked,
							locked_products_get(&products, request, i),
							now) != NULL;
	locked_products_close(&products);
	return named;
}

void
locked_add(LockedProducts *locked, const ApiRequest *request)
{
	int64_t	 now = clock_monotonic();
	Products products;

	if (locked_count(locked, request, now, now + LOCKED_US) > 0)
	{
		locked->until = now + LOCKED_US;
		return;
	}
	products = locked_products_open(request);
	for (size_t i = 0; i < products.count; i++)
		locked_set(locked, locked_products_get(&products, request, i), now);
	locked_products_close(&products);
}

void
locked_remove(LockedProducts *locked, const ApiRequest *request)
{
	int64_t now = clock_monotonic();

	(void) locked_count(locked, request, now, now);
}
