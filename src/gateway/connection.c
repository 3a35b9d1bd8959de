#include "gateway/connection.h"

#include <stddef.h>

#include "gateway/beat.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"

/* End the leases whose kept packets are longer than this server allows. */
static void
end_leases(struct gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next)
		lease_end((struct lease *)at,
		    "max_payload of the NATS server is lower now");
}

static int
connect_bus(struct gateway *g, struct fz_err *err)
{
	g->bus = bus_open(&g->url, g->creds, g->id, g->role, err);
	/*
	 * The time for connecting counts as silence of the server, not as time
	 * in which this process did not run.
	 */
	g->turn_ns = fz_clock_ns();
	g->beat_ns = g->turn_ns + BEAT_NS;
	if (g->bus == NULL)
		return -1;
	if (bus_body_max(g->bus) < g->body_max)
		end_leases(g);
	g->body_max = bus_body_max(g->bus);
	beat_connected(g);
	return 0;
}

int
connection_open(struct gateway *g, struct fz_err *err)
{
	return connect_bus(g, err);
}

enum connection_change
connection_check(struct gateway *g, int64_t now_ns)
{
	enum connection_change change = CONNECTION_SAME;

	if (g->bus != NULL && bus_is_lost(g->bus)) {
		bus_close(g->bus);
		g->bus = NULL;
		change = CONNECTION_LOST;
	}
	if (now_ns < g->beat_ns)
		return change;
	if (g->bus == NULL)
		return connect_bus(g, NULL) == 0 ? CONNECTION_MADE : change;
	g->beat_ns = now_ns + BEAT_NS;
	beat_send(g);
	return change;
}
