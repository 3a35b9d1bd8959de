/*
 * The file of a trace: whole lines, full disks, forked children; the records
 * that it keeps.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* mkstemp and mkfifo are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "os/usage.h"
#include "trace/job_event.h"
#include "trace/trace.h"
#include "wire/blob.h"
#include "worker/worker.h"

enum { PAGE = 4096, KEPT = 1 << 20 };

struct bench {
	struct fz_loop *loop;
	struct fz_trace *trace;
	struct fz_trace_names *names;
	char path[32];
};

static struct fz_trace_text
text(const char *s)
{
	return (struct fz_trace_text){ s, s != NULL ? strlen(s) : 0 };
}

static void
set_up(struct bench *b, bool file, bool keeps)
{
	struct fz_err err = { 0 };
	struct fz_trace_opts opts = { .keeps = keeps };
	int fd;

	*b = (struct bench){ .path = "/tmp/trace-XXXXXX" };
	fd = mkstemp(b->path);
	assert_int_not_equal(fd, -1);
	close(fd);
	opts.loop = b->loop = fz_loop_new(&err);
	opts.path = file ? b->path : NULL;
	b->trace = fz_trace_new(&opts, &err);
	assert_non_null(b->trace);
	b->names = fz_trace_names_new(&err);
	assert_int_equal(
	    fz_trace_names_add(b->names, text("stage"), text("name"), &err), 0);
}

/* The text of an error that contains a zero byte. */
static void
put_zero(void *ctx, struct fz_blob *value, struct fz_buf *out)
{
	(void)ctx;
	(void)value;
	fz_buf_put(out, "a\0b", 3);
}

/* Open another trace with the same file. NULL and `err` on failure. */
static struct fz_trace *
open_another(const struct bench *b, struct fz_err *err)
{
	const struct fz_trace_opts opts = { .loop = b->loop, .path = b->path };

	return fz_trace_new(&opts, err);
}

/* Close the first trace, and open a new one with the same file. */
static struct fz_trace *
open_again(struct bench *b, struct fz_err *err)
{
	fz_trace_unref(b->trace);
	return open_another(b, err);
}

static void
tear_down(struct bench *b)
{
	fz_trace_names_unref(b->names);
	fz_trace_unref(b->trace);
	fz_loop_free(b->loop);
	unlink(b->path);
}

/* Add `n` records of one item each, with the indexes from 1 on. */
static void
add(struct bench *b, uint64_t n)
{
	for (uint64_t i = 1; i <= n; i++) {
		struct fz_job_event event = { .kind = FZ_JOB_EVENT_DONE,
			.first = i,
			.n = 1,
			.pid = 1,
			.ended_ns = fz_clock_ns() };
		struct fz_job_event *record =
		    fz_trace_add(b->trace, &event, b->names);

		if (record != NULL)
			record->name = fz_trace_name(b->names, 0);
	}
}

/* The text of the file, which the caller frees. */
static char *
contents(const struct bench *b, size_t *len)
{
	FILE *file = fopen(b->path, "r");
	char *text = calloc(1, 4 << 20);

	assert_non_null(file);
	assert_non_null(text);
	*len = fread(text, 1, (4 << 20) - 1, file);
	fclose(file);
	return text;
}

/* Checks that all lines are whole objects; returns how many. */
static size_t
count_lines(const char *text, size_t len)
{
	size_t n = 0;

	assert_true(len != 0 && text[len - 1] == '\n');
	for (const char *at = text; *at != '\0'; n++) {
		const char *end = strchr(at, '\n');

		assert_int_equal(*at, '{');
		assert_non_null(memchr(at, '}', (size_t)(end - at)));
		at = end + 1;
	}
	return n;
}

static void
test_trace_no_line_crosses_a_page(void **state)
{
	struct bench b;
	size_t len;
	char *text;

	(void)state;
	set_up(&b, true, false);
	add(&b, 5000);
	assert_int_equal(fz_trace_close(b.trace, NULL), 0);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 5002);
	for (size_t at = PAGE; at < len; at += PAGE)
		assert_int_equal(text[at - 1], '\n');
	free(text);
	tear_down(&b);
}

