/*
 * endpoint.h - the processes that hold or use an end of a pipe.
 *
 * A forked process holds ends that it may never use. So an end has users:
 * processes that used it, or received it as an argument or in a message, until
 * they leave it or die. Processes that merely hold an end count only as long as
 * it never had a user.
 */
#ifndef FZ_ENDPOINT_H
#define FZ_ENDPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/heap.h"

/* An end of a pipe, in shared memory. All bytes are 0 at first. */
struct fz_endpoint {
	/* the first member that has ever held the end; 0: none yet */
	_Atomic uint32_t holder;
	/* the first member that has ever used the end; 0: none yet */
	_Atomic uint32_t user;
	_Atomic uint32_t nholders; /* 2 if a second member has held the end */
	_Atomic uint32_t nusers;   /* 2 if a second member has used the end */
	/*
	 * for each place of a member: the number of that member if it holds the
	 * end, plus the bit USED if it uses the end
	 */
	_Atomic uint32_t at[FZ_HEAP_MEMBERS];
};

/*
 * fz_endpoint_hold(): note that this process holds the end. fz_endpoint_use():
 * note that it uses, and therefore holds, the end. A second call does nothing.
 */
void fz_endpoint_hold(struct fz_endpoint *end, uint32_t self);
void fz_endpoint_use(struct fz_endpoint *end, uint32_t self);

/* Note that this process no longer holds the end. */
void fz_endpoint_leave(struct fz_endpoint *end, uint32_t self);

/* Whether this process uses the end. */
bool fz_endpoint_is_used(const struct fz_endpoint *end, uint32_t self);

/*
 * Whether no other process can use the end. Ignores processes that have not
 * received the end yet.
 */
bool fz_endpoint_is_over(const struct fz_endpoint *end, uint32_t self);

#endif
