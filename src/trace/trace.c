/* ftruncate, strdup and O_CLOEXEC are not in C11. */
#define _GNU_SOURCE
#include "trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "base/vec.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/usage.h"
#include "trace/job_event.h"
#include "trace/trace_format.h"
#include "worker/worker.h"

/* Maximum time that a record waits until it is written. */
#define TRACE_WRITE_NS (100 * FZ_CLOCK_MS)

enum {
	/* bytes of a page; no kernel has smaller pages */
	TRACE_PAGE = 4096,
	TRACE_LINE = 512,       /* longest line in bytes kept within a page */
	TRACE_WRITE = 64 << 10, /* minimum bytes to write at once */
	TRACE_KEPT = 1 << 20,   /* maximum number of records that are kept */
	TRACE_BLOCK = 512,      /* number of records in a block */
	/*
	 * maximum number of records that are not formatted as lines. It is
	 * small, because formatting must not delay the workers for long, and
	 * because these records should fit in the L1 cache.
	 */
	TRACE_UNWRITTEN = 64
};

struct fz_trace {
	unsigned refs;
	struct fz_trace_opts opts; /* options, without the path */
	char *path;
	int fd; /* the file; -1: there is none, or it was closed */
	/* the file is a regular file, so lines are kept within pages */
	bool pages;
	bool foreign;      /* the trace belongs to the parent of this process */
	off_t offset;      /* number of bytes of whole lines in the file */
	struct fz_buf out; /* lines that are not written yet */
	struct fz_trace_file file;
	struct fz_job_event **blocks; /* blocks of TRACE_BLOCK records each */
	size_t nblocks, blocks_cap;
	size_t n;        /* number of records in memory */
	size_t nwritten; /* number of records already formatted */
	/* time of the last question for the processor time; 0: none */
	int64_t asked_ns;
	/* processor time of this process at the first and the last question */
	uint64_t first_cpu_ns, cpu_ns;
	size_t ready;  /* while `n` is less, no make_room() is needed */
	size_t ntexts; /* number of records in memory whose error has a text */
	/* a reference to each list of names that a record uses */
	struct fz_trace_names **names;
	size_t nnames, names_cap;
	/* names of the nodes that occur in records */
	char **nodes;
	size_t nnodes, nodes_cap;
	struct fz_timer timer; /* armed while records wait to be written */
	struct fz_fork_hook hook;
	struct fz_err err; /* error of the first write that failed */
};

/*
 * Fill the page if it may be too small for another line: insert spaces before
 * the last newline.
 */
static void
fill_page(struct fz_trace *t)
{
	struct fz_buf *out = &t->out;
	size_t room = TRACE_PAGE - ((size_t)t->offset + out->len) % TRACE_PAGE;
	unsigned char *p;

	if (!t->pages || room >= TRACE_LINE || out->len == 0)
		return;
	p = fz_buf_reserve(out, room);
	if (p == NULL)
		return;
	memset(p - 1, ' ', room);
	p[room - 1] = '\n';
	out->len += room;
}

/* Close the file after a failed write; it ends with its last whole line. */
static void
fail(struct fz_trace *t, int code)
{
	fz_err_sys(&t->err, code, "cannot write the trace %s", t->path);
	if (t->pages && ftruncate(t->fd, t->offset) != 0)
		t->pages = false; /* the file keeps part of a line */
	fz_fd_close(&t->fd);
	t->ready = 0;
}

/*
 * Whether the write of the lines would exceed RLIMIT_FSIZE. The kernel would
 * then send SIGXFSZ, which ends the process.
 */
static bool
is_beyond_limit(const struct fz_trace *t)
{
	struct rlimit limit;

	return t->pages && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	       limit.rlim_cur != RLIM_INFINITY &&
	       (rlim_t)t->offset + t->out.len > limit.rlim_cur;
}

