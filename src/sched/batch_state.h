/*
 * batch_state.h - what the files of a batch share: its items and chunks.
 *
 * A chunk is in one place at a time, and only its batch frees it. The table has
 * its places, where it goes from there, and what frees it:
 *
 *   waiting       cut and sent, or called here; freed by fz_batch_stop()
 *   delayed       waiting, when its pause is over; freed by fz_batch_stop()
 *   undecided     delayed or waiting by fz_batch_decide(), or freed by it
 *   at a worker   waiting, if all of it is returned; freed with its last answer
 *   local         freed with its answer (fz_batch_end_chunk())
 *
 * An item that is tried again gets a new chunk, and so do items that are
 * returned while other items of their chunk are not.
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

/* The failure of an item about whose retry the caller decides. */
struct fz_undecided {
	struct fz_failure failure;
	struct fz_job_event event; /* the event of the end of the attempt */
};

/* Consecutive items that travel in one frame. */
struct fz_chunk {
	struct fz_job job;
	struct fz_batch *batch;
	struct fz_list link; /* in one of the lists of its batch */
	uint64_t first;
	uint32_t n;
	unsigned attempts; /* number of failed attempts of its items */
	/* the starts of its items below this index are recorded */
	uint64_t told;
	/* the encoded items; NULL: not yet encoded, or inherited */
	struct fz_blob *part;
	bool added;            /* `part` cannot be encoded again */
	int64_t answered_ns;   /* time of its last answer */
	struct fz_timer delay; /* armed while it is delayed */
	/* set while the chunk is in the list of undecided ones */
	struct fz_undecided *undecided;
};

struct fz_batch {
	struct fz_producer producer;
	struct fz_batch_opts opts;
	struct fz_engine *engine;
	struct fz_list link;      /* in the list of its owner */
	struct fz_list waiting;   /* chunks to send before new ones, in order */
	struct fz_list delayed;   /* chunks that wait for another attempt */
	struct fz_list undecided; /* chunks of one failed item, in order */
	struct fz_list local;     /* chunks under way in this process */
	uint64_t total;           /* number of items */
	uint64_t uncut;    /* index of the first item that is in no chunk */
	uint64_t nwaiting; /* number of items in the waiting chunks */
	unsigned nsent;    /* number of chunks at workers, or local */
	uint64_t ndone, nfailed;
	int64_t mean_ns;  /* mean time of an item; 0: unknown */
	int64_t timed_ns; /* time that recent items took */
	int64_t ntimed;   /* number of recent items */
	bool growing, stopping, done;
	bool whole_failed;
	uint64_t share; /* items in the share of one worker; 0: not computed */
	uint64_t nraw;  /* number of items whose result came raw */
	struct fz_failure whole;
	struct fz_batch_result *results;
	size_t result_at, nresults, results_cap;
	struct fz_event_log events;
	struct fz_change change;
};

/* The first chunk of a list; NULL: it is empty. */
static inline struct fz_chunk *
fz_chunk_first(const struct fz_list *list)
{
	struct fz_list *link = fz_list_first(list);

	return link != NULL ? FZ_CONTAINER_OF(link, struct fz_chunk, link)
			    : NULL;
}

/* The chunk of a list that begins with `item`; NULL: there is none. */
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
 * Whether the first item that could be sent now needs a worker without other
 * jobs.
 */
bool fz_batch_next_is_alone(const struct fz_batch *batch);

/*
 * Cut an encoded chunk of at most `max` items that could be sent now. Items
 * that cannot be encoded fail; NULL if no other item is left.
 */
struct fz_chunk *fz_batch_cut(struct fz_batch *batch, uint32_t max);

/*
 * The next chunk of at most `max` items, not encoded; NULL if there is none, or
 * no memory.
 */
struct fz_chunk *fz_batch_next_chunk(struct fz_batch *batch, uint32_t max);

/* Fail all items of a chunk that cannot be sent, and free it. */
void fz_batch_unsent(struct fz_chunk *chunk, const struct fz_failure *failure);

/* The functions by which a dispatcher gets chunks. */
extern const struct fz_producer_ops fz_batch_producer_ops;

/* Mark the batch as done if none of its jobs runs or will run. */
void fz_batch_settle(struct fz_batch *batch);

/* Make a chunk of `n` items that is in no list. NULL if there is no memory. */
struct fz_chunk *fz_batch_chunk_new(
    struct fz_batch *batch, uint64_t first, uint32_t n, unsigned attempts);

/* Add a chunk to the waiting ones, in the order of their items. */
void fz_batch_insert(struct fz_batch *batch, struct fz_chunk *chunk);

/* Release the encoded items of a chunk if they can be encoded again. */
void fz_batch_drop_part(struct fz_chunk *chunk);

/* Free a chunk that expects no more answers, and settle its batch. */
void fz_batch_end_chunk(struct fz_chunk *chunk);

/* Free a chunk that is in one of the lists of the batch, or in none. */
void fz_batch_free_chunk(struct fz_chunk *chunk);

/* Let an undecided item fail, and free its chunk. */
void fz_batch_refuse(struct fz_chunk *chunk);

/*
 * Free the chunks that wait or are delayed, let undecided items fail, and start
 * no more items.
 */
void fz_batch_stop(struct fz_batch *batch);

/* Fail the batch as a whole and stop it; the first failure is kept. */
void fz_batch_fail_whole(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/* The callbacks of the job of a chunk, which make results of answers. */
extern const struct fz_job_ops fz_batch_chunk_ops;

/* Record the event that the next item of a job has started. */
void fz_batch_job_started(struct fz_job *job);

/* Report a known result, without a chunk. Takes the reference. */
void fz_batch_value_known(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);

/*
 * Report the result of one item. Takes the reference. NULL: the result is lost.
 */
void fz_batch_value_done(
    struct fz_chunk *chunk, uint64_t item, struct fz_blob *value);

/* Retry an item or report its failure. Takes the value in `failure`. */
void fz_batch_item_failed(
    struct fz_chunk *chunk, uint64_t item, struct fz_failure *failure);

#endif
