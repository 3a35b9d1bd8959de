#include "worker/worker_state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/blob.h"
#include "worker/worker_slice.h"

enum { WORKER_VALUES = 8 }; /* results taken without an allocation */
/* From the last bytes of half a reply to a look at where the rest is. */
#define WORKER_HALF_NS (100 * FZ_CLOCK_MS)

/*
 * `started` as the cell has it, if that can be: the worker has started all that
 * is answered, and nothing that was not sent. In a cell that was overwritten it
 * is the job at hand that has been started, and has done that.
 */
uint32_t
fz_worker_plausible(const struct fz_worker_pipes *p, uint32_t started)
{
	const struct fz_job *head = p->worker->head;

	if (fz_claim_is_whole(&p->cell->claim) &&
	    (int32_t)(started - p->answered) >= 0 &&
	    (int32_t)(p->next_seq - started) >= 0)
		return started;
	return head != NULL ? fz_worker_next_number(head) + 1 : p->next_seq;
}

uint32_t
fz_worker_claimed(const struct fz_worker_pipes *p)
{
	return fz_worker_plausible(p, fz_claim_started(&p->cell->claim));
}

void
fz_worker_start_head(struct fz_worker_pipes *p, int64_t now_ns)
{
	struct fz_job *head = p->worker->head;

	if (head != NULL && !p->worker->dying) {
		head->started_ns = now_ns;
		head->ops->started(head);
	}
	if (p->timer.place != 0 ||
	    (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER))
		fz_worker_arm_timeout(p);
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

struct fz_job *
fz_worker_answer_head(struct fz_worker *w, uint32_t n)
{
	struct fz_job *job = w->head;

	job->ndone += n;
	w->nitems -= n;
	w->pipes->answered = fz_worker_next_number(job);
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
	blob = fz_worker_slice_blob(p->slice, part.offset, part.len, err);
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
		int32_t known =
		    (int32_t)(fz_worker_next_number(w->head) - (seq + at));
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
		job = fz_worker_answer_head(w, more);
		if (bytes != NULL)
			job->ops->items(job, first, more, blob, at - from);
		else
			job->ops->items(job, first, more, job->strip, first);
		fz_worker_start_head(p, now_ns);
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

	if (c->type != FZ_WIRE_ITEMS && c->type != FZ_WIRE_STORED)
		return true;
	for (; job != NULL && (int32_t)(job->seq - (c->seq + c->nitems)) < 0;
	     job = job->next) {
		if (job->ops->items == NULL ||
		    (c->type == FZ_WIRE_STORED && job->strip == NULL))
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
	       (int32_t)(fz_worker_next_number(w->head) - c->seq) >= 0 &&
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
	if (frame->type != FZ_WIRE_ITEMS && frame->type != FZ_WIRE_STORED)
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
	if (frame->type == FZ_WIRE_ITEMS || frame->type == FZ_WIRE_STORED) {
		bool stored = frame->type == FZ_WIRE_STORED;
		uint32_t n = fz_reader_u32(&body);

		return take_items(p, frame->seq, n, stored ? NULL : body.p,
		    fz_reader_left(&body), now_ns);
	}
	if (w->head == NULL || frame->seq != fz_worker_next_number(w->head))
		return 0;
	job = fz_worker_answer_head(w, 1);
	if (frame->type == FZ_WIRE_RESULT)
		result_done(p, job, &body);
	else
		error_done(p, job, &body);
	fz_worker_start_head(p, now_ns);
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

int
fz_worker_take_replies(struct fz_worker_pipes *p, struct fz_err *err)
{
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned n = 0;
	int rc;

	fz_worker_output_pump(
	    &p->output); /* was printed before they were sent */
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

void
fz_worker_look_at_half(struct fz_timer *timer)
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

void
fz_worker_results_ready(struct fz_watch *watch, unsigned events)
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
		fz_worker_lose_pipe(p, watch);
		return;
	}
	if (p->distrusted)
		return;
	nreplies = fz_worker_take_replies(p, &err);
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
	return w->head == NULL ||
	       (int32_t)(fz_worker_next_number(w->head) - n) >= 0;
}

/* The frame of items at `at` that still grows. */
static uint32_t
scan_open(struct fz_worker_pipes *p, const unsigned char *at,
    const struct fz_cell_open *open, int64_t now_ns)
{
	const unsigned char *items = at + FZ_WIRE_HEADER + 4;
	struct fz_worker_seen seen = { fz_le32_load(at + 4), open->nitems,
		open->len - FZ_WIRE_HEADER - 4 };
	struct claim_of_reply c = { *at == FZ_WIRE_STORED ? FZ_WIRE_STORED
							  : FZ_WIRE_ITEMS,
		seen.seq, seen.nitems, seen.len };
	uint32_t n;

	if (*at != c.type || !is_possible(p, &c) ||
	    (int32_t)(fz_worker_claimed(p) - (seen.seq + seen.nitems)) < 0)
		return 0;
	if (c.type == FZ_WIRE_STORED)
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
fz_worker_take_cell(struct fz_worker_pipes *p)
{
	struct extract left = cell_extract(p->cell);

	scan_cell(p, p->cell->out, &left);
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
		fz_worker_output_pump(&p->output);
		end_busy(p, scan_cell(p, copy, &x));
	}
	free(copy);
}

/* Return a job, or its items from number `claim` on. Returns how many. */
static uint32_t
return_items(struct fz_worker *w, struct fz_job *job, uint32_t claim)
{
	uint32_t n = job->nitems - job->ndone;

	if ((int32_t)(claim - fz_worker_next_number(job)) > 0)
		n = job->seq + job->nitems - claim;
	job->nitems -= n;
	w->nitems -= n;
	w->nsent -= n;
	job->ops->returned(job, n);
	return n;
}

unsigned
fz_worker_return_from(struct fz_worker_pipes *p, uint32_t claim)
{
	struct fz_worker *w = p->worker;
	struct fz_job **at = &w->head, *job, *cut = NULL;
	unsigned n = 0;

	while (
	    *at != NULL && (int32_t)((*at)->seq + (*at)->nitems - claim) <= 0)
		at = &(*at)->next;
	/* One that has begun keeps the items that were started. */
	if (*at != NULL && (int32_t)(claim - fz_worker_next_number(*at)) > 0) {
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
	       (int32_t)(fz_worker_claimed(worker->pipes) - head->seq) > 0;
}

unsigned
fz_worker_recall(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	uint32_t claim = fz_worker_plausible(
	    p, fz_claim_recall(&p->cell->claim, p->next_seq));
	unsigned n;

	n = fz_worker_return_from(p, claim);
	end_busy(p, n);
	return n;
}
