#include "bind/open.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/jobs/lblob.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/lsetup.h"
#include "bind/lloop.h"
#include "child/process_main.h"
#include "os/process.h"
#include "proc/death.h"
#include "proc/proc.h"
#include "proc/start.h"
#include "sched/slots.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/account.h"
#include "wire/blob.h"
#include "wire/child_port.h"
#include "worker/change.h"
#include "worker/engine.h"
#include "worker/worker.h"

#define PROCESS_TYPE "fzlua.ProcessHandle"

static const struct fz_luserdata_class process_class;

/*
 * The exit status if other code has reaped the process and no results have
 * arrived. Python uses the same number.
 */
enum { PROCESS_UNKNOWN = 255 };

enum answer { NOT_YET, RESULT, ERROR };

struct lprocess {
	/* the only call of the process; it begins when the process starts */
	struct fz_job job;
	/*
	 * the worker that runs the process; NULL: not started, dead, or owned
	 * by the parent of this process
	 */
	struct fz_worker *worker;
	struct fz_engine *engine;
	/* reports that the process has answered or ended */
	struct fz_change change;
	/* generation (fz_process) of the process that started this process */
	uint32_t generation;
	enum answer answer;
	/* blob of the RESULT frame; NULL after close() */
	struct fz_blob *result;
	/* failure of the ERROR frame; owns the value */
	struct fz_failure failure;
	struct fz_death death; /* how the process ended; valid if `dead` */
	bool dead;
	pid_t pid;
};

/*
 * The process at index 1. The first call in a forked child drops the worker and
 * the blobs without releasing them, because the parent still owns them.
 */
static struct lprocess *
check_process(lua_State *L)
{
	struct lprocess *lp = luaL_checkudata(L, 1, PROCESS_TYPE);

	if (lp->generation == fz_process.generation)
		return lp;
	lp->generation = fz_process.generation;
	lp->worker = NULL;
	lp->result = NULL;
	lp->failure.value = NULL;
	return lp;
}

static struct lprocess *
of_job(struct fz_job *job)
{
	return FZ_CONTAINER_OF(job, struct lprocess, job);
}

static void
job_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct lprocess *lp = of_job(job);

	lp->answer = RESULT;
	lp->result = n != 0 ? values[0] : NULL;
	for (uint32_t i = 1; i < n; i++)
		fz_blob_unref(values[i]);
	fz_changed(&lp->change);
}

static void
job_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct lprocess *lp = of_job(job);

	lp->answer = ERROR;
	lp->failure = *failure;
	fz_changed(&lp->change);
}

static void
job_started(struct fz_job *job)
{
	(void)job; /* the job began when the process started */
}

/*
 * The job has no items, and it is never returned, because it begins when the
 * process starts.
 */
static const struct fz_job_ops job_ops = {
	.done = job_done, .failed = job_failed, .started = job_started
};

static void
process_idle(void *ctx, struct fz_worker *worker)
{
	(void)ctx; /* the process has answered, and ends by itself */
	(void)worker;
}

static void
process_dead(void *ctx, struct fz_worker *worker)
{
	struct lprocess *lp = ctx;

	lp->death = worker->death;
	lp->dead = true;
	lp->worker = NULL;
	fz_changed(&lp->change);
	if (lp->engine->slots != NULL && fz_worker_account(worker) != NULL)
		fz_slots_died(lp->engine->slots, fz_worker_account(worker));
	fz_worker_free(worker);
}

static const struct fz_worker_ops worker_ops = { process_idle, process_dead };

/* Push a thread with the name and the arguments from 3 on. [-0, +1, m] */
static lua_State *
push_thread(lua_State *L, int nargs)
{
	lua_State *thread = lua_newthread(L);

	if (!lua_checkstack(thread, nargs + LUA_MINSTACK))
		luaL_error(L, "too many arguments");
	lua_pushvalue(L, 1);
	for (int i = 3; i <= nargs + 1; i++)
		lua_pushvalue(L, i);
	lua_xmove(L, thread, nargs);
	return thread;
}

/*
 * The main function of a forked process. It inherits the slots of its parent,
 * and counts its tokens in the account of its port.
 */
static int
forked_main(void *ctx, struct fz_port *port)
{
	struct fz_process_home *home = ctx;
	struct fz_slots *slots = fz_lloop_engine(home->L)->slots;
	struct fz_lineage lineage = { .account = port->account };
	int status;

	if (slots == NULL || lineage.account == NULL)
		return fz_process_main(home, port);
	fz_slots_count_in(slots, &lineage);
	status = fz_process_main(home, port);
	fz_slots_leave(slots);
	return status;
}

/* If this process has slots, share them with the new process. */
static int
share_slots(const struct lprocess *lp, struct fz_worker_program *program,
    struct fz_err *err)
{
	struct fz_slots *slots = lp->engine->slots;

	if (slots == NULL)
		return 0;
	if (fz_slots_prepare(slots, err) != 0)
		return -1;
	fz_slots_lend(slots, &program->slots);
	return 0;
}

/*
 * Start the process. A process that is a program gets its setup through a
 * socket: the bytes that fit are written at once, and the loop writes the rest.
 */
