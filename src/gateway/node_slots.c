#include "gateway/node_slots.h"

#include <stddef.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "os/fd.h"
#include "wire/slot_line.h"

void
fz_node_slots_poll(struct fz_gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct fz_slot_use *use = &((struct fz_lease *)at)->slot;

		use->at =
		    use->fd != -1 ? fz_gateway_add(g, use->fd, POLLIN) : -1;
	}
}

/* Close the line of a worker that has ended or will end soon. */
static void
lose(struct fz_slot_use *use)
{
	fz_fd_close(&use->fd);
	use->state = FZ_SLOT_NONE;
}

static void
send_to(struct fz_slot_use *use, enum fz_slot_type type)
{
	if (fz_slot_send(use->fd, type, use->number) != 0)
		lose(use);
}

static void
take(struct fz_node_slots *slots, struct fz_slot_use *use,
    const struct fz_slot_message *message)
{
	if (message->type == FZ_SLOT_WANT) {
		use->state = FZ_SLOT_AWAITED;
		use->number = message->number;
		use->turn = ++slots->nturns;
	} else if (message->number == use->number) {
		use->state = FZ_SLOT_NONE;
	}
}

static void
receive(struct fz_gateway *g, struct fz_node_slots *slots)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct fz_slot_use *use = &((struct fz_lease *)at)->slot;
		struct fz_slot_message message;
		int rc = 0;

		if (use->fd == -1 || fz_gateway_events(g, use->at) == 0)
			continue;
		while ((rc = fz_slot_receive(use->fd, &message)) == 1)
			take(slots, use, &message);
		if (rc < 0)
			lose(use);
	}
}

/* The number of slots that the workers of `peer` hold; NULL: all workers. */
static unsigned
count_held(const struct fz_gateway *g, const char *peer)
{
	unsigned n = 0;

	for (const struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		const struct fz_lease *l = (const struct fz_lease *)at;

		if (l->slot.state == FZ_SLOT_HELD &&
		    (peer == NULL || strcmp(l->peer, peer) == 0))
			n++;
	}
	return n;
}

/* The worker that gets the next slot; NULL if none waits. */
static struct fz_slot_use *
find_next(const struct fz_gateway *g)
{
	struct fz_slot_use *best = NULL;
	unsigned fewest = 0;

	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct fz_lease *l = (struct fz_lease *)at;
		unsigned n;

		if (l->slot.state != FZ_SLOT_AWAITED)
			continue;
		n = count_held(g, l->peer);
		if (best != NULL &&
		    (n > fewest || (n == fewest && l->slot.turn > best->turn)))
			continue;
		best = &l->slot;
		fewest = n;
	}
	return best;
}

static void
ask_holders(struct fz_gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct fz_slot_use *use = &((struct fz_lease *)at)->slot;

		if (use->state != FZ_SLOT_HELD || use->asked)
			continue;
		use->asked = true;
		send_to(use, FZ_SLOT_ASK);
	}
}

void
fz_node_slots_work(struct fz_gateway *g, struct fz_node_slots *slots)
{
	struct fz_slot_use *next;

	receive(g, slots);
	while ((next = find_next(g)) != NULL) {
		if (count_held(g, NULL) >= slots->n) {
			ask_holders(g);
			return;
		}
		next->state = FZ_SLOT_HELD;
		next->asked = false;
		send_to(next, FZ_SLOT_GRANT);
	}
}