static void
test_trace_the_loop_writes_while_runs_go_on(void **state)
{
	struct bench b;
	size_t len = 0;
	char *text = NULL;

	(void)state;
	set_up(&b, true, false);
	add(&b, 3);
	fz_loop_turn(
	    b.loop, fz_clock_after(fz_clock_ns(), 10 * FZ_CLOCK_SECOND), NULL);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 4);
	assert_int_equal(fz_loop_nwatched(b.loop), 0);
	free(text);
	tear_down(&b);
}

static void
test_trace_a_full_disk_ends_the_file_at_a_line(void **state)
{
	struct rlimit old, small;
	struct fz_err err = { 0 };
	struct bench b;
	size_t len;
	char *text;

	(void)state;
	set_up(&b, true, true);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 10000, old.rlim_max };
	add(&b, 20);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	add(&b, 2000);
	assert_int_equal(fz_trace_close(b.trace, &err), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(err.text, "cannot write the trace /tmp/trace-"));
	assert_int_equal(fz_trace_close(b.trace, &err), 0); /* no error again */
	assert_int_equal(fz_trace_count(b.trace), 2020);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 1);
	free(text);
	tear_down(&b);
}

static void
test_trace_a_pipe_without_a_reader_is_no_signal(void **state)
{
	struct fz_err err = { 0 };
	struct bench b;
	int reader;

	(void)state;
	set_up(&b, false, false);
	assert_int_equal(unlink(b.path), 0);
	assert_int_equal(mkfifo(b.path, 0600), 0);
	reader = open(b.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	b.trace = open_again(&b, &err);
	assert_non_null(b.trace);
	close(reader);
	add(&b, 1);
	assert_int_equal(fz_trace_close(b.trace, &err), -1);
	assert_non_null(strstr(err.text, "Broken pipe"));
	tear_down(&b);
}

static void
test_trace_a_file_is_written_by_one_run(void **state)
{
	struct fz_err err = { 0 };
	struct bench b;
	size_t len;
	char *text;

	(void)state;
	set_up(&b, true, false);
	add(&b, 1);
	assert_null(open_another(&b, &err));
	assert_non_null(strstr(err.text, "by another run"));
	assert_int_equal(fz_trace_close(b.trace, NULL), 0);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 3);
	free(text);
	b.trace = open_again(&b, &err);
	assert_non_null(b.trace);
	tear_down(&b);
}

static void
test_trace_names_that_are_no_utf8_are_written_as_such(void **state)
{
	struct fz_err err = { 0 };
	struct fz_trace_names *names = fz_trace_names_new(&err);

	(void)state;
	assert_non_null(names);
	assert_int_equal(fz_trace_names_add(names, text("\xc3\xbc\xff\xc3"),
			     text("\xed\xa0\x80\"\n"), &err),
	    0);
	assert_string_equal(fz_trace_name(names, 0)->members.many,
	    ",\"stage\":\"\xc3\xbc\\ufffd\\ufffd\""
	    ",\"name\":\"\\ufffd\\ufffd\\ufffd\\\"\\u000a\"");
	fz_trace_names_unref(names);
}

