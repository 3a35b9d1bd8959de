/*
 * gateway.h - the common part of both roles of a gateway: its connection and
 * leases.
 */
#ifndef FZ_GATEWAY_H
#define FZ_GATEWAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "gateway/bus.h"
#include "gateway/packet.h"
#include "node/nats_url.h"

struct fz_lease;

/* Time between two announcements of a node. */
#define FZ_GATEWAY_ANNOUNCE_NS FZ_CLOCK_SECOND
/* A node that was silent for this time gets no jobs. */
#define FZ_GATEWAY_SILENCE_NS (3 * FZ_CLOCK_SECOND)

struct fz_gateway {
	struct fz_bus *bus;   /* the connection; NULL: none */
	size_t body_max;      /* the longest body of a packet */
	int64_t connected_ns; /* time at which the connection was made */
	/* time of the next beat, or of the next attempt to connect */
	int64_t beat_ns;
	struct fz_nats_url url;
	const char *creds; /* file with the credentials; "": none */
	enum fz_bus_role role;
	char id[FZ_PACKET_ID + 1];
	struct fz_list leases;
	uint32_t nleases_ever;
	struct pollfd *pfd; /* the descriptors to poll in this turn */
	int bus_at, socket_at;
	size_t npfd, pfd_cap;
	int64_t turn_ns; /* time at which the last turn began */
};

/* Initialise. 0, or -1 if the kernel has no random numbers. */
int fz_gateway_init(struct fz_gateway *g);

/* Begin a turn: forget the descriptors to poll. */
void fz_gateway_begin(struct fz_gateway *g);

/* Poll `fd` in this turn. Returns its index, or -1 if there is no memory. */
int fz_gateway_add(struct fz_gateway *g, int fd, short events);

/* Poll the connection in this turn. */
void fz_gateway_add_bus(struct fz_gateway *g);

/* Whether packets may have come; then read them by fz_bus_next(). */
bool fz_gateway_has_packets(struct fz_gateway *g);

/* The events of the descriptor with that index. */
short fz_gateway_events(const struct fz_gateway *g, int index);

/*
 * Wait until an event, or until `until_ns`. Returns the time. `*stalled_ns` is
 * set to the time in which this process did not run, and so did not hear its
 * peers; 0 if it ran.
 */
int64_t fz_gateway_wait(
    struct fz_gateway *g, int64_t until_ns, int64_t *stalled_ns);

#endif
