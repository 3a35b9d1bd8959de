/*
 * endpoint.h - which processes hold an end of a pipe, and which use it.
 *
 * A forked process holds ends that it may never use. So a process that uses an
 * end, or received the end as an argument or in a message, counts until it
 * leaves the end or dies. A process that merely holds an end counts only as
 * long as no process has used it.
 */
#ifndef FZ_ENDPOINT_H
#define FZ_ENDPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/heap.h"

/* In shared memory; all zero is a new end. */
struct fz_endpoint {
	/* the first member ever that held the end; 0: none */
	_Atomic uint32_t holder;
	/* the first member ever that used the end; 0: none */
	_Atomic uint32_t user;
	_Atomic uint32_t nholders; /* 2 if another member held the end, too */
	_Atomic uint32_t nusers;   /* 2 if another member used the end, too */
	/*
	 * by place of a member: its number if it holds the end, with the bit
	 * USED if it uses the end
	 */
	_Atomic uint32_t at[FZ_HEAP_MEMBERS];
};

/*
 * fz_endpoint_hold(): note that this process holds the end. fz_endpoint_use():
 * note that it uses the end, and so holds it, too. Both are idempotent.
 */
void fz_endpoint_hold(struct fz_endpoint *end, uint32_t self);
void fz_endpoint_use(struct fz_endpoint *end, uint32_t self);

/* Note that this process does not hold the end any more. */
void fz_endpoint_leave(struct fz_endpoint *end, uint32_t self);

/* Whether this process uses the end. */
bool fz_endpoint_is_used(const struct fz_endpoint *end, uint32_t self);

/*
 * Whether no other process can use the end. A process that has not received the
 * end yet does not count.
 */
bool fz_endpoint_is_over(const struct fz_endpoint *end, uint32_t self);

#endif
