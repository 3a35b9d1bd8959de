/*
 * unfinished.h - counts, for each process, the items taken from a queue and not
 * yet acknowledged by task_done().
 *
 * The counters of the first few processes are in the object itself. If there
 * are more processes, a block of the shared heap has a counter for each place
 * of a member. The block is allocated when it is first needed, and freed with
 * the object.
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
 * In shared memory; all zero is a new object. A counter has a member in its
 * upper 32 bits, and the number of that member's items in the lower 32 bits.
 */
struct fz_unfinished {
	/* for processes that wait until no item is left */
	struct fz_eventcount waiters;
	/* the block of counters by place; none: it was not needed yet */
	struct fz_ref many;
	_Atomic uint64_t few[FZ_UNFINISHED_FEW];
};

/*
 * The counter of the member `self`. If memory is allocated for it, the object
 * owns that memory. The caller holds a lock until fz_unfinished_add() has
 * returned. NULL and `err` if there is no memory.
 */
_Atomic uint64_t *fz_unfinished_counter(struct fz_unfinished *unfinished,
    struct fz_object *object, uint32_t self, struct fz_err *err);

/* Count one more item that the member has taken. */
void fz_unfinished_add(_Atomic uint64_t *counter, uint32_t self);

/*
 * Acknowledge one item: of this process or, if it has none, of another process.
 * False if there is no item.
 */
bool fz_unfinished_ack(struct fz_unfinished *unfinished, uint32_t self);

/*
 * Whether any item is left. The items of a dead process count as done; only a
 * `late` check finds out that the process is dead.
 */
bool fz_unfinished_any(struct fz_unfinished *unfinished, bool late);

#endif
