/*
 * claim.h - which numbered calls a worker has started, and which are taken
 * back.
 *
 * The worker starts the numbers in order; the parent may take back all that
 * were not started. No number is both started and taken back. A start costs the
 * worker a store and a load. A barrier between the store and the load matters
 * only at a recall. Therefore the parent issues it for both processes
 * (membarrier, Linux 4.16). On older kernels the worker has its own barrier.
 *
 *   start of n:  started = n + 1; if n < floor: wait until decided == floor,
 *                n may start if n < granted
 *   recall:      floor = next; barrier; granted = started; decided = floor
 *
 * Each number is stored in one word with its complement, so that both sides
 * detect that a function of the worker has overwritten this memory.
 */
#ifndef FZ_CLAIM_H
#define FZ_CLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The claim is in memory that the worker and its parent share. fz_claim_word()
 * makes the words.
 */
struct fz_claim {
	/* set by the worker: 1 + number of the item that it started last */
	_Atomic uint64_t started;
	uint32_t fenced; /* not 0: the worker needs its own barrier */
	/*
	 * Set by the parent: numbers from `granted` up to the floor are taken
	 * back when `decided` equals the floor.
	 */
	_Atomic uint64_t floor, granted, decided;
};

static inline uint64_t
fz_claim_word(uint32_t n)
{
	return (uint64_t)~n << 32 | n;
}

/* Whether the word is intact; its number is the lower half. */
static inline bool
fz_claim_is_word(uint64_t word)
{
	return word == fz_claim_word((uint32_t)word);
}

/*
 * In the parent, before the worker is forked: initialise the claim; no number
 * is started.
 */
void fz_claim_init(struct fz_claim *claim);

/* At the start of a worker: let barriers of the parent reach this process. */
void fz_claim_enter(void);

/* Whether all words are intact. */
bool fz_claim_is_whole(const struct fz_claim *claim);

/*
 * In the parent: one above the number that was started last. If the claim is
 * not whole, the result may be any number.
 */
uint32_t fz_claim_started(const struct fz_claim *claim);

/*
 * In the parent: take back all numbers below `next` that were not started.
 * Returns the first of these.
 */
uint32_t fz_claim_recall(struct fz_claim *claim, uint32_t next);

/*
 * In the parent: note that all numbers below `answered` are done. Call it at
 * least every 2^30 numbers, because numbers are compared modulo 2^32.
 */
void fz_claim_settle(struct fz_claim *claim, uint32_t answered);

/*
 * In a worker that does not share the claim with its parent: only numbers below
 * `end` may be started.
 */
void fz_claim_permit(struct fz_claim *claim, uint32_t end);

/* In the worker: whether the parent has taken number `n` back. */
bool fz_claim_is_taken_back(const struct fz_claim *claim, uint32_t n);

/*
 * The slow path of fz_claim_start(): whether number `n` may start although it
 * may be below the floor.
 */
bool fz_claim_granted(struct fz_claim *claim, uint32_t n, bool *lost);

/*
 * In the worker: start number `n`. False if it was taken back. Also false if
 * the claim is not whole: the worker cannot know whether the call was taken
 * back, and must end. Then `*lost` is set, because the parent may repair the
 * claim later.
 */
static inline bool
fz_claim_start(struct fz_claim *c, uint32_t n, bool *lost)
{
	uint32_t floor;

	atomic_store_explicit(
	    &c->started, fz_claim_word(n + 1), memory_order_relaxed);
	if (c->fenced != 0)
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
	floor = (uint32_t)atomic_load_explicit(&c->floor, memory_order_relaxed);
	return __builtin_expect((int32_t)(n - floor) >= 0, 1) ||
	       fz_claim_granted(c, n, lost);
}

#endif
