/*
 * world.h - an engine under test, workers that misbehave on demand, and the
 * proof that nothing is left behind.
 */
#ifndef WORLD_H
#define WORLD_H

/* Behind <cmocka.h> and what it needs. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop.h"
#include "shared/arena.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/engine.h"
#include "worker/worker.h"

/* What a worker can be asked for; a number is eight bytes, little-endian. */
enum job {
	JOB_ECHO,          /* its arguments */
	JOB_ADD,           /* the sum of its arguments */
	JOB_SLEEP,         /* milliseconds -> the same */
	JOB_SEED,          /* its seed */
	JOB_BYTES,         /* n -> n bytes */
	JOB_RAISE,         /* an error */
	JOB_RAISE_LATE,    /* the same, once a JOB_SLEEP runs */
	JOB_CRASH,         /* SIGSEGV */
	JOB_EXIT,          /* code -> never returns */
	JOB_KILL,          /* SIGKILL in the midst */
	JOB_KILL_STORED,   /* with its reply whole but not written */
	JOB_KILL_HALF,     /* with half of that written */
	JOB_KILL_WRITTEN,  /* with all of it written, still counted as not */
	JOB_KILL_BIG_HALF, /* with half of a big reply written */
	JOB_GARBAGE,       /* bytes that are no frame */
	JOB_REPLY_GARBAGE, /* a reply and such bytes in one write */
	JOB_LATE_GARBAGE,  /* a reply, and 20 ms later such bytes */
	JOB_CLOSE_OUT,     /* closes the pipe for its results, sleeps */
	JOB_CLOSE_IN,      /* closes the pipe for its jobs, sleeps */
	JOB_COUNT,         /* how many run now is noted; milliseconds */
	JOB_KILL_ONCE, /* SIGKILL if it is the first of these, else as ADD */
	JOB_PRINT,     /* prints its argument */
	JOB_TOO_MANY,  /* a reply that promises more values than it has */
	JOB_TOO_FEW,   /* one value less than is wanted */
	JOB_BLOCK,     /* blocks all signals, sleeps */
	JOB_IGNORE,    /* ignores all signals, sleeps */
	JOB_NJOBS
};

/* How a worker behaves before it takes its first job. */
enum birth_mode {
	BORN_WELL,
	BORN_FIRST_DIES_UNREAD,  /* the first one, before it reads */
	BORN_FIRST_DIES_READING, /* with the header of a job read */
	BORN_FIRST_DIES_HALFWAY, /* with half of bulk_size() read */
	BORN_DEAD,               /* all of them */
	BORN_DEAF                /* never reads */
};

struct shared {
	_Atomic int births, running, peak, kills, leaves;
	_Atomic int calls[JOB_NJOBS];
	enum birth_mode mode;
};

struct world {
	struct fz_engine engine;
	struct shared *shared;
	int nfds; /* open before */
	char output[4096];
	size_t noutput;
};

static inline bool
on_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

/* Valgrind looks at every byte of a buffer each time it is read into. */
static inline size_t
bulk_size(void)
{
	return on_valgrind() ? (size_t)4 << 20 : (size_t)64 << 20;
}

/* ---- in a worker -------------------------------------------------------- */

static inline void
put_number(struct fz_port *port, uint64_t v)
{
	fz_buf_put_u64(&port->value.buf, v);
	fz_port_put(port);
}

/* The next argument; at most `n` bytes of it into `bytes`. */
static inline size_t
next_arg(struct fz_port *port, struct fz_call *call, void *bytes, size_t n)
{
	struct fz_part part;
	const void *at;

	if (fz_wire_part(&call->args, &part) != 0)
		_exit(90);
	at = part.bytes;
	if (at == NULL)
		at = fz_arena_map(port->shm, part.offset, part.len, NULL);
	if (at == NULL)
		_exit(91);
	memcpy(bytes, at, n < part.len ? n : part.len);
	if (part.bytes == NULL)
		fz_arena_unmap(port->shm, at, part.len);
	return part.len;
}

static inline uint64_t
next_number(struct fz_port *port, struct fz_call *call)
{
	unsigned char bytes[8] = { 0 };

	next_arg(port, call, bytes, sizeof(bytes));
	return fz_le64_load(bytes);
}

static inline void
nap(uint64_t ms)
{
	int64_t until = fz_clock_ns() + (int64_t)ms * FZ_CLOCK_MS;

	while (fz_clock_ns() < until)
		usleep((useconds_t)(ms < 5 ? 50 : 1000));
}

static inline void
job_echo(struct fz_port *port, struct fz_call *call)
{
	for (uint32_t i = 0; i < call->nargs; i++) {
		struct fz_part part;
		const void *at;

		if (fz_wire_part(&call->args, &part) != 0)
			_exit(90);
		at = part.bytes;
		if (at == NULL)
			at = fz_arena_map(
			    port->shm, part.offset, part.len, NULL);
		if (at == NULL)
			_exit(91);
		fz_buf_put(&port->value.buf, at, part.len);
		if (part.bytes == NULL)
			fz_arena_unmap(port->shm, at, part.len);
		fz_port_put(port);
	}
}

