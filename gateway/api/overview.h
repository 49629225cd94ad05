/*
 * overview.h - the lists and sums that people look at: their fields and
 * statements, for the table of routes
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_OVERVIEW_H
#define PGSTOCK_GATEWAY_OVERVIEW_H

#include "api/field.h"

extern const Field overview_products[];
extern const char  overview_products_sql[];
extern const Field overview_movements[];
extern const char  overview_movements_sql[];
extern const Field overview_orders[];
extern const char  overview_orders_sql[];
extern const Field overview_sales[];
extern const char  overview_sales_sql[];
extern const Field overview_purchases[];
extern const char  overview_purchases_sql[];
extern const Field overview_actions[];
extern const char  overview_actions_sql[];
extern const Field overview_report[];
extern const char  overview_report_sql[];

#endif
