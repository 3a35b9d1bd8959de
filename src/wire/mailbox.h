/*
 * mailbox.h - memory that a worker on this machine shares with its parent,
 * beside the pipes or the socket.
 *
 * After the death of a worker the mailbox says exactly which item the worker
 * had started, and which replies were complete but not yet written; pipes do
 * not.
 *
 *   claim  the items that the worker has started (see claim.h).
 *   held   for a worker on a node: the claim that the worker shares with the
 *          process on the node. Then only the worker uses `claim` (see
 *          child_stream.h).
 *   written  the number of bytes of replies that were written, and so the place
 *          of `out` among all replies.
 *   out    replies that are finished and not yet written to the pipe. The
 *          worker increments `epoch` before it overwrites bytes of `out`.
 *   open   the part of `out` that counts: the bytes of complete replies, and
 *          the bytes and items of the frame that grows after them. A reply or
 *          an item counts from the moment this word covers it.
 *   cpu    the processor of a worker that waits for calls, so that the parent
 *          knows whether the worker needs the processor of the parent.
 *   nexpected  counts the calls that the parent expects to send soon, so that
 *          the worker keeps its processor for some microseconds.
 *   seals  a seal is the sum over the bytes that a word covers, combined with
 *          the word. Two words in a row have their seals in different places,
 *          so that the parent can read a word and its seal while the worker
 *          publishes the next word.
 *
 * A function of the worker may overwrite this memory. Therefore the worker
 * builds replies and computes sums in memory of its own, and the mailbox has a
 * copy of them. The parent takes replies from the mailbox only if their seal is
 * right, and checks everything else that it reads.
 */
#ifndef FZ_MAILBOX_H
#define FZ_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/account.h"
#include "wire/claim.h"

struct fz_err;

#define FZ_MAILBOX_OUT ((size_t)128 << 10)
#define FZ_MAILBOX_IN ((size_t)128 << 10)
#define FZ_MAILBOX_ROOM (FZ_MAILBOX_OUT - 8) /* for replies; a pad follows */

struct fz_mailbox {
	struct fz_claim claim, held;
	_Atomic uint64_t written; /* set before `epoch` is incremented */
	/* number of calls that the parent has expected to send soon */
	_Atomic uint32_t nexpected;
	/* processor on which the worker last waited, from 1; 0: unknown */
	_Atomic uint32_t cpu;
	/* 1 while a reply that is too big for out[] is written, else 0 */
	_Atomic uint32_t writing;
	/*
	 * length of the text in out[] that says why the worker cannot start; or
	 * 0
	 */
	_Atomic uint32_t nwhy;
	_Atomic uint32_t epoch; /* number of times that out[] was emptied */
	_Atomic uint64_t open;  /* as fz_mailbox_open_word() encodes it */
	_Atomic uint64_t seals[2];
	/* time at which the last timed job or chunk started */
	_Atomic int64_t start_ns;
	struct fz_account account;
	unsigned char out[FZ_MAILBOX_OUT];
};

/*
 * The worker's private memory beside the mailbox: its replies, and the buffer
 * for calls. It is a mapping, because at a large malloc() glibc would
 * consolidate, and so copy, much of the inherited heap.
 */
struct fz_mailbox_own {
	unsigned char out[FZ_MAILBOX_OUT];
	unsigned char in[FZ_MAILBOX_IN];
};

/* Map the memory, in the worker. NULL and `err` on failure. */
struct fz_mailbox_own *fz_mailbox_own_new(struct fz_err *err);
void fz_mailbox_own_free(struct fz_mailbox_own *own);

/* The replies in a mailbox. */
struct fz_mailbox_open {
	/* bytes of complete replies, after which the next frame starts */
	uint32_t start;
	uint32_t len;    /* bytes of the frame that grows; 0: there is none */
	uint32_t nitems; /* items in the frame that grows; 0: there is none */
};

enum { FZ_MAILBOX_OPEN_ITEMS = (1 << 20) - 1 }; /* limit of `nitems` */

/*
 * The highest byte of a word is its number. A word plus FZ_MAILBOX_OPEN_NEXT is
 * the next word, for the same replies. A word plus FZ_MAILBOX_OPEN_ITEM is the
 * next word, for one more item.
 */
