/*
 * unfinished.h - how many items each process has taken and not said to be done.
 *
 * A few processes are counted in place. More have a chunk of the shared heap by
 * place, which is taken with the first of them and kept as long as the object.
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

/* In shared memory; all zero is a new one. A count is a member and how many. */
struct fz_unfinished {
	struct fz_eventcount gate; /* where one waits until none is left */
	struct fz_ref many;        /* a count by place, if six are too few */
	_Atomic uint64_t few[FZ_UNFINISHED_FEW];
};

/*
 * Where to count for `self`; its memory becomes the object's. One process at a
 * time may do this and count. NULL and `err` where there is no memory.
 */
_Atomic uint64_t *fz_unfinished_slot(struct fz_unfinished *owed,
    struct fz_object *object, uint32_t self, struct fz_err *err);

/* It has one more. */
void fz_unfinished_count(_Atomic uint64_t *slot, uint32_t self);

/* One was done, by this process if it has any. False: there is none. */
bool fz_unfinished_pay(struct fz_unfinished *owed, uint32_t self);

/* Whether any is left. What a dead process has is done, as `late` sees. */
bool fz_unfinished_any(struct fz_unfinished *owed, bool late);

#endif
