/*
 * The shared heap in two processes that map it at different addresses, as a
 * worker that was not forked would. Each kind of shared object works in both,
 * and nothing in the heap holds an address.
 */
/* mremap is a GNU extension. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/buf.h"
#include "codec/codec.h"
#include "shared/heap_state.h"
#include "shared/unfinished.h"
#include "this_member.h"

/*
 * Where the two processes map the heap. No other word of the heap, such as a
 * position in a queue, can have a value in these ranges.
 */
#ifdef FZ_VALGRIND /* valgrind has only lower addresses */
#define PARENT_AT ((uintptr_t)0x080000000000)
#define CHILD_AT ((uintptr_t)0x090000000000)
#else /* the address sanitizer uses lower ones */
#define PARENT_AT ((uintptr_t)0x120000000000)
#define CHILD_AT ((uintptr_t)0x130000000000)
#endif

/*
 * The program: functions and static data. Under valgrind its addresses are as
 * small as offsets.
 */
extern const char __executable_start[], _end[];
#ifdef FZ_VALGRIND
#define PROGRAM_SIZE ((size_t)0)
#else
#define PROGRAM_SIZE ((size_t)(_end - __executable_start))
#endif

/* A forked process that runs the scripts that it gets. */
static struct {
	pid_t pid;
	int to, from;
} child;

/* Move the heap. An access to an address in the old range faults afterwards. */
static void
move_heap(uintptr_t to)
{
	unsigned char *old = heap->base;
	void *at = mmap((void *)to, heap->size, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
	    -1, 0);

	assert_ptr_equal(at, (void *)to);
	assert_ptr_equal(mremap(old, heap->size, heap->size,
			     MREMAP_MAYMOVE | MREMAP_FIXED, at),
	    at);
	assert_ptr_equal(
	    mmap(old, heap->size, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0),
	    old);
	heap->base = at;
	heap->blocks += heap->base - old;
	heap->owners += (heap->base - old) / (ptrdiff_t)sizeof(uint64_t);
	heap->nforeign += (heap->base - old) / (ptrdiff_t)sizeof(uint32_t);
}

static bool
read_all(int fd, void *at, size_t len)
{
	unsigned char *bytes = at;
	ssize_t n = 1;

	for (; len > 0 && n > 0; len -= (size_t)n, bytes += n)
		n = read(fd, bytes, len);
	return n > 0;
}

static void
write_text(int fd, const void *text, size_t len)
{
	assert_int_equal(write(fd, &len, sizeof(len)), sizeof(len));
	assert_int_equal(write(fd, text, len), (ssize_t)len);
}

/* (bytes of a message: script, values): runs the script with the values */
static int
run_message(lua_State *L)
{
	size_t len;
	const char *bytes = lua_tolstring(L, 1, &len);
	int n = fz_codec_decode(L, bytes, len, FZ_CODEC_RUN);

	if (luaL_loadstring(L, lua_tostring(L, 2)) != LUA_OK)
		return lua_error(L);
	lua_replace(L, 2);
	lua_call(L, n - 1, 0);
	return 0;
}

static lua_State *
new_state(void)
{
	lua_State *L = luaL_newstate();

	luaL_openlibs(L);
	luaL_requiref(L, "fzlua", luaopen_fzlua, 0);
	lua_setglobal(L, "fz");
	return L;
}

/* Answers each message with a text, which is empty if all went well. */
static int
child_main(int in, int out)
{
	lua_State *L;
	char bytes[65536];
	size_t len;

	alarm(300);
	move_heap(CHILD_AT);
	L = new_state();
	while (read_all(in, &len, sizeof(len)) && read_all(in, bytes, len)) {
		lua_settop(L, 0);
		lua_pushcfunction(L, run_message);
		lua_pushlstring(L, bytes, len);
		if (lua_pcall(L, 1, 0, 0) == LUA_OK)
			lua_pushliteral(L, "");
		luaL_tolstring(L, -1, &len);
		write_text(out, lua_tostring(L, -1), len);
	}
	lua_close(L);
	return 0;
}

static void
start_child(void)
{
	int to[2], from[2];

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	child.pid = fork();
	assert_int_not_equal(child.pid, -1);
	if (child.pid == 0) {
		close(to[1]);
		close(from[0]);
		_exit(child_main(to[0], from[1]));
	}
	close(to[0]);
	close(from[1]);
	child.to = to[1];
	child.from = from[0];
}

