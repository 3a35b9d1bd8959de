/*
 * The jobs of a worker on a node: this process is the worker, too.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "calls.h"
#include "faults.h"
#include "node/node_jobs.h"
#include "os/fd.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/child_stream.h"
#include "wire/mailbox.h"

struct ends {
	struct fz_node_jobs jobs;
	struct fz_port port;
	struct fz_call call;
	int fd[2];         /* sockets of the node's process and of the worker */
	struct fz_buf out; /* frames for the parent */
	size_t at;         /* bytes of `out` that were checked */
};

static int
setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));

	fz_buf_init(&e->out);
	assert_int_equal(fz_fd_socket_pair(e->fd, NULL), 0);
	assert_int_equal(fz_fd_nonblock(e->fd[0], NULL), 0);
	assert_int_equal(fz_node_jobs_init(&e->jobs, &e->out, NULL), 0);
	assert_int_equal(fz_child_stream_init(&e->port, e->fd[1], e->fd[1],
			     e->jobs.mailbox, true, NULL),
	    0);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct ends *e = *state;

	port_fini(&e->port);
	fz_node_jobs_fini(&e->jobs);
	fz_buf_fini(&e->out);
	fz_fd_close(&e->fd[0]);
	fz_fd_close(&e->fd[1]);
	free(e);
	return 0;
}

/* Pass a frame of the parent to the process on the node, and to the worker. */
static void
pass(struct ends *e, struct fz_buf *buf)
{
	struct fz_frame frame;

	assert_int_equal(fz_wire_head(buf->data, buf->len, 12, &frame), 1);
	fz_node_jobs_take(&e->jobs, &frame);
	assert_int_equal(fz_fd_write_all(e->fd[0], buf->data, buf->len), 0);
	fz_buf_fini(buf);
}

static void
send_job(struct ends *e, uint32_t seq)
{
	struct fz_buf buf = FZ_BUF_INIT;

	put_plain_job(&buf, seq);
	pass(e, &buf);
}

static void
send_chunk(struct ends *e, uint32_t seq, uint32_t n)
{
	struct fz_buf buf = FZ_BUF_INIT;

	put_plain_chunk(&buf, seq, n, 0);
	pass(e, &buf);
}

static void
send_recall(struct ends *e, uint32_t seq)
{
	struct fz_buf buf = FZ_BUF_INIT;

	put_plain_recall(&buf, seq);
	pass(e, &buf);
}

static void
start(struct ends *e, uint32_t seq)
{
	assert_int_equal(fz_port_next(&e->port, &e->call, NULL), 1);
	assert_int_equal(e->call.seq, seq);
}

/* Send EOF to the worker, which starts no further call. */
static void
start_nothing(struct ends *e)
{
	assert_int_equal(shutdown(e->fd[0], SHUT_WR), 0);
	assert_int_equal(fz_port_next(&e->port, &e->call, NULL), 0);
}

/*
 * Reply to the current call with a value of `len` bytes. `flushed_ns` is the
 * time at which the worker has written replies last.
 */
static void
answer_after(struct ends *e, size_t len, int64_t flushed_ns)
{
	void *bytes = calloc(1, len + 1);

	fz_port_begin(&e->port, &e->call, FZ_WIRE_RESULT, 1);
	fz_buf_put(&e->port.value.buf, bytes, len);
	fz_port_put(&e->port);
	e->port.flushed_ns = flushed_ns;
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
	free(bytes);
}

/* Reply, and do not write the reply. */
static void
answer(struct ends *e, size_t len)
{
	answer_after(e, len, FZ_CLOCK_NEVER);
}

/* Add the result of the current item, its number, to the open frame. */
static void
answer_item(struct ends *e)
{
	unsigned char *room = fz_port_item(&e->port, &e->call, NULL);

	assert_non_null(room);
	room[0] = (unsigned char)e->call.seq;
	fz_port_item_end(&e->port, 1);
	e->port.flushed_ns = FZ_CLOCK_NEVER; /* do not write the reply */
}

