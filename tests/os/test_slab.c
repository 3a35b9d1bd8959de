/*
 * Small blocks: they keep their bytes, empty memory goes back to the system,
 * and a child copies little of what it inherits.
 * wrap: mmap
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/slab.h"

#define MB ((size_t)1 << 20)
enum { BLOCK = 64, MANY = 1 << 20 }; /* 64 MB of blocks */

static bool no_memory;
static unsigned char *blocks[MANY];

void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

void *
__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return no_memory ? MAP_FAILED
			 : __real_mmap(at, n, prot, flags, fd, off);
}

/* The number of bytes that `path` shows for `field`; 0: there is none. */
static size_t
bytes_in(const char *path, const char *field)
{
	FILE *file = fopen(path, "r");
	size_t kib = 0;
	char line[256];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtoul(line + strlen(field), NULL, 10);
	}
	if (file != NULL)
		fclose(file);
	return kib << 10;
}

/* Returns 0 under valgrind, whose own pages would be counted. */
static size_t
memory_of(const char *field)
{
	if (getenv("FZLUA_VALGRIND") != NULL)
		return 0;
	return bytes_in("/proc/self/smaps_rollup", field);
}

static void
allocate_many(void)
{
	for (size_t i = 0; i < MANY; i++) {
		blocks[i] = fz_slab_alloc(BLOCK);
		assert_non_null(blocks[i]);
		memset(blocks[i], (int)(i % 251), BLOCK);
	}
}

static void
free_each(size_t first, size_t step)
{
	for (size_t i = first; i < MANY; i += step) {
		if (blocks[i] != NULL)
			fz_slab_free(blocks[i]);
		blocks[i] = NULL;
	}
}

static bool
is_whole(const unsigned char *block, size_t size, unsigned char byte)
{
	for (size_t i = 0; i < size; i++) {
		if (block[i] != byte)
			return false;
	}
	return true;
}

static uint32_t
random_below(uint32_t n)
{
	static uint64_t x = 42;

	x = x * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)((x >> 32) * n >> 32);
}

static void
test_slab_blocks_of_all_sizes_are_apart(void **state)
{
	enum { LIVE = 20000, STEPS = 400000 };
	static struct {
		unsigned char *at;
		size_t size;
	} live[LIVE];

	(void)state;
	for (size_t step = 0; step < STEPS; step++) {
		uint32_t i = random_below(LIVE);

		if (live[i].at != NULL) {
			assert_true(is_whole(live[i].at, live[i].size,
			    (unsigned char)(i % 251)));
			fz_slab_free(live[i].at);
			live[i].at = NULL;
			continue;
		}
		live[i].size = 1 + random_below(FZ_SLAB_MAX);
		live[i].at = fz_slab_alloc(live[i].size);
		assert_non_null(live[i].at);
		assert_int_equal((uintptr_t)live[i].at % 16, 0);
		assert_true(fz_slab_room(live[i].size) >= live[i].size);
		memset(live[i].at, (int)(i % 251), live[i].size);
	}
	for (size_t i = 0; i < LIVE; i++) {
		if (live[i].at != NULL)
			fz_slab_free(live[i].at);
	}
}

static void
test_slab_a_block_has_room_for_its_size_alone(void **state)
{
	(void)state;
	for (size_t size = 1; size <= FZ_SLAB_MAX; size++) {
		size_t room = fz_slab_room(size);

		assert_true(room >= size);
		assert_true(room - size < (size <= 256 ? 16 : 64));
		assert_int_equal(fz_slab_room(room), room);
	}
}

static void
test_slab_empty_memory_goes_back_to_the_system(void **state)
{
	size_t before, most;

	(void)state;
	memset(blocks, 0, sizeof(blocks));
	fz_slab_trim();
	before = memory_of("Rss:");
	allocate_many();
	most = memory_of("Rss:");
	free_each(0, 1);
	assert_true(fz_slab_idle() <= 32 * MB);
	if (most == 0)
		skip();
	assert_true(most >= before + 60 * MB);
	assert_true(memory_of("Rss:") <= before + 36 * MB);
	fz_slab_trim();
	assert_true(fz_slab_idle() <= MB / 2);
	assert_true(memory_of("Rss:") <= before + 4 * MB);
}

static void
test_slab_memory_of_one_size_serves_another(void **state)
{
	enum { FEW = MANY / 8, OTHER = 2 * BLOCK };
	size_t before;

	(void)state;
	allocate_many();
	free_each(0, 2);
	free_each(1, 2);
	before = bytes_in("/proc/self/status", "VmSize:");
	assert_int_not_equal(before, 0);
	for (size_t i = 0; i < FEW; i++) {
		blocks[i] = fz_slab_alloc(OTHER);
		memset(blocks[i], 1, OTHER);
	}
	assert_true(fz_slab_idle() <= 20 * MB);
	assert_int_equal(bytes_in("/proc/self/status", "VmSize:"), before);
	free_each(0, 1);
}

static void
test_slab_without_memory_there_is_no_block(void **state)
{
	size_t n = 0;

	(void)state;
	no_memory = true;
	while (n < MANY && (blocks[n] = fz_slab_alloc(BLOCK)) != NULL)
		n++;
	no_memory = false;
	assert_true(n < MANY);
	blocks[n] = fz_slab_alloc(BLOCK);
	assert_non_null(blocks[n]);
	free_each(0, 1);
}

