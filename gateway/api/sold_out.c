/*
 * sold_out.c - purchases in a flash sale that has too little left: refused from
 * memory
 *
 * A look (flash_sale_status) returns, of one snapshot, what is left of a sale
 * and which users have bought in it.  For VALID_US after the look began, what
 * it says refuses purchases without a call of the database.  So no refusal
 * rests on a state that is older, whichever client has changed it since, and by
 * whatever way: a piece that was released before a look began is seen by that
 * look.
 *
 * A sale is looked at while its purchases are refused, and not otherwise: the
 * request that finds the last look older than LOOK_AGAIN_US causes the next
 * one.  So the database notifies no gateway, and an idle gateway sends no
 * queries.  A request that finds it too old waits for a look that is younger,
 * or that begins after the request has arrived, however long it takes.  So
 * where the database is slow, one look answers all that wait.
 *
 * Only the database refuses, or answers again, a purchase of a user who has
 * bought in the sale: through this gateway at once, through another one, or in
 * SQL, as soon as a look sees it.  The users are known by a hash; of two users
 * with one hash, the other goes to the database too.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/sold_out.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "api/lines.h"
#include "common/clock.h"
#include "extension/protocol/answer_status.h"

/*
 * The client that has released a piece is answered after its commit; 10 ms
 * later a purchase finds it.  The rest is for sending the answer.
 */
#define VALID_US	  (8 * MS_US)
#define LOOK_AGAIN_US (3 * MS_US) /* from the begin of one look to the next */
#define FAILED_US	  SEC_US	  /* before a look is tried again */
#define SALES_MAX	  32
#define BUYERS_MAX	  50000 /* a sale with more is left to the database */
#define HASH_DIGITS	  16

/* Columns of flash_sale_status(). */
enum
{
	STATUS_PRODUCT_ID,
	STATUS_LOCATION,
	STATUS_AVAILABLE,
	STATUS_VERSION,
	STATUS_PER_USER_LIMIT,
	STATUS_BUYERS, /* NULL: those of the known version */
	STATUS_BUYER_HASHES,
	STATUS_COLUMNS,
};

typedef struct Sale
{
	SoldOut	 *sold_out;
	char	 *activity_id; /* NULL: the place is free */
	int64_t	  asked_at;	   /* a purchase was last refused, or looked up */
	int64_t	  look_at;	   /* the next look, at the earliest */
	int64_t	  began_at;	   /* the present look; 0: there is none */
	bool	  wanted;	   /* a look */
	int64_t	  as_of;	   /* what is known; 0: nothing */
	int64_t	  not_before;  /* it is of no use if older: a purchase was granted;
							* 0 before the first one */
	char	 *known[STATUS_BUYERS];
	int64_t	  available;
	int64_t	  per_user_limit;
	uint64_t *buyers; /* hashes, in order */
	size_t	  buyer_count;
	RequestQueue waiting; /* for a look */
} Sale;

struct SoldOut
{
	Sale	   sales[SALES_MAX];
	PgParam	   params[2]; /* of the last look */
	CallQueue *others;	  /* for the database */
	double	  *answers;
	double	  *looks;
};

static const PgStatement statement_look = {
	.name = "sold_out",
	.sql = "SELECT s.product_id, s.location, s.available, s.version, "
		   "s.per_user_limit, s.buyers, s.buyer_hashes "
		   "FROM flash_sale_status($1::text, $2::bigint) s",
	.nparams = 2,
	.id = POOL_STATEMENT_SOLD_OUT,
};

/* ---- sales ------------------------------------------------------------- */

static void
sold_out_forget_sale(Sale *sale)
{
	for (int i = 0; i < STATUS_BUYERS; i++)
	{
		free(sale->known[i]);
		sale->known[i] = NULL;
	}
	free(sale->buyers);
	sale->buyers = NULL;
	sale->buyer_count = 0;
	sale->as_of = 0;
}

static void
sold_out_free_sale(Sale *sale)
{
	Assert(sale->waiting.count == 0);
	sold_out_forget_sale(sale);
	free(sale->activity_id);
	*sale = (Sale){.sold_out = sale->sold_out};
}

static Sale *
sold_out_find(SoldOut *sold_out, const char *activity_id)
{
	for (int i = 0; i < SALES_MAX; i++)
	{
		Sale *sale = &sold_out->sales[i];

		if (sale->activity_id != NULL &&
			strcmp(sale->activity_id, activity_id) == 0)
			return sale;
	}
	return NULL;
}

/*
 * A place for another sale: that of the one that was asked for least recently,
 * unless requests wait for its look.  NULL: they do for all.
 */
static Sale *
sold_out_find_place(SoldOut *sold_out)
{
	Sale *oldest = NULL;

	for (int i = 0; i < SALES_MAX; i++)
	{
		Sale *sale = &sold_out->sales[i];

		if (sale->began_at == 0 && sale->waiting.count == 0 &&
			(oldest == NULL || sale->asked_at < oldest->asked_at))
			oldest = sale;
	}
	return oldest;
}

