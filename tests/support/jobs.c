/* usleep and sigset_t are not in C11. */
#define _GNU_SOURCE
#include "jobs.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "shared/arena.h"
#include "wire/child_items.h"
#include "wire/child_port.h"

bool
on_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

size_t
bulk_size(void)
{
	return on_valgrind() ? (size_t)4 << 20 : (size_t)64 << 20;
}

void
nap_until(int64_t until_ns)
{
	bool is_short = until_ns - fz_clock_ns() < 5 * FZ_CLOCK_MS;

	while (fz_clock_ns() < until_ns)
		usleep(is_short ? 50 : 1000);
}

void
nap(uint64_t ms)
{
	nap_until(fz_clock_ns() + (int64_t)ms * FZ_CLOCK_MS);
}

void
put_number(struct fz_port *port, uint64_t v)
{
	fz_buf_put_u64(&port->value.buf, v);
	fz_port_put(port);
}

void
put_bytes(struct fz_port *port, uint64_t n)
{
	unsigned char *p = fz_buf_reserve(&port->value.buf, n);

	if (p != NULL) {
		memset(p, 'x', n);
		port->value.buf.len += n;
	}
	fz_port_put(port);
}

void
put_error(struct fz_port *port, const struct fz_call *call)
{
	fz_port_begin(port, call, FZ_WIRE_ERROR, FZ_ERR_ERROR);
	fz_buf_put(&port->value.buf, "raised", 6);
	fz_port_put(port);
}

/* Map the next argument; it stays mapped until fz_port_release(). */
static const void *
map_arg(struct fz_port *port, struct fz_call *call, size_t *len)
{
	const void *at;

	if (fz_port_argument(port, call, &at, len, NULL) != 0)
		_exit(90);
	return at;
}

/* Copy at most `n` bytes of the next argument into `bytes`. */
static void
next_arg(struct fz_port *port, struct fz_call *call, void *bytes, size_t n)
{
	size_t len;
	const void *at = map_arg(port, call, &len);

	memcpy(bytes, at, n < len ? n : len);
	fz_port_release(port);
}

uint64_t
next_number(struct fz_port *port, struct fz_call *call)
{
	unsigned char bytes[8] = { 0 };

	next_arg(port, call, bytes, sizeof(bytes));
	return fz_le64_load(bytes);
}

/* Everything that the function of a job needs. */
struct at_work {
	struct shared *shared;
	struct fz_port *port;
	struct fz_call *call;
};

static bool
job_echo(struct at_work *w)
{
	for (uint32_t i = 0; i < w->call->nargs; i++) {
		size_t len;
		const void *at = map_arg(w->port, w->call, &len);

		fz_buf_put(&w->port->value.buf, at, len);
		fz_port_release(w->port);
		fz_port_put(w->port);
	}
	return true;
}

static bool
job_add(struct at_work *w)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < w->call->nargs; i++)
		sum += next_number(w->port, w->call);
	put_number(w->port, sum);
	return true;
}

static bool
job_sleep(struct at_work *w)
{
	uint64_t ms = next_number(w->port, w->call);
	int64_t until_ns = fz_clock_ns() + (int64_t)ms * FZ_CLOCK_MS;

	atomic_fetch_add(&w->shared->sleeping, 1);
	nap_until(until_ns);
	put_number(w->port, ms);
	return true;
}

static bool
job_seed(struct at_work *w)
{
	put_number(w->port, w->call->seed);
	return true;
}

static bool
job_bytes(struct at_work *w)
{
	put_bytes(w->port, next_number(w->port, w->call));
	return true;
}

static bool
job_raise(struct at_work *w)
{
	put_error(w->port, w->call);
	return true;
}

static bool
job_raise_late(struct at_work *w)
{
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		usleep(100);
	return job_raise(w);
}

static bool
job_crash(struct at_work *w)
{
	(void)w;
	return raise(SIGSEGV);
}

static bool
job_exit(struct at_work *w)
{
	_exit((int)next_number(w->port, w->call));
}

static bool
job_kill(struct at_work *w)
{
	(void)w;
	return raise(SIGKILL);
}

