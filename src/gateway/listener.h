/*
 * listener.h - the socket at which a gateway accepts its relays.
 *
 * If the process has too many descriptors, relays wait until others are closed:
 * their requests stay in the kernel.
 */
#ifndef FZ_LISTENER_H
#define FZ_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/packet.h"
#include "gateway/relay.h"

struct fz_gateway;

struct fz_listener {
	int fd;
	int conn;         /* a relay that must send its request; or -1 */
	int64_t until_ns; /* time at which that relay is refused */
	int64_t rest_ns;  /* time until which nothing is accepted */
	int at;           /* index of `fd` or `conn` in the poll; or -1 */
};

#define FZ_LISTENER_INIT                       \
	{                                      \
		.fd = -1, .conn = -1, .at = -1 \
	}

/* A relay and its request. The caller owns the descriptors. */
struct fz_relay_request {
	int conn;
	char id[FZ_PACKET_ID + 1]; /* id of the node */
	int fds[FZ_RELAY_NFDS];
};

/* Listen at the abstract socket `name`. 0, or -1 and errno. */
int fz_listener_open(struct fz_listener *l, const char *name);

/*
 * Poll in this turn. Returns the time at which the turn must end, `until_ns` at
 * the latest.
 */
int64_t fz_listener_poll(
    struct fz_listener *l, struct fz_gateway *g, int64_t until_ns);

/* Accept at most one relay. Returns whether `*request` is set. */
bool fz_listener_work(struct fz_listener *l, const struct fz_gateway *g,
    struct fz_relay_request *request);

/* End a relay, and send it the reason. */
void fz_listener_refuse(int conn);

void fz_listener_close(struct fz_listener *l);

#endif
