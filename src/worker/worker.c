#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "os/fd.h"
#include "worker/blob.h"
#include "worker/worker_slice.h"
#include "worker/worker_spawn.h"
#include "worker/worker_state.h"

enum { WORKER_VALUES = 8 }; /* results taken without an allocation */
/* From the end of its jobs to the kill. */
#define WORKER_LEAVE_NS FZ_CLOCK_SECOND
/*
 * From sending a job to the timeout of one that is not begun, at least: on a
 * busy machine a new worker may need longer than the timeout to begin it.
 */
#define WORKER_BEGIN_NS FZ_CLOCK_SECOND
/* From the end of its results to the kill. */
#define WORKER_EOF_NS FZ_CLOCK_SECOND
/* From the last bytes of half a reply to a look at where the rest is. */
#define WORKER_HALF_NS (100 * FZ_CLOCK_MS)
/* How often it is asked for its death, where no pidfd tells of it. */
#define WORKER_LOOK_NS FZ_CLOCK_MS

static void end_without_pipe(struct fz_worker_pipes *p);

static void
close_watch(struct fz_worker_pipes *p, struct fz_watch *watch)
{
	int fd = watch->fd;

	fz_loop_unwatch(loop_of(p), watch);
	fz_fd_close(&fd);
}

/* ---- jobs and their replies -------------------------------------------- */

/* The number that is to be answered next. */
static uint32_t
next_number(const struct fz_job *job)
{
	return job->seq + job->ndone;
}

/*
 * `started` as the cell has it, if that can be: the worker has started all that
 * is answered, and nothing that was not sent. In a cell that was overwritten it
 * is the job at hand that has been started, and has done that.
 */
static uint32_t
plausible(const struct fz_worker_pipes *p, uint32_t started)
{
	const struct fz_job *head = p->worker->head;

	if (fz_claim_is_whole(&p->cell->claim) &&
	    (int32_t)(started - p->answered) >= 0 &&
	    (int32_t)(p->next_seq - started) >= 0)
		return started;
	return head != NULL ? next_number(head) + 1 : p->next_seq;
}

/* One more than the number of the job that it has started last, 0: none. */
static uint32_t
claimed(const struct fz_worker_pipes *p)
{
	return plausible(p, fz_claim_started(&p->cell->claim));
}

/*
 * When the job began that runs now, as the worker knows it, or `otherwise`
 * where it has not begun yet, or has ended and its reply is under way.
 */
static int64_t
began(const struct fz_worker_pipes *p, int64_t otherwise)
{
	int64_t at = atomic_load(&p->cell->start_ns);

	if (claimed(p) != next_number(p->worker->head) + 1)
		return otherwise;
	/* Of a cell that was overwritten: when it became the head. */
	return at <= fz_clock_ns() ? at : p->worker->head->started_ns;
}

/* Without its timer nothing might ever end it. */
static void
arm(struct fz_worker_pipes *p, int64_t at_ns)
{
	if (fz_loop_arm(loop_of(p), &p->timer, at_ns) != 0)
		fz_worker_kill(
		    p->worker, FZ_ERR_MEMORY, "no memory for its timer");
}

static void
arm_timeout(struct fz_worker_pipes *p)
{
	struct fz_job *head = p->worker->head;
	int64_t at = FZ_CLOCK_NEVER;

	if (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER)
		at = fz_clock_after(
		    began(p, head->started_ns), head->timeout_ns);
	if (p->lost_ns == 0)
		arm(p, at);
}

/* The head of the queue is what the worker does now. */
static void
start_head(struct fz_worker_pipes *p, int64_t now_ns)
{
	struct fz_job *head = p->worker->head;

	if (head != NULL && !p->worker->dying) {
		head->started_ns = now_ns;
		head->ops->started(head);
	}
	if (p->timer.place != 0 ||
	    (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER))
		arm_timeout(p);
}

/* It has one less. */
static void
drop_job(struct fz_worker *w)
{
	if (--w->njobs == 0)
		fz_loop_busy(loop_of(w->pipes), false);
}

static struct fz_job *
pop_head(struct fz_worker *w)
{
	struct fz_job *job = w->head;

	w->head = job->next;
	if (w->head == NULL)
		w->tail = &w->head;
	drop_job(w);
	w->nbytes -= job->nbytes;
	job->next = NULL;
	job->worker = NULL;
	return job;
}

/* `n` items of the head are answered: it leaves the queue with its last. */
static struct fz_job *
answer_head(struct fz_worker *w, uint32_t n)
{
	struct fz_job *job = w->head;

	job->ndone += n;
	w->nitems -= n;
	w->pipes->answered = next_number(job);
	return job->ndone == job->nitems ? pop_head(w) : job;
}

