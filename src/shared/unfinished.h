/*
 * unfinished.h - per process: items taken from a queue and not yet acknowledged
 * by task_done().
 *
 * The counters of a few processes lie in place. If there are more, a block of
 * the shared heap has one by place of the member; it is allocated for the first
 * of these and freed with the object.
 */
#ifndef FZ_UNFINISHED_H
#define FZ_UNFINISHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/heap.h"

struct fz_err;

#define FZ_UNFINISHED_FEW 6

/*
 * In shared memory; all zero is a new one. A counter is a member in the upper
 * 32 bits and its number of items below.
 */
struct fz_unfinished {
	struct fz_eventcount waiters; /* until no item is left */
	struct fz_ref many;           /* counters by place; none: few suffice */
	_Atomic uint64_t few[FZ_UNFINISHED_FEW];
};

/*
 * The counter of the member `self`; memory for it becomes the object's. The
 * caller holds a lock until it has added to the counter. NULL and `err` if
 * there is no memory.
 */
_Atomic uint64_t *fz_unfinished_counter(struct fz_unfinished *unfinished,
    struct fz_object *object, uint32_t self, struct fz_err *err);

/* Count one more item that the member has taken. */
void fz_unfinished_add(_Atomic uint64_t *counter, uint32_t self);

/*
 * Acknowledge one item: of this process, or of another one if this one has
 * none. False: there is no item.
 */
bool fz_unfinished_ack(struct fz_unfinished *unfinished, uint32_t self);

/*
 * Whether any item is left. The items of a dead process count as done; only a
 * `late` check finds out that it is dead.
 */
bool fz_unfinished_any(struct fz_unfinished *unfinished, bool late);

#endif
