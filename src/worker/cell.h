/*
 * cell.h - memory that a forked worker shares with its parent, beside the
 * pipes.
 *
 * It makes two things exact that pipes leave open when a worker dies: which
 * item the worker had started, and which replies were complete but not yet
 * written.
 *
 *   claim  the items that the worker has started (see claim.h).
 *   out    replies that are finished and not yet written to the pipe. A reply
 *          counts from the moment `nout` covers it. The worker increments
 *          `epoch` before it overwrites bytes of `out`, so that the parent can
 *          copy replies that wait behind a long job and knows whether the copy
 *          is good.
 *   open   the frame of items behind those replies that still grows: its start,
 *          its bytes and its items in one word. An item counts from the moment
 *          this word covers it. The word means nothing if the frame does not
 *          start at `nout`.
 *
 * A function of the worker may overwrite this memory. Therefore the worker
 * builds replies in memory of its own, of which the cell has a copy, and keeps
 * its own copy of the counters; the parent checks all that it reads.
 */
#ifndef FZ_CELL_H
#define FZ_CELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/claim.h"

struct fz_err;

/*
 * How many tokens of the jobserver (see slots.h) a worker and its descendants
 * hold. The parent of a worker that died writes these tokens back.
 */
struct fz_account {
	_Atomic int32_t held;
	struct fz_account *above; /* the parent's; set and read by the worker */
};

#define FZ_CELL_OUT ((size_t)128 << 10)
#define FZ_CELL_IN ((size_t)128 << 10)

struct fz_cell {
	struct fz_claim claim;
	_Atomic uint32_t nout;    /* bytes of out[] that are complete replies */
	_Atomic uint32_t writing; /* not 0: a reply too big for out[] is written
				   */
	_Atomic uint32_t nwhy;  /* bytes of the text in out[] that says why the
			   worker cannot start; 0: it starts */
	_Atomic uint32_t epoch; /* how often out[] was emptied */
	_Atomic uint64_t open;  /* fz_cell_open_word(); 0: no frame grows */
	_Atomic int64_t start_ns; /* start of the last timed job or batch */
	struct fz_account account;
	unsigned char out[FZ_CELL_OUT];
};

/*
 * The worker's private memory in front of the cell: its replies, and the buffer
 * for calls. Otherwise glibc, at the first large malloc of the worker, would
 * consolidate and so copy much of the inherited heap.
 */
struct fz_cell_own {
	unsigned char out[FZ_CELL_OUT];
	unsigned char in[FZ_CELL_IN];
};

static inline struct fz_cell_own *
fz_cell_own(struct fz_cell *cell)
{
	return (struct fz_cell_own *)(void *)((unsigned char *)cell -
					      sizeof(struct fz_cell_own));
}

/* The frame of items that grows behind the complete replies of a cell. */
struct fz_cell_open {
	uint32_t start, len, nitems; /* bytes of out[], header included */
};

enum { FZ_CELL_OPEN_ITEMS = (1 << 20) - 1 }; /* at most */

struct fz_cell_open fz_cell_open(const struct fz_cell *cell);

static inline uint64_t
fz_cell_open_word(const struct fz_cell_open *open)
{
	return (uint64_t)open->start << 40 | (uint64_t)open->len << 20 |
	       open->nitems;
}

/* A cell that later forks share. NULL and `err` on failure. */
struct fz_cell *fz_cell_new(struct fz_err *err);
void fz_cell_free(struct fz_cell *cell, bool kept); /* NULL is allowed */

/*
 * In the parent, after the fork: the cell belongs to one worker, so later forks
 * do not inherit it, and the worker's private part is unmapped. Returns whether
 * that part is gone, for fz_cell_free().
 */
bool fz_cell_keep(struct fz_cell *cell);

#endif