static struct fz_blob *
take_part(struct fz_worker_pipes *p, struct fz_reader *body, struct fz_err *err)
{
	struct fz_blob *blob;
	struct fz_part part;

	if (fz_wire_part(body, &part) != 0) {
		fz_err_set(err, FZ_ERR_CRASH, "a reply is too short");
		return NULL;
	}
	if (part.bytes != NULL)
		return fz_blob_new(part.bytes, part.len, err);
	blob = fz_slice_blob(p->slice, part.offset, part.len, err);
	if (blob == NULL)
		fz_worker_give_back(p->worker, part.offset);
	return blob;
}

static void
result_done(
    struct fz_worker_pipes *p, struct fz_job *job, struct fz_reader *body)
{
	uint32_t n = fz_reader_u32(body);
	struct fz_blob *some[WORKER_VALUES], **values = some;
	struct fz_failure failure = { .pid = p->worker->pid, .exitcode = -1 };

	if (n > fz_reader_left(body) / 8) {
		fz_err_set(&failure.err, FZ_ERR_CRASH, "a reply is too short");
		job->ops->failed(job, &failure);
		return;
	}
	if (n > WORKER_VALUES)
		values = malloc(n * sizeof(*values));
	if (values == NULL) {
		for (uint32_t i = 0; i < n; i++)
			fz_blob_unref(take_part(p, body, NULL));
		fz_err_nomem(&failure.err, "results");
		job->ops->failed(job, &failure);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		values[i] = take_part(p, body, NULL);
	job->ops->done(job, values, n);
	if (values != some)
		free(values);
}

static void
error_done(
    struct fz_worker_pipes *p, struct fz_job *job, struct fz_reader *body)
{
	struct fz_failure failure = { .pid = p->worker->pid, .exitcode = -1 };
	uint32_t kind = fz_reader_u32(body);

