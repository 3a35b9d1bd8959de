/*
 * node_slots.h - the slots of a node, which all its workers share: see
 * slot_line.h.
 *
 * A free slot goes to the submitter with the fewest slots, and there to the
 * worker that has waited longest. While a worker waits, all other workers are
 * asked to return their slots: an idle one does so at once, a busy one between
 * two calls.
 */
#ifndef FZ_NODE_SLOTS_H
#define FZ_NODE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct fz_gateway;

enum fz_slot_state { FZ_SLOT_NONE, FZ_SLOT_AWAITED, FZ_SLOT_HELD };

/* The use of slots by the worker of a lease. */
struct fz_slot_use {
	int fd; /* the gateway's end of the worker's slot_line; -1: none */
	int at; /* index of `fd` in the list of polled descriptors */
	enum fz_slot_state state;
	bool asked; /* the worker was asked to return its slot */
	uint32_t number;
	/* among waiting workers, the one with the lowest turn is the first */
	uint64_t turn;
};

struct fz_node_slots {
	unsigned n;
	uint64_t nturns;
};

/*
 * Call fz_node_slots_poll() before each wait, and fz_node_slots_work() after
 * it.
 */
void fz_node_slots_poll(struct fz_gateway *g);
void fz_node_slots_work(struct fz_gateway *g, struct fz_node_slots *slots);

#endif
