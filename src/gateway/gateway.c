#define _GNU_SOURCE /* for getrandom */
#include "gateway/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "base/vec.h"

/* A longer turn shows that this process was stopped or had no processor. */
#define GATEWAY_STALL_NS (FZ_CLOCK_SECOND / 2)
/* Pause after a failed wait, in nanoseconds. */
#define GATEWAY_PAUSE (10 * FZ_CLOCK_MS)

int
fz_gateway_init(struct fz_gateway *g)
{
	uint64_t number;

	*g = (struct fz_gateway){ .turn_ns = fz_clock_ns() };
	fz_list_init(&g->leases);
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	snprintf(g->id, sizeof(g->id), "%016llx", (unsigned long long)number);
	return 0;
}

void
fz_gateway_begin(struct fz_gateway *g)
{
	g->npfd = 0;
}

int
fz_gateway_add(struct fz_gateway *g, int fd, short events)
{
	struct pollfd *pfd =
	    fz_vec_room(g->pfd, &g->pfd_cap, g->npfd + 1, sizeof(*pfd));

	if (pfd == NULL)
		return -1;
	g->pfd = pfd;
	pfd[g->npfd] = (struct pollfd){ .fd = fd, .events = events };
	return (int)g->npfd++;
}

void
fz_gateway_add_bus(struct fz_gateway *g)
{
	short events;
	int fd;

	g->bus_at = g->socket_at = -1;
	if (g->bus == NULL)
		return;
	fz_bus_write(g->bus);
	g->bus_at = fz_gateway_add(g, fz_bus_fd(g->bus), POLLIN);
	fd = fz_bus_socket(g->bus, &events);
	if (fd != -1)
		g->socket_at = fz_gateway_add(g, fd, events);
}

bool
fz_gateway_has_packets(struct fz_gateway *g)
{
	short woken = fz_gateway_events(g, g->bus_at);
	short came = fz_gateway_events(g, g->socket_at);

	if (g->bus == NULL)
		return false;
	if (woken != 0)
		fz_bus_rest(g->bus);
	if (came & ~POLLOUT)
		fz_bus_read(g->bus);
	return woken != 0 || came & ~POLLOUT;
}

short
fz_gateway_events(const struct fz_gateway *g, int index)
{
	return index >= 0 ? g->pfd[index].revents : 0;
}

int64_t
fz_gateway_wait(struct fz_gateway *g, int64_t until_ns, int64_t *stalled_ns)
{
	int64_t now_ns = fz_clock_ns();
	int64_t worked_ns = now_ns - g->turn_ns, late_ns;

	if (poll(g->pfd, g->npfd, fz_clock_poll_ms(now_ns, until_ns)) < 0) {
		for (size_t i = 0; i < g->npfd; i++)
			g->pfd[i].revents = 0;
		if (errno != EINTR) /* no memory: retry slowly */
			nanosleep(
			    &(struct timespec){ .tv_nsec = GATEWAY_PAUSE },
			    NULL);
	}
	g->turn_ns = fz_clock_ns();
	late_ns = g->turn_ns - (until_ns > now_ns ? until_ns : now_ns);
	*stalled_ns = 0;
	if (worked_ns > GATEWAY_STALL_NS)
		*stalled_ns += worked_ns;
	if (late_ns > GATEWAY_STALL_NS)
		*stalled_ns += late_ns;
	return g->turn_ns;
}
