/* How a worker that spins for its next call keeps its processor. */
/* unsetenv is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs.h"
#include "os/cpus.h"
#include "port_ends.h"
#include "wire/child_port.h"

/* In these tests ports spin, because FZLUA_JOBS is not set. */
static int
setup(void **state)
{
	int rc = port_ends_setup(state);

	unsetenv("FZLUA_JOBS");
	return rc;
}

/* Write the jobs some time after the port has begun to spin. */
static pid_t
write_jobs_late(struct port_ends *e)
{
	pid_t pid = fork();

	if (pid == 0) {
		while (atomic_load(&e->mailbox->cpu) == 0)
			nap(1);
		nap(20);
		write_jobs(e);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void
test_port_holds_its_processor_for_a_call_that_is_expected(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;
	int status;
	pid_t pid;

	if (fz_cpus_count() == 1)
		skip();
	put_job(e, 0, 0, "a");
	atomic_store(&e->mailbox->nexpected, 1);
	pid = write_jobs_late(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(e->port.nexpected, 1);
	assert_true(e->port.spin.hold_ns != 0);
	assert_in_range(atomic_load(&e->mailbox->cpu), 1, 1 << 20);
}

static void
test_port_does_not_wait_for_a_call_that_has_come(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	write_jobs(e);
	atomic_store(&e->mailbox->nexpected, 1);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(e->port.nexpected, 1);
	assert_int_equal(e->port.spin.hold_ns, 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, setup, port_ends_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_holds_its_processor_for_a_call_that_is_expected),
		TEST(test_port_does_not_wait_for_a_call_that_has_come),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