/* The reply is in the mailbox; write `n` of its bytes and die. */
static bool
die_writing(struct fz_port *port, size_t n)
{
	put_number(port, 1);
	port->flushed_ns = fz_clock_ns(); /* no flush if jobs follow */
	fz_port_send(port, NULL);
	if (write(port->out, port->mailbox->out, n) != (ssize_t)n)
		_exit(92);
	return raise(SIGKILL);
}

static bool
job_kill_stored(struct at_work *w)
{
	return die_writing(w->port, 0);
}

static bool
job_kill_half(struct at_work *w)
{
	return die_writing(w->port, 21);
}

static bool
job_kill_written(struct at_work *w)
{
	return die_writing(w->port, FZ_WIRE_HEADER + 4 + 16);
}

static bool
job_kill_big_half(struct at_work *w)
{
	put_bytes(w->port, 40000);
	fz_wire_end(&w->port->frame, 0);
	if (write(w->port->out, w->port->frame.data, 20000) != 20000)
		_exit(92);
	return raise(SIGKILL);
}

/* Sleep until the worker is killed; there is no reply. */
static bool
hang(void)
{
	nap(60000);
	return false;
}

static bool
job_garbage(struct at_work *w)
{
	static const char garbage[] = "this is no frame, is it? at all? no";

	if (write(w->port->out, garbage, sizeof(garbage)) < 0)
		_exit(92);
	return hang();
}

static bool
job_reply_garbage(struct at_work *w)
{
	struct fz_port *port = w->port;
	char bytes[100];
	size_t n;

	put_number(port, 1);
	fz_port_send(port, NULL);
	n = port->items.start;
	memcpy(bytes, port->mailbox->out, n);
	memset(bytes + n, '#', sizeof(bytes) - n);
	atomic_store(&port->mailbox->open, 0);
	port->items.start = 0;
	if (write(port->out, bytes, sizeof(bytes)) < 0)
		_exit(92);
	return hang();
}

static bool
job_late_garbage(struct at_work *w)
{
	put_number(w->port, 1);
	fz_port_send(w->port, NULL);
	fz_port_flush(w->port, NULL);
	nap(20);
	return job_garbage(w);
}

static bool
job_close_out(struct at_work *w)
{
	close(w->port->out);
	return hang();
}

static bool
job_close_in(struct at_work *w)
{
	close(w->port->in);
	return hang();
}

static bool
job_count(struct at_work *w)
{
	struct shared *shared = w->shared;
	int now = atomic_fetch_add(&shared->running, 1) + 1;
	int peak = atomic_load(&shared->peak);

	while (now > peak &&
	       !atomic_compare_exchange_weak(&shared->peak, &peak, now))
		continue;
	job_sleep(w);
	atomic_fetch_sub(&shared->running, 1);
	return true;
}

static bool
job_kill_once(struct at_work *w)
{
	if (atomic_fetch_add(&w->shared->kills, 1) == 0)
		raise(SIGKILL);
	return job_add(w);
}

static bool
job_print(struct at_work *w)
{
	char text[64] = "";

	next_arg(w->port, w->call, text, sizeof(text) - 1);
	fputs(text, stdout);
	fflush(stdout);
	put_number(w->port, 1);
	return true;
}

static bool
job_too_many(struct at_work *w)
{
	fz_port_begin(w->port, w->call, FZ_WIRE_RESULT, 1000);
	put_number(w->port, 1);
	return true;
}

static bool
job_too_few(struct at_work *w)
{
	uint32_t n = w->call->nvalues - 1;

	fz_port_begin(w->port, w->call, FZ_WIRE_RESULT, n);
	for (uint32_t i = 0; i < n; i++)
		put_number(w->port, i);
	return true;
}

static bool
job_block(struct at_work *w)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	atomic_fetch_add(&w->shared->deaf, 1);
	return hang();
}

static bool
job_ignore(struct at_work *w)
{
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_IGN);
	atomic_fetch_add(&w->shared->deaf, 1);
	return hang();
}

