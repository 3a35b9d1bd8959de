/*
 * The shared heap: its region, and objects in it.
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
/* fork and setrlimit are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "descriptors.h"
#include "heap_test.h"
#include "sanitized.h"
#include "shared/heap_state.h"
#include "this_member.h"

static void
test_heap_any_call_may_fail(void **state)
{
	int nfds = count_fds(), nbad = 0;

	(void)state;
	for (unsigned n = 1; n < 100; n++) {
		struct fz_err err = { 0 };
		void *object;

		heap_faults_at(n, false);
		object = fz_heap_new(&this_member, TYPE, 1000, &err);
		if (!heap_faults_end()) {
			assert_non_null(object);
			assert_int_equal(count_fds(), nfds + 2);
			break;
		}
		/*
		 * The allocation may succeed although a call has failed,
		 * because the heap may be smaller or at another address.
		 */
		if (object != NULL)
			fz_heap_free(&this_member, object);
		else
			nbad++;
		assert_int_equal(object == NULL, err.kind != FZ_ERR_NONE);
		assert_int_equal(fz_heap_used(), 0);
		fz_heap_release(&this_member);
		assert_int_equal(count_fds(), nfds);
		fz_heap_acquire(&this_member);
	}
	assert_true(nbad >= 8);
	assert_int_equal(fz_heap_used(), FZ_HEAP_BLOCK);
}

static void
refused_child(uint64_t arg)
{
	struct fz_err err = { 0 };

	(void)arg;
	report->bad = fz_heap_open(&err) == 0 || err.kind == FZ_ERR_NONE ||
		      fz_heap_join(&this_member, &err) != 0 ||
		      fz_heap_wake_fd() != -1;
	report->number = 1;
}

static void
test_heap_a_child_of_a_process_without_a_heap_creates_none(void **state)
{
	(void)state;
	heap_faults_at(1, false);
	assert_int_equal(fz_heap_open(NULL), -1);
	heap_faults_end();
	kill_member(start_reporting_member(refused_child, 0));
	assert_int_equal(report->bad, 0);
	assert_int_equal(fz_heap_open(NULL), 0); /* succeeds without faults */
}

static void
test_heap_is_absent_if_file_size_is_limited(void **state)
{
	struct rlimit before, limit;
	struct fz_err err = { 0 };

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(fz_heap_join(&this_member, &err), 0);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_non_null(strstr(err.text, "file size"));
}

/* With 64 MB or more, all blocks can be allocated and freed again. */
static void
small_child(uint64_t arg)
{
	struct rlimit limit = { (rlim_t)arg, (rlim_t)arg };
	struct fz_err err = { 0 };
	void *blocks[8192];
	size_t n = 0, again = 0;

	if (setrlimit(RLIMIT_AS, &limit) != 0 ||
	    fz_heap_join(&this_member, &err) == 0)
		_exit(1);
	if (heap->size > arg / 4) /* the script needs addresses, too */
		_exit(2);
	while (n < 8192 && (blocks[n] = fz_heap_alloc(join(), 1, &err)) != NULL)
		n++;
	if (n < 900 || n == 8192 || err.kind == FZ_ERR_NONE)
		_exit(3);
	if (fz_heap_alloc(join(), heap->size, &err) != NULL)
		_exit(4);
	for (size_t i = 0; i < n; i++)
		fz_heap_give_back(blocks[i]);
	if (fz_heap_used() != 0)
		_exit(5);
	while ((blocks[again] = fz_heap_alloc(join(), 1, NULL)) != NULL)
		again++;
	_exit(n == again ? 0 : 6);
}