/* start(script, ...): the child runs the script with these values */
static int
lua_start(lua_State *L)
{
	struct fz_buf buf;

	fz_buf_init(&buf);
	fz_codec_encode(L, 1, lua_gettop(L), &buf);
	write_text(child.to, buf.data, buf.len);
	fz_buf_fini(&buf);
	return 0;
}

/* finish(): raises if the child's script has raised, or the child has died */
static int
lua_finish(lua_State *L)
{
	char text[65536];
	size_t len;

	if (!read_all(child.from, &len, sizeof(len)))
		return luaL_error(L, "the child has died");
	if (len == 0)
		return 0;
	if (!read_all(child.from, text, len))
		return luaL_error(L, "the child has died");
	lua_pushlstring(L, text, len);
	return lua_error(L);
}

static int
setup(void **state)
{
	lua_State *L;

	fz_heap_acquire(&this_member);
	assert_int_equal(fz_heap_open(NULL), 0);
	move_heap(PARENT_AT);
	start_child();
	L = new_state();
	lua_register(L, "start", lua_start);
	lua_register(L, "finish", lua_finish);
	*state = L;
	return 0;
}

static bool
is_within(uint64_t word, uintptr_t from, size_t size)
{
	return from <= word && word < from + size;
}

/*
 * The first word that is an address of the heap in one of the processes, of a
 * function or of a static object. NULL: there is none.
 */
static const void *
find_address(const void *at, size_t size)
{
	const uint64_t *words = at;

	for (size_t i = 0; i < size / sizeof(*words); i++) {
		if (is_within(words[i], PARENT_AT, heap->size) ||
		    is_within(words[i], CHILD_AT, heap->size) ||
		    is_within(
			words[i], (uintptr_t)__executable_start, PROGRAM_SIZE))
			return &words[i];
	}
	return NULL;
}

static const void *
find_in_blocks(void)
{
	uint32_t top = atomic_load(&heap_head()->top);
	const void *found = find_address(
	    (const void *)(uintptr_t)heap->owners, top * sizeof(uint64_t));

	for (uint32_t i = 0; i < top && found == NULL; i++)
		if (!is_free(atomic_load(&heap->owners[i])))
			found = find_address(block_at(i), BLOCK);
	return found;
}

/*
 * Check that the heap has no address, except in mutexes. The links in a locked
 * mutex are addresses, but only the thread that holds it reads them, and the
 * next holder overwrites them.
 */
static void
check_heap(void)
{
	const void *found = find_in_blocks();

	for (uint32_t i = 0; i < fz_heap_nplaces() && found == NULL; i++) {
		const struct member *m = member_at(i);

		found = find_address(
		    &m->pid, sizeof(*m) - offsetof(struct member, pid));
	}
	if (found != NULL)
		fail_msg("an address at offset %#lx of the heap",
		    (unsigned long)fz_ref_offset(found));
}

static int
teardown(void **state)
{
	int status;

	close(child.to);
	close(child.from);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	lua_close(*state);
	fz_heap_release(&this_member);
	return 0;
}

/* Run the code; with start() it runs scripts in the child at the same time. */
static void
run(void **state, const char *code)
{
	lua_State *L = *state;

	alarm(300);
	if (luaL_dostring(L, code) != LUA_OK)
		fail_msg("%s", luaL_tolstring(L, -1, NULL));
	check_heap();
	alarm(0);
}

static void
test_remap_finds_an_address_in_the_heap(void **state)
{
	const void **block = fz_heap_alloc(join(), 1, NULL);

	(void)state;
	memset(block, 0, BLOCK);
	/* A small offset could be mistaken for a position in a queue. */
	assert_true(fz_ref_offset(block) > (size_t)320 << 10);
	assert_null(find_in_blocks());
	block[100] = &block[7];
	assert_ptr_equal(find_in_blocks(), &block[100]);
	block[100] = (void *)CHILD_AT;
	assert_ptr_equal(find_in_blocks(), &block[100]);
	block[100] = &child;
	assert_ptr_equal(
	    find_in_blocks(), PROGRAM_SIZE != 0 ? &block[100] : NULL);
	fz_heap_give_back(block);
}

