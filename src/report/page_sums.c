#include "report/page_sums.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/seed.h"
#include "base/vec.h"
#include "trace/job_event.h"
#include "trace/trace.h"
#include "trace/trace_format.h"

/* Convert nanoseconds to microseconds, rounded. */
static int64_t
micros(int64_t ns)
{
	return ns >= 0 ? (ns + 500) / 1000 : -((500 - ns) / 1000);
}

/* Set the start and the length of the run. */
static void
find_span(struct fz_sums *s)
{
	size_t n = fz_trace_count(s->trace);
	int64_t began_ns = INT64_MAX, ended_ns = 0;

	for (size_t i = 0; i < n; i++) {
		const struct fz_job_event *e = fz_trace_get(s->trace, i);
		int64_t from_ns =
		    e->queued_ns != 0 ? e->queued_ns : fz_trace_started(e);

		if (from_ns < began_ns)
			began_ns = from_ns;
		if (e->ended_ns > ended_ns)
			ended_ns = e->ended_ns;
	}
	if (n == 0)
		return;
	s->began_ns = began_ns;
	if (ended_ns > began_ns)
		s->total.wall = (uint64_t)micros(ended_ns - began_ns);
}

static uint64_t
hash_text(const char *bytes, size_t len)
{
	unsigned char hash[FZ_HASH_BYTES];
	uint64_t v;

	fz_hash_bytes(bytes, len, hash);
	memcpy(&v, hash, sizeof(v));
	return v;
}

/* Hash the text: different objects may have the same stage and name. */
static uint64_t
hash_name(const struct fz_trace_name *name)
{
	if (name == NULL)
		return 0;
	return fz_seed_mix(hash_text(name->name, name->nname),
	    name->nstage != 0 ? hash_text(name->stage, name->nstage) : 0);
}

static bool
is_same(const struct fz_trace_name *a, const struct fz_trace_name *b)
{
	if (a == b || a == NULL || b == NULL)
		return a == b;
	return a->nname == b->nname && a->nstage == b->nstage &&
	       memcmp(a->name, b->name, a->nname) == 0 &&
	       (a->nstage == 0 || memcmp(a->stage, b->stage, a->nstage) == 0);
}

/* The place in the index for a function; it is empty (0) for a new one. */
static uint32_t *
place_of(const struct fz_sums *s, const struct fz_trace_name *name)
{
	size_t at = hash_name(name) & (s->index_size - 1);

	while (s->index[at] != 0 &&
	       !is_same(s->functions[s->index[at] - 1].name, name))
		at = (at + 1) & (s->index_size - 1);
	return &s->index[at];
}

/* An empty index for more than `n` entries; NULL if there is no memory. */
static uint32_t *
larger_index(size_t *size, size_t n)
{
	if (*size == 0)
		*size = 64;
	while (*size < 4 * n)
		*size *= 2;
	return calloc(*size, sizeof(uint32_t));
}

/*
 * Make room for as many functions as there are records, because growing the
 * index later would take long. Memory that is not touched costs nothing.
 */
static int
begin_functions(struct fz_sums *s, size_t nrecords)
{
	s->functions = fz_vec_room(s->functions, &s->functions_cap,
	    nrecords + 1, sizeof(*s->functions));
	s->index = larger_index(&s->index_size, nrecords / 2 + 1);
	s->spans = fz_vec_room(
	    s->spans, &s->spans_cap, nrecords + 1, sizeof(*s->spans));
	return s->functions != NULL && s->index != NULL && s->spans != NULL
		   ? 0
		   : -1;
}

/* Make room for another function. 0, or -1: there is no memory. */
static int
grow_functions(struct fz_sums *s)
{
	struct fz_sums_function *list = fz_vec_room(
	    s->functions, &s->functions_cap, s->nfunctions + 1, sizeof(*list));

	if (list == NULL)
		return -1;
	s->functions = list;
	if (2 * (s->nfunctions + 1) < s->index_size)
		return 0;
	free(s->index);
	s->index = larger_index(&s->index_size, s->nfunctions + 1);
	if (s->index == NULL)
		return -1;
	for (size_t i = 0; i < s->nfunctions; i++)
		*place_of(s, s->functions[i].name) = (uint32_t)i + 1;
	return 0;
}

/*
 * The number of the function with this name. A new function is added.
 * FZ_SUMS_NONE if there is no memory. The number is stored in the name, because
 * hashing the name for each record would take longer.
 */