	fz_reader_u32(body);
	failure.value = take_part(p, body, &failure.err);
	if (failure.value != NULL)
		failure.err.kind = kind < FZ_ERR_NKINDS ? (enum fz_err_kind)kind
							: FZ_ERR_ERROR;
	job->ops->failed(job, &failure);
}

/*
 * Results of `n` items from number `seq` on: `len` bytes, or none where they
 * are in their strips. Returns how many were news.
 */
static uint32_t
take_items(struct fz_worker_pipes *p, uint32_t seq, uint32_t n,
    const void *bytes, size_t len, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_blob *blob = NULL;
	uint32_t at = 0, from = 0, news = 0;

	if (bytes != NULL && p->seen.nitems != 0 && p->seen.seq == seq &&
	    p->seen.nitems <= n &&
	    p->seen.len <= len) { /* only what came since then */
		at = from = p->seen.nitems;
		bytes = (const unsigned char *)bytes + p->seen.len;
		len -= p->seen.len;
	}
	while (at < n && w->head != NULL) {
		int32_t known = (int32_t)(next_number(w->head) - (seq + at));
		uint32_t first = w->head->ndone;
		uint32_t more = w->head->nitems - first;
		struct fz_job *job;

		if (known > 0) { /* a copy of these has come before */
			at += (uint32_t)known;
			continue;
		}
		if (blob == NULL && bytes != NULL)
			blob = fz_blob_new(bytes, len, NULL);
		if (more > n - at)
			more = n - at;
		job = answer_head(w, more);
		if (bytes != NULL)
			job->ops->items(job, first, more, blob, at - from);
		else
			job->ops->items(job, first, more, job->strip, first);
		start_head(p, now_ns);
		at += more;
		news += more;
	}
	fz_blob_unref(blob);
	return news;
}

/* What a reply says that it answers. */
struct claim_of_reply {
	enum fz_wire_type type;
	uint32_t seq, nitems;
	size_t len; /* bytes of the results of items */
};

/* Whether the jobs from the head on can have replies of that type. */
static bool
fits_jobs(const struct fz_worker *w, const struct claim_of_reply *c)
{
	const struct fz_job *job = w->head;

	if (c->type != FZ_WIRE_ITEMS && c->type != FZ_WIRE_PLACED)
		return true;
	for (; job != NULL && (int32_t)(job->seq - (c->seq + c->nitems)) < 0;
	     job = job->next) {
		if (job->ops->items == NULL ||
		    (c->type == FZ_WIRE_PLACED && job->strip == NULL))
			return false;
	}
	return true;
}

/*
 * Whether the worker can have given that reply: to what it was sent, and with
 * none left out before it. A copy of what is answered is none that hurts.
 */
static bool
is_possible(const struct fz_worker_pipes *p, const struct claim_of_reply *c)
{
	const struct fz_worker *w = p->worker;
	uint32_t end = c->seq + c->nitems;

	if (c->nitems == 0 || c->nitems > INT32_MAX ||
	    (c->type == FZ_WIRE_ITEMS && c->nitems > c->len))
		return false;
	if ((int32_t)(p->answered - end) >= 0)
		return true;
	return w->head != NULL &&
	       (int32_t)(next_number(w->head) - c->seq) >= 0 &&
	       (int32_t)(p->next_seq - end) >= 0 && fits_jobs(w, c);
}

/* What the frame says; false where it is none that a worker sends. */
static bool
read_claim(const struct fz_frame *frame, struct claim_of_reply *c)
{
	struct fz_reader body;

	*c = (struct claim_of_reply){ frame->type, frame->seq, 1, 0 };
	if (frame->type == FZ_WIRE_RESULT || frame->type == FZ_WIRE_ERROR)
		return true;
	if (frame->type != FZ_WIRE_ITEMS && frame->type != FZ_WIRE_PLACED)
		return false;
	fz_reader_init(&body, frame->body, frame->len);
	c->nitems = fz_reader_u32(&body);
	c->len = fz_reader_left(&body);
	return !body.failed;
}

/* One reply. Returns how many were news, and no copy of one had before. */
static uint32_t
take_reply(
    struct fz_worker_pipes *p, const struct fz_frame *frame, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_reader body;
	struct fz_job *job;

	fz_reader_init(&body, frame->body, frame->len);
	if (frame->type == FZ_WIRE_ITEMS || frame->type == FZ_WIRE_PLACED) {
		bool placed = frame->type == FZ_WIRE_PLACED;
		uint32_t n = fz_reader_u32(&body);

		return take_items(p, frame->seq, n, placed ? NULL : body.p,
		    fz_reader_left(&body), now_ns);
	}
	if (w->head == NULL || frame->seq != next_number(w->head))
		return 0;
	job = answer_head(w, 1);
	if (frame->type == FZ_WIRE_RESULT)
		result_done(p, job, &body);
	else
		error_done(p, job, &body);
	start_head(p, now_ns);
	return 1;
}

static void
count_news(struct fz_worker *w, unsigned n, int64_t now_ns)
{
	int64_t since = atomic_load(&w->pipes->cell->start_ns), each;

	if (n == 0)
		return;
	if (since < w->news_ns || since > now_ns)
		since = w->news_ns; /* the way there took time, too */
	each = (now_ns - since) / n;
	w->mean_ns = w->mean_ns != 0 ? (7 * w->mean_ns + each) / 8 : each;
	if (w->mean_ns == 0)
		w->mean_ns = 1;
	w->news_ns = now_ns;
}

static void
end_busy(struct fz_worker_pipes *p, unsigned nreplies)
{
	if (nreplies != 0 && p->worker->head == NULL && !p->worker->dying)
		p->opts.ops->idle(p->opts.ops_ctx, p->worker);
}

/* The frames that have come. Returns how many were news, -1 and `err`. */
static int
take_replies(struct fz_worker_pipes *p, struct fz_err *err)
{
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned n = 0;
	int rc;

	fz_relay_pump(&p->relay); /* was printed before they were sent */
	while ((rc = fz_wire_next(&p->wire, &frame, err)) == 1) {
		struct claim_of_reply c;

		if (!read_claim(&frame, &c) ||
		    (int32_t)(c.seq - p->piped) < 0 || !is_possible(p, &c)) {
			rc = fz_err_set(err, FZ_ERR_CRASH,
			    "its pipe carries a reply to what it was not sent");
			break;
		}
		p->piped = c.seq + c.nitems;
		n += take_reply(p, &frame, now_ns);
	}
	count_news(p->worker, n, now_ns);
	return rc < 0 ? -1 : (int)n;
}

/*
 * A function may have written what looks like the beginning of a reply: it
 * waits for the rest while nothing more will come.
 */
static void
watch_half(struct fz_worker_pipes *p)
{
	bool half = p->wire.at != p->wire.buf.len && !p->worker->dying;

	if (half && p->half.place == 0)
		fz_loop_arm(loop_of(p), &p->half,
		    fz_clock_after(fz_clock_ns(), WORKER_HALF_NS));
	else if (!half)
		fz_loop_disarm(loop_of(p), &p->half);
}

static void
look_at_half(struct fz_timer *timer)
{
	struct fz_worker_pipes *p = PIPES_OF(half, timer);
	/* First: what it has written by then is in the pipe. */
	bool writes = atomic_load(&p->cell->nout) != 0 ||
		      atomic_load(&p->cell->writing) != 0;
	struct pollfd pfd = { .fd = p->results.fd, .events = POLLIN };

	if (pfd.fd == -1 || p->worker->dying)
		return;
	if (writes || poll(&pfd, 1, 0) != 0) {
		watch_half(p);
		return;
	}
	p->distrusted = true;
	fz_worker_kill(
	    p->worker, FZ_ERR_CRASH, "its pipe carries half a reply");
}

/* The end of a pipe: it is dead, or has closed it and will soon be. */
static void
lose_pipe(struct fz_worker_pipes *p, struct fz_watch *watch)
{
	int64_t now_ns = fz_clock_ns();

	close_watch(p, watch);
	if (p->lost_ns == 0)
		p->lost_ns = now_ns;
	arm(p, p->death.fd == -1 ? now_ns : p->lost_ns + WORKER_EOF_NS);
	if (p->timer.place == 0)
		end_without_pipe(p);
}

static void
results_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_worker_pipes *p = PIPES_OF(results, watch);
	struct fz_err err = { 0 };
	ptrdiff_t n = fz_wire_fill(&p->wire, watch->fd);
	int nreplies;

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		fz_worker_kill(p->worker,
		    errno == ENOMEM ? FZ_ERR_MEMORY : FZ_ERR_CRASH,
		    "its results cannot be read");
	if (n <= 0) {
		lose_pipe(p, watch);
		return;
	}
	if (p->distrusted)
		return;
	nreplies = take_replies(p, &err);
	watch_half(p);
	p->distrusted = nreplies < 0;
	if (p->distrusted)
		fz_worker_kill(p->worker, FZ_ERR_CRASH, err.text);
	else
		end_busy(p, (unsigned)nreplies);
}