static void
test_remap_finds_queues(void **state)
{
	run(state, "local q, back = fz.queue(), fz.queue(7)\n"
		   "local big = ('x'):rep(200000)\n"
		   "start([[local q, back, n = ...\n"
		   "  for i = 1, n do\n"
		   "    local v, why = q:get(60)\n"
		   "    assert(v, why)\n"
		   "    assert(back:put(v, 60))\n"
		   "    q:task_done()\n"
		   "  end]], q, back, 2000)\n"
		   "for i = 1, 2000 do\n"
		   "  q:put(i % 100 == 0 and big or tostring(i):rep(100))\n"
		   "end\n"
		   "for i = 1, 2000 do\n"
		   "  local v = back:get(60)\n"
		   "  assert(i % 100 == 0 and v == big or v == "
		   "tostring(i):rep(100), i)\n"
		   "  back:task_done()\n"
		   "end\n"
		   "finish()\n"
		   "assert(q:join(60) and back:join(60))\n"
		   "q:put('last') q:close()\n"
		   "start([[local q = ...\n"
		   "  assert(q:get(60) == 'last')\n"
		   "  local v, why = q:get(60)\n"
		   "  assert(v == nil and why == 'closed')]], q)\n"
		   "finish()\n");
}

static void
test_remap_finds_a_queue_that_the_other_has_emptied(void **state)
{
	run(state, "local q = fz.queue()\n"
		   "for round = 1, 3 do\n"
		   "  for i = 1, 3000 do q:put(('%d'):rep(30, i)) end\n"
		   "  start([[local q = ...\n"
		   "    for i = 1, 3000 do assert(q:get(60)) end\n"
		   "    q:put('back')]], q)\n"
		   "  finish()\n"
		   "  assert(q:get(60) == 'back' and q:empty())\n"
		   "end\n");
}

static void
test_remap_finds_locks(void **state)
{
	run(state, "local lock, rlock, q = fz.lock(), fz.rlock(), fz.queue()\n"
		   "local n = fz.value('j')\n"
		   "start([[local lock, n, q = ...\n"
		   "  lock:acquire() q:put('held')\n"
		   "  n.value = 1 lock:release()\n"
		   "  for i = 1, 1000 do\n"
		   "    lock:with(function() n.value = n.value + 1 end)\n"
		   "  end]], lock, n, q)\n"
		   "assert(q:get(60) == 'held')\n"
		   "for i = 1, 1000 do\n"
		   "  lock:with(function() n.value = n.value + 1 end)\n"
		   "end\n"
		   "finish()\n"
		   "assert(n.value == 2001, n.value)\n"
		   "rlock:acquire() rlock:acquire()\n"
		   "start([[assert(not (...):acquire(0))]], rlock) finish()\n"
		   "rlock:release() rlock:release()\n"
		   "start([[assert((...):acquire(60))]], rlock) finish()\n"
		   "start([[local q = fz.queue() q:put(1)\n"
		   "  local _, lock = ... lock:acquire()\n"
		   "  os.exit(true, false)]], rlock, lock)\n"
		   "assert(not pcall(finish))\n"
		   "local held, why = lock:acquire(60)\n"
		   "assert(held and why == 'abandoned', why)\n"
		   "held, why = rlock:acquire(60)\n"
		   "assert(held and why == 'abandoned', why)\n");
}

static void
test_remap_finds_conditions(void **state)
{
	run(state,
	    "local lock = fz.rlock()\n"
	    "for _, c in ipairs { fz.condition(), fz.condition(lock) } do\n"
	    "  local n = fz.value('j')\n"
	    "  start([[local c, n = ...\n"
	    "    c:with(function()\n"
	    "      n.value = 1 c:notify()\n"
	    "      assert(c:wait_for(function() return n.value == 2 end, 60))\n"
	    "      n.value = 3 c:notify_all()\n"
	    "    end)]], c, n)\n"
	    "  c:with(function()\n"
	    "    assert(c:wait_for(function() return n.value == 1 end, 60))\n"
	    "    n.value = 2 c:notify()\n"
	    "    assert(c:wait_for(function() return n.value == 3 end, 60))\n"
	    "  end)\n"
	    "  finish()\n"
	    "end\n"
	    "assert(lock:acquire(0))\n");
}

static void
test_remap_finds_barriers_events_and_semaphores(void **state)
{
	run(state,
	    "local b, e = fz.barrier(2), fz.event()\n"
	    "local s, back = fz.semaphore(0), fz.semaphore(0)\n"
	    "start([[local b, e, s, back = ...\n"
	    "  for i = 1, 50 do assert(b:wait(60)) end\n"
	    "  assert(e:wait(60))\n"
	    "  for i = 1, 50 do assert(s:acquire(60)) back:release() end]],\n"
	    "  b, e, s, back)\n"
	    "local first = 0\n"
	    "for i = 1, 50 do first = first + assert(b:wait(60)) end\n"
	    "assert(first <= 50)\n"
	    "e:set()\n"
	    "for i = 1, 50 do s:release() assert(back:acquire(60)) end\n"
	    "finish()\n");
}

