/*
 * endpoint.h - which processes have an end of a pipe, and which have it in use.
 *
 * A fork gives a process ends that it will never touch. So those that use one
 * (or were given it by name: as an argument, in a message) count as long as
 * they live and have not left it, and those that merely have it only as long
 * as nobody else has used it.
 */
#ifndef FZ_ENDPOINT_H
#define FZ_ENDPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/heap.h"

/* In shared memory; all zero is a new one. */
struct fz_endpoint {
	_Atomic uint32_t holder;   /* the first ever, 0: nobody */
	_Atomic uint32_t user;     /* the first ever */
	_Atomic uint32_t nholders; /* 2: others have had it, too */
	_Atomic uint32_t nusers;
	/* By place: the member that has it, with a bit if it uses it. */
	_Atomic uint32_t at[FZ_HEAP_MEMBERS];
};

/* This process has it; it uses it, which is to have it, too. Again: nothing. */
void fz_endpoint_hold(struct fz_endpoint *end, uint32_t self);
void fz_endpoint_use(struct fz_endpoint *end, uint32_t self);

/* This process has it no longer. */
void fz_endpoint_leave(struct fz_endpoint *end, uint32_t self);

/* Whether it uses it. */
bool fz_endpoint_is_used(const struct fz_endpoint *end, uint32_t self);

/*
 * Whether nobody but this process will use it. Processes that are to have it
 * and do not yet are not known here.
 */
bool fz_endpoint_is_over(const struct fz_endpoint *end, uint32_t self);

#endif
