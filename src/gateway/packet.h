/*
 * packet.h - the packets that gateways send to each other, one in each NATS
 * message.
 *
 *	packet = type u8 | version u8 | 0 u16 | lease u32 | seq u32 |
 *	         arg u32 | body
 *
 *	type     body              meaning
 *	WHO      nothing           to all nodes: announce yourselves
 *	NODE     strings           to all submitters: a node, see serve.c
 *	BEAT     id | entry *      the gateway `id` lives and has these leases
 *	OPEN     id | identity     arg: the lease at the submitter `id`
 *	OPENED   nothing           arg: the lease at the node
 *	DATA     bytes             of the stream; seq counts DATA and END
 *	END      nothing           end of the stream in this direction
 *	ACK      nothing           seq: the next packet that is expected;
 *	                           arg: bytes that were passed on, modulo 2^32
 *	AGAIN    nothing           an ACK that asks for all packets from seq on
 *	CLOSE    text              the lease has ended; the reason if it failed
 *
 *	entry  = lease u32 | sender's u32 | seq u32 | kept u32 | acked u32
 *
 * An entry of a beat has the number of the lease at the receiver and at the
 * sender, and counters of the sender: the number of its next packet, the number
 * of its first packet without an ACK, and its bytes with an ACK.
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

enum fz_packet_type {
	FZ_PACKET_WHO = 1,
	FZ_PACKET_NODE,
	FZ_PACKET_BEAT,
	FZ_PACKET_OPEN,
	FZ_PACKET_OPENED,
	FZ_PACKET_DATA,
	FZ_PACKET_END,
	FZ_PACKET_ACK,
	FZ_PACKET_AGAIN,
	FZ_PACKET_CLOSE,
	/*
	 * From the server: there is no gateway with the id in the body. `lease`
	 * and `seq` are of the packet that was not delivered; `lease` is 0 if
	 * that packet was of no stream.
	 */
	FZ_PACKET_ABSENT
};

enum { FZ_PACKET_HEADER = 16, FZ_PACKET_VERSION = 2, FZ_PACKET_ID = 16 };

struct fz_packet {
	/* type of the packet; 0: the packet is of another version */
	unsigned type;
	uint32_t lease, seq, arg;
	const unsigned char *body;
	size_t len;
};

/* Whether `text` is the id of a gateway, which is a part of a subject. */
static inline bool
fz_packet_is_id(const char *text)
{
	return strspn(text, "0123456789abcdef") == FZ_PACKET_ID &&
	       text[FZ_PACKET_ID] == '\0';
}

/* Write the header at `bytes`. */
static inline void
fz_packet_write(unsigned char *bytes, const struct fz_packet *p)
{
	bytes[0] = (unsigned char)p->type;
	bytes[1] = FZ_PACKET_VERSION;
	bytes[2] = bytes[3] = 0;
	fz_le32_store(bytes + 4, p->lease);
	fz_le32_store(bytes + 8, p->seq);
	fz_le32_store(bytes + 12, p->arg);
}

/* Read a packet. Its type is 0 if the message is not a packet. */
static inline void
fz_packet_read(struct fz_packet *p, const void *message, size_t len)
{
	const unsigned char *bytes = message;

	*p = (struct fz_packet){ 0 };
	if (len < FZ_PACKET_HEADER || bytes[1] != FZ_PACKET_VERSION ||
	    bytes[0] > FZ_PACKET_CLOSE)
		return;
	p->type = bytes[0];
	p->lease = fz_le32_load(bytes + 4);
	p->seq = fz_le32_load(bytes + 8);
	p->arg = fz_le32_load(bytes + 12);
	p->body = bytes + FZ_PACKET_HEADER;
	p->len = len - FZ_PACKET_HEADER;
}

#endif
