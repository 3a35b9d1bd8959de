/*
 * Available memory; files come from the test.
 * wrap: open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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

static void
test_memory_available_is_the_machines_or_the_groups(void **state)
{
	static const struct file machine[] = {
		{ "/proc/meminfo",
		    "MemTotal: 99 kB\nMemAvailable:    2000 kB\n" },
		{ "/sys/fs/cgroup/memory.max", "max\n" },
		{ "/sys/fs/cgroup/memory.current", "7\n" },
		{ NULL, NULL },
	};
	static const struct file group[] = {
		{ "/proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 2000 kB\n" },
		{ "/sys/fs/cgroup/memory.max", "500000\n" },
		{ "/sys/fs/cgroup/memory.current", "400000\n" },
		{ "/sys/fs/cgroup/memory.stat",
		    "anon 1\ninactive_file 20000\nactive_file 5\n" },
		{ NULL, NULL },
	};
	static const struct file full[] = {
		{ "/sys/fs/cgroup/memory.max", "500000\n" },
		{ "/sys/fs/cgroup/memory.current", "600000\n" },
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_memory_available_is_the_machines_or_the_groups, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
