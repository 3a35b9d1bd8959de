/*
 * api/fzlua.h - parallel pipelines in Lua, for C programs.
 *
 * The library never exits, changes signal handlers or reaps children of other
 * code. It passes the output of workers, and its log, to the functions of
 * fzlua_set_output() and fzlua_set_log(). Several states of a process may have
 * the library open, each in a thread of its own: one thread at a time uses a
 * state. A state does not know objects and workers of another state. A worker
 * is a fork of the thread that uses its state or, with "spawn", a program.
 * Workers end with the process, even if it is killed. In a child that the host
 * forks, a state is usable, without the tasks and calls of the parent.
 *
 * As in Lua's own interface, values are passed on the stack of a lua_State, and
 * a comment such as [-1, +2, e] says how many values a function pops and
 * pushes, and whether it raises errors of Lua ("e") or none ("-"). Functions
 * that run code of scripts return a status. If it is not FZLUA_OK, they push
 * one value in place of their results: an fz.Error, which is a table with the
 * fields kind, message, traceback and others. luaL_tolstring() makes its text.
 * The stack must have one free place for it.
 *
 * The status FZLUA_IN_USE means that another thread is in a function that
 * returns a status, with the same state. Then nothing was done, popped or
 * pushed, and this thread must not touch the state. The status helps to find a
 * mistake, but is no lock: a thread outside of these functions is not noticed.
 */
#ifndef FZLUA_H
#define FZLUA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <lua.h> /* not found? add what pkg-config --cflags fzlua prints */
#if LUA_VERSION_NUM < 504
#error "fzlua.h needs Lua 5.4, and finds the headers of an older Lua"
#endif

#define FZLUA_VERSION_NUM 100 /* major * 10000 + minor * 100 + patch */

#if defined(__GNUC__)
#define FZLUA_API __attribute__((visibility("default")))
#else
#define FZLUA_API
#endif

/* How a call ended: the `kind` of its fz.Error. */
enum fzlua_status {
	FZLUA_OK,
	FZLUA_ERROR,       /* an error of the script, or a wrong call */
	FZLUA_CRASH,       /* a worker died */
	FZLUA_TIMEOUT,     /* a time limit ran out */
	FZLUA_MEMORY,      /* a memory limit was reached, or memory ran out */
	FZLUA_CANCELLED,   /* the call was ended before it had a result */
	FZLUA_INTERRUPTED, /* fzlua_interrupt() interrupted the call */
	FZLUA_UNSENDABLE,  /* a value cannot cross a process boundary */
	FZLUA_CLOSED,      /* an object was used after it was closed */
	FZLUA_GRAPH,       /* a chain or dag that cannot run */
	FZLUA_NONE = -1,   /* fzlua_next(): no task has ended */
	FZLUA_IN_USE = -2  /* another thread uses the state */
};

/* "0.1.0" */
FZLUA_API const char *fzlua_version(void);

/*
 * Open the library in `L`, where the standard libraries must be open.
 * Afterwards require "fzlua" works, and its table is on top of the stack.
 * Replaces os.exit by a function that does the same in this process, but ends a
 * worker at once. Therefore load a module that keeps a copy of os.exit after
 * this call. A lua_CFunction; raises if there is no memory or no descriptor.
 * [-0, +1, e]
 */
FZLUA_API int luaopen_fzlua(lua_State *L);

/*
 * Receives the output of workers, whole lines at a time, in order; `fd` is 1 or
 * 2. Returns 0, or the errno of a failure, which the current wait then raises.
 * Must not call Lua.
 */
typedef int (*fzlua_output)(void *ctx, int fd, const char *bytes, size_t len);

/*
 * Receives an entry of the log with the newline at its end. Must not call Lua.
 */
typedef void (*fzlua_log)(void *ctx, const char *line, size_t len);

