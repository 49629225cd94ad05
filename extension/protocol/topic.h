/*-------------------------------------------------------------------------
 *
 * protocol/topic.h
 *	  The default topics of stock events; set_event_topic() sets others.
 *
 * Only pgstock writes to them (outbox/reserved_topic.c).  event_types() in
 * sql/event_formats.sql says which type goes to which; dev/schemas compares.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_TOPIC_H
#define PROTOCOL_TOPIC_H

#define TOPIC_EVENTS   "stock-events"
#define TOPIC_FAILURES "stock-freeze-failed"

#endif /* PROTOCOL_TOPIC_H */