/* The replies in a cell: whole ones, then perhaps a frame that still grows. */
struct extract {
	size_t len;               /* of the whole ones */
	struct fz_cell_open open; /* nitems is 0 where there is none */
};

static struct extract
cell_extract(const struct fz_cell *cell)
{
	struct extract x = { atomic_load(&cell->nout), fz_cell_open(cell) };

	if (x.len > FZ_CELL_OUT)
		x.len = 0;
	if (x.open.start != x.len || x.open.len < FZ_WIRE_HEADER + 4 ||
	    x.open.len > FZ_CELL_OUT - x.len)
		x.open = (struct fz_cell_open){ 0 };
	return x;
}

/* Whether all that has a number below `n` is answered. */
static bool
is_answered(const struct fz_worker *w, uint32_t n)
{
	return w->head == NULL || (int32_t)(next_number(w->head) - n) >= 0;
}

/* The frame of items at `at` that still grows. */
static uint32_t
scan_open(struct fz_worker_pipes *p, const unsigned char *at,
    const struct fz_cell_open *open, int64_t now_ns)
{
	const unsigned char *items = at + FZ_WIRE_HEADER + 4;
	struct fz_worker_seen seen = { fz_le32_load(at + 4), open->nitems,
		open->len - FZ_WIRE_HEADER - 4 };
	struct claim_of_reply c = { *at == FZ_WIRE_PLACED ? FZ_WIRE_PLACED
							  : FZ_WIRE_ITEMS,
		seen.seq, seen.nitems, seen.len };
	uint32_t n;

	if (*at != c.type || !is_possible(p, &c) ||
	    (int32_t)(claimed(p) - (seen.seq + seen.nitems)) < 0)
		return 0;
	if (c.type == FZ_WIRE_PLACED)
		return take_items(p, seen.seq, seen.nitems, NULL, 0, now_ns);
	n = take_items(p, seen.seq, seen.nitems, items, seen.len, now_ns);
	/* Not where others before them are still in the pipe. */
	if (is_answered(p->worker, seen.seq + seen.nitems))
		p->seen = seen;
	return n;
}

/* Replies in the cell that are not, or not all, in the pipe. */
static unsigned
scan_cell(struct fz_worker_pipes *p, const unsigned char *bytes,
    const struct extract *x)
{
	const unsigned char *at = bytes, *end = bytes + x->len;
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned n = 0;

	while (fz_wire_scan(&at, end, &frame, NULL) == 1) {
		struct claim_of_reply c;

		if (!read_claim(&frame, &c) || !is_possible(p, &c))
			break;
		n += take_reply(p, &frame, now_ns);
	}
	if (x->open.nitems != 0 && at == end)
		n += scan_open(p, end, &x->open, now_ns);
	count_news(p->worker, n, now_ns);
	return n;
}

void
fz_worker_peek(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_cell *cell = p->cell;
	uint32_t epoch = atomic_load(&cell->epoch);
	struct extract x = cell_extract(cell);
	size_t n = x.len + x.open.len;
	unsigned char *copy;

	if (n == 0 || worker->dying)
		return;
	copy = malloc(n);
	if (copy == NULL)
		return; /* they will come through the pipe */
	memcpy(copy, cell->out, n);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load(&cell->epoch) == epoch) {
		fz_relay_pump(&p->relay);
		end_busy(p, scan_cell(p, copy, &x));
	}
	free(copy);
}

