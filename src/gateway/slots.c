#include "gateway/slots.h"

#include <stddef.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "os/fd.h"
#include "worker/slot_line.h"

void
slots_poll(struct gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct slot_use *use = &((struct lease *)at)->slot;

		use->at = use->fd != -1 ? gateway_add(g, use->fd, POLLIN) : -1;
	}
}

/* Close the line of a worker that has ended, or is about to. */
static void
lose(struct slot_use *use)
{
	fz_fd_close(&use->fd);
	use->state = SLOT_NONE;
}

static void
send_to(struct slot_use *use, enum fz_slot_type type)
{
	if (fz_slot_send(use->fd, type, use->number) != 0)
		lose(use);
}

static void
take(struct slots *slots, struct slot_use *use,
    const struct fz_slot_message *message)
{
	if (message->type == FZ_SLOT_WANT) {
		use->state = SLOT_AWAITED;
		use->number = message->number;
		use->turn = ++slots->nturns;
	} else if (message->number == use->number) {
		use->state = SLOT_NONE;
	}
}

static void
receive(struct gateway *g, struct slots *slots)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct slot_use *use = &((struct lease *)at)->slot;
		struct fz_slot_message message;
		int rc = 0;

		if (use->fd == -1 || gateway_events(g, use->at) == 0)
			continue;
		while ((rc = fz_slot_receive(use->fd, &message)) == 1)
			take(slots, use, &message);
		if (rc < 0)
			lose(use);
	}
}

/* The number of held slots, of all submitters or of one. */
static unsigned
count_held(const struct gateway *g, const char *peer)
{
	unsigned n = 0;

	for (const struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		const struct lease *l = (const struct lease *)at;

		if (l->slot.state == SLOT_HELD &&
		    (peer == NULL || strcmp(l->peer, peer) == 0))
			n++;
	}
	return n;
}

/* The worker that gets the next slot; NULL if none waits. */
static struct slot_use *
find_next(const struct gateway *g)
{
	struct slot_use *best = NULL;
	unsigned fewest = 0;

	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct lease *l = (struct lease *)at;
		unsigned n;

		if (l->slot.state != SLOT_AWAITED)
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
ask_holders(struct gateway *g)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct slot_use *use = &((struct lease *)at)->slot;

		if (use->state != SLOT_HELD || use->asked)
			continue;
		use->asked = true;
		send_to(use, FZ_SLOT_ASK);
	}
}

void
slots_work(struct gateway *g, struct slots *slots)
{
	struct slot_use *next;

	receive(g, slots);
	while ((next = find_next(g)) != NULL) {
		if (count_held(g, NULL) >= slots->n) {
			ask_holders(g);
			return;
		}
		next->state = SLOT_HELD;
		next->asked = false;
		send_to(next, FZ_SLOT_GRANT);
	}
}