static void
test_trace_names_and_errors_may_contain_zeros(void **state)
{
	struct fz_failure failure = { .err = { .kind = FZ_ERR_ERROR } };
	struct fz_trace_opts opts = { .keeps = true, .error_text = put_zero };
	struct fz_err err = { 0 };
	struct fz_trace_names *names = fz_trace_names_new(&err);
	struct fz_job_event event = { .kind = FZ_JOB_EVENT_FAILED, .n = 1 };
	struct fz_blob *value = fz_blob_new("", 0, &err);
	struct fz_job_event *record;
	struct bench b;
	struct fz_trace *trace;

	(void)state;
	set_up(&b, false, true);
	opts.loop = b.loop;
	trace = fz_trace_new(&opts, &err);
	assert_true(names != NULL && trace != NULL && value != NULL);
	assert_int_equal(
	    fz_trace_names_add(names, (struct fz_trace_text){ "s\0t", 3 },
		(struct fz_trace_text){ "\0", 1 }, &err),
	    0);
	assert_memory_equal(fz_trace_name(names, 0)->members.many,
	    ",\"stage\":\"s\\u0000t\",\"name\":\"\\u0000\"",
	    fz_trace_name(names, 0)->len);
	record = fz_trace_add(trace, &event, names);
	assert_non_null(record);
	failure.value = value;
	fz_trace_add_error(trace, record, &failure);
	assert_int_equal(record->ntext, 3);
	assert_memory_equal(record->text, "a\0b", 4);
	fz_blob_unref(value);
	fz_trace_unref(trace);
	fz_trace_names_unref(names);
	tear_down(&b);
}

static void
test_trace_names_without_memory_are_an_error(void **state)
{
	struct fz_err err = { 0 };
	unsigned n = 0;
	bool made;

	(void)state;
	do {
		struct fz_trace_names *names;

		faults_at(++n);
		names = fz_trace_names_new(&err);
		made =
		    names != NULL &&
		    fz_trace_names_add(names, text(NULL), text("a"), &err) ==
			0 &&
		    fz_trace_names_add(names, text("b"), text("c"), &err) == 0;
		fz_trace_names_unref(names);
	} while (faults_end());
	assert_true(made);
	assert_true(n > 3);
}

/* The number after `member`, which must be in the first line of the text. */
static double
number_in(const char *line, const char *member)
{
	const char *at = strstr(line, member), *end = strchr(line, '\n');

	assert_true(at != NULL && end != NULL && at < end);
	return strtod(at + strlen(member), NULL);
}

static bool
is_near(double a, double b)
{
	return a - b < 2e-6 && b - a < 2e-6;
}

/* Event `i`. Its numbers are equal to those before it, larger or smaller. */
static struct fz_job_event
varied(uint64_t i, int64_t base_ns)
{
	static const pid_t pids[] = { 9, 13, 4194301, 99, 100, 13 };
	static const int64_t times_ns[] = { 0, 5 * FZ_CLOCK_SECOND, 1000,
		999999000, FZ_CLOCK_SECOND };
	const struct fz_job_event event = { .kind = FZ_JOB_EVENT_DONE,
		.n = 1,
		.attempt = 1 + i % 7 % 2,
		.pid = pids[i % 6],
		.peak_rss = 1 + i / 5 % 3 * 4096 * (uint64_t)pids[i % 6],
		.nsent = i * i * i,
		.took_ns = (int64_t)(i % 3) * 400000000,
		.ended_ns = base_ns + times_ns[i % 5] };

	return event;
}

/* Use the processor for some milliseconds. */
static void
compute(void)
{
	uint64_t end_ns = fz_usage_process_ns() + 5 * FZ_CLOCK_MS;

	while (fz_usage_process_ns() < end_ns)
		continue;
}

static void
test_trace_counts_the_processor_time_between_records(void **state)
{
	struct bench b;

	(void)state;
	for (int keeps = 0; keeps < 2; keeps++) {
		set_up(&b, keeps == 0, keeps);
		compute(); /* before the first record */
		for (uint64_t i = 1; i <= 2; i++) {
			struct fz_job_event event = varied(i, 0);

			event.ended_ns = fz_clock_ns();
			assert_non_null(fz_trace_add(b.trace, &event, b.names));
			if (i == 1)
				compute();
		}
		compute(); /* after the last one */
		if (keeps) {
			assert_true(
			    fz_trace_cpu_ns(b.trace) >= 5 * FZ_CLOCK_MS);
			assert_true(
			    fz_trace_cpu_ns(b.trace) < 10 * FZ_CLOCK_MS);
		} else {
			assert_int_equal(fz_trace_cpu_ns(b.trace), 0);
		}
		tear_down(&b);
	}
}