/* Write all lines. 0, or -1 and errno. A pipe without a reader fails. */
static int
write_bytes(const struct fz_trace *t)
{
	size_t done = 0;

	if (is_beyond_limit(t)) {
		errno = EFBIG;
		return -1;
	}
	while (done < t->out.len) {
		ssize_t n =
		    fz_fd_write(t->fd, t->out.data + done, t->out.len - done);

		if (n == -1)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static void
write_lines(struct fz_trace *t)
{
	struct fz_buf *out = &t->out;

	if (t->fd == -1 || (out->len == 0 && !out->failed))
		return;
	if (out->failed)
		fail(t, ENOMEM);
	else if (write_bytes(t) != 0)
		fail(t, errno);
	else
		t->offset += (off_t)out->len;
	fz_buf_clear(out);
}

static void
drop_names(struct fz_trace *t)
{
	while (t->nnames != 0)
		fz_trace_names_unref(t->names[--t->nnames]);
}

static inline struct fz_job_event *
record_at(const struct fz_trace *t, size_t i)
{
	return &t->blocks[i / TRACE_BLOCK][i % TRACE_BLOCK];
}

/* Free the texts of the first `n` records, before these records are dropped. */
static void
drop_texts(struct fz_trace *t, size_t n)
{
	for (size_t i = 0; i < n && t->ntexts != 0; i++) {
		struct fz_job_event *record = record_at(t, i);

		t->ntexts -= record->text != NULL;
		free(record->text);
	}
}

/* Format all records as lines; write the lines if they are many. */
static void
make_lines(struct fz_trace *t)
{
	const struct fz_trace_lines *lines = &fz_trace_lines[t->opts.format];

	for (; t->fd != -1 && t->nwritten < t->n; t->nwritten++) {
		lines->event(&t->out, &t->file, record_at(t, t->nwritten));
		fill_page(t);
		if (t->out.len >= TRACE_WRITE || t->out.failed)
			write_lines(t);
	}
	t->nwritten = t->n;
	if (t->opts.keeps)
		return;
	drop_texts(t, t->n);
	t->nwritten = t->n = 0;
	drop_names(t);
}

static void
write_records(struct fz_trace *t)
{
	fz_loop_disarm(t->opts.loop, &t->timer);
	make_lines(t);
	write_lines(t);
}

static void
write_later(struct fz_timer *timer)
{
	write_records(FZ_CONTAINER_OF(timer, struct fz_trace, timer));
}

static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_trace *t = FZ_CONTAINER_OF(hook, struct fz_trace, hook);

	t->foreign = true;
	t->ready = 0;
	fz_fd_close(&t->fd);
}

/*
 * Lock and empty the file. Fails if another run is writing to it, because the
 * lines of the two runs would mix.
 */
static int
claim_file(const struct fz_trace *t, struct fz_err *err)
{
	/* Ignore other errors: some filesystems have no locks. */
	if (flock(t->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "the trace %s is being written by another run", t->path);
	if (ftruncate(t->fd, 0) != 0)
		return fz_err_sys(
		    err, errno, "cannot open the trace %s", t->path);
	return 0;
}

/* Open the file and write its head, so that a full disk is known early. */
static int
open_file(struct fz_trace *t, struct fz_err *err)
{
	const char *path = t->path;
	struct stat st = { 0 };

	t->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (t->fd == -1)
		return fz_err_sys(err, errno, "cannot open the trace %s", path);
	if (fz_fd_clear_standard(&t->fd, err) != 0)
		return -1;
	fstat(t->fd, &st);
	t->pages = S_ISREG(st.st_mode);
	if (t->pages && claim_file(t, err) != 0) {
		fz_fd_close(&t->fd);
		return -1;
	}
	fz_trace_lines[t->opts.format].begin(&t->out, &t->file);
	write_lines(t);
	if (t->err.kind == FZ_ERR_NONE)
		return 0;
	if (err != NULL)
		*err = t->err;
	return -1;
}

struct fz_trace *
fz_trace_new(const struct fz_trace_opts *opts, struct fz_err *err)
{
	struct fz_trace *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		fz_err_nomem(err, "a trace");
		return NULL;
	}
	t->refs = 1;
	t->opts = *opts;
	t->opts.path = NULL;
	t->fd = -1;
	t->file.pid = getpid();
	t->file.wall_ns = fz_clock_wall_ns() - fz_clock_ns();
	t->timer.fired = write_later;
	t->hook.in_child = in_child;
	fz_loop_hook(opts->loop, &t->hook);
	if (opts->path == NULL)
		return t;
	t->path = strdup(opts->path);
	if (t->path == NULL)
		fz_err_nomem(err, "a trace");
	if (t->path == NULL || open_file(t, err) != 0) {
		fz_trace_unref(t);
		return NULL;
	}
	return t;
}

struct fz_trace *
fz_trace_ref(struct fz_trace *trace)
{
	trace->refs++;
	return trace;
}

void
fz_trace_unref(struct fz_trace *t)
{
	if (t == NULL || --t->refs != 0)
		return;
	fz_trace_close(t, NULL);
	fz_loop_unhook(&t->hook);
	drop_names(t);
	drop_texts(t, t->n);
	while (t->nnodes != 0)
		free(t->nodes[--t->nnodes]);
	free(t->nodes);
	free(t->names);
	while (t->nblocks != 0)
		free(t->blocks[--t->nblocks]);
	free(t->blocks);
	fz_buf_fini(&t->out);
	free(t->path);
	free(t);
}

/* Drop the older half of the kept records, in whole blocks. */
static void
drop_old(struct fz_trace *t)
{
	size_t n = t->n / 2, nblocks = n / TRACE_BLOCK;

	write_records(t);
	drop_texts(t, n);
	for (size_t i = 0; i < nblocks; i++)
		free(t->blocks[i]);
	t->nblocks -= nblocks;
	memmove(t->blocks, t->blocks + nblocks,
	    t->nblocks * sizeof(struct fz_job_event *));
	t->n -= n;
	t->nwritten = t->n;
}

/* Keep `names` as long as the records. 0, or -1 if there is no memory. */
static int
hold_names(struct fz_trace *t, struct fz_trace_names *names)
{
	struct fz_trace_names **list;

	if (t->nnames != 0 && t->names[t->nnames - 1] == names)
		return 0;
	list =
	    fz_vec_room(t->names, &t->names_cap, t->nnames + 1, sizeof(*list));
	if (list == NULL)
		return -1;
	t->names = list;
	list[t->nnames++] = fz_trace_names_ref(names);
	return 0;
}

/* A copy of the name of a node, which the caller may free earlier; or NULL. */
static const char *
keep_node(struct fz_trace *t, const char *name)
{
	char **list;

	for (size_t i = 0; i < t->nnodes; i++) {
		if (strcmp(t->nodes[i], name) == 0)
			return t->nodes[i];
	}
	list =
	    fz_vec_room(t->nodes, &t->nodes_cap, t->nnodes + 1, sizeof(*list));
	if (list == NULL)
		return NULL;
	t->nodes = list;
	list[t->nnodes] = strdup(name);
	return list[t->nnodes] != NULL ? list[t->nnodes++] : NULL;
}

/*
 * Add a block of records. Blocks never move, because copying them would take
 * most of the time of a trace.
 */
static int
add_block(struct fz_trace *t)
{
	struct fz_job_event **list = fz_vec_room(
	    t->blocks, &t->blocks_cap, t->nblocks + 1, sizeof(*list));

	if (list == NULL)
		return -1;
	t->blocks = list;
	list[t->nblocks] = malloc(TRACE_BLOCK * sizeof(**list));
	if (list[t->nblocks] == NULL)
		return -1;
	t->nblocks++;
	return 0;
}

/* Make room for another record. 0, or -1: there is none. */
static int
make_room(struct fz_trace *t)
{
	if (t->foreign || (t->fd == -1 && !t->opts.keeps))
		return -1;
	if (t->fd != -1 && t->n - t->nwritten >= TRACE_UNWRITTEN)
		make_lines(t);
	if (t->n == TRACE_KEPT)
		drop_old(t);
	if (t->n == t->nblocks * TRACE_BLOCK && add_block(t) != 0)
		return -1;
	t->ready = (t->n / TRACE_BLOCK + 1) * TRACE_BLOCK;
	if (t->fd != -1 && t->ready - t->nwritten > TRACE_UNWRITTEN)
		t->ready = t->nwritten + TRACE_UNWRITTEN;
	return 0;
}

struct fz_job_event *
fz_trace_room(struct fz_trace *t)
{
	if (t->n >= t->ready && make_room(t) != 0)
		return NULL;
	return record_at(t, t->n);
}

/* Arm the timer that writes the records. */
static void
arm(struct fz_trace *t, int64_t now_ns)
{
	if (t->fd != -1 && t->timer.index == 0)
		fz_loop_arm(t->opts.loop, &t->timer,
		    fz_clock_after(now_ns, TRACE_WRITE_NS));
}

/* Note the processor time of this process, at most once in a millisecond. */
static void
note_cpu(struct fz_trace *t, int64_t now_ns)
{
	if (!t->opts.keeps || now_ns - t->asked_ns < FZ_CLOCK_MS)
		return;
	t->cpu_ns = fz_usage_process_ns();
	if (t->asked_ns == 0)
		t->first_cpu_ns = t->cpu_ns;
	t->asked_ns = now_ns;
}

uint64_t
fz_trace_cpu_ns(const struct fz_trace *t)
{
	return t->cpu_ns - t->first_cpu_ns;
}

struct fz_job_event *
fz_trace_add(struct fz_trace *t, const struct fz_job_event *event,
    struct fz_trace_names *names)
{
	struct fz_job_event *record = fz_trace_room(t);

	if (record == NULL || hold_names(t, names) != 0) {
		t->file.nlost += !t->foreign;
		return NULL;
	}
	if (record != event)
		*record = *event;
	record->text = NULL;
	if (record->node != NULL)
		record->node = keep_node(t, record->node);
	arm(t, record->ended_ns);
	note_cpu(t, record->ended_ns);
	t->n++;
	return record;
}

/* Append the text of a failure to `text`. */
static void
put_failure(const struct fz_trace *t, const struct fz_failure *failure,
    struct fz_buf *text)
{
	if (failure->value == NULL)
		fz_buf_put(text, failure->err.text, strlen(failure->err.text));
	else if (t->opts.error_text != NULL)
		t->opts.error_text(t->opts.ctx, failure->value, text);
}

void
fz_trace_forget_texts(struct fz_trace *t)
{
	t->opts.error_text = NULL;
}

void
fz_trace_add_error(struct fz_trace *t, struct fz_job_event *record,
    const struct fz_failure *failure)
{
	struct fz_buf text = FZ_BUF_INIT;

	put_failure(t, failure, &text);
	if (text.len == 0)
		return;
	fz_buf_put(&text, "", 1);
	if (text.failed || text.len > UINT32_MAX / 8) {
		fz_buf_fini(&text);
		return;
	}
	record->text = (char *)text.data;
	record->ntext = (uint32_t)text.len - 1;
	t->ntexts++;
}

int
fz_trace_close(struct fz_trace *t, struct fz_err *err)
{
	if (t->foreign)
		return 0;
	write_records(t);
	if (t->fd != -1) {
		fz_trace_lines[t->opts.format].end(&t->out, &t->file);
		write_lines(t);
	}
	if (t->fd != -1 && close(t->fd) != 0)
		fz_err_sys(
		    &t->err, errno, "cannot close the trace %s", t->path);
	t->fd = -1;
	if (t->err.kind == FZ_ERR_NONE)
		return 0;
	if (err != NULL)
		*err = t->err;
	t->err.kind = FZ_ERR_NONE;
	return -1;
}

size_t
fz_trace_count(const struct fz_trace *t)
{
	return t->n;
}

const struct fz_job_event *
fz_trace_get(const struct fz_trace *t, size_t index)
{
	return record_at(t, index);
}
