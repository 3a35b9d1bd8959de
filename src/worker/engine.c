#include "worker/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "node/nodes.h"
#include "os/process.h"
#include "proc/proc.h"
#include "shared/arena.h"
#include "wire/account.h"
#include "wire/blob.h"
#include "wire/mailbox.h"
#include "worker/change.h"

/* Time between two searches for late descendants of dead children. */
#define ENGINE_LATE_NS (FZ_CLOCK_SECOND / 20)

/*
 * Initialise the engine after a fork. A worker reads from the arena of its
 * parent, and creates another arena if it needs one for its own workers.
 */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_engine *engine =
	    FZ_CONTAINER_OF(hook, struct fz_engine, hook);

	/* empty the list: only the parent's waiters wait for these changes */
	while (fz_change_take(engine) != 0)
		continue;
	engine->replied = NULL;
	fz_list_init(&engine->resting); /* drop the parent's workers */
	fz_children_forget(&engine->children);
	fz_account_forget(&engine->accounts);
	engine->inherited = engine->arena;
	engine->arena = NULL;
	engine->arena_tried = false;
}

void
fz_engine_reap_late(struct fz_engine *engine)
{
	if (fz_proc_reap_late())
		fz_loop_arm(engine->loop, &engine->late,
		    fz_clock_after(fz_clock_ns(), ENGINE_LATE_NS));
}

static void
late_due(struct fz_timer *timer)
{
	fz_engine_reap_late(FZ_CONTAINER_OF(timer, struct fz_engine, late));
}

int
fz_engine_init(struct fz_engine *engine, fz_engine_output output,
    void *output_ctx, struct fz_err *err)
{
	const char *link = getenv("FZLUA_LINK");
	int code = fz_process_watch_forks();

	*engine =
	    (struct fz_engine){ .output = output, .output_ctx = output_ctx };
	engine->byte_streams = link != NULL && strcmp(link, "stream") == 0;
	fz_list_init(&engine->changed);
	fz_list_init(&engine->resting);
	fz_list_init(&engine->accounts);
	if (fz_start_from_environment(&engine->start, err) != 0)
		return -1;
	if (code != 0)
		return fz_err_sys(err, code, "cannot watch forks");
	engine->loop = fz_loop_new(err);
	if (engine->loop == NULL)
		return -1;
	engine->hook.in_child = in_child;
	engine->late.fired = late_due;
	fz_loop_hook(engine->loop, &engine->hook);
	fz_heap_acquire(&engine->membership);
	return 0;
}

void
fz_engine_fini(struct fz_engine *engine)
{
	if (engine->loop == NULL)
		return;
	fz_loop_unhook(&engine->hook);
	fz_loop_disarm(engine->loop, &engine->late);
	fz_proc_reap_last();
	fz_loop_free(engine->loop);
	fz_arena_free(engine->arena);
	fz_mailbox_block_drop(engine->mailboxes);
	fz_account_forget(&engine->accounts);
	fz_heap_release(&engine->membership);
	fz_children_fini(&engine->children);
	fz_nodes_free(engine->nodes);
	engine->nodes = NULL;
	engine->loop = NULL;
	engine->arena = NULL;
}

struct fz_arena *
fz_engine_arena(struct fz_engine *engine)
{
	if (engine->arena == NULL && !engine->arena_tried) {
		engine->arena_tried = true;
		engine->arena = fz_arena_new(NULL);
	}
	return engine->arena;
}

static void
give_back(void *owner, uint64_t offset)
{
	struct fz_engine *engine = owner;

	if (engine->arena != NULL)
		fz_arena_give_back(engine->arena, offset);
}

struct fz_blob *
fz_engine_blob(
    struct fz_engine *engine, uint64_t offset, size_t len, struct fz_err *err)
{
	struct fz_blob *blob =
	    fz_blob_in_arena(offset, len, give_back, engine, err);

	if (blob == NULL)
		give_back(engine, offset);
	return blob;
}

struct fz_blob *
fz_engine_room(struct fz_engine *engine, size_t len, struct fz_err *err)
{
	struct fz_arena *arena = fz_engine_arena(engine);
	uint64_t offset;

	if (arena == NULL) {
		fz_err_set(err, FZ_ERR_ERROR, "no shared memory");
		return NULL;
	}
	if (fz_arena_alloc(arena, len, &offset, err) == NULL)
		return NULL;
	return fz_engine_blob(engine, offset, len, err);
}