static Sale *
sold_out_add(SoldOut *sold_out, const char *activity_id)
{
	Sale *sale = sold_out_find_place(sold_out);

	if (sale == NULL)
		return NULL;
	Assert(!sale->wanted || sale->activity_id != NULL);
	sold_out_free_sale(sale);
	sale->activity_id = xstrdup(activity_id);
	return sale;
}

void
sold_out_note(SoldOut *sold_out, const ApiRequest *request)
{
	const char *activity_id = request->values.text[PURCHASE_ACTIVITY];
	Sale	   *sale = sold_out_find(sold_out, activity_id);

	if (sale == NULL && request->insufficient)
		sale = sold_out_add(sold_out, activity_id);
	if (sale == NULL)
		return;
	sale->asked_at = clock_monotonic();
	if (request->insufficient)
		sale->wanted = sale->wanted ||
					   sale->asked_at - sale->as_of >= LOOK_AGAIN_US;
	else
		sale->not_before = sale->asked_at; /* its buyer may repeat it */
}

/* ---- refusals ---------------------------------------------------------- */

/* The first 8 bytes of its SHA-256, as flash_sale_status() has them. */
static uint64_t
sold_out_hash(const char *user_id)
{
	unsigned char bytes[32] = {0};
	uint64_t	  hash = 0;

	(void) gnutls_hash_fast(GNUTLS_DIG_SHA256, user_id, strlen(user_id), bytes);
	for (int i = 0; i < 8; i++)
		hash = hash << 8 | bytes[i];
	return hash;
}

static int
sold_out_compare(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

static bool
sold_out_has_buyer(const Sale *sale, const char *user_id)
{
	uint64_t hash = sold_out_hash(user_id);

	return sale->buyer_count > 0 &&
		   bsearch(&hash, sale->buyers, sale->buyer_count, sizeof(uint64_t),
				   sold_out_compare) != NULL;
}

static void
sold_out_refuse(const Sale *sale, ApiRequest *request)
{
	const char *quantity = request->values.text[PURCHASE_QUANTITY];
	Line		line = {{
			   [LINE_ORDER_ID] = request->values.text[PURCHASE_ORDER],
			   [LINE_PRODUCT_ID] = sale->known[STATUS_PRODUCT_ID],
			   [LINE_LOCATION] = sale->known[STATUS_LOCATION],
			   [LINE_REQUESTED] = quantity != NULL ? quantity : "1",
			   [LINE_GRANTED] = "0",
			   [LINE_STATUS] = answer_status_texts[ANSWER_INSUFFICIENT],
			   [LINE_AVAILABLE] = sale->known[STATUS_AVAILABLE],
			   [LINE_VERSION] = sale->known[STATUS_VERSION],
			   [LINE_REPLAYED] = "f",
	   }};

	Assert(sale->as_of > 0);
	(*sale->sold_out->answers)++;
	line_refuse(request, &line);
}

/* Whether what is known of the sale refuses the request, however old it is. */
static bool
sold_out_refuses(const Sale *sale, const ApiRequest *request)
{
	const char *quantity = request->values.text[PURCHASE_QUANTITY];
	int64_t		pieces = 1;

	if (sale->as_of == 0 ||
		(quantity != NULL && !parse_number(quantity, &pieces)))
		return false;
	return pieces > sale->available && pieces <= sale->per_user_limit &&
		   !sold_out_has_buyer(sale, request->values.text[PURCHASE_USER]);
}

bool
sold_out_take(SoldOut *sold_out, ApiRequest *request, bool may_wait)
{
	Sale   *sale = sold_out_find(sold_out,
								 request->values.text[PURCHASE_ACTIVITY]);
	int64_t now = clock_monotonic();

	if (sale == NULL || !sold_out_refuses(sale, request))
		return false;
	sale->asked_at = now;
	sale->wanted = sale->wanted || now - sale->as_of >= LOOK_AGAIN_US;
	if (sale->as_of > sale->not_before && now - sale->as_of < VALID_US)
	{
		sold_out_refuse(sale, request);
		return true;
	}
	/* where a look takes long, the next one may be some time off */
	if (!may_wait || sale->look_at > now + VALID_US)
		return false;
	Assert(sale->activity_id != NULL);
	request->waits_since = now;
	request_queue_add(&sale->waiting, request);
	sale->wanted = true;
	return true;
}

/*
 * Those that the look can decide: refused, or sent to the database.  The others
 * wait for the next one.
 */
static void
sold_out_decide(Sale *sale, int64_t began_at)
{
	RequestQueue waiting = sale->waiting;
	bool		 useful = began_at > sale->not_before;
	bool		 young = clock_monotonic() - began_at < VALID_US;
	ApiRequest	*request;

	Assert(sale->began_at == 0 && sale->as_of <= began_at);
	sale->waiting = (RequestQueue){0};
	while ((request = request_queue_take(&waiting)) != NULL)
	{
		if (!sold_out_refuses(sale, request))
			request_queue_add(&sale->sold_out->others[request->role].waiting,
							  request);
		else if (useful && (young || began_at >= request->waits_since))
			sold_out_refuse(sale, request);
		else
			request_queue_add(&sale->waiting, request);
	}
	sale->wanted = sale->waiting.count > 0;
}

int
sold_out_count(const SoldOut *sold_out)
{
	int count = 0;

	for (int i = 0; i < SALES_MAX; i++)
		count += sold_out->sales[i].waiting.count;
	return count;
}

void
sold_out_fail(SoldOut *sold_out, ProblemId id, const char *detail)
{
	for (int i = 0; i < SALES_MAX; i++)
		request_queue_fail(&sold_out->sales[i].waiting, id, detail);
}

/* ---- looks ------------------------------------------------------------- */

/* False if they are not as they are to be: in order, and not too many. */
static bool
sold_out_read_buyers(Sale *sale, const char *digits, size_t len)
{
	size_t count = len / HASH_DIGITS;

	free(sale->buyers);
	sale->buyer_count = 0;
	sale->buyers = xcalloc(Max(count, 1), sizeof(uint64_t));
	if (len % HASH_DIGITS != 0 || count > BUYERS_MAX)
		return false;
	for (size_t i = 0; i < count; i++)
	{
		char hex[HASH_DIGITS + 1] = {0};

		memcpy(hex, digits + i * HASH_DIGITS, HASH_DIGITS);
		sale->buyers[i] = strtoull(hex, NULL, 16);
		if (i > 0 && sale->buyers[i] < sale->buyers[i - 1])
			return false;
	}
	sale->buyer_count = count;
	return true;
}

/* False if what the row says is of no use. */
static bool
sold_out_read_row(Sale *sale, const PGresult *result)
{
	Assert(PQnfields(result) == STATUS_COLUMNS);
	for (int i = 0; i < STATUS_BUYERS; i++)
	{
		free(sale->known[i]);
		sale->known[i] = xstrdup(PQgetvalue(result, 0, i));
	}
	if (!PQgetisnull(result, 0, STATUS_BUYERS) &&
		!sold_out_read_buyers(sale, PQgetvalue(result, 0, STATUS_BUYER_HASHES),
							  (size_t) PQgetlength(result, 0,
												   STATUS_BUYER_HASHES)))
		return false;
	return parse_number(sale->known[STATUS_AVAILABLE], &sale->available) &&
		   parse_number(sale->known[STATUS_PER_USER_LIMIT],
						&sale->per_user_limit);
}

static void
sold_out_looked(void *arg, const PoolAnswer *answer)
{
	Sale		   *sale = arg;
	const PGresult *result = answer->result;
	int64_t			began_at = sale->began_at;
	int64_t			now = clock_monotonic();

	Assert(began_at > 0 && sale->activity_id != NULL);
	sale->began_at = 0;
	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK ||
		PQntuples(result) == 0 || !sold_out_read_row(sale, result))
	{
		/* the database will say why; or it is not open */
		sold_out_forget_sale(sale);
		sale->look_at = now + FAILED_US;
	}
	else
	{
		sale->as_of = began_at;
		sale->look_at = began_at + LOOK_AGAIN_US;
		/* where many users have bought, to read them is some work */
		if (!PQgetisnull(result, 0, STATUS_BUYERS))
			sale->look_at += 4 * (now - began_at);
	}
	sold_out_decide(sale, began_at);
}

