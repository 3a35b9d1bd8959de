/*
 * arena_test.h - an arena, children that enter it, and calls that fail.
 *
 * A test that includes this includes no_memory.h, too, and has these lines in
 * its first comment:
 *
 * wrap: memfd_create ftruncate mmap madvise fallocate getrlimit open read
 * wrap: malloc calloc realloc
 */
#ifndef ARENA_TEST_H
#define ARENA_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

extern struct arena_faults {
	bool memfd_fails, ftruncate_fails, file_size_limited;
	bool meminfo_fails;
	const char *meminfo; /* text of /proc/meminfo; NULL: the real one */
	size_t mmap_max;     /* longer mappings fail */
	int populate_error;  /* errno of MADV_POPULATE_WRITE */
	int allocate_error;  /* errno of fallocate() that allocates */
	int interruptions;   /* calls of both that still fail with EINTR */
} arena_faults;

/* From now on no call fails. */
void arena_faults_end(void);

/* *state is an arena. */
int arena_test_setup(void **state);

/* The test fails if a descriptor is still open. */
int arena_test_teardown(void **state);

/* Call `act` in a child that has entered `slice`. Returns its result. */
int in_arena_child(struct fz_arena *arena, uint32_t slice,
    int (*act)(struct fz_arena *arena, uint64_t offset), uint64_t offset);

#endif
