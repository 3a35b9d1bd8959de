/*
 * llimit.h - limits of time, instructions and memory for code in this process.
 *
 * A limited stretch is a call by the host, or the part of a task between two
 * waits. If a stretch exceeds a limit, its next instruction or wait raises an
 * error. Each later instruction or wait of this stretch raises the error again,
 * so that code that catches the error in a loop ends, too.
 */
#ifndef FZ_LLIMIT_H
#define FZ_LLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "os/loop.h"

/* The limits of one stretch. A limit that is 0 is not set. */
struct fz_llimits {
	int64_t ns;
	int64_t instructions; /* number of Lua instructions */
	/* bytes that a stretch may allocate, minus those that it frees */
	int64_t memory;
};

struct fz_llimit {
	struct fz_llimits most;
	struct fz_loop *loop;
	bool on;               /* whether a limited stretch runs */
	bool over;             /* the last stretch has exceeded a limit */
	int64_t deadline_ns;   /* deadline of the limited stretch */
	int64_t instructions;  /* number of instructions that are left */
	struct fz_timer timer; /* ends a wait at the deadline */
	lua_Alloc alloc;       /* original allocator; NULL: not replaced */
	void *alloc_ctx;
	int64_t used; /* bytes allocated by the stretch */
};

/* The hook that a Lua thread had before a limited stretch. */
struct fz_llimit_hook {
	/* NULL: no hook was set, or no limited stretch has begun */
	lua_Hook hook;
	int mask, count;
	bool limited; /* this is the outermost limited stretch */
};

void fz_llimit_init(struct fz_llimit *limit, struct fz_loop *loop);

/*
 * Restore the allocator. Must be called before the memory of `limit` is freed.
 * [-0, +0, -]
 */
void fz_llimit_fini(lua_State *L, struct fz_llimit *limit);

/* Set the limits of later stretches. [-0, +0, -] */
void fz_llimit_set(lua_State *L, const struct fz_llimits *most);

/*
 * Begin and end a stretch in the Lua thread L. These functions do nothing
 * inside another stretch, or if no limit is set. [-0, +0, -]
 */
void fz_llimit_begin(
    struct fz_llimit *limit, lua_State *L, struct fz_llimit_hook *before);
void fz_llimit_end(
    struct fz_llimit *limit, lua_State *L, const struct fz_llimit_hook *before);

/* Whether later stretches have limits of time or instructions. */
bool fz_llimit_is_set(const struct fz_llimit *limit);

/*
 * Inside a stretch: apply its limits to another Lua thread, which the caller
 * runs. [-0, +0, -]
 */
void fz_llimit_follow(struct fz_llimit *limit, lua_State *L);

/* If the running stretch has exceeded a limit, raise the error. [-0, +0, e] */
void fz_llimit_refuse(lua_State *L, const struct fz_llimit *limit);

/* After a stretch: whether it has exceeded a limit of time or instructions. */
bool fz_llimit_was_over(
    const struct fz_llimit *limit, const struct fz_llimit_hook *before);

/* A C function that raises the error of the limit that was exceeded last. */
int fz_llimit_raise(lua_State *L);

/* In a wait: raise an error if the time is over. [-0, +0, e] */
void fz_llimit_check(lua_State *L, struct fz_llimit *limit);

/* In a forked child: remove the limits. */
void fz_llimit_in_child(struct fz_llimit *limit);

#endif