bool
sold_out_next(void *arg, PoolWork *work)
{
	SoldOut *sold_out = arg;
	int64_t	 now = clock_monotonic();

	for (int i = 0; i < SALES_MAX; i++)
	{
		Sale *sale = &sold_out->sales[i];

		if (!sale->wanted || sale->began_at != 0 ||
			(sale->look_at > now && sale->waiting.count == 0))
			continue;
		Assert(sale->activity_id != NULL);
		sale->wanted = false;
		sale->began_at = now;
		(*sold_out->looks)++;
		sold_out->params[0] = (PgParam){.data = sale->activity_id};
		sold_out->params[1] = (PgParam){.data = sale->known[STATUS_VERSION]};
		*work = (PoolWork){
			.statement = &statement_look,
			.params = sold_out->params,
			.done = sold_out_looked,
			.arg = sale,
		};
		return true;
	}
	return false;
}

/* ---- life -------------------------------------------------------------- */

SoldOut *
sold_out_new(CallQueue *others, double *answers, double *looks)
{
	SoldOut *sold_out = xcalloc(1, sizeof(SoldOut));

	sold_out->others = others;
	sold_out->answers = answers;
	sold_out->looks = looks;
	for (int i = 0; i < SALES_MAX; i++)
		sold_out->sales[i].sold_out = sold_out;
	return sold_out;
}

void
sold_out_free(SoldOut *sold_out)
{
	if (sold_out == NULL)
		return;
	for (int i = 0; i < SALES_MAX; i++)
		sold_out_free_sale(&sold_out->sales[i]);
	free(sold_out);
}
