/*
 * lease.h - a worker on a node that a submitter has: one byte stream, in
 * packets.
 *
 * The node holds it while it hears the submitter, the submitter while it hears
 * the node. A lease that is over never comes back: packets are numbered, and a
 * lost one ends it. So a stream has no gaps, and no job runs twice by itself.
 * A receiver acknowledges what it has passed on; a sender is never more than a
 * window ahead.
 */
#ifndef FZ_LEASE_H
#define FZ_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/list.h"
#include "gateway/packet.h"

struct gateway;

struct lease {
	struct fz_list link;
	struct gateway *gateway;
	uint32_t id, peer_id; /* here, and at the other gateway */
	char peer[PACKET_ID + 1];
	bool opened;
	int in, out; /* read into packets; written from them; -1: ended */
	int in_at, out_at, conn_at; /* where they are polled */
	uint32_t sent_seq, got_seq;
	uint32_t sent, acked;      /* bytes, modulo 2^32 */
	uint32_t passed, reported; /* likewise, of the other direction */
	struct fz_buf pending;     /* came, and is not written */
	size_t written;            /* of these bytes */
	bool got_end;              /* of the other direction */
	bool over;
	char why[160];    /* "": it ended in good order */
	int64_t heard_ns; /* when the peer was heard */
	int conn;         /* of a submitter: the relay; -1 */
	pid_t pid;        /* of a node: the process; 0 */
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

/* It is over, because of `why`, or "". The peer gets to know it. */
void lease_end(struct lease *l, const char *why);

void lease_free(struct lease *l);

#endif
