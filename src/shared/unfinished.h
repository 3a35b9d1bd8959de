/*
 * unfinished.h - counts, for each process, the items that it has taken from a
 * queue and that were not acknowledged by task_done().
 *
 * The counters of the first few processes are in the object itself. If there
 * are more processes, a block of the shared heap contains a counter for each
 * place of a member. The block is allocated when it is first needed, and freed
 * with the object.
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
 * In shared memory, all 0 at first. A counter has a member in its upper 32 bits
 * and the number of its unfinished items in the lower ones.
 */
struct fz_unfinished {
	/* processes that wait until no item is unfinished */
	struct fz_eventcount waiters;
	/* block with a counter for each place; none: not needed yet */
	struct fz_ref many;
	_Atomic uint64_t few[FZ_UNFINISHED_FEW];
};

/*
 * The counter of the member `self`. Memory that is allocated for it belongs to
 * `object`. The caller must hold a lock until fz_unfinished_add() has returned.
 * NULL and `err` if there is no memory.
 */
_Atomic uint64_t *fz_unfinished_counter(struct fz_unfinished *unfinished,
    struct fz_object *object, uint32_t self, struct fz_err *err);

/* Count one more unfinished item of the member `self`. */
void fz_unfinished_add(_Atomic uint64_t *counter, uint32_t self);

/*
 * Acknowledge an item of this process or, if it has none, of another process.
 * False if no item is unfinished.
 */
bool fz_unfinished_ack(struct fz_unfinished *unfinished, uint32_t self);

/*
 * Whether any item is unfinished. If `late`, items of dead processes do not
 * count; without `late`, no process is checked.
 */
bool fz_unfinished_any(struct fz_unfinished *unfinished, bool late);

#endif
