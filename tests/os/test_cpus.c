/*
 * Usable processors. The test supplies the files, and affinity masks that are
 * too small at first or fail.
 * wrap: open sched_getaffinity malloc calloc realloc __sched_cpualloc
 * wrap: sched_setaffinity sched_getcpu
 */
/* sched_getaffinity is a GNU extension. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "no_memory.h"
#include "os/cpus.h"

int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
cpu_set_t *__real___sched_cpualloc(size_t n);
cpu_set_t *__wrap___sched_cpualloc(size_t n);
int __real_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __real_sched_getcpu(void);
int __wrap_sched_getcpu(void);

static size_t mask_size; /* of the simulated machine; 0: real */
static int ncpus;        /* number of processors of the simulated machine */
static int mask_error;
static int here; /* the current processor of the simulated machine */

/* The calls of sched_setaffinity() on the simulated machine. */
static struct {
	pid_t pid;
	cpu_set_t set;
} pins[8];
static int npins;

int
__wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	int i;

	if (mask_error != 0) {
		errno = mask_error;
		return -1;
	}
	if (mask_size == 0)
		return __real_sched_getaffinity(pid, size, set);
	if (size < mask_size) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO_S(size, set);
	for (i = 0; i < ncpus; i++)
		CPU_SET_S((size_t)i, size, set);
	return 0;
}

int
__wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	if (mask_size == 0)
		return __real_sched_setaffinity(pid, size, set);
	assert_int_equal(size, sizeof(*set));
	assert_true(npins < 8);
	pins[npins].pid = pid;
	pins[npins++].set = *set;
	return 0;
}

int
__wrap_sched_getcpu(void)
{
	return mask_size == 0 ? __real_sched_getcpu() : here;
}

cpu_set_t *
__wrap___sched_cpualloc(size_t n)
{
	return no_memory ? NULL : __real___sched_cpualloc(n);
}

static int
setup(void **state)
{
	(void)state;
	unsetenv("FZLUA_JOBS");
	files = no_files;
	mask_size = 2000 / 8;
	ncpus = 8;
	mask_error = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unsetenv("FZLUA_JOBS");
	files = NULL;
	mask_size = 0;
	mask_error = 0;
	return 0;
}

static void
test_cpus_cpu_max_is_rounded_up(void **state)
{
	(void)state;
	assert_int_equal(fz_cpus_parse_max("250000 100000\n"), 3);
	assert_int_equal(fz_cpus_parse_max("200000 100000\n"), 2);
	assert_int_equal(fz_cpus_parse_max("1000 100000"), 1);
	assert_int_equal(fz_cpus_parse_max("max 100000\n"), 0);
	assert_int_equal(fz_cpus_parse_max("-1 100000"), 0);
	assert_int_equal(fz_cpus_parse_max("100000"), 0);
	assert_int_equal(fz_cpus_parse_max("100000 0"), 0);
	assert_int_equal(fz_cpus_parse_max("100000 x"), 0);
	assert_int_equal(fz_cpus_parse_max(""), 0);
}

static void
test_cpus_affinity_is_kept_to(void **state)
{
	cpu_set_t all, one;
	size_t i = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(i, &all))
		i++;
	CPU_ZERO(&one);
	CPU_SET(i, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(fz_cpus_count(), 1);
	assert_int_equal(fz_cpus_count_cores(), 1);
	sched_setaffinity(0, sizeof(all), &all);
	assert_true(fz_cpus_count() <= CPU_COUNT(&all));
	assert_true(fz_cpus_count_cores() <= fz_cpus_count());
}

static void
test_cpus_large_masks_are_read(void **state)
{
	(void)state;
	mask_size = 5000 / 8;
	ncpus = 3000;
	assert_int_equal(fz_cpus_count(), 3000);
}

static void
test_cpus_without_a_mask_counts_what_is_online(void **state)
{
	(void)state;
	mask_error = ENOSYS;
	assert_true(fz_cpus_count() >= 1);
	assert_true(fz_cpus_count_cores() >= 1);
	mask_error = 0;
	no_memory = true;
	assert_true(fz_cpus_count() >= 1);
	no_memory = false;
}

