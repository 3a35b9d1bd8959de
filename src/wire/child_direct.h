/*
 * child_direct.h - answers items with few instructions for each. The worker
 * stores the results in memory that the parent reads. Begins at the current
 * item. Put no other reply between begin and end.
 *
 * 	begin
 * 	do
 * 		... store the result, or leave
 * 		fz_direct_stored()
 * 	while (fz_direct_advance())
 * 	end
 */
#ifndef FZ_CHILD_DIRECT_H
#define FZ_CHILD_DIRECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "wire/child_port.h"
#include "wire/claim.h"
#include "wire/mailbox.h"

struct fz_err;

struct fz_direct {
	struct fz_mailbox *mailbox;
	uint64_t word; /* the last word of the mailbox */
	uint64_t sum;  /* sum over the bytes that the word covers */
	uint32_t seq;  /* number of the current item */
	uint32_t left; /* number of items that may follow the current one */
	bool timed;
	bool *lost; /* `lost` of the port */
};

/* Begin at the current item. 0, or -1 and `err` if the parent is gone. */
int fz_direct_begin(struct fz_port *port, const struct fz_call *call,
    struct fz_direct *direct, struct fz_err *err);

/*
 * End: set `call` to the current item. Returns the number of items before it.
 */
uint32_t fz_direct_end(
    struct fz_port *port, struct fz_call *call, const struct fz_direct *direct);

static inline void
fz_direct_stored(struct fz_direct *direct)
{
	direct->word += FZ_MAILBOX_OPEN_ITEM;
	fz_mailbox_show(direct->mailbox, direct->word, direct->sum);
}

/* Start the next item; false if there is none. */
static inline bool
fz_direct_advance(struct fz_direct *direct)
{
	if (direct->left == 0)
		return false;
	if (direct->timed)
		atomic_store(&direct->mailbox->start_ns, fz_clock_ns());
	if (!fz_claim_start(
		&direct->mailbox->claim, direct->seq + 1, direct->lost))
		return false;
	direct->seq++;
	direct->left--;
	return true;
}

#endif