static void
test_remap_finds_values_and_arrays(void **state)
{
	run(state, "local v, a = fz.value('d', 1.5), fz.array('i', 20000)\n"
		   "a[20000] = 7\n"
		   "start([[local v, a = ...\n"
		   "  assert(v.value == 1.5 and a[20000] == 7)\n"
		   "  v:add(1) a:fill(-1)]], v, a)\n"
		   "finish()\n"
		   "assert(v.value == 2.5 and a[1] == -1 and a[20000] == -1)\n"
		   "start([[fz.value('j') fz.array('d', 5)]]) finish()\n");
}

/* The end of a pipe is sent to the child, which closes it. */
static void
test_remap_finds_pipes(void **state)
{
	/*
	 * The child must be a member, so that an end in a message stays open.
	 */
	run(state, "start([[]], fz.queue())\n"
		   "finish()\n"
		   "local a, b = fz.pipe()\n"
		   "start([[local b = ...\n"
		   "  for i = 1, 500 do\n"
		   "    local v = b:recv(60) assert(v[1] == i) b:send(v)\n"
		   "  end\n"
		   "  local inner = b:recv(60)\n"
		   "  inner:put('through')\n"
		   "  b:close()]], b)\n"
		   "b:close()\n"
		   "for i = 1, 500 do a:send { i } end\n"
		   "for i = 1, 500 do assert(a:recv(60)[1] == i) end\n"
		   "local inner = fz.queue()\n"
		   "a:send(inner)\n"
		   "assert(inner:get(60) == 'through')\n"
		   "finish()\n"
		   "local v, why = a:recv(60)\n"
		   "assert(v == nil and why == 'closed', why)\n");
}

static void
test_remap_finds_objects_of_the_child(void **state)
{
	run(state, "local q = fz.queue()\n"
		   "start([[local q = ...\n"
		   "  own = {fz.queue(), fz.lock(), fz.condition(fz.lock())}\n"
		   "  own[1]:put('from the child')\n"
		   "  q:put(own)]], q)\n"
		   "local own = q:get(60)\n"
		   "assert(own[1]:get(60) == 'from the child')\n"
		   "assert(own[2]:acquire(60) and own[3]:acquire(60))\n"
		   "own[3]:notify() own[3]:release() own[2]:release()\n"
		   "finish()\n"
		   "start([[own = nil collectgarbage()]]) finish()\n");
}

struct box {
	struct fz_object object;
	struct fz_unfinished unfinished;
};

/* More members than the object has counts, each of which took one item. */
static void
test_remap_finds_counts_of_many_members(void **state)
{
	struct box *box = fz_heap_new(&this_member, 1, sizeof(*box), NULL);
	uint32_t n = FZ_UNFINISHED_FEW + 3;
	pid_t pid;
	int status;

	(void)state;
	assert_int_not_equal(join(), 0);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t member = 1 << PLACE_BITS | i;

		fz_unfinished_add(fz_unfinished_counter(&box->unfinished,
				      &box->object, member, NULL),
		    member);
	}
	check_heap();
	pid = fork();
	if (pid == 0) {
		uint64_t offset = fz_ref_offset(box);
		bool all = true;

		move_heap(CHILD_AT);
		box = fz_ref_at(offset);
		for (uint32_t i = 0; i < n - 1; i++)
			all = all && fz_unfinished_ack(&box->unfinished,
					 1 << PLACE_BITS | (n - 1 - i));
		_exit(
		    all && fz_unfinished_any(&box->unfinished, false) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(fz_unfinished_ack(&box->unfinished, 1 << PLACE_BITS));
	assert_false(fz_unfinished_any(&box->unfinished, false));
	fz_heap_free(&this_member, &box->object);
}

#define T(f)                                 \
	{                                    \
#f, f, setup, teardown, NULL \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_remap_finds_an_address_in_the_heap),
		T(test_remap_finds_queues),
		T(test_remap_finds_a_queue_that_the_other_has_emptied),
		T(test_remap_finds_locks),
		T(test_remap_finds_conditions),
		T(test_remap_finds_barriers_events_and_semaphores),
		T(test_remap_finds_values_and_arrays),
		T(test_remap_finds_pipes),
		T(test_remap_finds_objects_of_the_child),
		T(test_remap_finds_counts_of_many_members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