/* Return a job, or its items from number `claim` on. Returns how many. */
static uint32_t
return_items(struct fz_worker *w, struct fz_job *job, uint32_t claim)
{
	uint32_t n = job->nitems - job->ndone;

	if ((int32_t)(claim - next_number(job)) > 0)
		n = job->seq + job->nitems - claim;
	job->nitems -= n;
	w->nitems -= n;
	w->nsent -= n;
	job->ops->returned(job, n);
	return n;
}

/* Give back what comes from number `claim` on. Returns how many items. */
static unsigned
return_from(struct fz_worker_pipes *p, uint32_t claim)
{
	struct fz_worker *w = p->worker;
	struct fz_job **at = &w->head, *job, *cut = NULL;
	unsigned n = 0;

	while (
	    *at != NULL && (int32_t)((*at)->seq + (*at)->nitems - claim) <= 0)
		at = &(*at)->next;
	/* One that has begun keeps the items that were started. */
	if (*at != NULL && (int32_t)(claim - next_number(*at)) > 0) {
		cut = *at;
		at = &cut->next;
	}
	job = *at;
	*at = NULL;
	w->tail = at;
	if (cut != NULL)
		n += return_items(w, cut, claim);
	while (job != NULL) {
		struct fz_job *next = job->next;

		job->next = NULL;
		job->worker = NULL;
		drop_job(w);
		w->nbytes -= job->nbytes;
		n += return_items(w, job, claim);
		job = next;
	}
	return n;
}

bool
fz_worker_has_begun(const struct fz_worker *worker)
{
	const struct fz_job *head = worker->head;

	return head != NULL &&
	       (int32_t)(claimed(worker->pipes) - head->seq) > 0;
}

unsigned
fz_worker_recall(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	uint32_t claim =
	    plausible(p, fz_claim_recall(&p->cell->claim, p->next_seq));
	unsigned n;

	n = return_from(p, claim);
	end_busy(p, n);
	return n;
}

/* ---- sending ------------------------------------------------------------ */

static void
flush(struct fz_worker_pipes *p)
{
	unsigned events = 0;
	ssize_t n;

	if (p->jobs.fd == -1 || p->worker->dying)
		return;
	n = fz_fd_write(p->jobs.fd, p->unsent.data + p->written,
	    p->unsent.len - p->written);
	if (n < 0 && errno != EAGAIN) {
		lose_pipe(p, &p->jobs);
		return;
	}
	if (n > 0)
		p->written += (size_t)n;
	/* Not at each write: the bytes behind are moved. */
	if (p->written > p->unsent.len / 2) {
		fz_buf_consume(&p->unsent, p->written);
		p->written = 0;
	}
	if (p->unsent.len != 0)
		events = FZ_LOOP_WRITE;
	if (fz_loop_rewatch(loop_of(p), &p->jobs, events, NULL) != 0)
		fz_worker_kill(p->worker, FZ_ERR_CRASH, "its pipe is lost");
}

static void
flush_deferred(struct fz_defer *defer)
{
	flush(PIPES_OF(flush, defer));
}

void
fz_worker_write(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;

	fz_loop_undefer(loop_of(p), &p->flush);
	flush(p);
}

static void
jobs_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_worker_pipes *p = PIPES_OF(jobs, watch);

	if (events & FZ_LOOP_READ) /* nobody reads it any more */
		lose_pipe(p, watch);
	else
		flush(p);
}

static size_t
begin_frame(
    struct fz_worker_pipes *p, enum fz_wire_type type, const struct fz_job *job)
{
	bool timed = job->timeout_ns != FZ_CLOCK_NEVER;

	return fz_wire_begin(
	    &p->unsent, type, timed ? FZ_WIRE_TIMED : 0, p->next_seq);
}

/* End the frame that starts at `start`. 0, or -1 and none of it is sent. */
static int
end_frame(struct fz_worker_pipes *p, size_t start, struct fz_err *err)
{
	fz_wire_end(&p->unsent, start);
	if (p->unsent.failed) {
		p->unsent.failed = false;
		p->unsent.len = start;
		return fz_err_nomem(err, "a job on its way");
	}
	fz_loop_defer(loop_of(p), &p->flush);
	return 0;
}

/* Number the job and put it behind the others. */
static void
queue_job(struct fz_worker *worker, struct fz_job *job, size_t nbytes)
{
	struct fz_worker_pipes *p = worker->pipes;

	job->worker = worker;
	job->pid = worker->pid;
	job->seq = p->next_seq;
	job->ndone = 0;
	fz_claim_settle(&p->cell->claim,
	    worker->head != NULL ? next_number(worker->head) : job->seq);
	p->next_seq += job->nitems;
	worker->nitems += job->nitems;
	worker->nsent += job->nitems;
	job->next = NULL;
	*worker->tail = job;
	worker->tail = &job->next;
	job->nbytes = nbytes;
	worker->nbytes += nbytes;
	if (worker->njobs++ == 0) {
		fz_loop_busy(loop_of(p), true);
		worker->news_ns = fz_clock_ns();
		start_head(p, worker->news_ns);
	}
}

