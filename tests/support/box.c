/* kill and fork are not in C11. */
#define _GNU_SOURCE
#include "box.h"
#include "this_member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(sizeof(struct box) <= FZ_HEAP_SMALL, "as in the binding");

struct box *
box_new(uint32_t max)
{
	struct box *box = fz_heap_new(&this_member, TYPE, sizeof(*box), NULL);

	assert_non_null(box);
	fz_queue_init(&box->queue, &box->object, max);
	return box;
}

uint32_t
box_self(void)
{
	uint32_t member = join();

	assert_int_not_equal(member, 0);
	return member;
}

enum fz_queue_state
box_put(struct box *box, unsigned number, size_t len)
{
	static unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_item item = { .head = "", .body = bytes, .nbody = len };

	memset(bytes, (int)number, len);
	return fz_queue_put(&box->queue, join(), &item, NULL);
}

enum fz_queue_state
box_put_big(struct box *box, unsigned number, size_t len)
{
	struct fz_queue_item item = { .nbody = len };
	enum fz_queue_state state;

	item.blocks = fz_heap_alloc(join(), len + FZ_HEAP_BLOCK, NULL);
	if (item.blocks == NULL)
		return FZ_QUEUE_FAILED;
	memset(item.blocks, (int)number, len);
	state = fz_queue_put(&box->queue, join(), &item, NULL);
	if (state != FZ_QUEUE_DONE)
		fz_heap_give_back(item.blocks);
	return state;
}

unsigned
box_take(struct box *box, size_t *len)
{
	static unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes, .is_tracked = true };
	const unsigned char *p;
	unsigned number;

	if (fz_queue_take(&box->queue, join(), &taken) != FZ_QUEUE_DONE)
		return 0;
	p = taken.blocks != NULL ? taken.blocks : bytes;
	number = taken.len != 0 ? p[0] : 0;
	for (size_t i = 0; i < taken.len; i++)
		assert_int_equal(p[i], number);
	if (len != NULL)
		*len = taken.len;
	if (taken.blocks != NULL)
		fz_heap_give_back(taken.blocks);
	return number;
}

void
box_start_takers(struct box *box, pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(box_put(box, i + 1, 10), FZ_QUEUE_DONE);
		atomic_store(&box->done, 0);
		pids[i] = fork();
		if (pids[i] == 0) {
			if (box_take(box, NULL) != i + 1)
				_exit(1);
			atomic_store(&box->done, 1);
			for (;;)
				pause();
		}
		while (!atomic_load(&box->done))
			sched_yield();
	}
}

void
box_end_takers(pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
}
