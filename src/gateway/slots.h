/*
 * slots.h - the slots of a node, which all its workers share: see slot_line.h.
 *
 * A free slot goes to the submitter that has the fewest, and there to the
 * worker that has waited longest. While a worker waits, all others are asked to
 * return their slots: an idle one does so at once, another one between two
 * calls.
 */
#ifndef FZ_GATEWAY_SLOTS_H
#define FZ_GATEWAY_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct gateway;

enum slot_state { SLOT_NONE, SLOT_AWAITED, SLOT_HELD };

/* Of the worker of a lease. */
struct slot_use {
	int fd; /* our end of its slot_line; -1: none */
	int at; /* where that is polled */
	enum slot_state state;
	bool asked; /* to return it */
	uint32_t number;
	uint64_t turn; /* of those that wait the lowest is the first */
};

struct slots {
	unsigned n;
	uint64_t nturns;
};

/* Before and after each wait. */
void slots_poll(struct gateway *g);
void slots_work(struct gateway *g, struct slots *slots);

#endif