static uint32_t
function_of(struct fz_sums *s, struct fz_trace_name *name)
{
	uint32_t *place, number;

	if (name != NULL && name->number < s->nfunctions &&
	    s->functions[name->number].name == name)
		return name->number;
	if (grow_functions(s) != 0)
		return FZ_SUMS_NONE;
	place = place_of(s, name);
	if (*place == 0) {
		s->functions[s->nfunctions++] =
		    (struct fz_sums_function){ .name = name,
			    .group = FZ_SUMS_NONE };
		*place = (uint32_t)s->nfunctions;
	}
	number = *place - 1;
	if (name != NULL)
		name->number = number & 0x7fffffff;
	return number;
}

const struct fz_sums_function *
fz_sums_find(const struct fz_sums *s, const struct fz_trace_name *name)
{
	uint32_t place;

	if (s->nfunctions == 0 || name == NULL)
		return NULL;
	if (name->number < s->nfunctions &&
	    s->functions[name->number].name == name)
		return &s->functions[name->number];
	place = *place_of(s, name);
	return place != 0 ? &s->functions[place - 1] : NULL;
}

/* The number of the group with this name. A new group is added. */
static uint32_t
group_named(struct fz_sums *s, const char *name, size_t len, bool is_dag)
{
	for (size_t i = 0; i < s->ngroups; i++) {
		if (s->groups[i].len == len &&
		    memcmp(s->groups[i].name, name, len) == 0)
			return (uint32_t)i;
	}
	if (s->ngroups > FZ_SUMS_GROUPS)
		return FZ_SUMS_GROUPS;
	if (s->ngroups == FZ_SUMS_GROUPS) {
		name = "others";
		len = strlen(name);
	}
	s->groups[s->ngroups] = (struct fz_sums_group){
		.name = name, .len = len, .is_dag = is_dag
	};
	return (uint32_t)s->ngroups++;
}

static uint32_t
group_of(struct fz_sums *s, const struct fz_trace_name *name)
{
	if (name != NULL && name->stage != NULL)
		return group_named(s, name->stage, name->nstage, false);
	if (name != NULL && name->is_call)
		return group_named(s, name->name, name->nname, false);
	return group_named(s, "dag", 3, true);
}

static uint32_t *
place_of_worker(const struct fz_sums *s, pid_t pid, const char *node)
{
	size_t at = fz_seed_mix((uint64_t)pid, (uintptr_t)node);

	for (;; at++) {
		uint32_t *place =
		    &s->worker_index[at & (s->worker_index_size - 1)];
		const struct fz_sums_worker *w = &s->workers[*place - 1];

		if (*place == 0 || (w->pid == pid && w->node == node))
			return place;
	}
}

static int
grow_workers(struct fz_sums *s)
{
	struct fz_sums_worker *list = fz_vec_room(
	    s->workers, &s->workers_cap, s->nworkers + 1, sizeof(*list));

	if (list == NULL)
		return -1;
	s->workers = list;
	if (2 * (s->nworkers + 1) < s->worker_index_size)
		return 0;
	free(s->worker_index);
	s->worker_index = larger_index(&s->worker_index_size, s->nworkers + 1);
	if (s->worker_index == NULL)
		return -1;
	for (size_t i = 0; i < s->nworkers; i++)
		*place_of_worker(s, s->workers[i].pid, s->workers[i].node) =
		    (uint32_t)i + 1;
	return 0;
}

/*
 * The number of the worker of a record, added if it is new; FZ_SUMS_NONE if
 * there is no memory. Records share the names of machines by address.
 */
static uint32_t
worker_of(
    struct fz_sums *s, const struct fz_job_event *e, uint32_t group, int64_t at)
{
	uint32_t *place;

	if (grow_workers(s) != 0)
		return FZ_SUMS_NONE;
	place = place_of_worker(s, e->pid, e->node);
	if (*place == 0) {
		s->workers[s->nworkers++] =
		    (struct fz_sums_worker){ .pid = e->pid,
			    .node = e->node,
			    .group = group,
			    .times = FZ_SUMS_NONE,
			    .first = at };
		*place = (uint32_t)s->nworkers;
	}
	return *place - 1;
}

/* Index of a worker's times for a group, by a slow search; or FZ_SUMS_NONE. */
static uint32_t
find_times(const struct fz_sums *s, uint32_t worker, uint32_t group)
{
	for (size_t i = 0; i < s->ntimes; i++) {
		if (s->times[i].worker == worker && s->times[i].group == group)
			return (uint32_t)i;
	}
	return FZ_SUMS_NONE;
}

/* Add the times of a worker for a group. 0, or -1: there is no memory. */
static int
add_times(struct fz_sums *s, uint32_t worker, uint32_t group, int64_t at)
{
	struct fz_sums_times *list =
	    fz_vec_room(s->times, &s->times_cap, s->ntimes + 1, sizeof(*list));

	if (list == NULL)
		return -1;
	s->times = list;
	list[s->ntimes] = (struct fz_sums_times){ worker, group, at, at };
	s->workers[worker].times = (uint32_t)s->ntimes++;
	return 0;
}