static int
start(struct lprocess *lp, struct fz_process_home *home, struct fz_err *err)
{
	bool spawns = lp->engine->start == FZ_START_SPAWN;
	struct fz_worker_opts opts = {
		.engine = lp->engine,
		.ops = &worker_ops,
		.ops_ctx = lp,
		.main = forked_main,
		.main_ctx = home,
		.noun = "process",
	};

	if (spawns) {
		opts.program.path = fz_start_program(lp->engine->program);
		opts.program.setup =
		    fz_lsetup_encode_process(home->L, home->seed, err);
		if (opts.program.setup == NULL)
			return -1;
	}
	if (share_slots(lp, &opts.program, err) == 0)
		lp->worker = fz_worker_new(&opts, err);
	fz_blob_unref(opts.program.setup);
	if (lp->worker == NULL)
		return -1;
	lp->pid = lp->worker->pid;
	lp->job.ops = &job_ops;
	lp->job.timeout_ns = FZ_CLOCK_NEVER;
	fz_worker_begin(lp->worker, &lp->job);
	if (spawns)
		fz_worker_write(lp->worker);
	return 0;
}

/*
 * core.process(name, seed, leave, enter, f, ...) -> process: start a process
 * that calls enter() and f(...), sends the results of f, and calls leave()
 */
static int
process_new(lua_State *L)
{
	int nargs = lua_gettop(L) - 1;
	struct fz_process_home home = { .seed = 0 };
	struct fz_err err = { 0 };
	struct lprocess *lp;

	luaL_checkstring(L, 1);
	home.seed = (uint64_t)luaL_checkinteger(L, 2);
	for (int i = 3; i <= 5; i++)
		luaL_checktype(L, i, LUA_TFUNCTION);
	luaL_checkstack(L, nargs + 4, "too many arguments");
	lp = lua_newuserdatauv(L, sizeof(*lp), 0);
	memset(lp, 0, sizeof(*lp));
	lp->engine = fz_lloop_engine(L);
	fz_change_init(&lp->change, lp->engine);
	lp->generation = fz_process.generation;
	fz_luserdata_set(L, &process_class);
	home.L = push_thread(L, nargs);
	home.aged = fz_garbage_age(fz_garbage_open(L), L, true);
	if (start(lp, &home, &err) != 0)
		return fz_lerror_raise(L, &err);
	lua_pop(L, 1);
	return 1;
}

static int
process_pid(lua_State *L)
{
	lua_pushinteger(L, check_process(L)->pid);
	return 1;
}

static int
process_done(lua_State *L)
{
	lua_pushboolean(L, check_process(L)->dead);
	return 1;
}

/* process:answered() -> whether result() has a result or an error */
static int
process_answered(lua_State *L)
{
	lua_pushboolean(L, check_process(L)->answer != NOT_YET);
	return 1;
}

/* process:exitcode() -> nil while it runs | integer, negative for a signal */
static int
process_exitcode(lua_State *L)
{
	const struct lprocess *lp = check_process(L);
	int code = lp->death.exitcode;

	if (!lp->dead)
		return 0;
	if (lp->death.signal != 0)
		code = -lp->death.signal;
	else if (code < 0) /* other code has reaped the process */
		code = lp->answer == RESULT ? 0 : PROCESS_UNKNOWN;
	lua_pushinteger(L, code);
	return 1;
}

static int
process_terminate(lua_State *L)
{
	struct lprocess *lp = check_process(L);

	if (lp->worker != NULL)
		fz_worker_terminate(lp->worker);
	return 0;
}

/* process:kill(): kill the process and all its descendants */
static int
process_kill(lua_State *L)
{
	struct lprocess *lp = check_process(L);

	if (lp->worker != NULL)
		fz_worker_kill(
		    lp->worker, FZ_ERR_CRASH, "the process was killed");
	return 0;
}

/*
 * process:serve(): note that from now on the process only serves requests, so
 * it cannot end a wait of this process
 */
static int
process_serve(lua_State *L)
{
	struct lprocess *lp = check_process(L);

	if (lp->worker != NULL)
		fz_worker_rest(lp->worker, true);
	return 0;
}

/*
 * process:result() -> true, results of f | false, Error. Called when answered()
 * returns true.
 */
static int
process_result(lua_State *L)
{
	struct lprocess *lp = check_process(L);
	struct fz_err err = { 0 };
	bool returned = lp->answer == RESULT && lp->result != NULL;

	lua_settop(L, 1);
	lua_pushboolean(L, returned);
	if (lp->answer == ERROR) {
		fz_lfailure_push(L, lp->engine, &lp->failure);
	} else if (!returned) {
		fz_err_nomem(&err, "the results");
		fz_lerror_push(L, err.kind, err.text);
	} else if (fz_lblob_decode(L, lp->engine, lp->result) != LUA_OK) {
		lua_pushboolean(L, 0);
		lua_replace(L, 2);
	}
	return lua_gettop(L) - 1;
}

/* process:close(): kill it if it runs, free its results; idempotent */
static int
process_close(lua_State *L)
{
	struct lprocess *lp = check_process(L);

	if (lp->worker != NULL)
		fz_worker_end(
		    lp->worker, FZ_ERR_CRASH, "the process was closed");
	fz_blob_unref(lp->result);
	fz_blob_unref(lp->failure.value);
	lp->result = lp->failure.value = NULL;
	fz_change_fini(&lp->change);
	return 0;
}

/* process:id() -> the integer that core.changed() returns after a change */
static int
process_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check_process(L)->change.id);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "id", process_id },
	{ "pid", process_pid },
	{ "done", process_done },
	{ "answered", process_answered },
	{ "exitcode", process_exitcode },
	{ "terminate", process_terminate },
	{ "kill", process_kill },
	{ "serve", process_serve },
	{ "result", process_result },
	{ "close", process_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", process_close },
	{ "__close", process_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class process_class = {
	.name = PROCESS_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lprocess_open(lua_State *L)
{
	lua_pushcfunction(L, process_new);
	lua_setfield(L, -2, "process");
	return 0;
}