/* Each returns true when the reply is complete and is to be sent. */
static bool (*const jobs[JOB_NJOBS])(struct at_work *w) = {
	[JOB_ECHO] = job_echo,
	[JOB_ADD] = job_add,
	[JOB_SLEEP] = job_sleep,
	[JOB_SEED] = job_seed,
	[JOB_BYTES] = job_bytes,
	[JOB_RAISE] = job_raise,
	[JOB_RAISE_LATE] = job_raise_late,
	[JOB_CRASH] = job_crash,
	[JOB_EXIT] = job_exit,
	[JOB_KILL] = job_kill,
	[JOB_KILL_STORED] = job_kill_stored,
	[JOB_KILL_HALF] = job_kill_half,
	[JOB_KILL_WRITTEN] = job_kill_written,
	[JOB_KILL_BIG_HALF] = job_kill_big_half,
	[JOB_GARBAGE] = job_garbage,
	[JOB_REPLY_GARBAGE] = job_reply_garbage,
	[JOB_LATE_GARBAGE] = job_late_garbage,
	[JOB_CLOSE_OUT] = job_close_out,
	[JOB_CLOSE_IN] = job_close_in,
	[JOB_COUNT] = job_count,
	[JOB_KILL_ONCE] = job_kill_once,
	[JOB_PRINT] = job_print,
	[JOB_TOO_MANY] = job_too_many,
	[JOB_TOO_FEW] = job_too_few,
	[JOB_BLOCK] = job_block,
	[JOB_IGNORE] = job_ignore,
};

static void
misbehave(const struct shared *shared, int birth, struct fz_port *port)
{
	static unsigned char bytes[1 << 16];
	size_t n = 0;

	if (shared->mode == START_NEVER_READS)
		nap(60000);
	if (shared->mode == START_ALL_DIE)
		_exit(7);
	if (birth != 1 || shared->mode == START_NORMAL)
		return;
	if (shared->mode == START_FIRST_DIES_READING &&
	    read(port->in, bytes, FZ_WIRE_HEADER) != FZ_WIRE_HEADER)
		_exit(94);
	while (
	    shared->mode == START_FIRST_DIES_HALFWAY && n < bulk_size() / 2) {
		ssize_t got = read(port->in, bytes, sizeof(bytes));

		if (got <= 0)
			_exit(94);
		n += (size_t)got;
	}
	raise(SIGKILL);
}

/* Whether the reply is one small number. */
static bool
is_small(const struct fz_port *port)
{
	return port->frame.data[0] == FZ_WIRE_RESULT &&
	       port->frame.len == FZ_WIRE_HEADER + 4 + 8 + 8;
}

/* Append the value of the reply to the values of other calls. */
static int
send_value(struct fz_port *port, const struct fz_call *call)
{
	unsigned char *room = fz_port_item(port, call, NULL);

	size_t at = 0;

	if (room == NULL)
		return 96;
	if (call->measured) {
		fz_port_store_used(port, room);
		at = FZ_WIRE_USED;
	}
	memcpy(room + at, port->frame.data + FZ_WIRE_HEADER + 4, 16);
	fz_port_item_end(port, at + 16);
	return 0;
}

/* Run the job of a call, which has a frame of its own or is in a chunk. */
static int
answer(struct at_work *w)
{
	struct fz_call *call = w->call;

	if (call->func >= JOB_NJOBS)
		return 95;
	if (call->type == FZ_WIRE_CHUNK) {
		fz_port_step(call);
		call->nvalues = 1;
	}
	atomic_fetch_add(&w->shared->calls[call->func], 1);
	fz_port_begin(w->port, call, FZ_WIRE_RESULT, call->nvalues);
	if (!jobs[call->func](w))
		return 0;
	if (call->type == FZ_WIRE_CHUNK && is_small(w->port))
		return send_value(w->port, call);
	return fz_port_send(w->port, NULL) != 0 ? 96 : 0;
}

int
serve(void *ctx, struct fz_port *port)
{
	struct shared *shared = ctx;
	struct fz_call call;
	struct at_work w = { shared, port, &call };
	int rc;

	misbehave(shared, atomic_fetch_add(&shared->births, 1) + 1, port);
	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		int why;

		do
			why = answer(&w);
		while (why == 0 && fz_port_advance(port, &call));
		if (why != 0)
			return why;
	}
	atomic_fetch_add(&shared->leaves, 1);
	return rc == 0 ? 0 : 97;
}
