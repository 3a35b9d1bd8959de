/* gateway.h - what both roles of a gateway have: its connection and leases. */
#ifndef FZ_GATEWAY_STATE_H
#define FZ_GATEWAY_STATE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "gateway/bus.h"
#include "gateway/packet.h"
#include "worker/nats_url.h"

struct lease;

/* How often a node announces itself, and the silence that makes it unusable. */
#define GATEWAY_ANNOUNCE_NS FZ_CLOCK_SECOND
#define GATEWAY_SILENCE_NS (3 * FZ_CLOCK_SECOND)

struct gateway {
	struct bus *bus;      /* NULL: without a connection */
	size_t body_max;      /* the longest body of a packet */
	int64_t connected_ns; /* when the connection was made */
	int64_t beat_ns;      /* the next beat, or attempt to connect */
	struct fz_nats_url url;
	const char *creds; /* "": none */
	enum bus_role role;
	char id[PACKET_ID + 1];
	struct fz_list leases;
	uint32_t nleases_ever;
	struct pollfd *pfd; /* of this turn */
	int bus_at, socket_at;
	size_t npfd, pfd_cap;
	int64_t turn_ns; /* when the last turn began */
};

/* 0, or -1 if the kernel has no random numbers. */
int gateway_init(struct gateway *g);

/* Begin a turn: forget what is polled. */
void gateway_begin(struct gateway *g);

/* Poll `fd` in this turn. Returns its index; -1 without memory. */
int gateway_add(struct gateway *g, int fd, short events);

/* Poll the connection in this turn. */
void gateway_add_bus(struct gateway *g);

/* Whether packets may have come; then they can be taken. */
bool gateway_has_packets(struct gateway *g);

/* What happened at that index. */
short gateway_events(const struct gateway *g, int index);

/*
 * Wait until something happens or it is `until_ns`. Returns the time, and in
 * `*stalled_ns` how long this process did not run before, 0 if it did: its
 * peers had no chance to be heard.
 */
int64_t gateway_wait(struct gateway *g, int64_t until_ns, int64_t *stalled_ns);

#endif