static inline void
job_add(struct fz_port *port, struct fz_call *call)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < call->nargs; i++)
		sum += next_number(port, call);
	put_number(port, sum);
}

static inline void
job_bytes(struct fz_port *port, uint64_t n)
{
	unsigned char *p = fz_buf_reserve(&port->value.buf, n);

	if (p != NULL) {
		memset(p, 'x', n);
		port->value.buf.len += n;
	}
	fz_port_put(port);
}

static inline void
job_count(struct shared *shared, struct fz_port *port, uint64_t ms)
{
	int now = atomic_fetch_add(&shared->running, 1) + 1;
	int peak = atomic_load(&shared->peak);

	while (now > peak &&
	       !atomic_compare_exchange_weak(&shared->peak, &peak, now))
		continue;
	nap(ms);
	atomic_fetch_sub(&shared->running, 1);
	put_number(port, ms);
}

/* The reply is in the cell; write `n` of its bytes and die. */
static inline void
die_writing(struct fz_port *port, size_t n)
{
	port->flushed_ns = fz_clock_ns(); /* with jobs behind it, too */
	fz_port_send(port, NULL);
	if (write(port->out, port->cell->out, n) != (ssize_t)n)
		_exit(92);
	raise(SIGKILL);
}

static inline void
die_big(struct fz_port *port)
{
	job_bytes(port, 40000);
	fz_wire_end(&port->frame, 0);
	if (write(port->out, port->frame.data, 20000) != 20000)
		_exit(92);
	raise(SIGKILL);
}

static inline void
write_garbage(struct fz_port *port)
{
	static const char garbage[] = "this is no frame, is it? at all? no";

	if (write(port->out, garbage, sizeof(garbage)) < 0)
		_exit(92);
}

static inline void
reply_and_garbage(struct fz_port *port)
{
	char bytes[100];
	size_t n;

	fz_port_send(port, NULL);
	n = port->nout;
	memcpy(bytes, port->cell->out, n);
	memset(bytes + n, '#', sizeof(bytes) - n);
	atomic_store(&port->cell->nout, 0);
	port->nout = 0;
	if (write(port->out, bytes, sizeof(bytes)) < 0)
		_exit(92);
	nap(60000);
}

static inline void
block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

static inline void
ignore_signals(void)
{
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_IGN);
}

/* True where the reply is complete and to be sent. */
static inline bool
do_job(struct shared *shared, struct fz_port *port, struct fz_call *call)
{
	uint32_t nvalues = call->nvalues;
	uint64_t arg;
	char text[64] = "";

	if (call->func == JOB_RAISE_LATE) {
		while (atomic_load(&shared->calls[JOB_SLEEP]) == 0)
			usleep(100);
	}
	if (call->func == JOB_RAISE || call->func == JOB_RAISE_LATE) {
		fz_port_begin(port, call, FZ_WIRE_ERROR, FZ_ERR_ERROR);
		fz_buf_put(&port->value.buf, "raised", 6);
		fz_port_put(port);
		return true;
	}
	if (call->func == JOB_TOO_MANY)
		nvalues = 1000;
	if (call->func == JOB_TOO_FEW)
		nvalues--;
	fz_port_begin(port, call, FZ_WIRE_RESULT, nvalues);
	switch ((enum job)call->func) {
	case JOB_ECHO:
		job_echo(port, call);
		return true;
	case JOB_ADD:
		job_add(port, call);
		return true;
	case JOB_SLEEP:
		arg = next_number(port, call);
		nap(arg);
		put_number(port, arg);
		return true;
	case JOB_SEED:
		put_number(port, call->seed);
		return true;
	case JOB_BYTES:
		job_bytes(port, next_number(port, call));
		return true;
	case JOB_CRASH:
		raise(SIGSEGV);
		return true;
	case JOB_EXIT:
		_exit((int)next_number(port, call));
	case JOB_KILL:
		raise(SIGKILL);
		return true;
	case JOB_KILL_STORED:
		put_number(port, 1);
		die_writing(port, 0);
		return true;
	case JOB_KILL_HALF:
		put_number(port, 1);
		die_writing(port, 21);
		return true;
	case JOB_KILL_WRITTEN:
		put_number(port, 1);
		die_writing(port, FZ_WIRE_HEADER + 4 + 16);
		return true;
	case JOB_KILL_BIG_HALF:
		die_big(port);
		return true;
	case JOB_GARBAGE:
		write_garbage(port);
		nap(60000);
		return false;
	case JOB_REPLY_GARBAGE:
		put_number(port, 1);
		reply_and_garbage(port);
		return false;
	case JOB_LATE_GARBAGE:
		put_number(port, 1);
		fz_port_send(port, NULL);
		fz_port_flush(port, NULL);
		nap(20);
		write_garbage(port);
		nap(60000);
		return false;
	case JOB_CLOSE_OUT:
		close(port->out);
		nap(60000);
		return false;
	case JOB_CLOSE_IN:
		close(port->in);
		nap(60000);
		return false;
	case JOB_COUNT:
		job_count(shared, port, next_number(port, call));
		return true;
	case JOB_KILL_ONCE:
		if (atomic_fetch_add(&shared->kills, 1) == 0)
			raise(SIGKILL);
		job_add(port, call);
		return true;
	case JOB_PRINT:
		next_arg(port, call, text, sizeof(text) - 1);
		fputs(text, stdout);
		fflush(stdout);
		put_number(port, 1);
		return true;
	case JOB_TOO_MANY:
		put_number(port, 1);
		return true;
	case JOB_TOO_FEW:
		for (uint32_t i = 0; i < nvalues; i++)
			put_number(port, i);
		return true;
	case JOB_BLOCK:
		block_signals();
		nap(60000);
		return false;
	case JOB_IGNORE:
		ignore_signals();
		nap(60000);
		return false;
	case JOB_RAISE:
	case JOB_RAISE_LATE:
	case JOB_NJOBS:
		break;
	}
	_exit(93);
}