/* Put the parts of the job's frame that starts at `start`, and queue it. */
static int
send_job(struct fz_worker *worker, struct fz_job *job, size_t start,
    struct fz_blob *const *parts, uint32_t nparts, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;

	for (uint32_t i = 0; i < nparts; i++)
		fz_wire_put_blob(&p->unsent, parts[i]);
	if (end_frame(p, start, err) != 0)
		return -1;
	queue_job(worker, job, p->unsent.len - start);
	return 0;
}

void
fz_worker_begin(struct fz_worker *worker, struct fz_job *job)
{
	job->nitems = 1;
	queue_job(worker, job, 0);
	/* As fz_claim_start() does, but that is not for a parent. */
	atomic_store(
	    &worker->pipes->cell->claim.started, fz_claim_word(job->seq + 1));
}

int
fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_buf *out = &p->unsent;
	size_t start = begin_frame(p, FZ_WIRE_JOB, job);

	job->nitems = 1;
	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, n);
	fz_buf_put_u32(out, job->nvalues);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	return send_job(worker, job, start, args, n, err);
}

int
fz_worker_send_batch(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_batch *batch, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_buf *out = &p->unsent;
	size_t start = begin_frame(p, FZ_WIRE_BATCH, job);

	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, batch->kind);
	fz_buf_put_u32(out, job->nitems);
	fz_buf_put_u32(out, nparts);
	fz_buf_put_u64(out, batch->first);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	fz_buf_put_u64(out, job->strip != NULL ? job->strip->offset : 0);
	return send_job(worker, job, start, parts, nparts, err);
}

int
fz_worker_send_func(struct fz_worker *worker, uint32_t slot,
    const struct fz_blob *code, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	size_t start = fz_wire_begin(&p->unsent, FZ_WIRE_FUNC, 0, 0);

	fz_buf_put_u32(&p->unsent, slot);
	fz_wire_put_blob(&p->unsent, code);
	return end_frame(p, start, err);
}

void
fz_worker_give_back(struct fz_worker *worker, uint64_t offset)
{
	struct fz_worker_pipes *p = worker->pipes;
	size_t start = fz_wire_begin(&p->unsent, FZ_WIRE_FREE, 0, 0);

	fz_buf_put_u64(&p->unsent, offset);
	fz_wire_end(&p->unsent, start);
	if (p->unsent.failed) { /* the extent stays taken until it dies */
		p->unsent.failed = false;
		p->unsent.len = start;
	}
	fz_loop_defer(loop_of(p), &p->flush);
}

/* ---- death --------------------------------------------------------------- */

static const char *
noun(const struct fz_worker_pipes *p)
{
	return p->opts.noun != NULL ? p->opts.noun : "worker";
}

static void
fail_started(struct fz_worker_pipes *p, const struct fz_death *death)
{
	struct fz_failure failure = {
		.pid = p->worker->pid, .signal = death->signal, .exitcode = -1
	};
	struct fz_job *job = p->worker->head;
	char text[160];

	if (death->signal == 0)
		failure.exitcode = death->exitcode;
	if (p->ending != FZ_ERR_NONE)
		fz_err_set(&failure.err, p->ending, "%s", p->why);
	else
		fz_err_set(&failure.err, FZ_ERR_CRASH, "the %s died: %s",
		    noun(p), fz_death_text(death, text, sizeof(text)));
	answer_head(p->worker, 1);
	job->ops->failed(job, &failure);
}

/* What the worker has said if it could not start. */
static void
read_start_error(struct fz_worker_pipes *p)
{
	uint32_t n = atomic_load(&p->cell->nwhy);

	if (n != 0 && n <= FZ_ERR_TEXT_MAX && p->answered == 0)
		fz_err_set(&p->worker->start_err, FZ_ERR_ERROR,
		    "cannot start a %s: %.*s", noun(p), (int)n,
		    (const char *)p->cell->out);
}

/* A worker that could not start fails one job, unless another takes over. */
static void
fail_unstarted(struct fz_worker_pipes *p)
{
	struct fz_failure failure = { .err = p->worker->start_err,
		.pid = p->worker->pid,
		.exitcode = -1 };
	struct fz_job *job = p->worker->head;

	if (failure.err.kind == FZ_ERR_NONE || job == NULL ||
	    p->opts.replaceable)
		return;
	answer_head(p->worker, 1);
	job->ops->failed(job, &failure);
}

