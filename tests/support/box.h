/*
 * box.h - a queue in shared memory. An item has bytes of one value, which is
 * its number.
 */
#ifndef BOX_H
#define BOX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/heap.h"
#include "shared/queue.h"

enum { TYPE = 1 };

struct box {
	struct fz_object object;
	_Atomic uint32_t done; /* set by a child */
	struct fz_queue queue;
};

struct box *box_new(uint32_t max);

/* This process as a member of the shared heap. */
uint32_t box_self(void);

enum fz_queue_state box_put(struct box *box, unsigned number, size_t len);

enum fz_queue_state box_put_big(struct box *box, unsigned number, size_t len);

/* The number of the next item; 0: there is none. All of it must be whole. */
unsigned box_take(struct box *box, size_t *len);

/* Start `n` children that have taken an item each, and live. */
void box_start_takers(struct box *box, pid_t *pids, unsigned n);

void box_end_takers(pid_t *pids, unsigned n);

#endif
