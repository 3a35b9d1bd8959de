/*
 * Blocks of the shared heap: their sizes, their places, and their memory.
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
/* clock_gettime is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "heap_test.h"
#include "shared/heap_state.h"
#include "this_member.h"

static void
test_heap_blocks_have_the_room_that_was_asked_for(void **state)
{
	static const size_t sizes[] = { 0, 1, 65536, 65537, 1 << 20,
		(9 << 20) + 1 };
	const size_t n = sizeof(sizes) / sizeof(sizes[0]);
	unsigned char *blocks[6];
	size_t used = 0;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		blocks[i] = fz_heap_alloc(join(), sizes[i], NULL);
		assert_non_null(blocks[i]);
		assert_true(fz_heap_capacity(blocks[i]) >= sizes[i]);
		assert_true(
		    fz_heap_capacity(blocks[i]) <= sizes[i] + FZ_HEAP_BLOCK);
		used += fz_heap_capacity(blocks[i]);
		memset(blocks[i], (int)i, fz_heap_capacity(blocks[i]));
		assert_ptr_equal(
		    fz_ref_at(fz_ref_offset(blocks[i])), blocks[i]);
	}
	assert_int_equal(fz_heap_used(), used);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < fz_heap_capacity(blocks[i]); k += 4096)
			assert_int_equal(blocks[i][k], i);
	fz_heap_trim(blocks[4], 100);
	assert_int_equal(fz_heap_capacity(blocks[4]), FZ_HEAP_BLOCK);
	fz_heap_trim(blocks[4], 100);
	for (size_t i = 0; i < n; i++)
		fz_heap_give_back(blocks[i]);
	assert_int_equal(fz_heap_used(), 0);
	assert_null(fz_ref_at(0));
	assert_null(fz_heap_alloc(join(), SIZE_MAX, NULL));
	assert_null(fz_heap_alloc(join(), heap->size, NULL));
}

static void
test_heap_blocks_keep_their_memory_for_a_while(void **state)
{
	void *blocks = fz_heap_alloc(join(), 1 << 20, NULL);
	unsigned reserves = heap_faults.reserves;
	void *much;

	(void)state;
	fz_heap_give_back(blocks);
	assert_ptr_equal(fz_heap_alloc(join(), 1 << 20, NULL), blocks);
	assert_int_equal(heap_faults.reserves, reserves);
	fz_heap_give_back(blocks);
	much = fz_heap_alloc(join(), (size_t)300 << 20, NULL);
	assert_non_null(much);
	fz_heap_give_back(much); /* too large to stay reserved */
	reserves = heap_faults.reserves;
	blocks = fz_heap_alloc(join(), 1 << 20, NULL);
	assert_true(heap_faults.reserves > reserves);
	fz_heap_give_back(blocks);
}

static void
giving_child(uint64_t block)
{
	fz_heap_give_back(fz_ref_at(block));
}

static void
test_heap_allocates_the_first_free_block(void **state)
{
	enum { N = 64, FIRST = 5, SECOND = 40, THIRD = 41 };
	void *blocks[N];
	pid_t pid;

	(void)state;
	for (int i = 0; i < N; i++)
		blocks[i] = fz_heap_alloc(join(), 1, NULL);
	fz_heap_give_back(blocks[SECOND]);
	pid = start_member(giving_child, fz_ref_offset(blocks[FIRST]));
	await_used((N - 2) * FZ_HEAP_BLOCK);
	kill_member(pid);
	assert_ptr_equal(fz_heap_alloc(join(), 1, NULL), blocks[FIRST]);
	assert_ptr_equal(fz_heap_alloc(join(), 1, NULL), blocks[SECOND]);
	assert_true((unsigned char *)fz_heap_alloc(join(), 1, NULL) >
		    (unsigned char *)blocks[N - 1]);
	fz_heap_give_back(blocks[FIRST]);
	fz_heap_give_back(blocks[SECOND]);
	fz_heap_give_back(blocks[THIRD]);
	assert_ptr_equal(
	    fz_heap_alloc(join(), 2 * FZ_HEAP_BLOCK, NULL), blocks[SECOND]);
	assert_ptr_equal(fz_heap_alloc(join(), 1, NULL), blocks[FIRST]);
}

/* The search for a free block does not visit blocks in use. */
static void
test_heap_allocates_as_fast_with_many_blocks_in_use(void **state)
{
	struct timespec before, after;
	uint32_t many, rounds;

	(void)state;
#ifdef FZ_VALGRIND
	skip();
#endif
	assert_int_not_equal(join(), 0);
	many = heap_head()->nblocks / 2;
	rounds = (uint32_t)(UINT64_C(20000000000) / many);
	assert_int_equal(
	    fz_heap_reserve(heap->owners, (many + 2) * sizeof(uint64_t)), 0);
	for (uint32_t i = 0; i < many; i++) /* in use, without memory */
		atomic_store(&heap->owners[i], owner_word(join(), 1));
	atomic_store(&heap_head()->top, many);
	fz_heap_give_back(fz_heap_alloc(join(), 1, NULL));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	for (uint32_t i = 0; i < rounds; i++)
		fz_heap_give_back(fz_heap_alloc(join(), 1, NULL));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	/*
	 * Searches of all blocks would take 20 billion steps: more than 5 s.
	 */
	assert_true(after.tv_sec - before.tv_sec < 5);
}

/* If memory is missing for a block, the block does not count as reserved. */
static void
test_heap_a_block_without_memory_is_unused(void **state)
{
	unsigned reserves;
	void *block;

	(void)state;
	/* The first allocation reserves the owner words. */
	fz_heap_give_back(fz_heap_alloc(join(), 1, NULL));
	fz_heap_alloc(join(), 1, NULL);
	for (unsigned n = 1; n <= 2; n++) {
		struct fz_err err = { 0 };

		heap_faults_at(n, false);
		assert_null(fz_heap_alloc(join(), 1 << 20, &err));
		heap_faults_end();
		assert_int_equal(err.code, ENOMEM);
		assert_int_equal(fz_heap_used(), FZ_HEAP_BLOCK);
	}
	reserves = heap_faults.reserves;
	block = fz_heap_alloc(join(), 1 << 20, NULL);
	assert_true(heap_faults.reserves > reserves);
	memset(block, 1, 1 << 20);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, heap_test_setup, heap_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_heap_blocks_have_the_room_that_was_asked_for),
		TEST(test_heap_blocks_keep_their_memory_for_a_while),
		TEST(test_heap_allocates_the_first_free_block),
		TEST(test_heap_allocates_as_fast_with_many_blocks_in_use),
		TEST(test_heap_a_block_without_memory_is_unused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