/* The worker is reaped: whatever it left is taken, then its jobs are told. */
static void
reaped(struct fz_worker_pipes *p, const struct fz_death *death)
{
	struct fz_worker *w = p->worker;
	struct extract left;
	uint32_t claim;

	fz_loop_disarm(loop_of(p), &p->force);
	w->dying = true;
	w->death = *death;
	w->failed_start = p->ending == FZ_ERR_NONE && claimed(p) == 0;
	if (p->results.fd != -1) {
		while (fz_wire_fill(&p->wire, p->results.fd) > 0)
			continue;
	}
	if (!p->distrusted)
		take_replies(p, NULL);
	left = cell_extract(p->cell);
	scan_cell(p, p->cell->out, &left);
	fz_relay_drain(&p->relay);
	read_start_error(p);
	fail_unstarted(p);
	claim = claimed(p);
	if (p->overdue && w->head != NULL)
		claim = next_number(w->head) + 1;
	/* One, unless its replies could not be read. */
	while (w->head != NULL && (int32_t)(next_number(w->head) - claim) < 0)
		fail_started(p, death);
	return_from(p, claim);
	fz_slice_orphan(p->slice);
	p->slice = NULL;
	p->opts.ops->dead(p->opts.ops_ctx, w);
}

static void
death_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_worker_pipes *p = PIPES_OF(death, watch);
	struct fz_death death;

	(void)events;
	fz_loop_unwatch(loop_of(p), watch); /* reaping closes the pidfd */
	fz_proc_reap(&p->proc, true, &death);
	reaped(p, &death);
}

static void
use_force(struct fz_timer *timer)
{
	fz_proc_kill(&PIPES_OF(force, timer)->proc);
}

void
fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text)
{
	struct fz_worker_pipes *p = worker->pipes;

	if (worker->dying)
		return;
	worker->dying = true;
	p->ending = kind;
	snprintf(p->why, sizeof(p->why), "%s", text);
	if (!fz_proc_ask(&p->proc) ||
	    fz_loop_arm(loop_of(p), &p->force, p->proc.force_ns) != 0)
		fz_proc_kill(&p->proc);
}

void
fz_worker_terminate(struct fz_worker *worker)
{
	if (!worker->dying)
		fz_proc_terminate(&worker->pipes->proc);
}

void
fz_worker_end(struct fz_worker *worker, enum fz_err_kind kind, const char *text)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_death death;

	fz_worker_kill(worker, kind, text);
	fz_proc_kill(&p->proc);
	fz_loop_unwatch(loop_of(p), &p->death);
	fz_proc_reap(&p->proc, true, &death);
	reaped(p, &death);
}

/* It lives without its pipe; or no pidfd tells of its death, so look for it. */
static void
end_without_pipe(struct fz_worker_pipes *p)
{
	bool watched = p->death.fd != -1;
	int64_t now_ns = fz_clock_ns();
	struct fz_death death;

	if (!watched && fz_proc_reap(&p->proc, false, &death) == 1) {
		reaped(p, &death);
		return;
	}
	if (now_ns - p->lost_ns >= WORKER_EOF_NS) {
		char text[80];

		snprintf(text, sizeof(text), "the %s closed its pipe", noun(p));
		fz_worker_kill(p->worker, FZ_ERR_CRASH, text);
	}
	if (!watched)
		arm(p, now_ns + WORKER_LOOK_NS);
}

/* When a job fails that is sent, but not begun. */
static int64_t
begin_deadline(const struct fz_job *job)
{
	int64_t ns = job->timeout_ns > WORKER_BEGIN_NS ? job->timeout_ns
						       : WORKER_BEGIN_NS;

	return fz_clock_after(job->started_ns, ns);
}

static void
time_out(struct fz_worker_pipes *p, const char *what)
{
	char text[80];

	snprintf(text, sizeof(text), "%s its timeout of %g s", what,
	    (double)p->worker->head->timeout_ns / (double)FZ_CLOCK_SECOND);
	fz_worker_kill(p->worker, FZ_ERR_TIMEOUT, text);
}

/*
 * The worker has not begun its head: it may be stopped. The head is taken back
 * together with the jobs behind it, so that none of them begins meanwhile, but
 * it fails, and they are returned.
 */
static void
time_out_head(struct fz_worker_pipes *p)
{
	uint32_t claim =
	    plausible(p, fz_claim_recall(&p->cell->claim, p->next_seq));
	uint32_t behind = next_number(p->worker->head) + 1;

	p->overdue = (int32_t)(claim - behind) < 0;
	return_from(p, p->overdue ? behind : claim);
	if (p->overdue)
		time_out(p, "did not start within");
	else
		arm_timeout(p);
}

