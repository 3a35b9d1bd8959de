/*
 * Available memory; files come from the test.
 *
 * wrap: open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "os/memory.h"

static int
setup(void **state)
{
	(void)state;
	files = no_files;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	files = NULL;
	return 0;
}

#define MOUNT "30 1 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw\n"

static void
test_memory_available_is_the_machines_or_the_groups(void **state)
{
	static const struct file machine[] = {
		{ "/proc/meminfo",
		    "MemTotal: 99 kB\nMemAvailable:    2000 kB\n" },
		{ "/proc/self/cgroup", "0::/\n" },
		{ "/proc/self/mountinfo", MOUNT },
		{ "/cg/memory.max", "max\n" },
		{ "/cg/memory.current", "7\n" },
		{ NULL, NULL },
	};
	static const struct file group[] = {
		{ "/proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 2000 kB\n" },
		{ "/proc/self/cgroup", "0::/\n" },
		{ "/proc/self/mountinfo", MOUNT },
		{ "/cg/memory.max", "500000\n" },
		{ "/cg/memory.current", "400000\n" },
		{ "/cg/memory.stat",
		    "anon 1\ninactive_file 20000\nactive_file 5\n" },
		{ NULL, NULL },
	};
	static const struct file full[] = {
		{ "/proc/self/cgroup", "0::/\n" },
		{ "/proc/self/mountinfo", MOUNT },
		{ "/cg/memory.max", "500000\n" },
		{ "/cg/memory.current", "600000\n" },
		{ NULL, NULL },
	};

	(void)state;
	assert_true(fz_memory_available() == UINT64_MAX);
	files = machine;
	assert_int_equal(fz_memory_available(), 2000 << 10);
	files = group;
	assert_int_equal(fz_memory_available(), 120000);
	files = full;
	assert_int_equal(fz_memory_available(), 0);
}

static void
test_memory_available_is_the_least_of_nested_groups(void **state)
{
	static const struct file nested[] = {
		{ "/proc/self/cgroup", "0::/a/b\n" },
		{ "/proc/self/mountinfo", MOUNT },
		{ "/cg/a/b/memory.max", "500000\n" },
		{ "/cg/a/b/memory.current", "1000\n" },
		{ "/cg/a/memory.max", "300000\n" },
		{ "/cg/a/memory.current", "200000\n" },
		{ "/cg/a/memory.stat", "inactive_file 7\n" },
		{ "/cg/memory.max", "max\n" },
		{ "/cg/memory.current", "900000\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = nested;
	assert_int_equal(fz_memory_available(), 100007);
}

static void
test_memory_of_the_old_hierarchy_counts(void **state)
{
	static const struct file v1[] = {
		{ "/proc/self/cgroup", "5:cpu:/\n4:memory:/docker/x\n0::/\n" },
		{ "/proc/self/mountinfo",
		    "31 1 0:27 /docker/x /cg/c ro - cgroup cgroup rw,cpu\n"
		    "30 1 0:26 /docker/x /cg/m ro - cgroup cgroup "
		    "rw,memory\n" },
		{ "/cg/m/memory.limit_in_bytes", "80000\n" },
		{ "/cg/m/memory.usage_in_bytes", "50000\n" },
		{ "/cg/m/memory.stat",
		    "inactive_file 1\ntotal_inactive_file 9\n" },
		{ "/cg/c/memory.limit_in_bytes", "10\n" },
		{ "/cg/c/memory.usage_in_bytes", "5\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = v1;
	assert_int_equal(fz_memory_available(), 30009);
}

/* A machine with many containers has many mounts. */
static void
test_memory_group_behind_many_mounts_counts(void **state)
{
	static const char other[] =
	    "22 1 0:20 / /var/lib/other rw - overlay overlay rw\n";
	size_t n = (300 << 10) / (sizeof(other) - 1);
	char *mounts = malloc(n * (sizeof(other) - 1) + sizeof(MOUNT));
	const struct file many[] = {
		{ "/proc/self/cgroup", "0::/\n" },
		{ "/proc/self/mountinfo", mounts },
		{ "/cg/memory.max", "500000\n" },
		{ "/cg/memory.current", "400000\n" },
		{ NULL, NULL },
	};

	(void)state;
	assert_non_null(mounts);
	for (size_t i = 0; i < n; i++)
		strcpy(mounts + i * (sizeof(other) - 1), other);
	strcat(mounts, MOUNT);
	files = many;
	assert_int_equal(fz_memory_available(), 100000);
	files = NULL;
	free(mounts);
}

#define T(f)                                 \
	{                                    \
#f, f, setup, teardown, NULL \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_memory_available_is_the_machines_or_the_groups),
		T(test_memory_available_is_the_least_of_nested_groups),
		T(test_memory_of_the_old_hierarchy_counts),
		T(test_memory_group_behind_many_mounts_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
