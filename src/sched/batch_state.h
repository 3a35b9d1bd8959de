/*
 * batch_state.h - what the files of a batch share: its items and chunks.
 *
 * A chunk is in one place at a time, and only its batch frees it. The table
 * lists the places, and for each one where a chunk goes next and when it is
 * freed:
 *
 *   waiting       cut and sent, or called here; freed by fz_batch_stop()
 *   delayed       waiting, when its pause is over; freed by fz_batch_stop()
 *   undecided     delayed or waiting by fz_batch_decide(), or freed by it
 *   at a worker   waiting, if all of it is returned; freed with its last answer
 *   local         freed with its answer (fz_batch_end_chunk())
 *
 * An item that is tried again gets a new chunk. If only some items of a chunk
 * are returned, these get a new chunk, too.
 */
#ifndef FZ_BATCH_STATE_H
#define FZ_BATCH_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/dispatch.h"
#include "trace/event_log.h"
#include "trace/job_event.h"
#include "worker/change.h"
#include "worker/worker.h"

/* The failure of an item that waits for fz_batch_decide(). */
struct fz_undecided {
	struct fz_failure failure;
	struct fz_job_event event; /* end of the failed attempt */
};

/* Consecutive items that are sent in one frame. */
struct fz_chunk {
	struct fz_job job;
	struct fz_batch *batch;
	struct fz_list link; /* link in a list of its batch */
	uint64_t first;
	uint32_t n;
	unsigned attempts; /* number of failed attempts of its items */
	/* index of the first item whose start is not recorded yet */
	uint64_t told;
	/* the encoded items; NULL: not encoded yet, or inherited by workers */
	struct fz_blob *part;
	bool added; /* `part` must be kept: it is from fz_batch_add() */
	int64_t answered_ns;   /* time of the last answer */
	struct fz_timer delay; /* armed while it is in `delayed` */
	/* not NULL while the chunk is in the list `undecided` */
	struct fz_undecided *undecided;
};

struct fz_batch {
	struct fz_producer producer;
	struct fz_batch_opts opts;
	struct fz_engine *engine;
	struct fz_list link;    /* link in the owner's list of batches */
	struct fz_list waiting; /* to send before new chunks; sorted by item */
	struct fz_list delayed; /* chunks that pause before another attempt */
	struct fz_list undecided; /* items that wait for fz_batch_decide() */
	struct fz_list local;     /* items that this process is calling */
	uint64_t total;           /* number of items */
	uint64_t uncut;    /* index of the first item that is in no chunk */
	uint64_t nwaiting; /* number of items in the waiting chunks */
	unsigned nsent;    /* number of chunks of workers and in `local` */
	uint64_t ndone, nfailed;
	int64_t mean_ns;  /* mean time of an item; 0: unknown */
	int64_t timed_ns; /* total time of recent items */
	int64_t ntimed;   /* number of recent items */
	bool growing, stopping, done;
	bool whole_failed;
	uint64_t share; /* items for one worker; 0: not computed yet */
	uint64_t nraw;  /* number of items whose result was stored raw */
	struct fz_failure whole;
	struct fz_batch_result *results;
	size_t result_at, nresults, results_cap;
	struct fz_event_log events;
	struct fz_change change;
};

/* The first chunk of a list; NULL if the list is empty. */
static inline struct fz_chunk *
fz_chunk_first(const struct fz_list *list)
{
	struct fz_list *link = fz_list_first(list);

	return link != NULL ? FZ_CONTAINER_OF(link, struct fz_chunk, link)
			    : NULL;
}

/* The chunk in a list whose first item is `item`; NULL if there is none. */
static inline struct fz_chunk *
fz_chunk_find(const struct fz_list *list, uint64_t item)
{
	struct fz_list *link = list->next;

	for (; link != list; link = link->next) {
		struct fz_chunk *chunk =
		    FZ_CONTAINER_OF(link, struct fz_chunk, link);

		if (chunk->first == item)
			return chunk;
	}
	return NULL;
}

static inline struct fz_chunk *
fz_chunk_of(struct fz_job *job)
{
	return (struct fz_chunk *)job;
}

/* The number of items that could be sent now. */
uint64_t fz_batch_ready(const struct fz_batch *batch);
/*
 * Whether the next item must be the only one of its worker, see fz_job.alone.
 */
bool fz_batch_next_is_alone(const struct fz_batch *batch);

/*
 * Make an encoded chunk of at most `max` items that could be sent now. Items
 * that cannot be encoded fail. NULL if no other item is left.
 */
struct fz_chunk *fz_batch_cut(struct fz_batch *batch, uint32_t max);

/*
 * The next chunk of at most `max` items, which may not be encoded yet. NULL if
 * there is none, or if there is no memory.
 */
struct fz_chunk *fz_batch_next_chunk(struct fz_batch *batch, uint32_t max);

/* Fail all items of a chunk that cannot be sent. Frees the chunk. */
void fz_batch_unsent(struct fz_chunk *chunk, const struct fz_failure *failure);

/* The functions through which a dispatcher gets the chunks of a batch. */
extern const struct fz_producer_ops fz_batch_producer_ops;

/* If none of the batch's jobs runs or will run, mark the batch as done. */
void fz_batch_settle(struct fz_batch *batch);

/* A chunk of `n` items that is in no list. NULL if there is no memory. */
struct fz_chunk *fz_batch_chunk_new(
    struct fz_batch *batch, uint64_t first, uint32_t n, unsigned attempts);

/* Insert a chunk into the list of waiting chunks, which is sorted by item. */
void fz_batch_insert(struct fz_batch *batch, struct fz_chunk *chunk);

/* Release the encoded items of a chunk, unless they cannot be encoded again. */
void fz_batch_drop_part(struct fz_chunk *chunk);

/* Free a chunk that gets no more answers. The last one ends the batch. */
void fz_batch_end_chunk(struct fz_chunk *chunk);

/* Free a chunk, and remove it from its list if it is in one. */
void fz_batch_free_chunk(struct fz_chunk *chunk);

/* Fail the item of an undecided chunk, and free the chunk. */
void fz_batch_refuse(struct fz_chunk *chunk);

/*
 * Start no more items: free the chunks that wait or are delayed, and fail the
 * items that are undecided.
 */
void fz_batch_stop(struct fz_batch *batch);

/* Fail the batch as a whole and stop it. Its first failure is kept. */
void fz_batch_fail_whole(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/* The functions through which a worker reports the answers to a chunk. */
extern const struct fz_job_ops fz_batch_chunk_ops;

/* Record an event: the first unanswered item of the job has started. */
void fz_batch_job_started(struct fz_job *job);

/* Report a known result of an item without a chunk. Takes the reference. */
void fz_batch_value_known(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);

/* Report the result of an item. Takes the reference; NULL: it was lost. */
void fz_batch_value_done(
    struct fz_chunk *chunk, uint64_t item, struct fz_blob *value);

/* Try an item again or report its failure. Takes `failure->value`. */
void fz_batch_item_failed(
    struct fz_chunk *chunk, uint64_t item, struct fz_failure *failure);

#endif