/* The exit status of a child that runs `check`. */
static int
run_child(int (*check)(void))
{
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0)
		_exit(check());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Allocate and free among many inherited holes. */
static int
make_garbage(void)
{
	size_t before = memory_of("Private_Dirty:");

	for (int round = 0; round < 100; round++) {
		void *own[100];

		for (size_t i = 0; i < 100; i++) {
			own[i] = fz_slab_alloc(BLOCK);
			if (own[i] == NULL)
				return 1;
			memset(own[i], 255, BLOCK);
		}
		for (size_t i = 0; i < 100; i++)
			fz_slab_free(own[i]);
	}
	return memory_of("Private_Dirty:") <= before + MB / 4 ? 0 : 2;
}

static void
test_slab_a_child_does_not_fill_the_holes_of_its_parent(void **state)
{
	(void)state;
	allocate_many();
	free_each(0, 2);
	assert_int_equal(run_child(make_garbage), 0);
	free_each(1, 2);
}

/* Free some inherited blocks, all in a few pages, and use them again. */
static int
free_inherited(void)
{
	enum { SOME = 2000 };
	size_t before = memory_of("Private_Dirty:"), again = 0;
	static void *own[SOME];

	for (size_t i = 0; i < SOME; i++)
		fz_slab_free(blocks[2 * i + 1]);
	for (size_t i = 0; i < SOME; i++) {
		own[i] = fz_slab_alloc(BLOCK);
		if (own[i] == NULL)
			return 1;
		memset(own[i], 255, BLOCK);
	}
	for (size_t i = 0; i < SOME; i++) {
		for (size_t k = 0; k < SOME; k++)
			again += own[i] == blocks[2 * k + 1];
		if (!is_whole(own[i], BLOCK, 255))
			return 2;
	}
	for (size_t i = 2 * SOME + 1; i < MANY; i += 2) {
		if (!is_whole(blocks[i], BLOCK, (unsigned char)(i % 251)))
			return 3;
	}
	if (again < SOME / 2)
		return 4;
	return memory_of("Private_Dirty:") <= before + MB ? 0 : 5;
}

static int
free_inherited_in_a_grandchild(void)
{
	int rc = free_inherited();

	return rc != 0 ? rc : run_child(make_garbage);
}

static void
test_slab_a_child_reuses_what_it_freed(void **state)
{
	(void)state;
	allocate_many();
	free_each(0, 2);
	assert_int_equal(run_child(free_inherited), 0);
	assert_int_equal(run_child(free_inherited_in_a_grandchild), 0);
	for (size_t i = 1; i < MANY; i += 2)
		assert_true(
		    is_whole(blocks[i], BLOCK, (unsigned char)(i % 251)));
	free_each(1, 2);
}

/* Free all inherited blocks; their regions were mapped by the parent. */
static int
free_all_inherited(void)
{
	free_each(1, 2);
	fz_slab_trim();
	if (fz_slab_idle() > MB)
		return 1;
	allocate_many();
	for (size_t i = 0; i < MANY; i++) {
		if (!is_whole(blocks[i], BLOCK, (unsigned char)(i % 251)))
			return 2;
	}
	return 0;
}

static void
test_slab_a_child_may_free_all_that_it_inherited(void **state)
{
	(void)state;
	allocate_many();
	free_each(0, 2);
	assert_int_equal(run_child(free_all_inherited), 0);
	free_each(1, 2);
}

static uintptr_t
page_of(const void *at)
{
	return (uintptr_t)at >> 12;
}

/* A child has no spans of its own at first. */
static int
few_blocks(void)
{
	unsigned char *small, *large, *more[4096 / 48 + 1];

	small = fz_slab_alloc(48);
	large = fz_slab_alloc(64);
	if (small == NULL || large == NULL || page_of(small) != page_of(large))
		return 1;
	memset(small, 1, 48);
	memset(large, 2, 64);
	/* when this page is full, blocks of each size get their own page */
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		more[i] = fz_slab_alloc(48);
		if (more[i] == NULL)
			return 2;
		memset(more[i], 3, 48);
	}
	if (page_of(more[sizeof(more) / sizeof(more[0]) - 1]) == page_of(large))
		return 3;
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		fz_slab_free(more[i]);
	if (!is_whole(small, 48, 1) || !is_whole(large, 64, 2))
		return 4;
	fz_slab_free(small);
	fz_slab_free(large);
	return 0;
}

static void
test_slab_few_blocks_of_two_sizes_share_a_page(void **state)
{
	(void)state;
	assert_int_equal(run_child(few_blocks), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slab_blocks_of_all_sizes_are_apart),
		cmocka_unit_test(test_slab_a_block_has_room_for_its_size_alone),
		cmocka_unit_test(
		    test_slab_empty_memory_goes_back_to_the_system),
		cmocka_unit_test(test_slab_memory_of_one_size_serves_another),
		cmocka_unit_test(test_slab_without_memory_there_is_no_block),
		cmocka_unit_test(
		    test_slab_a_child_does_not_fill_the_holes_of_its_parent),
		cmocka_unit_test(test_slab_a_child_reuses_what_it_freed),
		cmocka_unit_test(
		    test_slab_a_child_may_free_all_that_it_inherited),
		cmocka_unit_test(
		    test_slab_few_blocks_of_two_sizes_share_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