/* Start the next item of the chunk; the ones before count as quick. */
static void
advance(struct ends *e)
{
	e->port.permit.since_ns = FZ_CLOCK_NEVER;
	assert_true(fz_port_advance(&e->port, &e->call));
}

static void
read_all(struct ends *e)
{
	while (fz_node_jobs_read(&e->jobs, e->fd[0]) == 1)
		continue;
}

/* The next frame for the parent must be this one. */
static void
expect(struct ends *e, enum fz_wire_type type, uint32_t seq)
{
	const unsigned char *at = e->out.data + e->at;
	struct fz_frame frame;

	assert_true(e->at < e->out.len);
	assert_int_equal(
	    fz_wire_scan(&at, e->out.data + e->out.len, &frame, NULL), 1);
	assert_int_equal(frame.type, type);
	assert_int_equal(frame.seq, seq);
	e->at = (size_t)(at - e->out.data);
}

/* As expect(), for the items from `seq` on. */
static void
expect_items(struct ends *e, uint32_t seq, uint32_t n)
{
	const unsigned char *body = e->out.data + e->at + FZ_WIRE_HEADER;

	expect(e, FZ_WIRE_ITEMS, seq);
	assert_int_equal(fz_le32_load(body), n);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(body[4 + i], seq + i);
	assert_int_equal(body + 4 + n - e->out.data, e->at);
}

static void
expect_nothing(const struct ends *e)
{
	assert_int_equal(e->at, e->out.len);
}

/* Make the next check now, as if its time had come. */
static void
check(struct ends *e)
{
	assert_true(e->jobs.check_ns != FZ_CLOCK_NEVER);
	fz_node_jobs_check(&e->jobs, e->jobs.check_ns);
}

static void
test_node_jobs_announce_no_job_that_is_answered_soon(void **state)
{
	struct ends *e = *state;

	send_job(e, 0);
	start(e, 0);
	answer(e, 10);
	start_nothing(e);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect_nothing(e);
	assert_true(e->jobs.check_ns == FZ_CLOCK_NEVER);
}

static void
test_node_jobs_announce_a_job_that_takes_longer(void **state)
{
	struct ends *e = *state;

	send_job(e, 0);
	check(e); /* no effect: no job has started */
	expect_nothing(e);
	start(e, 0);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	expect_nothing(e);
	/* No further check: the socket reports the reply of the job. */
	assert_true(e->jobs.check_ns == FZ_CLOCK_NEVER);
}

/*
 * The start of a job may be announced just before the job ends. Its reply may
 * then wait in the mailbox while a long job runs.
 */
