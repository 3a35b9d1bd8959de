/*
 * lease.h - the worker of a submitter on a node: one byte stream, in packets.
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
#include "gateway/node_slots.h"
#include "gateway/packet.h"

struct fz_gateway;
struct fz_sent_packet;

struct fz_lease {
	struct fz_list link;
	struct fz_gateway *gateway;
	uint32_t id;      /* number of the lease at this gateway */
	uint32_t peer_id; /* number at the other gateway; 0: unknown */
	char peer[FZ_PACKET_ID + 1];
	bool opened;
	/*
	 * descriptors from which the stream is read, and to which it is
	 * written; -1: ended
	 */
	int in, out;
	/* indexes of `in`, `out` and `conn` in the list to poll */
	int in_at, out_at, conn_at;
	/* packets that are not acknowledged, in order */
	struct fz_sent_packet *kept, **kept_tail;
	uint32_t sent_seq; /* number of the next packet to send */
	uint32_t got_seq;  /* number of the next packet to receive */
	uint32_t sent;     /* bytes sent, modulo 2^32 */
	uint32_t acked;  /* bytes that the peer has acknowledged, modulo 2^32 */
	uint32_t passed; /* received bytes that were passed on, modulo 2^32 */
	uint32_t reported; /* part of `passed` that was acknowledged */
	/* the peer was asked to send packets again */
	bool asked;
	struct fz_buf pending; /* bytes that came and are not written */
	size_t written;        /* number of written bytes of `pending` */
	bool got_end;          /* the peer has sent the END of its direction */
	bool over;
	bool beaten;      /* the lease is in the beat that is being sent */
	char why[160];    /* why the lease failed; "": it ended in good order */
	int64_t heard_ns; /* time at which the peer was last heard */
	/*
	 * time since which the server has not known the peer; 0: the server
	 * knows it
	 */
	int64_t absent_ns;
	/*
	 * at a submitter: the server had no receiver for the packets from
	 * `lost_seq` on, and the peer was not heard since then
	 */
	bool has_lost;
	uint32_t lost_seq;
	/* at a submitter: the socket to the relay; else -1 */
	int conn;
	pid_t pid;               /* at a node: pid of the process; else 0 */
	struct fz_slot_use slot; /* at a node: the slot of the worker */
};

/*
 * Make a lease with the gateway `peer`. The lease owns the descriptors, which
 * do not block. NULL if there is no memory.
 */
struct fz_lease *fz_lease_new(
    struct fz_gateway *g, const char *peer, int in, int out);

/* The lease with this number; NULL if it does not exist any more. */
struct fz_lease *fz_lease_find(const struct fz_gateway *g, uint32_t id);

/* Both ends exist now: begin to send the bytes that are read. */
void fz_lease_opened(struct fz_lease *l, uint32_t peer_id);

/* Call fz_lease_poll() before each wait, and fz_lease_work() after it. */
void fz_lease_poll(struct fz_lease *l);
void fz_lease_work(struct fz_lease *l);

/* Process a packet for the lease. */
void fz_lease_take(struct fz_lease *l, const struct fz_packet *p);

/* The number of the first packet that the peer has not acknowledged. */
uint32_t fz_lease_kept_seq(const struct fz_lease *l);

/*
 * Note that the peer has the lease. The arguments are counters of the peer: the
 * number of its next packet, the number of its first packet that is not
 * acknowledged, and the number of its acknowledged bytes.
 */
void fz_lease_heard(
    struct fz_lease *l, uint32_t seq, uint32_t kept_seq, uint32_t acked);

/* The server had no receiver for packet `seq` when it was first sent. */
void fz_lease_lose(struct fz_lease *l, uint32_t seq);

/*
 * Whether the peer never got the last bytes of the stream. Then `*reached` is
 * set to the number of bytes before them, modulo 2^32.
 */
bool fz_lease_has_lost(const struct fz_lease *l, uint32_t *reached);

/* Ask for missing packets, after a new connection. */
void fz_lease_ask(struct fz_lease *l);

/*
 * End the lease and notify the peer. `why` is the reason, or "" if it ended in
 * good order.
 */
void fz_lease_end(struct fz_lease *l, const char *why);

void fz_lease_free(struct fz_lease *l);

#endif
