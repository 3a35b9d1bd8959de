/*
 * Queues of two threads use the same memory one after the other. The order is
 * made by another process, so that the thread sanitizer does not see it. For
 * this case tests/tsan.supp has an entry for fz_queue_take().
 */
/* fork is not in C11. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "members.h"
#include "shared/heap.h"
#include "shared/queue.h"

enum { TYPE = 1, LEN = 1000 };

struct object {
	struct fz_object object;
	struct fz_queue queue;
};

/* A thread or process, which waits, works, and wakes the next one. */
struct party {
	struct fz_membership own;
	struct object *object;
	int in, out; /* ends of pipes: wait for a byte; wake the next party */
	void *first; /* the first segment of its queue */
};

static struct object *
new_queue(struct fz_membership *own)
{
	struct object *o = fz_heap_new(own, TYPE, sizeof(*o), NULL);

	assert_non_null(o);
	fz_queue_init(&o->queue, &o->object, 0);
	return o;
}

static bool
put(struct party *p, char fill)
{
	char bytes[LEN];
	const struct fz_queue_item item = { .head = bytes, .nhead = LEN };

	memset(bytes, fill, LEN);
	return fz_queue_put(&p->object->queue, fz_heap_join(&p->own, NULL),
		   &item, NULL) == FZ_QUEUE_DONE;
}

static bool
take(struct party *p, char fill)
{
	static _Thread_local unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };

	if (fz_queue_take(&p->object->queue, fz_heap_join(&p->own, NULL),
		&taken) != FZ_QUEUE_DONE)
		return false;
	p->first = fz_ref_get(&p->object->queue.first);
	for (size_t i = 0; i < LEN; i++) {
		if (taken.len != LEN || bytes[i] != (unsigned char)fill)
			return false;
	}
	return true;
}

static bool
await(const struct party *p)
{
	char c;

	return read(p->in, &c, 1) == 1;
}

static bool
wake(const struct party *p)
{
	return write(p->out, "", 1) == 1;
}

/* Use a block for a queue of this thread, and free it. */
static void *
use_and_free(void *arg)
{
	struct party *p = arg;
	bool good = await(p);

	fz_heap_acquire(&p->own);
	p->object = new_queue(&p->own);
	good = good && put(p, 'a') && take(p, 'a');
	fz_heap_free(&p->own, &p->object->object);
	good = good && wake(p);
	good = await(p) && good; /* the thread keeps its other blocks */
	fz_heap_release(&p->own);
	return good ? p : NULL;
}

/* Take the item that the other process has put. */
static void *
take_from_process(void *arg)
{
	struct party *p = arg;

	return await(p) && take(p, 'b') ? p : NULL;
}

static int
put_in_process(void *ctx)
{
	struct party *p = ctx;

	return await(p) && put(p, 'b') && wake(p) ? 0 : 1;
}

static void
test_queue_memory_goes_from_one_thread_to_another(void **state)
{
	struct party user = { .out = -1 }, taker = { .out = -1 }, putter;
	int start[2], freed[2], full[2];
	pthread_t threads[2];
	void *good[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(start) | pipe(freed) | pipe(full), 0);
	fz_heap_acquire(&taker.own);
	taker.object = new_queue(&taker.own);
	taker.in = full[0];
	putter = (struct party){
		.object = taker.object, .in = freed[0], .out = full[1]
	};
	user.in = start[0];
	user.out = freed[1];
	pid = member_start(put_in_process, &putter);
	pthread_create(&threads[0], NULL, take_from_process, &taker);
	pthread_create(&threads[1], NULL, use_and_free, &user);
	assert_int_equal(write(start[1], "", 1), 1);
	pthread_join(threads[0], &good[0]);
	assert_int_equal(write(start[1], "", 1), 1);
	pthread_join(threads[1], &good[1]);
	assert_int_equal(member_wait(pid), 0);
	assert_true(good[0] != NULL && good[1] != NULL);
	assert_ptr_equal(taker.first, user.first); /* the same memory */
	fz_heap_free(&taker.own, &taker.object->object);
	fz_heap_release(&taker.own);
	for (int i = 0; i < 2; i++) {
		close(start[i]);
		close(freed[i]);
		close(full[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_queue_memory_goes_from_one_thread_to_another,
		    members_setup, members_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
