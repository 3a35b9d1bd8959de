/* engine.h - what all pools and runs of one Lua state share. */
#ifndef FZ_ENGINE_H
#define FZ_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "os/loop.h"
#include "proc/children.h"
#include "proc/start.h"
#include "shared/heap.h"

struct fz_blob;
struct fz_mailbox_block;
struct fz_err;
struct fz_arena;
struct fz_nodes;
struct fz_slots;
struct fz_worker;

/* Size in bytes above which a value is sent through shared memory. */
#define FZ_ENGINE_BULK ((size_t)64 << 10)

enum fz_stdio { FZ_STDIO_OUT, FZ_STDIO_ERR };

/* Receives the output of workers, in whole lines. */
typedef void (*fz_engine_output)(
    void *ctx, enum fz_stdio file, const char *bytes, size_t len);

struct fz_engine {
	struct fz_loop *loop;
	/* children that this engine has started */
	struct fz_children children;
	/* the membership of this process in the shared heap */
	struct fz_membership membership;
	/* accounts of programs that have ended, see account.h */
	struct fz_list accounts;
	/* arena of this process; NULL: not created yet, or not possible */
	struct fz_arena *arena;
	bool arena_tried;
	/* mailboxes for new workers; NULL: not allocated yet */
	struct fz_mailbox_block *mailboxes;
	fz_engine_output output;
	void *output_ctx;
	/*
	 * the slots that this process shares with others: in a worker, those of
	 * its pool; in a process that make has started, those of make. NULL:
	 * none; then each chain has slots of its own.
	 */
	struct fz_slots *slots;
	/*
	 * pools use byte streams to their workers. Tests set this by
	 * FZLUA_LINK=stream.
	 */
	bool byte_streams;
	/* start method of pools whose options name none */
	enum fz_start start;
	/* program of workers; NULL: the default of start.h */
	const char *program;
	/* nodes of all engine URLs that this process has used */
	struct fz_nodes *nodes;
	/* number of changes so far; a waiter checks again if it grew */
	unsigned long wake_count;
	struct fz_list changed; /* objects that have changed, see change.h */
	uint64_t nids; /* number of ids given to objects, see change.h */
	/* worker that sent the last reply; NULL: unknown */
	struct fz_worker *replied;
	uint64_t nfreed; /* number of workers that were freed so far */
	/* the resting workers, see fz_worker_rest() */
	struct fz_list resting;
	struct fz_fork_hook hook;
	struct fz_timer late; /* calls fz_engine_reap_late() */
	/* in a worker: the arena of its parent, from which it only reads */
	struct fz_arena *inherited;
};

/* `output` receives the output of the workers. 0, or -1 and `err`. */
int fz_engine_init(struct fz_engine *engine, fz_engine_output output,
    void *output_ctx, struct fz_err *err);
void fz_engine_fini(struct fz_engine *engine);

/* Reap late descendants of dead children, now and later if some are alive. */
void fz_engine_reap_late(struct fz_engine *engine);

/* The arena, created at its first use. NULL if the kernel refuses memory. */
struct fz_arena *fz_engine_arena(struct fz_engine *engine);

/*
 * fz_engine_room(): allocate `len` bytes in the arena, as a blob.
 * fz_engine_blob(): make a blob of allocated bytes. On failure both return
 * NULL, fill `err` and free the bytes.
 */
struct fz_blob *fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);
struct fz_blob *fz_engine_blob(
    struct fz_engine *engine, uint64_t offset, size_t len, struct fz_err *err);

#endif
