/*
 * beat.h - how gateways know that the other ends of their leases are alive.
 *
 * Twice a second a gateway sends a beat to each gateway that it has leases
 * with. Three things end a lease without a packet from its other end:
 *
 * 	the server knows no such gateway    after BEAT_ABSENT_NS: its process
 * 	                                    has ended, or its connection, and
 * 	                                    then it had time for a new one
 * 	silence                             after BEAT_HOLD_NS: it may be frozen
 * 	                                    or cut off, and come back
 * 	a lease that one end alone has      at its next beat
 *
 * While this gateway has no connection itself, or had none a moment ago, it
 * does not know whether other gateways are absent.
 */
#ifndef FZ_BEAT_H
#define FZ_BEAT_H

#include <stdint.h>

#include "base/clock.h"

struct gateway;
struct packet;

#define BEAT_NS (FZ_CLOCK_SECOND / 2)
#define BEAT_ABSENT_NS (2 * FZ_CLOCK_SECOND)
#define BEAT_HOLD_NS (60 * FZ_CLOCK_SECOND)

/* Send the beats. */
void beat_send(struct gateway *g);

/* Process a beat. */
void beat_take(struct gateway *g, const struct packet *p);

/* Called when the server reports that there is no gateway with this id. */
void beat_absent(struct gateway *g, const char *id);

/* Called after a new connection: packets of leases may be lost. */
void beat_connected(struct gateway *g);

/*
 * End the leases whose other end is lost. This process did not run for
 * `stalled_ns`, so that it heard no peer in that time.
 */
void beat_check(struct gateway *g, int64_t now_ns, int64_t stalled_ns);

#endif
