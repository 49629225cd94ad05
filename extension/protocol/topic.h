/*-------------------------------------------------------------------------
 *
 * protocol/topic.h
 *	  The topics of pgstock's own records.
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

/* The default topics of stock events; set_event_topic() sets others. */
#define TOPIC_EVENTS   "stock-events"
#define TOPIC_FAILURES "stock-freeze-failed"

/* The prefix of the topics in which the relay keeps its position. */
#define TOPIC_POSITION_PREFIX "pgstock-position-"

#endif /* PROTOCOL_TOPIC_H */