static void
wait_for_begin(struct fz_worker_pipes *p, int64_t now_ns)
{
	const struct fz_job *head = p->worker->head;
	int64_t deadline = begin_deadline(head);
	/* 0 is a timeout, too */
	int64_t next = fz_clock_after(now_ns, head->timeout_ns + FZ_CLOCK_MS);

	if (now_ns >= deadline)
		time_out_head(p);
	else
		arm(p, next < deadline ? next : deadline);
}

static void
time_is_up(struct fz_timer *timer)
{
	struct fz_worker_pipes *p = PIPES_OF(timer, timer);
	struct fz_job *head;
	int64_t now = fz_clock_ns(), started;

	if (p->lost_ns != 0) {
		end_without_pipe(p);
		return;
	}
	fz_worker_peek(p->worker); /* perhaps it has done it */
	head = p->worker->head;
	if (head == NULL || head->timeout_ns == FZ_CLOCK_NEVER ||
	    p->worker->dying)
		return;
	started = began(p, -1);
	if (started < 0) {
		wait_for_begin(p, now);
		return;
	}
	if (now - started < head->timeout_ns) {
		arm(p, fz_clock_after(started, head->timeout_ns));
		return;
	}
	/* So that it cannot start another one, which then would die too. */
	fz_worker_recall(p->worker);
	time_out(p, "ran longer than");
}

struct fz_worker *
fz_worker_new(const struct fz_worker_opts *opts, struct fz_err *err)
{
	struct fz_worker *w = calloc(1, sizeof(*w));
	struct fz_worker_pipes *p = calloc(1, sizeof(*p));

	if (w == NULL || p == NULL) {
		free(w);
		free(p);
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	w->tail = &w->head;
	w->pipes = p;
	p->worker = w;
	p->opts = *opts;
	p->proc.pidfd = -1;
	fz_buf_init(&p->unsent);
	fz_wire_in_init(&p->wire);
	fz_relay_init(&p->relay, opts->engine);
	p->jobs = (struct fz_watch){ .fd = -1, .ready = jobs_ready };
	p->results = (struct fz_watch){ .fd = -1, .ready = results_ready };
	p->death = (struct fz_watch){ .fd = -1, .ready = death_ready };
	p->timer.fired = time_is_up;
	p->force.fired = use_force;
	p->half.fired = look_at_half;
	p->flush.call = flush_deferred;
	if (fz_start(p, err) != 0) {
		fz_worker_free(w);
		return NULL;
	}
	return w;
}

void
fz_worker_dismiss(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	int fd = p->jobs.fd;

	worker->leaving = true;
	p->leave_ns = fz_clock_after(fz_clock_ns(), WORKER_LEAVE_NS);
	fz_loop_unwatch(loop_of(p), &p->jobs);
	fz_fd_close(&fd);
}

struct fz_account *
fz_worker_account(const struct fz_worker *worker)
{
	return &worker->pipes->cell->account;
}

void
fz_worker_flush(struct fz_worker *worker)
{
	fz_relay_flush(&worker->pipes->relay);
}

/*
 * A dismissed worker gets a moment to leave by itself, which is the same moment
 * for all that were dismissed together.
 */
static void
end_process(struct fz_worker_pipes *p)
{
	struct pollfd pfd = { .fd = p->proc.pidfd, .events = POLLIN };
	int ms = fz_clock_poll_ms(fz_clock_ns(), p->leave_ns);
	struct fz_death death;

	if (p->proc.pid == 0)
		return;
	/* Without a pidfd the end of its results, which it may outlive. */
	if (pfd.fd == -1)
		pfd = (struct pollfd){ .fd = p->results.fd };
	if (p->worker->dying || p->jobs.fd != -1 || pfd.fd == -1 ||
	    poll(&pfd, 1, ms) != 1 || p->proc.pidfd == -1)
		fz_proc_kill(&p->proc);
	fz_proc_reap(&p->proc, true, &death);
	fz_relay_drain(&p->relay);
}

void
fz_worker_free(struct fz_worker *worker)
{
	struct fz_worker_pipes *p;

	if (worker == NULL)
		return;
	p = worker->pipes;
	fz_loop_disarm(loop_of(p), &p->timer);
	fz_loop_disarm(loop_of(p), &p->force);
	fz_loop_disarm(loop_of(p), &p->half);
	fz_loop_unwatch(loop_of(p), &p->death);
	end_process(p);
	if (worker->njobs != 0)
		fz_loop_busy(loop_of(p), false);
	fz_loop_undefer(loop_of(p), &p->flush);
	close_watch(p, &p->jobs);
	close_watch(p, &p->results);
	fz_relay_fini(&p->relay);
	fz_slice_orphan(p->slice);
	fz_cell_free(p->cell);
	fz_buf_fini(&p->unsent);
	fz_wire_in_fini(&p->wire);
	free(p);
	free(worker);
}
