/*
 * box.h - a queue in shared memory. Each byte of an item has the same value,
 * which is the number of the item.
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
	_Atomic uint32_t done; /* set by a child when it has taken an item */
	struct fz_queue queue;
};

struct box *box_new(uint32_t max);

/* The member number of this process. */
uint32_t box_self(void);

enum fz_queue_state box_put(struct box *box, unsigned number, size_t len);

enum fz_queue_state box_put_big(struct box *box, unsigned number, size_t len);

/* Take an item, and check its bytes. Returns its number; 0: there is none. */
unsigned box_take(struct box *box, size_t *len);

/* Start `n` children, each of which has taken an item and waits. */
void box_start_takers(struct box *box, pid_t *pids, unsigned n);

void box_end_takers(pid_t *pids, unsigned n);

#endif
