/*
 * mailbox.h - memory that a forked worker shares with its parent, beside the
 * pipes.
 *
 * It makes two things exact that pipes leave open when a worker dies: which
 * item the worker had started, and which replies were complete but not yet
 * written.
 *
 *   claim  the items that the worker has started (see claim.h).
 *   out    replies that are finished and not yet written to the pipe. The
 *          worker increments `epoch` before it overwrites bytes of `out`.
 *   open   what of `out` counts: the bytes of complete replies, and the bytes
 *          and items of the frame that still grows behind them. A reply or an
 *          item counts from the moment this word covers it.
 *   cpu    the processor of a worker that waits for calls, so that the parent
 *          knows whether the worker needs that of the parent.
 *   nexpected  counts the calls that the parent expects to send soon, so that
 *          the worker keeps its processor for some microseconds.
 *   seals  a seal is the sum over the bytes that a word covers, combined with
 *          the word. Two words in a row have their seals in different places,
 *          so that the parent can read a word and its seal while the worker
 *          publishes the next word.
 *
 * A function of the worker may overwrite this memory. Therefore the worker
 * builds replies and computes sums in memory of its own, of which the mailbox
 * has a copy. The parent takes replies from the mailbox only if their seal is
 * right, and checks everything else that it reads.
 */
#ifndef FZ_MAILBOX_H
#define FZ_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "worker/account.h"
#include "worker/claim.h"

struct fz_err;

#define FZ_MAILBOX_OUT ((size_t)128 << 10)
#define FZ_MAILBOX_IN ((size_t)128 << 10)
#define FZ_MAILBOX_ROOM (FZ_MAILBOX_OUT - 8) /* replies; a pad follows */

struct fz_mailbox {
	struct fz_claim claim;
	_Atomic uint32_t nexpected; /* how often the parent expected a call */
	_Atomic uint32_t cpu; /* where it waited last, from 1; 0: not known */
	_Atomic uint32_t writing; /* 1: a reply too big for out[] is written */
	_Atomic uint32_t nwhy;  /* bytes in out[]: why it cannot start; or 0 */
	_Atomic uint32_t epoch; /* how often out[] was emptied */
	_Atomic uint64_t open;  /* fz_mailbox_open_word() */
	_Atomic uint64_t seals[2];
	_Atomic int64_t start_ns; /* start of the last timed job or chunk */
	struct fz_account account;
	unsigned char out[FZ_MAILBOX_OUT];
};

/*
 * The worker's private memory beside the mailbox: its replies, and the buffer
 * for calls. It is a mapping: glibc, at the first large malloc of the worker,
 * would consolidate and so copy much of the inherited heap.
 */
struct fz_mailbox_own {
	unsigned char out[FZ_MAILBOX_OUT];
	unsigned char in[FZ_MAILBOX_IN];
};

/* In the worker. NULL and `err` on failure. */
struct fz_mailbox_own *fz_mailbox_own_new(struct fz_err *err);
void fz_mailbox_own_free(struct fz_mailbox_own *own);

/* The replies in a mailbox. */
struct fz_mailbox_open {
	uint32_t start;  /* bytes of complete replies; the next frame's start */
	uint32_t len;    /* bytes of the frame that grows; 0: there is none */
	uint32_t nitems; /* items in that frame; 0: there is none */
};

enum { FZ_MAILBOX_OPEN_ITEMS = (1 << 20) - 1 }; /* at most */

/* Words have a number in the highest byte. Added to a word: */
#define FZ_MAILBOX_OPEN_NEXT (UINT64_C(1) << 56)        /* the next number */
#define FZ_MAILBOX_OPEN_ITEM (FZ_MAILBOX_OPEN_NEXT | 1) /* and an item */

/* The word for `open` with the number of the word `numbered`. */
static inline uint64_t
fz_mailbox_open_word(uint64_t numbered, const struct fz_mailbox_open *open)
{
	return numbered >> 56 << 56 | (uint64_t)open->start << 38 |
	       (uint64_t)open->len << 20 | open->nitems;
}

static inline struct fz_mailbox_open
fz_mailbox_open_of(uint64_t word)
{
	struct fz_mailbox_open open = { word >> 38 & 0x3ffff,
		word >> 20 & 0x3ffff, word & FZ_MAILBOX_OPEN_ITEMS };

	return open;
}

/* What the mailbox has now. */
struct fz_mailbox_open fz_mailbox_open(const struct fz_mailbox *mailbox);

/* The sum over the first bytes of out[], which continues as these grow. */
struct fz_mailbox_sum {
	uint64_t sum; /* of whole words of 8 bytes */
	size_t at;    /* bytes of these words */
};

/* A word that differs has another term, so that one wrong word is noticed. */
static inline uint64_t
fz_mailbox_term(uint64_t word, size_t at)
{
	uint64_t factor = at * UINT64_C(0x9e3779b97f4a7c15) | 1;

	return (word ^ word >> 32) * factor;
}

/* Zeros follow the first `end` bytes, so that sums have whole words. */
static inline void
fz_mailbox_pad(unsigned char *out, size_t end)
{
	fz_le64_store(out + end, 0);
}

/* Continue the sum up to byte `end`, behind which `out` is padded. */
static inline uint64_t
fz_mailbox_sum_to(
    struct fz_mailbox_sum *s, const unsigned char *out, size_t end)
{
	for (; s->at + 8 <= end; s->at += 8)
		s->sum += fz_mailbox_term(fz_le64_load(out + s->at), s->at);
	return s->sum + fz_mailbox_term(fz_le64_load(out + s->at), s->at);
}

static inline uint64_t
fz_mailbox_seal(uint64_t word, uint64_t sum)
{
	return word ^ sum;
}

/*
 * In the worker: publish `word`, the successor of the last one, for bytes with
 * the sum `sum`. The seal is stored only after the last word, because before
 * that its place may still belong to the word that the parent reads.
 */
static inline void
fz_mailbox_show(struct fz_mailbox *mailbox, uint64_t word, uint64_t sum)
{
	atomic_store_explicit(&mailbox->seals[word >> 56 & 1],
	    fz_mailbox_seal(word, sum), memory_order_release);
	atomic_store_explicit(&mailbox->open, word, memory_order_release);
}

/* In the parent: read the word and its seal. False: there are newer ones. */
bool fz_mailbox_read(
    const struct fz_mailbox *mailbox, uint64_t *word, uint64_t *seal);

/*
 * Memory for several cells, in one mapping, because each mapping of the parent
 * makes each fork slower. No fork inherits it except the cells that are new
 * then. A mailbox is used once: a descendant of its worker may still map it.
 */
struct fz_mailbox_block;

/*
 * A mailbox of `*block` that later forks share. If that block is NULL, full, or
 * the one of a parent, make a new block first and put it in `*block`. NULL and
 * `err` on failure.
 */
struct fz_mailbox *fz_mailbox_new(
    struct fz_mailbox_block **block, struct fz_err *err);

/* A mailbox for a worker that shares no memory. NULL and `err` on failure. */
struct fz_mailbox *fz_mailbox_new_private(struct fz_err *err);

/*
 * Free a mailbox of `block`; the last one of a block that was dropped frees it.
 */
void fz_mailbox_free(
    struct fz_mailbox *mailbox, struct fz_mailbox_block *block);

/* No further mailbox will be taken from the block. NULL is allowed. */
void fz_mailbox_block_drop(struct fz_mailbox_block *block);

/*
 * In the parent, after the fork: the mailbox belongs to one worker, so later
 * forks do not inherit it.
 */
void fz_mailbox_keep(struct fz_mailbox *mailbox);

#endif