static void
test_node_jobs_are_checked_after_an_announcement(void **state)
{
	struct ends *e = *state;

	for (uint32_t i = 0; i < 2; i++)
		send_job(e, i);
	start(e, 0);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	answer(e, 10);
	start(e, 1);
	check(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect(e, FZ_WIRE_STARTED, 1);
	expect_nothing(e);
	assert_true(e->jobs.check_ns == FZ_CLOCK_NEVER);
}

static void
test_node_jobs_check_seldom_while_nothing_starts(void **state)
{
	struct ends *e = *state;
	int64_t start_ns;

	send_job(e, 0);
	start_ns = e->jobs.check_ns;
	for (int i = 0; i < 20; i++)
		check(e);
	assert_true(e->jobs.check_ns - start_ns > 300 * FZ_CLOCK_MS);
	start(e, 0);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
}

static void
test_node_jobs_take_back_what_has_not_started(void **state)
{
	struct ends *e = *state;

	send_job(e, 0);
	send_chunk(e, 1, 5);
	start(e, 0); /* the worker computes, and has not replied */
	send_recall(e, 6);
	expect(e, FZ_WIRE_STARTED, 0);
	expect(e, FZ_WIRE_RECALLED, 6);
	expect_nothing(e);
	send_job(e, 6);
	answer(e, 10);
	start(e, 6);
	read_all(e);
	check(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect(e, FZ_WIRE_STARTED, 1);
	expect_nothing(e);
}

static void
test_node_jobs_take_back_items_behind_the_current_one(void **state)
{
	struct ends *e = *state;

	send_chunk(e, 0, 5);
	start(e, 0);
	send_recall(e, 5);
	expect(e, FZ_WIRE_STARTED, 0);
	expect(e, FZ_WIRE_RECALLED, 5);
	assert_false(fz_port_advance(&e->port, &e->call));
}

/* A process whose worker has no jobs must not wake up again and again. */
static void
test_node_jobs_that_were_taken_back_need_no_check(void **state)
{
	struct ends *e = *state;

	send_chunk(e, 0, 5);
	start(e, 0);
	send_recall(e, 5);
	answer(e, 10);
	assert_false(fz_port_advance(&e->port, &e->call));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	read_all(e);
	assert_true(e->jobs.check_ns == FZ_CLOCK_NEVER);
	send_job(e, 5);
	check(e);
	start(e, 5);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	expect(e, FZ_WIRE_RECALLED, 5);
	expect(e, FZ_WIRE_RESULT, 0);
	expect(e, FZ_WIRE_STARTED, 1);
	expect_nothing(e);
}

static void
test_node_jobs_take_back_nothing_that_is_done(void **state)
{
	struct ends *e = *state;

	send_job(e, 0);
	start(e, 0);
	answer(e, 10);
	send_recall(e, 1);
	expect(e, FZ_WIRE_STARTED, 0);
	expect(e, FZ_WIRE_RECALLED, 1);
	start_nothing(e);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect_nothing(e);
}

/* The reply to a quick job is passed on before the next, long job ends. */
static void
test_node_jobs_pass_on_replies_that_are_not_written(void **state)
{
	struct ends *e = *state;

	for (uint32_t i = 0; i < 3; i++)
		send_job(e, i);
	start(e, 0);
	answer(e, 10);
	start(e, 1);
	read_all(e);
	expect_nothing(e);
	check(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect(e, FZ_WIRE_STARTED, 1);
	answer(e, 20);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0); /* both replies */
	start(e, 2);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 1);
	check(e);
	expect(e, FZ_WIRE_STARTED, 2);
	answer(e, 30);
	start_nothing(e);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 2);
	expect_nothing(e);
}

/*
 * The first job is announced just after its start, and ends soon. Its reply
 * does not wait for the end of the second job.
 */
static void
test_node_jobs_pass_on_the_first_reply_at_once(void **state)
{
	struct ends *e = *state;

	for (uint32_t i = 0; i < 3; i++)
		send_job(e, i);
	start(e, 0);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	answer_after(e, 10, e->port.flushed_ns);
	start(e, 1);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect_nothing(e);
}

/*
 * The worker finishes two jobs after the look into the mailbox, and starts a
 * long one before its start is announced.
 */
