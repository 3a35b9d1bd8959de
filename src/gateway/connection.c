#include "gateway/connection.h"

#include <stddef.h>

#include "gateway/beat.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"

/* End the leases whose kept packets are longer than this server allows. */
static void
end_leases(struct fz_gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next)
		fz_lease_end((struct fz_lease *)at,
		    "max_payload of the NATS server is lower now");
}

static int
connect_bus(struct fz_gateway *g, struct fz_err *err)
{
	g->bus = fz_bus_open(&g->url, g->creds, g->id, g->role, err);
	/*
	 * Begin the turn anew, so that the time for connecting does not count
	 * as time in which this process was stopped.
	 */
	g->turn_ns = fz_clock_ns();
	g->beat_ns = g->turn_ns + FZ_BEAT_NS;
	if (g->bus == NULL)
		return -1;
	if (fz_bus_body_max(g->bus) < g->body_max)
		end_leases(g);
	g->body_max = fz_bus_body_max(g->bus);
	fz_beat_connected(g);
	return 0;
}

int
fz_connection_open(struct fz_gateway *g, struct fz_err *err)
{
	return connect_bus(g, err);
}

enum fz_connection_change
fz_connection_check(struct fz_gateway *g, int64_t now_ns)
{
	enum fz_connection_change change = FZ_CONNECTION_SAME;

	if (g->bus != NULL && fz_bus_is_lost(g->bus)) {
		fz_bus_close(g->bus);
		g->bus = NULL;
		change = FZ_CONNECTION_LOST;
	}
	if (now_ns < g->beat_ns)
		return change;
	if (g->bus == NULL)
		return connect_bus(g, NULL) == 0 ? FZ_CONNECTION_MADE : change;
	g->beat_ns = now_ns + FZ_BEAT_NS;
	fz_beat_send(g);
	return change;
}