static int
note_times(struct fz_sums *s, const struct fz_sums_span *span)
{
	struct fz_sums_worker *w = &s->workers[span->worker];
	struct fz_sums_times *times;

	if (w->times == FZ_SUMS_NONE ||
	    s->times[w->times].group != span->group) {
		bool is_first = w->times == FZ_SUMS_NONE;

		w->is_mixed = !is_first;
		w->times = is_first ? FZ_SUMS_NONE
				    : find_times(s, span->worker, span->group);
		if (w->times == FZ_SUMS_NONE &&
		    add_times(s, span->worker, span->group, span->at) != 0)
			return -1;
	}
	times = &s->times[w->times];
	if (span->at < times->from)
		times->from = span->at;
	if (span->at + span->length > times->to)
		times->to = span->at + span->length;
	return 0;
}

void
fz_sums_when(const struct fz_sums *s, size_t record, int64_t *at,
    int64_t *length, int64_t *took)
{
	const struct fz_job_event *e = fz_trace_get(s->trace, record);

	*at = micros(fz_trace_started(e) - s->began_ns);
	*length = micros(e->ended_ns - s->began_ns) - *at;
	if (*length < 0)
		*length = 0;
	*took = e->n != 0 ? *length / e->n : *length;
}

const struct fz_sums_worker *
fz_sums_worker_of(const struct fz_sums *s, size_t record)
{
	const struct fz_job_event *e = fz_trace_get(s->trace, record);

	if (e->pid == 0)
		return NULL;
	return &s->workers[*place_of_worker(s, e->pid, e->node) - 1];
}

/* A call, in a list that is sorted by time. */
struct slow {
	int64_t took;
	size_t record;
};

static int
compare_slow(const void *a, const void *b)
{
	const struct slow *x = a, *y = b;

	if (x->took != y->took)
		return x->took > y->took ? -1 : 1;
	return (x->record > y->record) - (x->record < y->record);
}

/* Sort the slowest calls, and keep FZ_SUMS_SLOWEST of them. */
static void
sort_slowest(struct fz_sums *s)
{
	struct slow list[4 * FZ_SUMS_SLOWEST] = { { 0 } };
	int64_t at, length;

	for (size_t i = 0; i < s->nslowest; i++) {
		list[i].record = s->slowest[i];
		fz_sums_when(s, s->slowest[i], &at, &length, &list[i].took);
	}
	qsort(list, s->nslowest, sizeof(list[0]), compare_slow);
	if (s->nslowest > FZ_SUMS_SLOWEST) {
		s->nslowest = FZ_SUMS_SLOWEST;
		s->slow_from = list[FZ_SUMS_SLOWEST - 1].took;
	}
	for (size_t i = 0; i < s->nslowest; i++)
		s->slowest[i] = list[i].record;
}

static void
note_slow(struct fz_sums *s, size_t record, int64_t took)
{
	if (s->nslowest >= FZ_SUMS_SLOWEST && took <= s->slow_from)
		return;
	s->slowest[s->nslowest++] = record;
	if (s->nslowest == 4 * FZ_SUMS_SLOWEST)
		sort_slowest(s);
}

static void
add_usage(
    struct fz_sums *s, struct fz_sums_function *f, const struct fz_job_event *e)
{
	uint64_t cpu = (uint64_t)micros((int64_t)e->cpu_ns);

	f->cpu += cpu;
	s->total.cpu += cpu;
	f->sent += e->nsent;
	s->total.sent += e->nsent;
	f->received += e->nreceived;
	s->total.received += e->nreceived;
	if (e->peak_rss > f->peak)
		f->peak = e->peak_rss;
	if (e->peak_rss > s->total.peak)
		s->total.peak = e->peak_rss;
}

/* Add a call to the sums of its function, of its group and of the run. */
static void
count_span(struct fz_sums *s, const struct fz_sums_span *span, int64_t took)
{
	struct fz_sums_function *f = &s->functions[span->function];
	struct fz_sums_group *group = &s->groups[span->group];

	f->nspans++;
	f->calls += span->n;
	f->total += (uint64_t)span->length;
	if ((uint64_t)took > f->max)
		f->max = (uint64_t)took;
	if (f->total >
	    (s->most != FZ_SUMS_NONE ? s->functions[s->most].total : 0))
		s->most = span->function;
	group->calls += span->n;
	group->busy += (uint64_t)span->length;
	s->total.calls += span->n;
	s->total.busy += (uint64_t)span->length;
}

