/*
 * slots.h - the slots of a node, which all its workers share: see slot_line.h.
 *
 * A free slot goes to the submitter that has the fewest, and there to the
 * worker that has waited longest. While a worker waits, all other workers are
 * asked to return their slots: an idle one does so at once, a busy one between
 * two calls.
 */
#ifndef FZ_GATEWAY_SLOTS_H
#define FZ_GATEWAY_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct gateway;

enum slot_state { SLOT_NONE, SLOT_AWAITED, SLOT_HELD };

/* The use of slots by the worker of a lease. */
struct slot_use {
	int fd; /* the gateway's end of its slot_line; -1: none */
	int at; /* its index in the list of polled descriptors */
	enum slot_state state;
	bool asked; /* the worker was asked to return its slot */
	uint32_t number;
	/* of waiting workers the one with the lowest number is the first */
	uint64_t turn;
};

struct slots {
	unsigned n;
	uint64_t nturns;
};

/* slots_poll(): before each wait. slots_work(): after it. */
void slots_poll(struct gateway *g);
void slots_work(struct gateway *g, struct slots *slots);

#endif
