/* engine.h - what all pools and runs of one lua_State share. */
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

/* Size in bytes above which a value travels through shared memory. */
#define FZ_ENGINE_BULK ((size_t)64 << 10)

enum fz_stdio { FZ_STDIO_OUT, FZ_STDIO_ERR };

/* Receives what workers print, whole lines at a time. */
typedef void (*fz_engine_output)(
    void *ctx, enum fz_stdio file, const char *bytes, size_t len);

struct fz_engine {
	struct fz_loop *loop;
	/* the children that this engine has forked */
	struct fz_children children;
	/* this process as a member of the shared heap */
	struct fz_membership membership;
	/* retired accounts of programs: account.h */
	struct fz_list accounts;
	/* arena of this process; NULL: not made yet, or not available */
	struct fz_arena *arena;
	bool arena_tried;
	/* mailboxes for new workers; NULL: none yet */
	struct fz_mailbox_block *cells;
	fz_engine_output output;
	void *output_ctx;
	/*
	 * The slots that this process shares: a worker uses those of its pool,
	 * and a process started by make those of make. NULL: each chain has
	 * slots of its own.
	 */
	struct fz_slots *slots;
	/*
	 * Whether pools use byte streams to their workers. Set by
	 * FZLUA_LINK=stream, to test that link.
	 */
	bool byte_streams;
	/* The start method of pools that set none. */
	enum fz_start start;
	/* program of workers; NULL: the one that start.h finds */
	const char *program;
	/* the nodes of all engine URLs that were used */
	struct fz_nodes *nodes;
	/* number of changes: waiters check again if it has grown */
	unsigned long wake_count;
	struct fz_list changed; /* objects that have changed: change.h */
	/* number of ids that were used for objects: change.h */
	uint64_t nids;
	/* the worker that replied last; NULL: unknown */
	struct fz_worker *replied;
	uint64_t nfreed; /* number of workers that were freed */
	/* workers that rest: see fz_worker_rest() */
	struct fz_list resting;
	struct fz_fork_hook hook;
	struct fz_timer late; /* reaps descendants of dead children */
	/* In a worker: the arena of its parent, for reading. */
	struct fz_arena *inherited;
};

/* 0, or -1 and `err`. End with fz_engine_fini(). */
int fz_engine_init(struct fz_engine *engine, fz_engine_output output,
    void *output_ctx, struct fz_err *err);
void fz_engine_fini(struct fz_engine *engine);

/* After a child was reaped: reap its former descendants when they are dead. */
void fz_engine_reap_late(struct fz_engine *engine);

/* The arena, made at first use; NULL if the kernel refuses one. */
struct fz_arena *fz_engine_arena(struct fz_engine *engine);

/*
 * fz_engine_room(): a blob of `len` new bytes of the arena. fz_engine_blob(): a
 * blob of bytes there that the caller owns. NULL and `err` on failure; then
 * these bytes are freed.
 */
struct fz_blob *fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);
struct fz_blob *fz_engine_blob(
    struct fz_engine *engine, uint64_t offset, size_t len, struct fz_err *err);

#endif