/* Add the attempt of record `i`. 0, or -1: there is no memory. */
static int
add_attempt(struct fz_sums *s, size_t i, uint32_t function, bool failed)
{
	const struct fz_job_event *e = fz_trace_get(s->trace, i);
	struct fz_sums_function *f = &s->functions[function];
	struct fz_sums_span *list, *span;
	int64_t took;

	list =
	    fz_vec_room(s->spans, &s->spans_cap, s->nspans + 1, sizeof(*list));
	if (list == NULL)
		return -1;
	s->spans = list;
	span = &list[s->nspans];
	if (f->group == FZ_SUMS_NONE)
		f->group = group_of(s, f->name);
	fz_sums_when(s, i, &span->at, &span->length, &took);
	span->function = function;
	span->group = f->group;
	span->n = e->n;
	span->failed = failed;
	span->worker = worker_of(s, e, f->group, span->at);
	if (span->worker == FZ_SUMS_NONE || note_times(s, span) != 0)
		return -1;
	s->nspans++;
	count_span(s, span, took);
	add_usage(s, f, e);
	note_slow(s, i, took);
	return 0;
}

/* Count a retry, a recorded result, a cancelled call or a failure. */
static void
count_event(
    struct fz_sums *s, struct fz_sums_function *f, const struct fz_job_event *e)
{
	if (e->kind == FZ_JOB_EVENT_RETRY) {
		f->retries += e->n;
		s->total.retries += e->n;
	} else if (e->kind == FZ_JOB_EVENT_CACHED) {
		f->cached += e->n;
		s->total.cached += e->n;
	} else if (fz_trace_is_cancelled(e)) {
		f->cancelled += e->n;
		s->total.cancelled += e->n;
	} else if (e->kind != FZ_JOB_EVENT_DONE) {
		f->failed += e->n;
		s->total.failed += e->n;
	}
}

/* Add record `i`. 0, or -1: there is no memory. */
static int
add_record(struct fz_sums *s, size_t i)
{
	const struct fz_job_event *e = fz_trace_get(s->trace, i);
	uint32_t function = function_of(s, e->name);
	bool failed;

	if (function == FZ_SUMS_NONE)
		return -1;
	count_event(s, &s->functions[function], e);
	failed = e->kind == FZ_JOB_EVENT_RETRY ||
		 (e->kind == FZ_JOB_EVENT_FAILED && !fz_trace_is_cancelled(e));
	if (failed) {
		if (s->nfailures < FZ_SUMS_FAILURES)
			s->failures[s->nfailures] = i;
		s->nfailures++;
	}
	/* a map has no process, and its elements have own records */
	return e->pid != 0 ? add_attempt(s, i, function, failed) : 0;
}

int
fz_sums_init(
    struct fz_sums *s, const struct fz_trace *trace, struct fz_err *err)
{
	size_t n = fz_trace_count(trace);

	memset(s, 0, sizeof(*s));
	s->trace = trace;
	s->most = FZ_SUMS_NONE;
	find_span(s);
	if (begin_functions(s, n) != 0)
		return fz_err_nomem(err, "the page of a run");
	for (size_t i = 0; i < n; i++) {
		if (add_record(s, i) != 0)
			return fz_err_nomem(err, "the page of a run");
	}
	sort_slowest(s);
	return 0;
}

void
fz_sums_fini(struct fz_sums *s)
{
	free(s->functions);
	free(s->index);
	free(s->workers);
	free(s->worker_index);
	free(s->times);
	free(s->spans);
}

/* The start or the end of a worker's calls for a group. */
struct change {
	int64_t at;
	int step; /* 1 for a start, -1 for an end */
};

/* By time. Ends come first: an end and a start are not two workers at once. */
static int
compare_changes(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	if (x->at != y->at)
		return x->at > y->at ? 1 : -1;
	return x->step - y->step;
}

size_t
fz_sums_at_once(const struct fz_sums *s, uint32_t group)
{
	struct change *list = malloc((2 * s->ntimes + 1) * sizeof(*list));
	size_t n = 0;
	int now = 0, most = 1;

	if (list == NULL)
		return 0;
	for (size_t i = 0; i < s->ntimes; i++) {
		if (group != FZ_SUMS_NONE && s->times[i].group != group)
			continue;
		list[n++] = (struct change){ s->times[i].from, 1 };
		list[n++] = (struct change){ s->times[i].to, -1 };
	}
	qsort(list, n, sizeof(*list), compare_changes);
	for (size_t i = 0; i < n; i++) {
		now += list[i].step;
		if (now > most)
			most = now;
	}
	free(list);
	return (size_t)most;
}
