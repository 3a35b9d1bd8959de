/*
 * Relays that connect to the listener of a gateway.
 * wrap: sendmsg
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/gateway.h"
#include "gateway/listener.h"
#include "no_bus.h"

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

/* number of calls that still fail; -1: all */
static int nfailing;

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (nfailing == 0)
		return __real_sendmsg(fd, message, flags);
	nfailing -= nfailing > 0;
	errno = ETOOMANYREFS;
	return -1;
}

struct world {
	struct fz_gateway g;
	struct fz_listener l;
	char name[32];
};

static int
setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_int_equal(fz_gateway_init(&w->g), 0);
	w->l = (struct fz_listener)FZ_LISTENER_INIT;
	snprintf(w->name, sizeof(w->name), "fzlua-test-%d", (int)getpid());
	assert_int_equal(fz_listener_open(&w->l, w->name), 0);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	fz_listener_close(&w->l);
	free(w->g.pfd);
	free(w);
	return 0;
}

static int
connect_to(const struct world *w)
{
	struct sockaddr_un address;
	socklen_t len = fz_relay_address(&address, w->name);
	int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(conn, (struct sockaddr *)&address, len), 0);
	return conn;
}

/* Send `text` with `n` descriptors. */
static void
request(int conn, const char *text, unsigned n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { (char *)(uintptr_t)text, strlen(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *header;
	int fds[4] = { 0, 0, 0, 0 };

	if (n != 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	}
	assert_true(sendmsg(conn, &message, MSG_NOSIGNAL) >= 0);
}

/* Turn the loop until a relay is accepted, for at most `ns`. Counts turns. */
static bool
serve(struct world *w, struct fz_relay_request *r, int64_t ns, unsigned *turns)
{
	int64_t end_ns = fz_clock_ns() + ns, stalled_ns;

	for (*turns = 0; fz_clock_ns() < end_ns; ++*turns) {
		int64_t until_ns;

		fz_gateway_begin(&w->g);
		until_ns = fz_listener_poll(&w->l, &w->g, end_ns);
		fz_gateway_wait(&w->g, until_ns, &stalled_ns);
		if (fz_listener_work(&w->l, &w->g, r))
			return true;
	}
	return false;
}

static void
expect(struct world *w, const char *id)
{
	struct fz_relay_request r;
	unsigned turns;

	assert_true(serve(w, &r, 60 * FZ_CLOCK_SECOND, &turns));
	assert_string_equal(r.id, id);
	assert_true(r.conn > 2 && r.fds[0] > 2 && r.fds[1] > 2);
	close(r.conn);
	close(r.fds[0]);
	close(r.fds[1]);
}

static int
count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static void
test_listener_accepts_what_is_a_request(void **state)
{
	struct world *w = *state;
	int before = count_open(), conn[6];

	for (int i = 0; i < 6; i++)
		conn[i] = connect_to(w);
	request(conn[0], "no descriptors", 0);
	request(conn[1], "one", 1);
	request(conn[2], "three", 3);
	shutdown(conn[3], SHUT_RDWR);
	/* conn[4] is silent, and delays the others only for a while */
	request(conn[5], "0123456789abcdef", 2);
	expect(w, "0123456789abcdef");
	for (int i = 0; i < 6; i++)
		close(conn[i]);
	assert_int_equal(count_open(), before);
}

static void
test_listener_without_descriptors_rests_and_loses_no_relay(void **state)
{
	struct world *w = *state;
	struct rlimit limit, low;
	struct fz_relay_request r;
	int conn[3];
	unsigned turns;

	getrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 3; i++) {
		conn[i] = connect_to(w);
		request(conn[i], "0123456789abcdef", 2);
	}
	/* room for no descriptor, then for the connection alone, and so on */
	for (unsigned room = 0; room < 3; room++) {
		low = limit;
		low.rlim_cur = (rlim_t)conn[2] + 1 + room;
		setrlimit(RLIMIT_NOFILE, &low);
		assert_false(serve(w, &r, FZ_CLOCK_SECOND, &turns));
		assert_true(turns < 100);
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	for (int i = 0; i < 3; i++)
		expect(w, "0123456789abcdef");
	for (int i = 0; i < 3; i++)
		close(conn[i]);
}

/* Start a relay in a child, where `n` calls of sendmsg() fail; -1: all. */
static pid_t
start_relay(const struct world *w, int n)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	nfailing = n;
	close(w->l.fd);
	alarm(60);
	_exit(fz_relay_main(w->name, "0123456789abcdef"));
}

static void
assert_fails(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EXIT_FAILURE);
}

static void
test_relay_waits_if_too_many_descriptors_are_under_way(void **state)
{
	struct world *w = *state;
	pid_t pid = start_relay(w, 3);

	expect(w, "0123456789abcdef");
	assert_fails(pid);
}

static void
test_relay_that_waits_notices_the_end_of_its_gateway(void **state)
{
	struct world *w = *state;
	pid_t pid = start_relay(w, -1);
	struct fz_relay_request r;
	unsigned turns;

	assert_false(serve(w, &r, FZ_CLOCK_SECOND / 3, &turns));
	fz_listener_close(&w->l);
	assert_fails(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_listener_accepts_what_is_a_request),
		TEST(
		    test_listener_without_descriptors_rests_and_loses_no_relay),
		TEST(test_relay_waits_if_too_many_descriptors_are_under_way),
		TEST(test_relay_that_waits_notices_the_end_of_its_gateway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