static void
test_heap_is_smaller_if_address_space_is_limited(void **state)
{
	int status = -1;
	pid_t pid;

	(void)state;
	if (UNDER_ASAN)
		skip(); /* the sanitizer needs more addresses */
	pid = start_member(small_child, (uint64_t)400 << 20);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_heap_objects_are_found_by_name(void **state)
{
	static const size_t sizes[] = { sizeof(struct fz_object), 256, 257,
		200000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fz_object *o =
		    fz_heap_new(&this_member, TYPE, sizes[i], NULL);
		uint32_t name, generation;

		assert_non_null(o);
		for (size_t k = sizeof(*o); k < sizes[i]; k++)
			assert_int_equal(((unsigned char *)o)[k], 0);
		memset(o + 1, 0xff, sizes[i] - sizeof(*o));
		name = fz_heap_name(o);
		generation = o->generation;
		assert_int_equal(o->maker, join());
		assert_ptr_equal(fz_heap_find(name, generation, TYPE), o);
		assert_null(fz_heap_find(name, generation + 1, TYPE));
		assert_null(fz_heap_find(name, generation, TYPE + 1));
		fz_heap_free(&this_member, o);
		assert_null(fz_heap_find(name, generation, TYPE));
		o = fz_heap_new(&this_member, TYPE, sizes[i], NULL);
		assert_int_equal(fz_heap_name(o), name); /* a reused name */
		assert_int_not_equal(o->generation, generation);
		assert_null(fz_heap_find(name, generation, TYPE));
		fz_heap_free(&this_member, o);
	}
	for (uint32_t i = 0; i < 100000; i++)
		assert_null(fz_heap_find(i * 42949u, i, TYPE));
	assert_null(fz_heap_find(UINT32_MAX, 1, TYPE));
}

static void
test_heap_small_objects_are_freed_with_their_block(void **state)
{
	struct fz_object *objects[1000];

	(void)state;
	for (int i = 0; i < 1000; i++)
		objects[i] = fz_heap_new(&this_member, TYPE, 100, NULL);
	assert_int_equal(fz_heap_used(), 4 * FZ_HEAP_BLOCK);
	for (int i = 0; i < 1000; i++)
		fz_heap_free(&this_member, objects[i]);
	assert_int_equal(fz_heap_used(), FZ_HEAP_BLOCK); /* one block is kept */
	for (int i = 0; i < 256; i++)
		objects[i] = fz_heap_new(&this_member, TYPE, 100, NULL);
	assert_int_equal(fz_heap_used(), FZ_HEAP_BLOCK);
}

static void
test_heap_an_object_is_freed_with_its_blocks(void **state)
{
	struct fz_object *o = fz_heap_new(&this_member, TYPE, 1000, NULL);
	void *own = fz_heap_alloc(join(), 1 << 20, NULL);
	void *back = fz_heap_alloc(join(), 1 << 20, NULL);

	(void)state;
	fz_heap_set_owner(own, o);
	fz_heap_set_owner(back, o);
	fz_heap_own(back, join());
	fz_heap_free(&this_member, o);
	assert_int_equal(fz_heap_used(), 1 << 20);
	fz_heap_give_back(back);
	assert_int_equal(fz_heap_used(), 0);
}

static void
test_heap_a_small_object_is_freed_with_its_blocks(void **state)
{
	struct fz_object *o = fz_heap_new(&this_member, TYPE, 256, NULL);
	struct fz_object *other = fz_heap_new(&this_member, TYPE, 256, NULL);
	void *blocks = fz_heap_alloc(join(), 1 << 20, NULL);
	uint32_t name = fz_heap_name(o);

	(void)state;
	fz_heap_set_owner(fz_heap_alloc(join(), 1 << 20, NULL), o);
	fz_heap_set_owner(blocks, other);
	fz_heap_free(&this_member, o);
	/* The blocks of `other`, and the block that contains `other`. */
	assert_int_equal(fz_heap_used(), (1 << 20) + FZ_HEAP_BLOCK);
	assert_ptr_equal(
	    fz_heap_find(fz_heap_name(other), other->generation, TYPE), other);
	/* The next object at the same place owns no blocks. */
	o = fz_heap_new(&this_member, TYPE, 256, NULL);
	assert_int_equal(fz_heap_name(o), name);
	assert_int_equal(o->owns, 0);
	fz_heap_free(&this_member, o);
	fz_heap_give_back(blocks);
	fz_heap_free(&this_member, other);
	assert_int_equal(fz_heap_used(), FZ_HEAP_BLOCK);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, heap_test_setup, heap_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_heap_any_call_may_fail),
		TEST(
		    test_heap_a_child_of_a_process_without_a_heap_creates_none),
		TEST(test_heap_is_absent_if_file_size_is_limited),
		TEST(test_heap_is_smaller_if_address_space_is_limited),
		TEST(test_heap_objects_are_found_by_name),
		TEST(test_heap_small_objects_are_freed_with_their_block),
		TEST(test_heap_an_object_is_freed_with_its_blocks),
		TEST(test_heap_a_small_object_is_freed_with_its_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
