/*
 * packet.h - the packets that gateways send to each other, one in each NATS
 * message.
 *
 * packet = type u8 | version u8 | 0 u16 | lease u32 | seq u32 | arg u32 | body
 * WHO    = nothing                  to all nodes: announce yourselves NODE   =
 * strings                  to all submitters: a node, see serve.c BEAT   = id |
 * entry *             the gateway `id` lives and has these leases OPEN   = id |
 * identity            arg: the lease of the submitter `id` OPENED = nothing
 * arg: the lease of the node DATA   = bytes                    of the stream,
 * seq counts these and END END    = nothing                  of the stream in
 * this direction ACK    = nothing                  seq: the next one that is
 * expected, arg:
 *                                   bytes that were passed on, modulo 2^32
 * AGAIN  = nothing                  as ACK, and: send all from seq on again
 * CLOSE  = text                     the lease is over; why, if it failed entry
 * = lease u32 | sender's u32 | seq u32 | kept u32 | acked u32
 *                                   the lease at the receiver and at the
 *                                   sender, there the next number, the first
 *                                   packet and the bytes without an ACK
 *
 * `lease` is the number at the receiver. An id has 16 digits and a NUL; the
 * strings of NODE end in NUL. All numbers are little-endian.
 */
#ifndef FZ_PACKET_H
#define FZ_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

enum packet_type {
	PACKET_WHO = 1,
	PACKET_NODE,
	PACKET_BEAT,
	PACKET_OPEN,
	PACKET_OPENED,
	PACKET_DATA,
	PACKET_END,
	PACKET_ACK,
	PACKET_AGAIN,
	PACKET_CLOSE,
	/* From the server: there is no gateway with the id in the body. */
	PACKET_ABSENT
};

enum { PACKET_HEADER = 16, PACKET_VERSION = 2, PACKET_ID = 16 };

struct packet {
	unsigned type; /* 0: the packet is of another version */
	uint32_t lease, seq, arg;
	const unsigned char *body;
	size_t len;
};

/* Whether `text` is the id of a gateway, which is a part of a subject. */
static inline bool
packet_is_id(const char *text)
{
	return strspn(text, "0123456789abcdef") == PACKET_ID &&
	       text[PACKET_ID] == '\0';
}

/* Write the header at `bytes`. */
static inline void
packet_write(unsigned char *bytes, const struct packet *p)
{
	bytes[0] = (unsigned char)p->type;
	bytes[1] = PACKET_VERSION;
	bytes[2] = bytes[3] = 0;
	fz_le32_store(bytes + 4, p->lease);
	fz_le32_store(bytes + 8, p->seq);
	fz_le32_store(bytes + 12, p->arg);
}

/* Read a message. Its type is 0 if it is not a packet. */
static inline void
packet_read(struct packet *p, const void *message, size_t len)
{
	const unsigned char *bytes = message;

	*p = (struct packet){ 0 };
	if (len < PACKET_HEADER || bytes[1] != PACKET_VERSION ||
	    bytes[0] > PACKET_CLOSE)
		return;
	p->type = bytes[0];
	p->lease = fz_le32_load(bytes + 4);
	p->seq = fz_le32_load(bytes + 8);
	p->arg = fz_le32_load(bytes + 12);
	p->body = bytes + PACKET_HEADER;
	p->len = len - PACKET_HEADER;
}

#endif
