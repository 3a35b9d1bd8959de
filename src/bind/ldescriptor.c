#include "bind/open.h"

#include <errno.h>
#include <string.h>

#include <lauxlib.h>

#include "base/container.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/change.h"
#include "worker/engine.h"

#define DESCRIPTOR_TYPE "fzlua.Descriptor"

static const struct fz_luserdata_class descriptor_class;

/* A descriptor of the script for which tasks wait. */
struct ldescriptor {
	/* the watch; its fd is -1 while no event is wanted */
	struct fz_watch watch;
	struct fz_change change;
	struct fz_fork_hook hook;
	/* the loop that watches the descriptor; NULL: closed */
	struct fz_loop *loop;
	int fd;
	unsigned wanted, ready;
};

static struct ldescriptor *
check_descriptor(lua_State *L)
{
	struct ldescriptor *d = luaL_checkudata(L, 1, DESCRIPTOR_TYPE);

	if (d->loop == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the descriptor is closed");
	return d;
}

/* Watch for the events `wanted`, or for none. Returns 0, or -1 and `err`. */
static int
watch(struct ldescriptor *d, unsigned wanted, struct fz_err *err)
{
	d->wanted = wanted;
	if (wanted == 0)
		fz_loop_unwatch(d->loop, &d->watch);
	else if (d->watch.fd == -1)
		return fz_loop_watch(d->loop, &d->watch, d->fd, wanted, err);
	else
		return fz_loop_rewatch(d->loop, &d->watch, wanted, err);
	return 0;
}

/*
 * A wanted event has occurred. A descriptor that was hung up is ready for all
 * wanted events.
 */
static void
descriptor_ready(struct fz_watch *w, unsigned events)
{
	struct ldescriptor *d = FZ_CONTAINER_OF(w, struct ldescriptor, watch);
	unsigned ready = events & d->wanted;
	struct fz_err err = { 0 };

	if (ready == 0)
		ready = d->wanted;
	d->ready |= ready;
	if (watch(d, d->wanted & ~ready, &err) != 0) {
		d->ready |= d->wanted;
		fz_loop_unwatch(d->loop, &d->watch);
	}
	fz_changed(&d->change);
}

/* In a forked child: drop the waits of the parent's tasks. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct ldescriptor *d = FZ_CONTAINER_OF(hook, struct ldescriptor, hook);

	fz_loop_unwatch(d->loop, &d->watch);
	d->wanted = 0;
}

/* descriptor:id() -> the integer that core.changed() returns after a change */
static int
descriptor_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check_descriptor(L)->change.id);
	return 1;
}

/*
 * descriptor:want(read, write) -> nothing | why not: watch for these events
 * until each has occurred once. A regular file is ready at once. A descriptor
 * that is closed, or of a kind that cannot be polled, cannot be watched.
 */
static int
descriptor_want(lua_State *L)
{
	struct ldescriptor *d = check_descriptor(L);
	unsigned wanted = (lua_toboolean(L, 2) ? FZ_LOOP_READ : 0U) |
			  (lua_toboolean(L, 3) ? FZ_LOOP_WRITE : 0U);
	struct fz_err err = { 0 };

	if (watch(d, wanted, &err) == 0)
		return 0;
	d->wanted = 0;
	if (err.code == EBADF || err.code == EINVAL) {
		lua_pushstring(L, strerror(err.code));
		return 1;
	}
	if (err.code != EPERM)
		return fz_lerror_raise(L, &err);
	d->ready |= wanted; /* a regular file */
	fz_changed(&d->change);
	return 0;
}

/*
 * descriptor:take() -> two booleans: whether the descriptor has become ready to
 * read, and to write, since the last call
 */
static int
descriptor_take(lua_State *L)
{
	struct ldescriptor *d = check_descriptor(L);

	lua_pushboolean(L, (d->ready & FZ_LOOP_READ) != 0);
	lua_pushboolean(L, (d->ready & FZ_LOOP_WRITE) != 0);
	d->ready = 0;
	return 2;
}

/* descriptor:close(): stop watching the descriptor, which stays open */
static int
descriptor_close(lua_State *L)
{
	struct ldescriptor *d = luaL_checkudata(L, 1, DESCRIPTOR_TYPE);

	if (d->loop == NULL)
		return 0;
	fz_loop_unwatch(d->loop, &d->watch);
	fz_loop_unhook(&d->hook);
	fz_change_fini(&d->change);
	d->loop = NULL;
	return 0;
}

/* core.descriptor(fd) -> an object for waits for the events of `fd` */
static int
descriptor_new(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);
	struct fz_engine *engine = fz_lloop_engine(L);
	struct ldescriptor *d;

	luaL_argcheck(L, 0 <= fd && fd <= INT32_MAX, 1, "out of range");
	d = lua_newuserdatauv(L, sizeof(*d), 0);
	memset(d, 0, sizeof(*d));
	d->fd = (int)fd;
	d->watch = (struct fz_watch){ .fd = -1, .ready = descriptor_ready };
	d->hook.in_child = in_child;
	fz_luserdata_set(L, &descriptor_class);
	d->loop = engine->loop;
	fz_change_init(&d->change, engine);
	fz_loop_hook(d->loop, &d->hook);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "id", descriptor_id },
	{ "want", descriptor_want },
	{ "take", descriptor_take },
	{ "close", descriptor_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", descriptor_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class descriptor_class = {
	.name = DESCRIPTOR_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_ldescriptor_open(lua_State *L)
{
	lua_pushcfunction(L, descriptor_new);
	lua_setfield(L, -2, "descriptor");
	return 0;
}