/*
 * Called around each fork of a worker, or of another process that a script
 * starts: in the host before it and after it, and in the child before any code
 * of the script runs there. The child is the place to close sockets that only
 * the host may hold open. All signals are blocked in the child. Must not call
 * Lua. It is not called for workers that start by "spawn": they inherit no
 * descriptor, and no code of the host runs in them.
 */
enum { FZLUA_FORK_BEFORE, FZLUA_FORK_PARENT, FZLUA_FORK_CHILD };
typedef void (*fzlua_forks)(void *ctx, int when);

/*
 * Set the functions of the host that receive the output of workers and the log,
 * and the function that is called around forks. NULL, the default: output goes
 * to stdout and stderr, the log to stderr, and no function is called. Call
 * these after luaopen_fzlua(). [-0, +0, -]
 */
FZLUA_API void fzlua_set_output(lua_State *L, fzlua_output output, void *ctx);
FZLUA_API void fzlua_set_log(lua_State *L, fzlua_log log, void *ctx);
FZLUA_API void fzlua_set_forks(lua_State *L, fzlua_forks forks, void *ctx);

/* Options for a new state. Fields that are 0 or NULL mean the defaults. */
struct fzlua_options {
	/*
	 * sizeof(struct fzlua_options): tells the library which version of this
	 * struct the host was built with
	 */
	size_t size;
	lua_Alloc alloc; /* allocator of the state; NULL: realloc and free */
	void *alloc_ctx;
	fzlua_output output; /* see fzlua_set_output() and the others */
	void *output_ctx;
	fzlua_log log;
	void *log_ctx;
	fzlua_forks forks;
	void *forks_ctx;
	/*
	 * How processes and managers start, and the workers of pools and stages
	 * that have no option `start`: "fork" or "spawn". NULL: FZLUA_START in
	 * the environment, or "fork". A fork inherits functions and data, and
	 * is safe only while no other thread of the host holds a lock that the
	 * worker needs. With "spawn" a worker is a process of the fzlua
	 * command, and gets Lua functions by value; C functions must be in
	 * modules that it can require.
	 */
	const char *start;
	/*
	 * The path of the fzlua command that "spawn" starts. NULL:
	 * FZLUA_WORKER_COMMAND in the environment, the installed command, or
	 * fzlua in PATH. The command must have the version of the library. The
	 * string must live as long as the state.
	 */
	const char *worker_command;
};

/*
 * Make a state with Lua's standard libraries and this library, whose table is
 * the global `fz`, as for a script of the fzlua command. `options` may be NULL.
 * *L is NULL if there is no memory for it; after any other failure it is a
 * state with the error on top. Close it with fzlua_close() in either case.
 */
FZLUA_API int fzlua_new(lua_State **L, const struct fzlua_options *options);

/*
 * End all workers, tasks and processes of the state at once, and close it. NULL
 * is allowed. A host that opened the library in a state of its own calls
 * lua_close(), which does the same.
 */
FZLUA_API void fzlua_close(lua_State *L);

/*
 * Wait for the end of all tasks, and of all processes that are not daemons, as
 * the command does at the end of a script. [-0, +(0|1), -]
 */
FZLUA_API int fzlua_finish(lua_State *L);

/*
 * Call a value with `nargs` arguments, as lua_pcall() does; `nresults` may be
 * LUA_MULTRET. The value may be a chain or dag: its arguments are the table of
 * inputs and a table of options, its result is the table of outputs.
 * [-(nargs + 1), +(nresults|1), -]
 */
FZLUA_API int fzlua_call(lua_State *L, int nargs, int nresults);

/* Load a file and call it without arguments. [-0, +(nresults|1), -] */
FZLUA_API int fzlua_dofile(lua_State *L, const char *path, int nresults);

/*
 * A chain from C. fzlua_stage() makes a stage. fzlua_register() gives the stage
 * at `stage` the function on top, which may be a C function with upvalues.
 * `outputs` and `inputs` are names with commas between them; `inputs` NULL: the
 * same names as the outputs. fzlua_chain() joins the `n` stages and chains on
 * top. Workers inherit C functions and a copy of the host's memory as they are
 * when the chain first runs. [-0, +1, -] [-1, +(0|1), -] [-n, +1, -]
 */
