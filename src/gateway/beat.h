/*
 * beat.h - how gateways know that the other ends of their leases are alive.
 *
 * Twice a second a gateway sends a beat to each gateway that it has leases
 * with. A lease whose other end is lost ends in one of three ways:
 *
 *	- The server has known no gateway with the peer's id for
 *	  FZ_BEAT_ABSENT_NS. The peer has ended, or it has lost its connection
 *	  and has not connected again in that time.
 *	- The peer was silent for FZ_BEAT_HOLD_NS. A shorter silence may be
 *	  that of a peer that is frozen or cut off, and continues later.
 *	- The peer gets a beat with a lease that it does not have, and answers
 *	  with a CLOSE.
 *
 * While this gateway has no connection itself, or had none a moment ago, it
 * does not know whether other gateways are absent.
 */
#ifndef FZ_BEAT_H
#define FZ_BEAT_H

#include <stdint.h>

#include "base/clock.h"

struct fz_gateway;
struct fz_packet;

#define FZ_BEAT_NS (FZ_CLOCK_SECOND / 2)
#define FZ_BEAT_ABSENT_NS (2 * FZ_CLOCK_SECOND)
#define FZ_BEAT_HOLD_NS (60 * FZ_CLOCK_SECOND)

/* Send the beats. */
void fz_beat_send(struct fz_gateway *g);

/* Process a beat. */
void fz_beat_take(struct fz_gateway *g, const struct fz_packet *p);

/* Called when the server reports that there is no gateway with this id. */
void fz_beat_absent(struct fz_gateway *g, const char *id);

/* Called after a new connection: packets of leases may have been lost. */
void fz_beat_connected(struct fz_gateway *g);

/*
 * End the leases whose other end is lost. This process was stopped for
 * `stalled_ns` and heard no peer in that time.
 */
void fz_beat_check(struct fz_gateway *g, int64_t now_ns, int64_t stalled_ns);

#endif
