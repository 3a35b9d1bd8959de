/*
 * Memory of the Lua state: what is kept, what crosses, what fails.
 * wrap: malloc calloc realloc mmap mremap madvise
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

#include "no_memory.h"
#include "os/alloc.h"

enum {
	SMALL = 1000,
	MEDIUM = 2000,
	BIG = 300 << 10,
	BIGGER = 3 << 20,
	TOO_BIG = 258 << 20,
	MOST_KEPT = 256 << 20
};

void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__real_mremap(void *at, size_t old, size_t n, int flags, ...);
void *__wrap_mremap(void *at, size_t old, size_t n, int flags, ...);
int __real_madvise(void *at, size_t n, int advice);
int __wrap_madvise(void *at, size_t n, int advice);

void *
__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return no_memory ? MAP_FAILED
			 : __real_mmap(at, n, prot, flags, fd, off);
}

void *
__wrap_mremap(void *at, size_t old, size_t n, int flags, ...)
{
	return no_memory ? MAP_FAILED : __real_mremap(at, old, n, flags);
}

int
__wrap_madvise(void *at, size_t n, int advice)
{
	return no_memory ? -1 : __real_madvise(at, n, advice);
}

static void
fill(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i * 7);
}

static void
assert_filled(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(p[i], (unsigned char)(i * 7));
}

static void *new (size_t n)
{
	/* For a new object Lua passes a type, here 5, in place of a size. */
	unsigned char *p = fz_alloc_alloc(NULL, NULL, 5, n);

	assert_non_null(p);
	fill(p, n);
	return p;
}

static void
test_alloc_a_block_keeps_its_bytes_from_any_size_to_any(void **state)
{
	static const size_t sizes[] = { 1, SMALL, SMALL + 24, MEDIUM,
		FZ_ALLOC_BIG - 1, FZ_ALLOC_BIG, FZ_ALLOC_BIG + 1, BIG, BIGGER,
		BIGGER + 1, 40 << 20, 70 << 20 };
	size_t n = sizeof(sizes) / sizeof(sizes[0]);

	(void)state;
	for (size_t i = 0; i < n * n; i++) {
		size_t from = sizes[i / n], to = sizes[i % n];
		unsigned char *p = fz_alloc_alloc(NULL, new (from), from, to);

		assert_non_null(p);
		assert_filled(p, from < to ? from : to);
		fill(p, to);
		assert_null(fz_alloc_alloc(NULL, p, to, 0));
		assert_true(fz_alloc_kept() <= MOST_KEPT);
	}
}

static void
test_alloc_a_freed_block_is_the_next_one_of_its_size(void **state)
{
	void *p = new (BIGGER), *q = new (BIGGER);

	(void)state;
	fz_alloc_alloc(NULL, p, BIGGER, 0);
	fz_alloc_alloc(NULL, q, BIGGER, 0);
	assert_ptr_equal(new (BIGGER - 1), q);
	assert_ptr_equal(new (BIGGER), p);
	fz_alloc_alloc(NULL, q, BIGGER - 1, 0);
	fz_alloc_alloc(NULL, p, BIGGER, 0);
}

static void
test_alloc_does_not_keep_blocks_too_big_or_too_many(void **state)
{
	void *p[40];
	size_t before;

	(void)state;
	before = fz_alloc_kept();
	fz_alloc_alloc(NULL, new (TOO_BIG), TOO_BIG, 0);
	assert_int_equal(fz_alloc_kept(), before);
	assert_true(before <= MOST_KEPT);
	for (int i = 0; i < 40; i++)
		p[i] = new (BIG);
	for (int i = 0; i < 40; i++)
		fz_alloc_alloc(NULL, p[i], BIG, 0);
	assert_true(fz_alloc_kept() <= (size_t)16 * (BIG + BIG / 2));
	assert_null(fz_alloc_alloc(NULL, NULL, 0, SIZE_MAX));
}

static void
test_alloc_a_child_has_none_of_what_is_kept(void **state)
{
	unsigned char *used = new (BIG);
	int status;
	pid_t pid;

	(void)state;
	fz_alloc_alloc(NULL, new (BIGGER), BIGGER, 0);
	assert_true(fz_alloc_kept() >= BIGGER);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		unsigned char *p = fz_alloc_alloc(NULL, NULL, 0, BIGGER);

		if (p == NULL || fz_alloc_kept() != 0)
			_exit(1);
		fill(p, BIGGER);
		fz_alloc_alloc(NULL, p, BIGGER, 0);
		_exit(used[1] == 7 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(fz_alloc_kept() >= BIGGER);
	fz_alloc_alloc(NULL, used, BIG, 0);
}

static void
test_alloc_without_memory_a_block_is_as_it_was(void **state)
{
	static const size_t sizes[] = { MEDIUM, BIG, BIGGER };

	(void)state;
	for (size_t i = 0; i < 9; i++) {
		size_t from = sizes[i / 3], to = sizes[i % 3];
		unsigned char *p = new (from);

		if (from == to)
			to += to / 2;
		no_memory = true;
		assert_null(fz_alloc_alloc(NULL, p, from, to));
		assert_null(fz_alloc_alloc(NULL, NULL, 0, to));
		assert_filled(p, from);
		fz_alloc_alloc(NULL, p, from, 0); /* frees the block */
		no_memory = false;
	}
}

/*
 * Find the mapping that has `at`: whether it is malloc's heap, and whether it
 * may have huge pages. Returns false if that is unknown.
 */
static bool
find_mapping(const void *at, bool *heap, bool *huge)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[512];
	bool inside = false, found = false;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			inside = from <= (uintptr_t)at && (uintptr_t)at < to;
			if (inside)
				*heap = strstr(line, "[heap]") != NULL;
		} else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			*huge = strstr(line, " hg") != NULL;
			found = true;
		}
	}
	if (file != NULL)
		fclose(file);
	return found;
}

static void
test_alloc_many_medium_blocks_are_in_huge_pages(void **state)
{
	enum { MANY = 15000 }; /* blocks of MEDIUM bytes: 30 MB */
	static unsigned char *p[MANY];
	bool heap = false, huge = false;
	int nhuge = 0;

	(void)state;
	for (int i = 0; i < MANY; i++)
		p[i] = new (MEDIUM);
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0 ||
	    !find_mapping(p[0], &heap, &huge) || !heap) {
		print_message("skipped: malloc has another heap\n");
	} else {
		assert_false(huge); /* the heap was small at first */
		for (int i = 0; i < MANY; i += MANY / 100) {
			assert_true(find_mapping(p[i], &heap, &huge));
			assert_true(huge || nhuge == 0); /* without a gap */
			nhuge += heap && huge;
		}
		assert_true(nhuge > 50);
	}
	for (int i = 0; i < MANY; i++) {
		assert_filled(p[i], MEDIUM);
		fz_alloc_alloc(NULL, p[i], MEDIUM, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* This test comes first, because it needs a small heap. */
		cmocka_unit_test(
		    test_alloc_many_medium_blocks_are_in_huge_pages),
		cmocka_unit_test(
		    test_alloc_a_block_keeps_its_bytes_from_any_size_to_any),
		cmocka_unit_test(
		    test_alloc_a_freed_block_is_the_next_one_of_its_size),
		cmocka_unit_test(
		    test_alloc_does_not_keep_blocks_too_big_or_too_many),
		cmocka_unit_test(test_alloc_a_child_has_none_of_what_is_kept),
		cmocka_unit_test(
		    test_alloc_without_memory_a_block_is_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