#define FZ_MAILBOX_OPEN_NEXT (UINT64_C(1) << 56)
#define FZ_MAILBOX_OPEN_ITEM (FZ_MAILBOX_OPEN_NEXT | 1)

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

/* The replies that are in the mailbox now. */
struct fz_mailbox_open fz_mailbox_open(const struct fz_mailbox *mailbox);

/* A sum over the first bytes of out[]; it is continued when bytes are added. */
struct fz_mailbox_sum {
	uint64_t sum; /* sum over whole words of 8 bytes */
	size_t at;    /* number of bytes that `sum` covers */
};

/*
 * The term of a word: different words have different terms, so that one wrong
 * word is noticed.
 */
static inline uint64_t
fz_mailbox_term(uint64_t word, size_t at)
{
	uint64_t factor = at * UINT64_C(0x9e3779b97f4a7c15) | 1;

	return (word ^ word >> 32) * factor;
}

/* Write zeros after the first `end` bytes, so that sums cover whole words. */
static inline void
fz_mailbox_pad(unsigned char *out, size_t end)
{
	fz_le64_store(out + end, 0);
}

/* Continue the sum up to byte `end`, after which `out` is padded. */
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
 * In the worker: publish `word`, which follows the last word, for bytes with
 * the sum `sum`. The seal of `word` overwrites that of the word before the
 * last. The parent may read that older word until the last word is stored.
 * Therefore the seal of `word` must be stored after the last word.
 */
static inline void
fz_mailbox_show(struct fz_mailbox *mailbox, uint64_t word, uint64_t sum)
{
	atomic_store_explicit(&mailbox->seals[word >> 56 & 1],
	    fz_mailbox_seal(word, sum), memory_order_release);
	atomic_store_explicit(&mailbox->open, word, memory_order_release);
}

/*
 * In the parent: read the word and its seal. False if the worker has published
 * a newer word during the read.
 */
bool fz_mailbox_read(
    const struct fz_mailbox *mailbox, uint64_t *word, uint64_t *seal);

/*
 * In the parent: append to `frames` the replies that are finished and not
 * written. The last reply has the flag FZ_WIRE_GROWS if items may be added to
 * it. Returns 1; 0 if there are no replies, or no memory; -1 if they were
 * overwritten.
 */
int fz_mailbox_peek(const struct fz_mailbox *mailbox, struct fz_buf *frames);

/*
 * Memory for several mailboxes in one mapping, because each mapping of the
 * parent makes each fork slower. A fork inherits only the mailboxes that no
 * worker has yet. Each mailbox is for one worker only, because a descendant of
 * that worker may still map it.
 */
struct fz_mailbox_block;

/*
 * A new mailbox of `*block`, which later forks share. If that block is NULL,
 * full, or made by a parent, replace it by a new one first. NULL and `err` on
 * failure.
 */
struct fz_mailbox *fz_mailbox_new(
    struct fz_mailbox_block **block, struct fz_err *err);

/* A mailbox for a worker that shares no memory. NULL and `err` on failure. */
struct fz_mailbox *fz_mailbox_new_private(struct fz_err *err);

/*
 * A mailbox in a file without a name, for a worker that is a program. `*fd` is
 * the file, which the caller closes. End with fz_mailbox_unmap(). NULL and
 * `err` on failure.
 */
struct fz_mailbox *fz_mailbox_new_file(int *fd, struct fz_err *err);

/* In that worker: map the mailbox. NULL on failure. */
struct fz_mailbox *fz_mailbox_map(int fd);
void fz_mailbox_unmap(struct fz_mailbox *mailbox); /* NULL is allowed */

/*
 * Free a mailbox of `block`. If the block was dropped, its last mailbox frees
 * the block.
 */
void fz_mailbox_free(
    struct fz_mailbox *mailbox, struct fz_mailbox_block *block);

/* Take no further mailbox from the block. NULL is allowed. */
void fz_mailbox_block_drop(struct fz_mailbox_block *block);

/*
 * In the parent, after the fork: the mailbox belongs to one worker, so later
 * forks do not inherit it.
 */
void fz_mailbox_keep(struct fz_mailbox *mailbox);

#endif
