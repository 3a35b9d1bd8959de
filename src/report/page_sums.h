/*
 * page_sums.h - what the functions, groups and workers of a run did, computed
 * from its trace.
 *
 * A group is a stage, a call of a map or a pool, or all nodes of dags. Times
 * are whole microseconds since the start of the run.
 */
#ifndef FZ_PAGE_SUMS_H
#define FZ_PAGE_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_err;
struct fz_trace;
struct fz_trace_name;

enum {
	FZ_SUMS_GROUPS = 60,    /* maximum number of groups beside "others" */
	FZ_SUMS_SLOWEST = 50,   /* maximum number of slow calls shown */
	FZ_SUMS_FAILURES = 100, /* maximum number of failures that are kept */
	FZ_SUMS_ROWS = 600      /* maximum number of functions in the table */
};
#define FZ_SUMS_NONE UINT32_MAX

struct fz_sums_function {
	const struct fz_trace_name *name; /* its name, or NULL */
	uint32_t group; /* number of its group; FZ_SUMS_NONE: no calls */
	bool is_shown;  /* the table shows the function */
	uint32_t nspans;
	uint64_t calls, total, max; /* `total`, `max`: microseconds */
	uint64_t cpu;               /* processor time in microseconds */
	uint64_t retries, failed, cancelled, cached;
	uint64_t sent, received, peak; /* `sent`, `received`, `peak`: bytes */
};

struct fz_sums_group {
	const char *name;
	size_t len; /* length of `name` in bytes */
	bool is_dag;
	uint64_t calls, busy;
};

struct fz_sums_worker {
	pid_t pid;
	const char *node; /* name of the worker's node; NULL: this machine */
	uint32_t group;   /* number of the group of the worker's first call */
	bool is_mixed;    /* the worker has worked for several groups */
	uint32_t times;   /* index in fz_sums.times for its last group */
	int64_t first;    /* start of the worker's first recorded call */
};

/* The first start and the last end of a worker's calls for a group. */
struct fz_sums_times {
	uint32_t worker, group;
	int64_t from, to;
};

/* An attempt to run one call, or one chunk of `n` items. */
struct fz_sums_span {
	int64_t at, length;
	uint32_t worker, group, function, n;
	bool failed;
};

/* The sums of all calls of a run. */
struct fz_sums_total {
	uint64_t calls, busy, wall, failed, cancelled, retries, cached, cpu,
	    sent, received, peak;
};

struct fz_sums {
	const struct fz_trace *trace;
	int64_t began_ns; /* fz_clock_ns() at the start of the run */
	struct fz_sums_total total;
	struct fz_sums_function *functions;
	size_t nfunctions, functions_cap;
	/* hash table by name: 1 + number of a function; 0: empty */
	uint32_t *index;
	size_t index_size; /* size of `index`, a power of two; 0: it is empty */
	struct fz_sums_group groups[FZ_SUMS_GROUPS + 1];
	size_t ngroups;
	struct fz_sums_worker *workers;
	size_t nworkers, workers_cap;
	uint32_t *worker_index; /* as `index`, for workers, by pid and node */
	size_t worker_index_size;
	struct fz_sums_times *times;
	size_t ntimes, times_cap;
	struct fz_sums_span *spans; /* all attempts, in order of record */
	size_t nspans, spans_cap;
	/* The elements of `slowest` and `failures` are indexes of records. */
	size_t slowest[4 * FZ_SUMS_SLOWEST];
	size_t nslowest;
	/* microseconds; only longer calls are among the slowest */
	int64_t slow_from;
	size_t failures[FZ_SUMS_FAILURES];
	/* number of failures, including those that are not kept */
	size_t nfailures;
	uint32_t most; /* function with most total time; FZ_SUMS_NONE: none */
};

/*
 * Read all records of a trace. The trace must outlive the sums. 0, or -1 and
 * `err`. Call fz_sums_fini() in either case.
 */
int fz_sums_init(
    struct fz_sums *sums, const struct fz_trace *trace, struct fz_err *err);
void fz_sums_fini(struct fz_sums *sums);

/* The start and length of a record's attempt, and the mean time of a call. */
void fz_sums_when(const struct fz_sums *sums, size_t record, int64_t *at,
    int64_t *length, int64_t *took);

/* The worker of a record; NULL: the record is of no attempt. */
const struct fz_sums_worker *fz_sums_worker_of(
    const struct fz_sums *sums, size_t record);

/* The function with this name; NULL: there are no records, or no name. */
const struct fz_sums_function *fz_sums_find(
    const struct fz_sums *sums, const struct fz_trace_name *name);

/*
 * The maximum number of workers that worked for a group at the same time;
 * FZ_SUMS_NONE: for any group. At least 1; 0 if there is no memory.
 */
size_t fz_sums_at_once(const struct fz_sums *sums, uint32_t group);

#endif
