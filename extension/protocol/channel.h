/*-------------------------------------------------------------------------
 *
 * protocol/channel.h
 *	  The channel of the notifications that wake the relay.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_CHANNEL_H
#define PROTOCOL_CHANNEL_H

#define CHANNEL_OUTBOX "pgstock_outbox"

#endif /* PROTOCOL_CHANNEL_H */