static void
test_cpus_quota_of_an_outer_group_counts(void **state)
{
	static const struct file v2[] = {
		{ "/proc/self/cgroup", "0::/a/b\n" },
		{ "/proc/self/mountinfo",
		    "22 1 0:20 / /proc rw - proc proc rw\n"
		    "30 1 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw\n" },
		{ "/cg/a/b/cpu.max", "max 100000\n" },
		{ "/cg/a/cpu.max", "250000 100000\n" },
		{ "/cg/cpu.max", "700000 100000\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = v2;
	assert_int_equal(fz_cpus_count(), 3);
}

static void
test_cpus_quota_inside_a_container_counts(void **state)
{
	static const struct file v1[] = {
		{ "/proc/self/cgroup",
		    "5:memory:/docker/x\n4:cpuacct,cpu:/docker/x/sub\n0::/\n" },
		{ "/proc/self/mountinfo",
		    "31 1 0:27 /docker/x /cg/m ro - cgroup cgroup rw,memory\n"
		    "30 1 0:26 /docker/x /cg/c ro - cgroup cgroup "
		    "rw,cpuacct,cpu\n" },
		{ "/cg/c/sub/cpu.cfs_quota_us", "-1\n" },
		{ "/cg/c/sub/cpu.cfs_period_us", "100000\n" },
		{ "/cg/c/cpu.cfs_quota_us", "150000\n" },
		{ "/cg/c/cpu.cfs_period_us", "100000\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = v1;
	assert_int_equal(fz_cpus_count(), 2);
}

static void
test_cpus_foreign_group_paths_are_looked_up_at_the_mount(void **state)
{
	static const struct file foreign[] = {
		{ "/proc/self/cgroup", "4:cpu:/elsewhere\n" },
		{ "/proc/self/mountinfo",
		    "30 1 0:26 /docker/x /cg rw - cgroup cgroup cpu,rw\n"
		    "bad line - cgroup cgroup\n" },
		{ "/cg/cpu.cfs_quota_us", "100000\n" },
		{ "/cg/cpu.cfs_period_us", "100000\n" },
		{ NULL, NULL },
	};
	static const struct file none[] = {
		{ "/proc/self/cgroup", "nonsense\n\n4:cpuset:/\n" },
		{ "/proc/self/mountinfo",
		    "30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n" },
		{ NULL, NULL },
	};

	static const struct file neighbour[] = {
		{ "/proc/self/cgroup", "4:cpu:/docker/xy\n" },
		{ "/proc/self/mountinfo",
		    "30 1 0:26 /docker/x /cg rw - cgroup cgroup cpu,rw\n" },
		{ "/cg/cpu.cfs_quota_us", "300000\n" },
		{ "/cg/cpu.cfs_period_us", "100000\n" },
		{ "/cgy/cpu.cfs_quota_us", "100000\n" },
		{ "/cgy/cpu.cfs_period_us", "100000\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = foreign;
	assert_int_equal(fz_cpus_count(), 1);
	files = neighbour;
	assert_int_equal(fz_cpus_count(), 3);
	files = none;
	assert_int_equal(fz_cpus_count(), 8);
}

static void
test_cpus_jobs_from_the_environment_cap(void **state)
{
	(void)state;
	setenv("FZLUA_JOBS", "3", 1);
	assert_int_equal(fz_cpus_count(), 3);
	setenv("FZLUA_JOBS", "100", 1);
	assert_int_equal(fz_cpus_count(), 8);
	setenv("FZLUA_JOBS", "-2", 1);
	assert_int_equal(fz_cpus_count(), 8);
	setenv("FZLUA_JOBS", "2x", 1);
	assert_int_equal(fz_cpus_count(), 8);
}

#define SIBLINGS(n) \
	"/sys/devices/system/cpu/cpu" n "/topology/thread_siblings_list"

static void
test_cpus_cores_count_threads_of_one_once(void **state)
{
	static const struct file topology[] = {
		{ SIBLINGS("0"), "0,4\n" },
		{ SIBLINGS("4"), "0,4\n" },
		{ SIBLINGS("1"), "1\n" },
		{ SIBLINGS("2"), "2-3\n" },
		{ SIBLINGS("3"), "2-3\n" },
		{ SIBLINGS("5"), "5,9\n" },
		{ NULL, NULL },
	};

	(void)state;
	files = topology;
	assert_int_equal(fz_cpus_count_cores(), 6);
	assert_int_equal(fz_cpus_count(), 8);
}

/* The processor to which child 77 is moved for a moment; -1: to none. */
static int
place_of(unsigned n)
{
	cpu_set_t all;

	npins = 0;
	fz_cpus_spread(77, n);
	if (npins == 0)
		return -1;
	assert_int_equal(npins, 2);
	assert_int_equal(pins[0].pid, 77);
	assert_int_equal(pins[1].pid, 77);
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	assert_true(CPU_EQUAL(&pins[1].set, &all));
	assert_int_equal(CPU_COUNT(&pins[0].set), 1);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &pins[0].set))
			return i;
	return -1;
}

static void
test_cpus_children_begin_on_the_processors_after_ours(void **state)
{
	(void)state;
	mask_size = sizeof(cpu_set_t);
	ncpus = 8;
	here = 5;
	for (unsigned n = 0; n < 20; n++)
		assert_int_equal(place_of(n), (int)(6 + n) % 8);
	assert_int_equal(place_of(UINT32_MAX), 5);
	here = 100; /* this processor is not in the mask any more */
	assert_int_equal(place_of(0), 0);
	assert_int_equal(place_of(3), 3);
	ncpus = CPU_SETSIZE;
	here = CPU_SETSIZE - 1;
	assert_int_equal(place_of(0), 0);
	assert_int_equal(place_of(CPU_SETSIZE - 1), CPU_SETSIZE - 1);
	ncpus = 1;
	here = 0;
	assert_int_equal(place_of(0), 0);
	assert_int_equal(place_of(9), 0);
}

/* The processor or the mask is unknown, or too large: no affinity is set. */
static void
test_cpus_children_begin_anywhere_if_the_processor_is_unknown(void **state)
{
	(void)state;
	mask_size = sizeof(cpu_set_t);
	here = -1;
	assert_int_equal(place_of(0), -1);
	here = 3;
	mask_size = 2 * sizeof(cpu_set_t);
	npins = 0;
	fz_cpus_spread(77, 0);
	assert_int_equal(npins, 0);
	mask_size = sizeof(cpu_set_t);
	mask_error = ENOSYS;
	fz_cpus_spread(77, 0);
	assert_int_equal(npins, 0);
}

/* On the real machine a child has its old mask after fz_cpus_spread(). */
static void
assert_stored(const cpu_set_t *mask)
{
	pid_t pid = fork();
	cpu_set_t seen;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		for (;;)
			pause();
	}
	for (unsigned n = 0; n < 10; n++) {
		fz_cpus_spread(pid, n);
		assert_int_equal(
		    sched_getaffinity(pid, sizeof(seen), &seen), 0);
		assert_true(CPU_EQUAL(&seen, mask));
		assert_int_equal(sched_getaffinity(0, sizeof(seen), &seen), 0);
		assert_true(CPU_EQUAL(&seen, mask));
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	fz_cpus_spread(pid, 0); /* no effect: the process does not exist */
	assert_int_equal(sched_getaffinity(0, sizeof(seen), &seen), 0);
	assert_true(CPU_EQUAL(&seen, mask));
}

static void
test_cpus_a_child_keeps_its_affinity(void **state)
{
	cpu_set_t all, one;
	int i = 0;

	(void)state;
	teardown(NULL); /* from now on the real machine is used */
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	assert_stored(&all);
	while (!CPU_ISSET((size_t)i, &all))
		i++;
	CPU_ZERO(&one);
	CPU_SET((size_t)i, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_stored(&one);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpus_cpu_max_is_rounded_up),
		cmocka_unit_test(test_cpus_affinity_is_kept_to),
		TEST(test_cpus_large_masks_are_read),
		TEST(test_cpus_without_a_mask_counts_what_is_online),
		TEST(test_cpus_quota_of_an_outer_group_counts),
		TEST(test_cpus_quota_inside_a_container_counts),
		TEST(test_cpus_foreign_group_paths_are_looked_up_at_the_mount),
		TEST(test_cpus_jobs_from_the_environment_cap),
		TEST(test_cpus_cores_count_threads_of_one_once),
		TEST(test_cpus_children_begin_on_the_processors_after_ours),
		TEST(
		    test_cpus_children_begin_anywhere_if_the_processor_is_unknown),
		TEST(test_cpus_a_child_keeps_its_affinity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
