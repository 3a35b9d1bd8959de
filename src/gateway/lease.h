/*
 * lease.h - a worker on a node that a submitter has: one byte stream, in
 * packets.
 *
 * Packets of the stream are numbered, and kept until the receiver has them. If
 * the connection of a gateway was lost, those that are missing are sent again,
 * so that a stream has no gaps, and nothing runs twice because of that. The
 * receiver acknowledges what it has passed on; a sender is never more than a
 * window ahead. beat.h says how long both ends hold a lease in silence.
 */
#ifndef FZ_LEASE_H
#define FZ_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/list.h"
#include "gateway/packet.h"
#include "gateway/slots.h"

struct gateway;
struct sent_packet;

struct lease {
	struct fz_list link;
	struct gateway *gateway;
	uint32_t id, peer_id; /* here, and at the other gateway; 0: not known */
	char peer[PACKET_ID + 1];
	bool opened;
	int in, out; /* read into packets; written from them; -1: ended */
	int in_at, out_at, conn_at;            /* where they are polled */
	struct sent_packet *kept, **kept_tail; /* not acknowledged, in order */
	uint32_t sent_seq, got_seq;            /* numbers of the next packets */
	uint32_t sent, acked;                  /* bytes, modulo 2^32 */
	uint32_t passed, reported; /* likewise, of the other direction */
	bool asked;                /* the peer was asked to send again */
	struct fz_buf pending;     /* came, and is not written */
	size_t written;            /* of these bytes */
	bool got_end;              /* of the other direction */
	bool over;
	bool beaten;       /* the beat that is being sent has it */
	char why[160];     /* "": it ended in good order */
	int64_t heard_ns;  /* when the peer was heard */
	int64_t absent_ns; /* since when the server knows no peer; 0: it does */
	int conn;          /* of a submitter: the relay; -1 */
	pid_t pid;         /* of a node: the process; 0 */
	struct slot_use slot; /* of a node: its worker's */
};

/*
 * A lease with the gateway `peer`, which owns the descriptors from now on. They
 * do not block. NULL without memory.
 */
struct lease *lease_new(struct gateway *g, const char *peer, int in, int out);

/* The lease with this number; NULL: there is none any more. */
struct lease *lease_find(const struct gateway *g, uint32_t id);

/* Both ends exist now; it sends what it reads. */
void lease_opened(struct lease *l, uint32_t peer_id);

/* Before and after each wait. */
void lease_poll(struct lease *l);
void lease_work(struct lease *l);

/* A packet for it. */
void lease_take(struct lease *l, const struct packet *p);

/* The number of the first packet that the peer has not acknowledged. */
uint32_t lease_kept_seq(const struct lease *l);

/*
 * The peer has it. There the next packet has the number `seq`, and the first
 * one that is not acknowledged, and the bytes, are these.
 */
void lease_heard(
    struct lease *l, uint32_t seq, uint32_t kept_seq, uint32_t acked);

/* Ask for the packets that are missing: the connection is a new one. */
void lease_ask(struct lease *l);

/* End it because of `why`, or "" if all is well, and notify the peer. */
void lease_end(struct lease *l, const char *why);

void lease_free(struct lease *l);

#endif