static void
test_node_jobs_pass_on_replies_that_one_check_has_missed(void **state)
{
	struct ends *e = *state;
	uint64_t written;

	for (uint32_t i = 0; i < 3; i++)
		send_job(e, i);
	for (uint32_t i = 0; i < 2; i++) {
		start(e, i);
		answer(e, 10);
	}
	start(e, 2);
	/* a mailbox whose replies seem to change is not copied */
	written = atomic_fetch_add(&e->jobs.mailbox->written, 1);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	expect_nothing(e);
	atomic_store(&e->jobs.mailbox->written, written);
	check(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect(e, FZ_WIRE_RESULT, 1);
	expect_nothing(e);
}

/*
 * The worker may start items 1 and 2, and then 3 to 6, without a word of it.
 * Each of 2 and 5 takes long.
 */
static void
test_node_jobs_pass_on_items_before_a_long_one(void **state)
{
	struct ends *e = *state;

	send_chunk(e, 0, 7);
	start(e, 0);
	for (uint32_t i = 0; i < 2; i++) {
		answer_item(e);
		check(e); /* the item is quick: the next one has not started */
		advance(e);
	}
	assert_int_equal(e->port.permit.end, 3);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0);
	expect_items(e, 0, 1);
	expect(e, FZ_WIRE_STARTED, 1);
	expect_items(e, 1, 1);
	expect(e, FZ_WIRE_STARTED, 2);
	check(e);
	expect_nothing(e);
	for (uint32_t i = 2; i < 5; i++) {
		answer_item(e);
		advance(e);
	}
	assert_int_equal(e->port.permit.end, 7);
	check(e);
	expect_items(e, 2, 1); /* the rest of its frame */
	expect_items(e, 3, 2);
	expect(e, FZ_WIRE_STARTED, 5);
	/* item 6 may start, but has not */
	assert_int_equal(fz_le32_load(e->out.data + e->at - 4), 1);
	expect_nothing(e);
	/* the rest of the frame comes through the socket */
	for (uint32_t i = 5; i < 7; i++) {
		answer_item(e);
		if (i < 6)
			advance(e);
	}
	start_nothing(e);
	read_all(e);
	expect_items(e, 5, 2);
	expect_nothing(e);
	assert_true(e->jobs.check_ns == FZ_CLOCK_NEVER);
}

static void
test_node_jobs_pass_on_items_of_a_dead_worker(void **state)
{
	struct ends *e = *state;

	send_chunk(e, 0, 3);
	start(e, 0);
	for (uint32_t i = 0; i < 2; i++) {
		answer_item(e);
		advance(e);
	}
	check(e);
	expect_items(e, 0, 1);
	expect_items(e, 1, 1);
	answer_item(e);
	fz_node_jobs_end(&e->jobs);
	expect(e, FZ_WIRE_STARTED, 2);
	expect_items(e, 2, 1);
	expect_nothing(e);
}

static void
test_node_jobs_pass_on_what_a_dead_worker_has_finished(void **state)
{
	struct ends *e = *state;

	for (uint32_t i = 0; i < 5; i++)
		send_job(e, i);
	for (uint32_t i = 0; i < 3; i++) {
		start(e, i);
		answer(e, i == 1 ? 200000 : 10); /* a large one is written */
		read_all(e);
	}
	start(e, 3);
	read_all(e);
	fz_node_jobs_end(&e->jobs);
	for (uint32_t i = 0; i < 3; i++)
		expect(e, FZ_WIRE_RESULT, i);
	expect(e, FZ_WIRE_STARTED, 3);
	expect_nothing(e);
}

/* Replies in the socket are passed on before those in the mailbox. */
static void
test_node_jobs_replies_keep_their_order(void **state)
{
	struct ends *e = *state;

	for (uint32_t i = 0; i < 3; i++)
		send_job(e, i);
	start(e, 0);
	answer(e, 10);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	start(e, 1);
	answer(e, 10);
	start(e, 2);
	check(e); /* before the reply in the socket was read */
	expect(e, FZ_WIRE_STARTED, 0);
	read_all(e);
	expect(e, FZ_WIRE_RESULT, 0);
	expect_nothing(e);
	check(e);
	expect(e, FZ_WIRE_RESULT, 1);
	expect_nothing(e);
}

static void
test_node_jobs_numbers_may_wrap(void **state)
{
	struct ends *e = *state;
	uint32_t first = UINT32_MAX - 1;

	e->jobs.came = e->jobs.answered = e->jobs.announced = first;
	e->jobs.mailbox->held.started = fz_claim_word(first);
	e->jobs.mailbox->held.floor = fz_claim_word(first);
	e->jobs.mailbox->held.granted = fz_claim_word(first);
	e->jobs.mailbox->held.decided = fz_claim_word(first);
	fz_claim_permit(&e->jobs.mailbox->claim, first);
	for (uint32_t i = 0; i < 4; i++)
		send_job(e, first + i);
	for (uint32_t i = 0; i < 3; i++) {
		start(e, first + i);
		check(e);
		expect(e, FZ_WIRE_STARTED, first + i);
		answer(e, 10);
		assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		read_all(e);
		expect(e, FZ_WIRE_RESULT, first + i);
	}
	send_recall(e, first + 4);
	expect(e, FZ_WIRE_RECALLED, first + 4);
	start_nothing(e);
	read_all(e);
	expect_nothing(e);
}

