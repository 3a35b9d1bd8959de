/*
 * lease.h - a worker on a node that a submitter has: one byte stream, in
 * packets.
 *
 * Packets of the stream are numbered, and kept until the receiver has them. If
 * the connection of a gateway was lost, the missing packets are sent again, so
 * that a stream has no gaps, and no job runs twice for that reason. The
 * receiver acknowledges the bytes that it has passed on; a sender is never more
 * than a window ahead. beat.h says how long both ends hold a lease in silence.
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
	/* its number here, and at the other gateway; 0: unknown */
	uint32_t id, peer_id;
	char peer[PACKET_ID + 1];
	bool opened;
	/*
	 * descriptors from which packets are read, and to which they are
	 * written; -1: ended
	 */
	int in, out;
	/* their indexes in the list of polled descriptors */
	int in_at, out_at, conn_at;
	/* packets that are not acknowledged, in order */
	struct sent_packet *kept, **kept_tail;
	uint32_t sent_seq, got_seq; /* numbers of the next packets */
	/* bytes sent and acknowledged, modulo 2^32 */
	uint32_t sent, acked;
	/* bytes of the other direction: passed on, and reported */
	uint32_t passed, reported;
	/* the peer was asked to send packets again */
	bool asked;
	struct fz_buf pending; /* bytes that came and are not written */
	size_t written;        /* number of these bytes that are written */
	bool got_end;          /* the END of the other direction has come */
	bool over;
	bool beaten;      /* it is in the beat that is being sent */
	char why[160];    /* why it failed; "": it ended in good order */
	int64_t heard_ns; /* time at which the peer was last heard */
	/* time since which the server does not know the peer; 0: it does */
	int64_t absent_ns;
	/* of a submitter: the socket to the relay; else -1 */
	int conn;
	pid_t pid;            /* of a node: the process; else 0 */
	struct slot_use slot; /* of a node: the slot of its worker */
};

/*
 * Make a lease with the gateway `peer`. The lease owns the descriptors, which
 * do not block. NULL if there is no memory.
 */
struct lease *lease_new(struct gateway *g, const char *peer, int in, int out);

/* The lease with this number; NULL if it does not exist any more. */
struct lease *lease_find(const struct gateway *g, uint32_t id);

/* Both ends exist now: begin to send the bytes that are read. */
void lease_opened(struct lease *l, uint32_t peer_id);

/* lease_poll(): before each wait. lease_work(): after it. */
void lease_poll(struct lease *l);
void lease_work(struct lease *l);

/* Process a packet for the lease. */
void lease_take(struct lease *l, const struct packet *p);

/* The number of the first packet that the peer has not acknowledged. */
uint32_t lease_kept_seq(const struct lease *l);

/*
 * The peer has the lease. The arguments are its counters: the number of its
 * next packet, of its first packet that is not acknowledged, and its bytes.
 */
void lease_heard(
    struct lease *l, uint32_t seq, uint32_t kept_seq, uint32_t acked);

/* Ask for missing packets, after a new connection. */
void lease_ask(struct lease *l);

/*
 * End the lease and notify the peer. `why` is the reason, or "" if it ended in
 * good order.
 */
void lease_end(struct lease *l, const char *why);

void lease_free(struct lease *l);

#endif