FZLUA_API int fzlua_stage(lua_State *L, const char *name);
FZLUA_API int fzlua_register(
    lua_State *L, int stage, const char *outputs, const char *inputs);
FZLUA_API int fzlua_chain(lua_State *L, int n);

/*
 * Calls without blocking. fzlua_spawn() makes a call, as fzlua_call() does, in
 * a task of its own. The task may wait for workers and for anything else that
 * the library waits for, while other tasks run. The host polls fzlua_fd() for
 * reading, beside its own descriptors, and calls fzlua_step() if that
 * descriptor is ready. fzlua_next() fetches the tasks in the order in which
 * they have ended, each with its tag.
 */

/* Start a task. [-(nargs + 1), +(0|1), -] */
FZLUA_API int fzlua_spawn(lua_State *L, int nargs, void *tag);

/*
 * Fetch the next task that has ended. Returns FZLUA_NONE, and pushes nothing,
 * if no task has ended. Otherwise sets *tag, and returns and pushes the same as
 * fzlua_call(). [-0, +(nresults|0|1), -]
 */
FZLUA_API int fzlua_next(lua_State *L, int nresults, void **tag);

/*
 * End the tasks with this tag, and their calls in workers. fzlua_next() will
 * return each, as FZLUA_CANCELLED. [-0, +(0|1), -]
 */
FZLUA_API int fzlua_cancel(lua_State *L, void *tag);

/*
 * The descriptor to poll for reading. It covers timers, too, never changes, and
 * belongs to the library. After calls by other means than the functions here,
 * such as lua_call(), call fzlua_step() once. Returns -1 with errno if no
 * descriptor is free. [-0, +0, -]
 */
FZLUA_API int fzlua_fd(lua_State *L);

/*
 * Do the work that is ready: move jobs and results, run tasks. If no work is
 * ready, waits for at most `seconds`; negative: without limit; NaN: not at all.
 * Returns errors of the loop, such as FZLUA_INTERRUPTED; fzlua_next() returns
 * errors of tasks. [-0, +(0|1), -]
 */
FZLUA_API int fzlua_step(lua_State *L, double seconds);

/*
 * Limits for scripts that are not trusted to end. They hold for each
 * fzlua_call() and fzlua_dofile(), waits included, and for a task from one wait
 * to the next. A call that uses more time or instructions of Lua ends with
 * FZLUA_TIMEOUT, one that uses more memory with FZLUA_MEMORY, even if the
 * script catches errors. The state stays usable. 0: no limit. The limits hold
 * for finalizers and fzlua_close(), too, but not for finalizers that a script
 * has set before the first fzlua_limit(). They do not end a C function that
 * does not return, such as string.find() with a pattern that tries for ever.
 * Workers have limits of their own: the options `timeout` and `memory`.
 */
struct fzlua_limits {
	size_t size; /* sizeof(struct fzlua_limits) */
	double seconds;
	long long instructions;
	size_t memory; /* bytes beyond those that the state has at the start */
};

/*
 * Set the limits of later calls; NULL: none. The first call replaces xpcall,
 * setmetatable, debug.sethook and others by functions that do the same, but
 * leave the limits in force. [-0, +0, -]
 */
FZLUA_API void fzlua_limit(lua_State *L, const struct fzlua_limits *limits);

/*
 * Interrupt the code that runs in a state, as Ctrl-C does in the command: the
 * next instruction or wait raises an error of kind "interrupted". Signal
 * handlers and other threads may call fzlua_interrupt() from the call of
 * fzlua_instance_of() until the end of the state.
 */
struct fzlua_instance;
FZLUA_API struct fzlua_instance *fzlua_instance_of(lua_State *L);
FZLUA_API void fzlua_interrupt(struct fzlua_instance *instance);

#ifdef __cplusplus
}
#endif

#endif