static void
test_trace_lines_have_the_numbers_of_their_events(void **state)
{
	int64_t base_ns = fz_clock_ns();
	double first = 0;
	struct bench b;
	const char *at;
	char *text;
	size_t len;

	(void)state;
	set_up(&b, true, false);
	for (uint64_t i = 1; i <= 1000; i++) {
		struct fz_job_event event = varied(i, base_ns);

		assert_non_null(fz_trace_add(b.trace, &event, b.names));
	}
	assert_int_equal(fz_trace_close(b.trace, NULL), 0);
	at = text = contents(&b, &len);
	for (uint64_t i = 1; i <= 1000; i++) {
		struct fz_job_event event = varied(i, base_ns);
		double ended, took = (double)event.took_ns / 1e9;

		at = strchr(at, '\n') + 1;
		ended = number_in(at, ",\"ended\":");
		if (i == 1)
			first =
			    ended - (double)(event.ended_ns - base_ns) / 1e9;
		assert_true(is_near(
		    ended - first, (double)(event.ended_ns - base_ns) / 1e9));
		assert_true(
		    is_near(ended - number_in(at, ",\"started\":"), took));
		assert_true(number_in(at, ",\"attempt\":") == event.attempt);
		assert_true(number_in(at, ",\"pid\":") == event.pid);
		assert_true(
		    number_in(at, ",\"peak\":") == (double)event.peak_rss);
		assert_true(number_in(at, ",\"sent\":") == (double)event.nsent);
	}
	free(text);
	tear_down(&b);
}

static void
test_trace_a_child_writes_nothing(void **state)
{
	struct bench b;
	size_t len;
	char *text;
	pid_t pid;
	int status;

	(void)state;
	set_up(&b, true, false);
	add(&b, 1);
	pid = fork();
	if (pid == 0) {
		fz_loop_in_child(b.loop);
		add(&b, 10);
		_exit(fz_trace_close(b.trace, NULL));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(fz_trace_close(b.trace, NULL), 0);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 3);
	free(text);
	tear_down(&b);
}

static void
test_trace_keeps_the_newest_records(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b, false, true);
	add(&b, KEPT + 1);
	assert_int_equal(fz_trace_count(b.trace), KEPT / 2 + 1);
	assert_int_equal(fz_trace_get(b.trace, 0)->first, KEPT / 2 + 1);
	assert_int_equal(fz_trace_get(b.trace, KEPT / 2)->first, KEPT + 1);
	assert_string_equal(fz_trace_get(b.trace, 7)->name->stage, "stage");
	tear_down(&b);
}

static void
test_trace_a_record_without_memory_is_counted(void **state)
{
	struct bench b;
	size_t len;
	char *text;

	(void)state;
	set_up(&b, true, false);
	faults_at(2); /* no memory for the block of records */
	add(&b, 1);
	assert_true(faults_end());
	add(&b, 1);
	assert_int_equal(fz_trace_close(b.trace, NULL), 0);
	text = contents(&b, &len);
	assert_int_equal(count_lines(text, len), 3);
	assert_non_null(strstr(text, "\"lost\":1}"));
	free(text);
	tear_down(&b);
}

int
main(void)
{
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(test_trace_no_line_crosses_a_page),
		T(test_trace_the_loop_writes_while_runs_go_on),
		T(test_trace_a_full_disk_ends_the_file_at_a_line),
		T(test_trace_a_pipe_without_a_reader_is_no_signal),
		T(test_trace_a_file_is_written_by_one_run),
		T(test_trace_names_that_are_no_utf8_are_written_as_such),
		T(test_trace_names_and_errors_may_contain_zeros),
		T(test_trace_names_without_memory_are_an_error),
		T(test_trace_counts_the_processor_time_between_records),
		T(test_trace_lines_have_the_numbers_of_their_events),
		T(test_trace_a_child_writes_nothing),
		T(test_trace_keeps_the_newest_records),
		T(test_trace_a_record_without_memory_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