static inline void
misbehave(const struct shared *shared, int birth, struct fz_port *port)
{
	static unsigned char bytes[1 << 16];
	size_t n = 0;

	if (shared->mode == BORN_DEAF)
		nap(60000);
	if (shared->mode == BORN_DEAD)
		_exit(7);
	if (birth != 1 || shared->mode == BORN_WELL)
		return;
	if (shared->mode == BORN_FIRST_DIES_READING &&
	    read(port->in, bytes, FZ_WIRE_HEADER) != FZ_WIRE_HEADER)
		_exit(94);
	while (shared->mode == BORN_FIRST_DIES_HALFWAY && n < bulk_size() / 2) {
		ssize_t got = read(port->in, bytes, sizeof(bytes));

		if (got <= 0)
			_exit(94);
		n += (size_t)got;
	}
	raise(SIGKILL);
}

static inline int
serve(void *ctx, struct fz_port *port)
{
	struct shared *shared = ctx;
	struct fz_call call;
	int rc;

	misbehave(shared, atomic_fetch_add(&shared->births, 1) + 1, port);
	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		if (call.func >= JOB_NJOBS)
			return 95;
		atomic_fetch_add(&shared->calls[call.func], 1);
		if (do_job(shared, port, &call) &&
		    fz_port_send(port, NULL) != 0)
			return 96;
	}
	atomic_fetch_add(&shared->leaves, 1);
	return rc == 0 ? 0 : 97;
}

/* ---- around a test ------------------------------------------------------ */

static inline int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static inline void
world_output(void *ctx, enum fz_stream stream, const char *bytes, size_t len)
{
	struct world *w = ctx;

	(void)stream;
	if (len > sizeof(w->output) - 1 - w->noutput)
		len = sizeof(w->output) - 1 - w->noutput;
	memcpy(w->output + w->noutput, bytes, len);
	w->noutput += len;
	w->output[w->noutput] = '\0';
}

static inline void
assert_no_children(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static inline int
world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->nfds = count_fds();
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(w->shared != MAP_FAILED);
	assert_int_equal(fz_engine_init(&w->engine, world_output, w, NULL), 0);
	*state = w;
	return 0;
}

static inline int
world_teardown(void **state)
{
	struct world *w = *state;

	fz_engine_fini(&w->engine);
	munmap(w->shared, sizeof(*w->shared));
	assert_int_equal(count_fds(), w->nfds);
	assert_no_children();
	free(w);
	return 0;
}

/* Turn the loop for `ms` at most; false when they are over. */
static inline bool
step_until(struct world *w, int64_t until_ns)
{
	if (fz_clock_ns() >= until_ns)
		return false;
	assert_true(fz_loop_step(w->engine.loop, until_ns, NULL) >= 0);
	return true;
}

static inline int64_t
in_ms(int64_t ms)
{
	return fz_clock_ns() + ms * FZ_CLOCK_MS;
}

static inline struct fz_blob *
blob_of_number(uint64_t v)
{
	unsigned char bytes[8];

	fz_le64_store(bytes, v);
	return fz_blob_new(bytes, sizeof(bytes), NULL);
}

/* `len` bytes 'x', not in the arena. */
static inline struct fz_blob *
blob_of_bytes(size_t len)
{
	unsigned char *bytes = malloc(len);
	struct fz_blob *blob;

	memset(bytes, 'x', len);
	blob = fz_blob_new(bytes, len, NULL);
	free(bytes);
	return blob;
}

static inline uint64_t
number_of_blob(struct world *w, struct fz_blob *blob)
{
	const void *at = fz_blob_map(blob, w->engine.shm, NULL);
	uint64_t v;

	assert_non_null(at);
	assert_int_equal(blob->len, 8);
	v = fz_le64_load(at);
	fz_blob_unmap(blob, w->engine.shm, at);
	return v;
}

#endif