static void
test_node_jobs_end_with_bytes_that_are_no_reply(void **state)
{
	struct ends *e = *state;

	assert_int_equal(
	    fz_fd_write_all(e->fd[1], "no frame at all, it is text", 27), 0);
	assert_int_equal(fz_node_jobs_read(&e->jobs, e->fd[0]), 0);
	expect_nothing(e);
}

/* A function of the worker has overwritten the mailbox. */
static void
test_node_jobs_survive_an_overwritten_mailbox(void **state)
{
	struct ends *e = *state;

	send_job(e, 0);
	send_job(e, 1);
	start(e, 0);
	answer(e, 10);
	memset(e->jobs.mailbox, 0xa5, sizeof(*e->jobs.mailbox));
	send_recall(e, 2); /* no answer: the worker may start later jobs */
	expect_nothing(e);
	check(e);
	expect(e, FZ_WIRE_STARTED, 0); /* the job that overwrote the mailbox */
	fz_node_jobs_end(&e->jobs);
	expect_nothing(e);
}

static int
pass_a_reply(void *ctx)
{
	static const unsigned char body[4];
	unsigned char reply[FZ_WIRE_HEADER + sizeof(body)];
	struct fz_buf frame = {
		.data = reply, .cap = sizeof(reply), .store = &fz_port_store
	};
	struct fz_buf out = FZ_BUF_INIT;
	struct fz_node_jobs jobs;
	int *fd = ctx, rc = fz_node_jobs_init(&jobs, &out, NULL);

	fz_wire_begin(&frame, FZ_WIRE_RESULT, 0, 0);
	fz_buf_put(&frame, body, sizeof(body));
	fz_wire_end(&frame, 0);
	assert_int_equal(
	    __real_write(fd[1], reply, sizeof(reply)), sizeof(reply));
	if (rc == 0 && (fz_node_jobs_read(&jobs, fd[0]) != 1 || out.failed ||
			   out.len < sizeof(reply)))
		rc = -1;
	fz_node_jobs_fini(&jobs);
	fz_buf_fini(&out);
	return rc;
}

static void
test_node_jobs_any_call_may_fail(void **state)
{
	struct ends *e = *state;

	assert_true(faults_at_each(pass_a_reply, e->fd) >= 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_node_jobs_announce_no_job_that_is_answered_soon),
		T(test_node_jobs_announce_a_job_that_takes_longer),
		T(test_node_jobs_are_checked_after_an_announcement),
		T(test_node_jobs_check_seldom_while_nothing_starts),
		T(test_node_jobs_take_back_what_has_not_started),
		T(test_node_jobs_take_back_items_behind_the_current_one),
		T(test_node_jobs_that_were_taken_back_need_no_check),
		T(test_node_jobs_take_back_nothing_that_is_done),
		T(test_node_jobs_pass_on_replies_that_are_not_written),
		T(test_node_jobs_pass_on_the_first_reply_at_once),
		T(test_node_jobs_pass_on_replies_that_one_check_has_missed),
		T(test_node_jobs_pass_on_items_before_a_long_one),
		T(test_node_jobs_pass_on_items_of_a_dead_worker),
		T(test_node_jobs_pass_on_what_a_dead_worker_has_finished),
		T(test_node_jobs_replies_keep_their_order),
		T(test_node_jobs_numbers_may_wrap),
		T(test_node_jobs_end_with_bytes_that_are_no_reply),
		T(test_node_jobs_survive_an_overwritten_mailbox),
		T(test_node_jobs_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
